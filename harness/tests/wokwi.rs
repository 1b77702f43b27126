//! Wokwi's language: which files are taken, what is said about those that are not, and what the steps mean on tapes written by hand.

mod common;

use common::{drive, line};
use harness::event::{Event, Source, What};
use harness::scenario::{self, Dialect, Scenario};
use harness::target::twin;
use harness::verdict::Verdict;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is expected of a file.
enum Is {
    /// It runs on the twin, without a word.
    Good,
    /// It runs on the twin; each of these is in its warnings.
    Odd(&'static [&'static str]),
    /// It loads, and the twin skips it by this word.
    Skips(&'static str),
    /// It loads with a warning that has this, and the twin skips it by this word.
    OddSkips(&'static str, &'static str),
    /// It is refused, and each of these is in the report.
    Refused(&'static [&'static str]),
}
use Is::{Good, Odd, OddSkips, Refused, Skips};

const FILES: &[(&str, Is)] = &[
    ("blink", Good),
    ("menu", Good),
    ("bytes", Good),
    ("numbers", Good),
    ("delays", Good),
    ("no-steps", Odd(&["no steps", "passes at once"])),
    ("version-float", Good),
    (
        "unread-header",
        Odd(&[
            "`diagram` is not read",
            "`expect` is not read",
            "`board` is not read",
            "`device` is not read",
            "`time` is not read",
            "`within: 30s`",
        ]),
    ),
    ("anchors", Good),
    ("dollar", Odd(&["taken as it stands"])),
    ("long-name", Odd(&["a long name"])),
    ("flow", Good),
    ("block-text", Good),
    ("limits", Good),
    ("empty-write", Good),
    ("button", Skips("controls")),
    ("pins", Skips("pins")),
    ("pin-expected", OddSkips("reads `value` only", "pins")),
    ("pin-text-value", OddSkips("without quotes", "pins")),
    ("chip", Skips("chips")),
    ("screenshot", Skips("display")),
    ("touch", Skips("touch")),
    ("inner-key", OddSkips("`comment` is not read", "controls")),
    ("two-commands", Odd(&["two verbs in one step", "Wokwi runs `delay` only", "begin a new line with `- wait-serial:`"])),
    ("only-name", Odd(&["a step without a verb", "the run ends here, and fails"])),
    ("empty-mapping-step", Odd(&["a step without a verb"])),
    ("delay-minutes", Odd(&["`minutes` is no unit"])),
    ("delay-point", Odd(&["a number and one unit"])),
    ("delay-number-text", Odd(&["has no unit", "`300ms`"])),
    ("delay-units", Odd(&["not Wokwi's in `1m`", "the duration `5.s`"])),
    ("timeout-inside", Odd(&["unknown key `timeout`", "called `within`"])),
    ("wait-list", Odd(&["for the text `a,1.5,,b,yes`", "the text is called `text`"])),
    ("template", Odd(&["`board` is not read", "for the text `[object Object]`"])),
    ("tags", Odd(&["the tag `!title`"])),
    ("empty-name", Odd(&["an empty name"])),
    ("large-numbers", Good),
    ("yaml-1-1", Odd(&["`longer` is not read"])),
    ("part", OddSkips("`part-id: …`", "controls")),
    ("pin-two-names", OddSkips("write \"0\", with quotes", "pins")),
    ("control-loose", OddSkips("`part-id` is missing", "pins")),
    ("touch-loose", OddSkips("a list", "touch")),
    ("header-others", Odd(&["`author` is not read", "`device` is not read", "`targets` is not read", "`time` is not read"])),
    ("header-ours", Refused(&["has no unit", "`30ms`"])),
    ("many-aliases", Refused(&["more than 100 aliases"])),
    ("yaml-1-1-name", Refused(&["a text is meant"])),
    ("end-first", Refused(&["the end of a document before it begins"])),
    ("tag-binary", Refused(&["write-serial: a mapping"])),
    ("pin-false-name", Refused(&["no `name` or `pin`"])),
    ("no-name", Refused(&["`name` is missing"])),
    ("name-number", Refused(&["write \"42\", with quotes"])),
    ("no-version", Refused(&["`version` is missing"])),
    ("version-text", Refused(&["the text `1`", "the number 1"])),
    ("version-two", Refused(&["write `version: 1`"])),
    ("steps-mapping", Refused(&["lines that begin with `- `"])),
    ("twice", Refused(&["stands twice", "keep one"])),
    ("documents", Refused(&["a second document"])),
    ("empty-step", Refused(&["nothing as a step", "remove it"])),
    ("delay-number", Refused(&["has no unit", "`300ms`"])),
    ("timeout-beside", Refused(&["`wait-serial: { text: …, within: 5s }`"])),
    ("timeout-beside-delay", Refused(&["no limit of its own", "`within: 30s`"])),
    ("write-number", Refused(&["a text, or a list of numbers"])),
    ("write-nothing", Refused(&["an empty list of bytes"])),
    ("write-words", Refused(&["the text `ping`", "a number"])),
    ("pin-zero", Refused(&["write \"0\", with quotes"])),
    ("control-no-name", Refused(&["`name` is missing"])),
    ("screenshot-nothing", Refused(&["`save-to`", "`compare-with`"])),
    ("touch-text", Refused(&["the text `left`", "a number"])),
    ("set-pin", Refused(&["unknown verb `set-pin`", "`set-control:"])),
    ("click-button", Refused(&["unknown verb `click-button`", "`set-control:"])),
    ("wait-serial-line", Refused(&["`wait-serial: { text: the text, within: 5s }`"])),
    ("type-serial", Refused(&["`write-serial:"])),
    ("serial-monitor", Refused(&["`wait-serial: { text: the text, within: 5s }`"])),
    ("simulate", Refused(&["`set-control:"])),
    ("wait-pin", Refused(&["`expect-pin`"])),
    ("misspelt", Refused(&["did you mean `wait-serial`?"])),
    ("merge", Refused(&["no merge key"])),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wokwi")
}

/// A report without its line breaks.
fn flat(report: &str) -> String {
    report.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_file_is_taken_or_refused_as_the_table_says() {
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .expect("the fixtures")
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let told: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, told, "files and table");
    for (name, is) in FILES {
        let outcome = scenario::load(&folder().join(name).with_extension("yaml"));
        let report = flat(&match &outcome {
            Ok(file) if file.warnings.is_empty() => String::new(),
            Ok(file) => file.warnings.render(false),
            Err(wrong) => wrong.render(false),
        });
        let expect = |words: &[&str]| {
            for word in words {
                assert!(report.contains(word), "{name}: no `{word}` in\n{report}");
            }
        };
        let skipped = outcome
            .as_ref()
            .ok()
            .and_then(|file| file.scenarios[0].missing(|need| twin::FACTS.can.contains(&need)))
            .map(|need| need.to_string());
        match is {
            Good => assert!(outcome.is_ok() && report.is_empty(), "{name}: {report}"),
            Odd(words) => expect(words),
            Skips(_) => assert!(report.is_empty(), "{name}: {report}"),
            OddSkips(word, _) => expect(&[word]),
            Refused(words) => expect(words),
        }
        assert_eq!(outcome.is_err(), matches!(is, Refused(_)), "{name}: {report}");
        let word = if let Skips(word) | OddSkips(_, word) = is { Some((*word).to_owned()) } else { None };
        assert_eq!(skipped, word, "{name}");
        for scenario in outcome.into_iter().flatten() {
            assert_eq!(scenario.dialect, Dialect::Wokwi, "{name}");
        }
    }
}

#[test]
fn with_a_step_of_ours_unknown_keys_are_mistakes() {
    let text = "name: x\nversion: 1\nboard: esp32\nsteps:\n  - power-on: {}\n  - set-control: { part-id: b, name: n, value: 1, note: x }\n";
    let report = scenario::read(Path::new("x.yaml"), text.as_bytes()).unwrap_err().render(false);
    assert!(report.contains("unknown key `board`") && report.contains("unknown key `note`"), "{report}");
}

#[test]
fn a_file_of_wokwis_begins_with_power_on_and_a_text_is_a_text() {
    let file = scenario::load(&folder().join("dollar.yaml")).unwrap();
    let scenario = file.scenarios[0].for_device("d1").unwrap();
    let verbs: Vec<_> = scenario.steps.iter().map(|step| step.verb).collect();
    assert_eq!(verbs, ["power-on", "wait-serial", "write-serial"]);
    assert_eq!(format!("{:?}", scenario.steps[1].watch.as_ref().unwrap()), "`PATH=${PATH}` on the console");
    assert!(format!("{:?}", scenario.steps[2].act).contains(&format!("{:?}", b"echo $${HOME} ${device}\n".to_vec())));
    let empty = scenario::load(&folder().join("no-steps.yaml")).unwrap();
    assert!(empty.scenarios[0].steps.is_empty());
    assert_eq!(drive(&empty.scenarios[0], &[]).1.verdict, Verdict::Pass);
}

#[test]
fn what_wokwi_takes_and_gives_up_at_fails_when_it_is_reached() {
    for name in ["only-name", "empty-mapping-step", "delay-minutes", "delay-point"] {
        let file = scenario::load(&folder().join(name).with_extension("yaml")).unwrap();
        let (_, judgement) = drive(&file.scenarios[0], &[]);
        assert_eq!(judgement.verdict, Verdict::Fail, "{name}: {judgement:?}");
        assert!(format!("{judgement:?}").contains("Wokwi's command line ends"), "{name}: {judgement:?}");
    }
    let file = scenario::load(&folder().join("two-commands.yaml")).unwrap();
    let verbs: Vec<_> = file.scenarios[0].steps.iter().map(|step| step.verb).collect();
    assert_eq!(verbs, ["power-on", "delay"]);
    let file = scenario::load(&folder().join("delay-number-text.yaml")).unwrap();
    assert!(!drive(&file.scenarios[0], &[says(1, "ready")]).1.verdict.passed());
}

/// What the steps of a file wait for.
fn awaited(name: &str) -> Vec<String> {
    let file =
        scenario::load(&folder().join(name).with_extension("yaml")).unwrap_or_else(|wrong| panic!("{}", wrong.render(false)));
    let texts = file.scenarios[0].steps.iter().filter_map(|step| step.watch.as_ref()).map(|watch| format!("{watch:?}"));
    texts.map(|text| text.strip_suffix(" on the console").map_or(text.clone(), |text| text.trim_matches('`').to_owned())).collect()
}

#[test]
fn values_are_texts_as_javascript_and_its_yaml_have_them() {
    assert_eq!(awaited("wait-list"), ["a,1.5,,b,yes", "[object Object]"]);
    assert_eq!(awaited("large-numbers"), ["9007199254740992", "1.2345678901234568e+29", "4.722366482869645e+21"]);
    assert_eq!(awaited("tags"), ["42", "5"]);
    assert_eq!(awaited("yaml-1-1"), ["true", "8", "1s to pass"]);
    assert_eq!(awaited("delay-units"), ["1m to pass", "5s to pass"]);
    let file = scenario::load(&folder().join("large-numbers.yaml")).unwrap();
    assert!(format!("{:?}", file.scenarios[0].steps[4].act).contains("[0, 1]"));
}

#[test]
fn with_a_step_of_ours_what_wokwi_would_take_is_a_mistake() {
    for step in [
        "{}",
        "{ delay: 1s, wait-serial: a }",
        "delay: 5 minutes",
        "wait-serial: [a]",
        "wait-serial: !x a",
        "set-control: { name: a }",
    ] {
        let text = format!("name: x\nversion: 1\nsteps:\n  - power-on: {{}}\n  - {step}\n");
        assert!(scenario::read(Path::new("x.yaml"), text.as_bytes()).is_err(), "{step}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_a_warning() {
    let file = scenario::read(Path::new("x.yaml"), b"name: Temp\xe9rature\nversion: 1\nsteps:\n  - wait-serial: ready\n").unwrap();
    let report = flat(&file.warnings.render(false));
    assert!(report.contains("not UTF-8 text") && report.contains("[x.yaml:1:11]"), "{report}");
}

#[test]
fn what_is_ours_at_the_top_of_a_file_is_looked_at_strictly() {
    for head in ["ca: { misbehave: [expird] }", "device: { tls: 1.3 }", "air: [{ ssd: lab }]", "fail-on: Guru", "within: 30"] {
        let text = format!("name: x\nversion: 1\n{head}\nsteps:\n  - wait-serial: ready\n");
        assert!(scenario::read(Path::new("x.yaml"), text.as_bytes()).is_err(), "{head}");
    }
}

#[test]
fn bytes_and_numbers_are_those_of_javascript() {
    let file = scenario::load(&folder().join("bytes.yaml")).unwrap();
    assert!(format!("{:?}", file.scenarios[0].steps[2].act).contains("[112, 105, 110, 103, 10, 0, 255, 1]"));
    let file = scenario::load(&folder().join("numbers.yaml")).unwrap();
    let texts: Vec<_> = file.scenarios[0].steps[1..].iter().map(|step| format!("{:?}", step.watch.as_ref().unwrap())).collect();
    let texts: Vec<_> = texts.iter().map(|text| text.split('`').nth(1).unwrap()).collect();
    assert_eq!(texts, ["42", "112", "12", "null", "true", "1.5", "yes"]);
}

fn scenario(head: &str, steps: &[&str]) -> Scenario {
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    let text = format!("name: x\nversion: 1\nwithin: 20s\n{head}steps:\n{steps}");
    let file = scenario::read(Path::new("x.yaml"), text.as_bytes()).unwrap_or_else(|wrong| panic!("{}", wrong.render(false)));
    file.into_iter().next().expect("a row")
}

fn says(at_ms: u64, text: &str) -> Event {
    line(at_ms * 1_000, Source::Device, text)
}

fn piece(at_ms: u64, text: &str) -> Event {
    Event { at_us: at_ms * 1_000, from: Source::Device, what: What::Partial(text.into()) }
}

/// Steps, what the device says, and whether that passes.
type Case = (&'static str, &'static [&'static str], fn() -> Vec<Event>, bool);

const MEANINGS: &[Case] = &[
    ("a text anywhere in a line", &["wait-serial: ead"], || vec![says(1, "ready")], true),
    ("capitals matter", &["wait-serial: Ready"], || vec![says(1, "ready")], false),
    ("across line ends", &["wait-serial: \"one\\ntwo\""], || vec![says(1, "one"), says(2, "two")], true),
    ("CR LF is a line end", &["wait-serial: \"one\\r\\ntwo\\r\\n\""], || vec![says(1, "one"), says(2, "two")], true),
    ("no pattern", &["wait-serial: r.ady"], || vec![says(1, "ready")], false),
    ("two texts of one line, in order", &["wait-serial: one", "wait-serial: two"], || vec![says(1, "one two")], true),
    ("two texts of one line, against its order", &["wait-serial: two", "wait-serial: one"], || vec![says(1, "one two")], false),
    ("what was met is consumed", &["wait-serial: one", "wait-serial: one"], || vec![says(1, "one two")], false),
    ("and can come again", &["wait-serial: one", "wait-serial: one"], || vec![says(1, "one one")], true),
    ("no byte is used twice", &["wait-serial: aba", "wait-serial: ba"], || vec![says(1, "ababa")], true),
    ("no byte is used twice, shown", &["wait-serial: aba", "wait-serial: aba"], || vec![says(1, "ababa")], false),
    (
        "the line end behind a text is left",
        &["wait-serial: one", "wait-serial: \"\\ntwo\""],
        || vec![says(1, "one"), says(2, "two")],
        true,
    ),
    ("what is left joins what comes", &["wait-serial: a", "wait-serial: \"b\\nc\""], || vec![says(1, "ab"), says(2, "cd")], true),
    ("three texts of one line", &["wait-serial: a", "wait-serial: b", "wait-serial: c"], || vec![says(1, "abc")], true),
    ("a prompt without a line end", &["wait-serial: \"> \""], || vec![piece(1, "> ")], true),
    (
        "a prompt that becomes a line is one text",
        &["wait-serial: \"login: \"", "wait-serial: \"login: \""],
        || vec![piece(1, "login: "), says(2, "login: root")],
        false,
    ),
    (
        "what follows a prompt in its line",
        &["wait-serial: \"login:\"", "wait-serial: \" root\\nok\""],
        || vec![piece(1, "login: "), says(2, "login: root"), says(3, "ok")],
        true,
    ),
    (
        "a line in pieces",
        &["wait-serial: \"Connecting...\\n\""],
        || vec![piece(1, "Connect"), piece(2, "ing."), piece(3, "."), says(4, "Connecting...")],
        true,
    ),
    ("writing passes nothing over", &["wait-serial: a", "write-serial: x", "wait-serial: b"], || vec![says(1, "a b")], true),
    (
        "a delay passes over what is said meanwhile",
        &["wait-serial: a", "delay: 1s", "wait-serial: b"],
        || vec![says(1, "a"), says(500, "b")],
        false,
    ),
    (
        "and not over what is said later",
        &["wait-serial: a", "delay: 1s", "wait-serial: b"],
        || vec![says(1, "a"), says(500, "b"), says(1_500, "b")],
        true,
    ),
    ("a delay passes over the rest of a line", &["wait-serial: a", "delay: 1ms", "wait-serial: b"], || vec![says(1, "ab")], false),
    ("an empty text is there at once", &["wait-serial: \"\""], Vec::new, true),
    ("a limit of its own, held", &["wait-serial: { text: a, within: 1s }"], || vec![says(900, "a")], true),
    ("a limit of its own, broken", &["wait-serial: { text: a, within: 1s }"], || vec![says(1_100, "a")], false),
    ("a pattern", &["wait-serial: { pattern: 'ip=[0-9.]+' }"], || vec![says(1, "got ip=10.0.0.7 ok")], true),
    ("a pattern's line ends", &["wait-serial: { pattern: '^b$' }"], || vec![says(1, "ab"), says(2, "b")], true),
    (
        "a pattern consumes what it met",
        &["wait-serial: { pattern: 'a+' }", "wait-serial: { pattern: '^?a' }"],
        || vec![says(1, "aaa b")],
        false,
    ),
    ("what follows a pattern is left", &["wait-serial: { pattern: 'a+' }", "wait-serial: b"], || vec![says(1, "aaa b")], true),
];

#[test]
fn the_steps_mean_what_they_mean_in_wokwi() {
    for (name, steps, said, passes) in MEANINGS {
        let scenario = scenario("", steps);
        assert_eq!(scenario.dialect, Dialect::Wokwi, "{name}");
        let (tape, judgement) = drive(&scenario, &said());
        assert_eq!(judgement.verdict.passed(), *passes, "{name}: {judgement:?}\n{tape:?}");
    }
}

#[test]
fn with_steps_of_ours_the_rest_of_a_line_is_kept_and_acts_begin_anew() {
    let begins = |steps: &[&str], said: &[Event]| {
        let steps: Vec<&str> = std::iter::once("power-on: {}").chain(steps.iter().copied()).collect();
        drive(&scenario("", &steps), said).1.verdict.passed()
    };
    assert!(begins(&["wait-serial: a", "wait-serial: b"], &[says(1, "a b")]));
    assert!(!begins(&["wait-serial: a", "command: help", "wait-serial: b"], &[says(1, "a b")]));
    assert!(begins(&["delay: 1s", "wait-serial: b"], &[says(1, "b")]), "a line said while time passes is not lost");
    assert!(
        !begins(&["wait-serial: a", "wait-for: { device: { text: b } }"], &[says(1, "a b")]),
        "a line is one to those who read lines"
    );
}

#[test]
fn fail_on_ends_the_trial() {
    let head = "fail-on: [Guru Meditation, { pattern: '^E [(]' }]\n";
    for (said, verdict) in
        [("E (7) wifi: no", Verdict::Fail), ("x Guru Meditation x", Verdict::Fail), ("I (7) E (7)", Verdict::Pass)]
    {
        let scenario = scenario(head, &["wait-serial: ready"]);
        let (_, judgement) = drive(&scenario, &[says(1, said), says(2, "ready")]);
        assert_eq!(judgement.verdict, verdict, "{said}");
    }
}
