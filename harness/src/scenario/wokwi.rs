//! Wokwi's own files: told apart by their verbs, read as Wokwi's command line reads them, and what to say to those who write what it refuses.

use super::header::Header;
use super::problem::{Problem, nearest};
use super::value::number_text;
use super::yaml::{Key, Node, Plain, Value, resolve};
use super::{Dialect, typed};
use crate::step::{Meaning, verb};

/// Wokwi's verbs, in the order in which its command line looks for them: of two in one step it runs the first of this list only.
pub(crate) const VERBS: [&str; 11] = [
    "delay",
    "expect-chip-output",
    "expect-pin",
    "set-control",
    "wait-serial",
    "write-serial",
    "take-screenshot",
    "touch",
    "touch-press",
    "touch-release",
    "touch-move",
];

/// The keys of the verbs that have keys, as Wokwi knows them (and `expected`, which its documentation knows).
const KEYS: [(&str, &[&str]); 7] = [
    ("expect-pin", &["part-id", "name", "pin", "value", "expected"]),
    ("set-control", &["part-id", "name", "control", "value"]),
    ("take-screenshot", &["part-id", "save-to", "compare-with"]),
    ("touch", &["part-id", "x", "y", "duration", "wait"]),
    ("touch-press", &["part-id", "x", "y"]),
    ("touch-move", &["part-id", "x", "y"]),
    ("touch-release", &["part-id"]),
];

/// The keys at the top of a file that are Wokwi's, and those that nobody has but this harness: what is wrong under these is a mistake in
/// any file. Of every other key a file of Wokwi's may make what it likes.
const HEADER: [&str; 9] = ["name", "version", "steps", "within", "fail-on", "never", "matrix", "exclude", "needs"];

/// Words people write where one of Wokwi's or ours is meant, and what to write instead.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["set-pin", "write-pin", "pin"],
        "no step drives a pin; a button is pressed with `set-control: { part-id: btn1, control: pressed, value: 1 }`",
    ),
    (&["read-pin", "check-pin"], "write `expect-pin: { part-id: esp, name: \"5\", value: 1 }`"),
    (
        &["wait-pin", "wait-pin-change"],
        "no step waits for a pin; let the firmware say it and use `wait-serial`, or look once with `expect-pin`",
    ),
    (
        &["click-button", "press-button", "push-button", "press", "click", "simulate"],
        "two steps press a button: `set-control: { part-id: btn1, control: pressed, value: 1 }`, and the same with `value: 0`",
    ),
    (
        &[
            "wait-serial-line",
            "serial-monitor",
            "expect-serial",
            "serial-expect",
            "expect-text",
            "wait-text",
            "wait-for-serial",
            "serial",
        ],
        "write `wait-serial: the text`, or with a limit `wait-serial: { text: the text, within: 5s }`",
    ),
    (&["fail-text", "fail-serial"], "write `fail-on: [the text]` at the top of the file"),
    (
        &["type-serial", "send-serial", "serial-write", "serial-input", "type"],
        "write `write-serial: \"the text\\n\"`; the line end has to be said",
    ),
    (&["type-serial-file"], "write the file's text under `write-serial`"),
    (&["wait", "sleep", "wait-time", "pause"], "write `delay: 500ms`"),
    (
        &["screenshot", "save-screenshot", "compare-screenshot"],
        "write `take-screenshot: { part-id: lcd1, compare-with: file.png }`",
    ),
    (&["tap"], "write `touch: { part-id: lcd1, x: 10, y: 20 }`"),
    (&["reset", "restart", "reboot"], "write `power-cycle: {}`; Wokwi's own files have no such step"),
    (&["<<"], "YAML 1.2 has no merge key: write the keys out"),
    (&["log", "print", "echo", "comment"], "give the step a `name`, or write a comment: `# …`"),
];

/// What to write in place of a word from elsewhere.
pub(super) fn instead_of(word: &str) -> Option<&'static str> {
    let plain = word.trim().to_lowercase().replace(['_', ' '], "-");
    ELSEWHERE.iter().find(|(words, _)| words.contains(&plain.as_str())).map(|(_, help)| *help)
}

/// Whose file it is: Wokwi's, when no step has a verb that is ours alone.
pub(super) fn dialect(doc: &Node) -> Dialect {
    let Some(Value::List(items)) = doc.get("steps").map(|steps| &steps.value) else { return Dialect::Own };
    let mut keys = items.iter().flat_map(Node::entries).map(|(key, _)| key.text.as_str());
    if keys.any(|key| !VERBS.contains(&key) && verb(key).is_some()) { Dialect::Own } else { Dialect::Wokwi }
}

/// The document as it is to be read: of a file of Wokwi's, what Wokwi does not read is left out, with a warning each.
pub(super) fn as_read(doc: Node, dialect: Dialect, source: &str, problems: &mut Vec<Problem>) -> Node {
    let Value::Map(entries) = doc.value else { return doc };
    let mut kept = Vec::new();
    for (key, mut value) in entries {
        if key.text == "steps" {
            if let Value::List(items) = &mut value.value {
                items.iter_mut().for_each(|item| step_as_read(item, dialect, problems));
            }
        } else if dialect == Dialect::Wokwi
            && let Some(warning) = unread(&key, &value)
        {
            problems.push(warning);
            continue;
        }
        kept.push((key, value));
    }
    let doc = Node { at: doc.at, value: Value::Map(kept) };
    if dialect == Dialect::Wokwi
        && doc.get("matrix").is_none()
        && let Some(at) = source.find("${device}")
    {
        let help = "as in Wokwi, it is taken as it stands, since no verb of this harness is in the file; with `- power-on: {}` as its \
                    first step it is the device's id";
        problems.push(Problem::warning(at..at + "${device}".len(), "`${device}` in a file of Wokwi's steps", help));
    }
    doc
}

/// The warning about a header key that Wokwi ignores and this harness does not know, or knows as something else.
fn unread(key: &Key, value: &Node) -> Option<Problem> {
    if HEADER.contains(&key.text.as_str()) {
        return None;
    }
    let mistakes = |value: Node| {
        let alone = Node { at: value.at.clone(), value: Value::Map(vec![(key.clone(), value)]) };
        typed::read::<Header>(&alone).err().unwrap_or_default()
    };
    let mistake = mistakes(value.clone()).into_iter().next()?;
    let met = format!("`{}` is not read", key.text);
    if mistake.at != key.at || mistake.met != format!("unknown key `{}`", key.text) {
        // `ca: { misbehave: [expird] }` is ours, and wrong; `device: { board: esp32 }` is somebody else's.
        let known = |(inner, value): &(Key, Node)| {
            let alone = Node { at: value.at.clone(), value: Value::Map(vec![(inner.clone(), value.clone())]) };
            mistakes(alone).iter().all(|p| p.at != inner.at || p.met != format!("unknown key `{}`", inner.text))
        };
        let ours = match (key.text.as_str(), &value.value) {
            ("device" | "broker" | "ca" | "time", Value::Map(entries)) => entries.iter().any(known),
            ("air", Value::List(items)) => items.iter().any(|item| matches!(item.value, Value::Map(_))),
            _ => false,
        };
        if ours {
            return None;
        }
        let help = format!("Wokwi does not read this key, and here it is something else: {}; {}", mistake.met, mistake.help);
        return Some(Problem::warning(key.at.clone(), met, help));
    }
    let help = match key.text.replace('_', "-").as_str() {
        "timeout" => "Wokwi does not read it either; the limit of the trial is called `within`: `within: 30s`",
        "expect-text" | "expect" => "Wokwi does not read it either; the last step can wait for the text: `- wait-serial: …`",
        "fail-text" | "fail" => "Wokwi does not read it either; here it is called `fail-on: [the text]`",
        _ => "Wokwi does not read it either; more words for readers belong under `description`",
    };
    // A mistyped key that nobody can do without is a mistake: the missing one is reported, with this place.
    let help = match nearest(&key.text, ["name", "version", "steps", "author", "description", "within", "matrix"]) {
        Some(near) => format!("did you mean `{near}`? {help}"),
        None => help.to_owned(),
    };
    Some(Problem::warning(key.at.clone(), met, help))
}

fn step_as_read(item: &mut Node, dialect: Dialect, problems: &mut Vec<Problem>) {
    let Value::Map(entries) = &mut item.value else { return };
    for (word, value) in entries {
        let Some((_, known)) = KEYS.iter().find(|(verb, _)| *verb == word.text) else { continue };
        let Value::Map(keys) = &mut value.value else { continue };
        let has_part = keys.iter().any(|(key, _)| key.text == "part-id");
        keys.retain_mut(|(key, _)| {
            if known.contains(&key.text.as_str()) {
                return true;
            }
            let part = matches!(key.text.as_str(), "part" | "id" | "partId" | "part_id") && !has_part;
            match dialect {
                Dialect::Own if part => {
                    let met = format!("`{}` in `{}`", key.text, word.text);
                    problems.push(Problem::new(key.at.clone(), met, "the part is named by `part-id`: `part-id: …`"));
                    key.text = "part-id".into();
                    true
                }
                // Where our own verbs are, keys are checked strictly.
                Dialect::Own => true,
                Dialect::Wokwi => {
                    let mut help = format!("Wokwi drops it without a word; `{}` knows {}", word.text, known.join(", "));
                    if part {
                        help = format!("the part is named by `part-id`: `part-id: …`; {help}");
                    }
                    problems.push(Problem::warning(key.at.clone(), format!("`{}` is not read", key.text), help));
                    false
                }
            }
        });
    }
}

/// What a step of a file of Wokwi's means: its verb, and what stands under it. What Wokwi's command line refuses before anything runs is
/// a mistake; what it takes and this harness would not is a warning, and does what it does there. None when there is a mistake.
pub(super) fn step(item: &Node, entries: &[&(Key, Node)], problems: &mut Vec<Problem>) -> Option<(&'static str, Meaning)> {
    let place = |(key, _): &&&(Key, Node)| VERBS.iter().position(|verb| *verb == key.text);
    let mistakes: Vec<_> =
        entries.iter().filter_map(|(key, value)| Some((key, value, validate(&key.text, value).err()?))).collect();
    for (key, value, mistake) in &mistakes {
        // What this harness says of it is more, where it says anything.
        match verb(&key.text).and_then(|verb| (verb.read)(value).err()) {
            Some(told) => problems.extend(told.into_iter().map(|problem| of(problem, &key.text, value))),
            None => problems.push(mistake.clone()),
        }
    }
    if !mistakes.is_empty() {
        return None;
    }
    let Some((key, value)) = entries.iter().min_by_key(place) else {
        let help = "there the run ends here, and fails; a remark is written as `# …`";
        problems.push(Problem::warning(item.at.clone(), "a step without a verb", help));
        return Some(("name", Meaning::fails("a step without a verb, at which Wokwi's command line ends".into())));
    };
    for (other, _) in entries.iter().filter(|(other, _)| other.text != key.text) {
        let met = format!("two verbs in one step, `{}` and `{}`", key.text, other.text);
        let help =
            format!("Wokwi runs `{}` only and drops the other without a word: begin a new line with `- {}:`", key.text, other.text);
        problems.push(Problem::warning(other.at.clone(), met, help));
    }
    let verb = verb(&key.text)?;
    let meaning = match (verb.read)(value) {
        Ok(meaning) => meaning,
        Err(told) => {
            let meaning = (verb.loosely)(value);
            let told = told.into_iter().map(|problem| of(problem, &key.text, value));
            let Some(meaning) = meaning else {
                problems.extend(told);
                return None;
            };
            problems.extend(told.map(|problem| Problem { warning: true, ..problem }));
            meaning
        }
    };
    if key.text == "delay" && text_of(value).trim_end().ends_with(['m', 'M', 'h', 'H', 'd', 'D']) {
        let help = "the run fails there at this step: Wokwi knows ns, us, ms and s";
        problems.push(Problem::warning(value.at.clone(), format!("a unit that is not Wokwi's in `{}`", text_of(value)), help));
    }
    Some((verb.name, meaning))
}

/// Says whose value it is, where the whole value is meant.
pub(super) fn of(problem: Problem, word: &str, value: &Node) -> Problem {
    match problem.met.as_str() {
        "unknown key `timeout`" => Problem { help: "the limit is called `within`: `within: 5s`".into(), ..problem },
        "unknown key `value`" if word == "wait-serial" => {
            Problem { help: "the text is called `text`, or stands alone: `wait-serial: …`".into(), ..problem }
        }
        met if problem.at == value.at && !met.contains(word) => Problem { met: format!("{word}: {met}"), ..problem },
        _ => problem,
    }
}

/// Whether JavaScript holds a value for true.
fn truthy(node: &Node) -> bool {
    match &node.value {
        Value::List(_) | Value::Map(_) => true,
        Value::Scalar { text, quoted: true } => !text.is_empty(),
        Value::Scalar { text, quoted: false } => match resolve(text) {
            Plain::Null => false,
            Plain::Bool(b) => b,
            Plain::Whole(n) => n != 0,
            Plain::Real(n) => n != 0.0 && !n.is_nan(),
            Plain::Text(text) => !text.is_empty(),
        },
    }
}

fn is_number(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, quoted: false } if matches!(resolve(text), Plain::Whole(_) | Plain::Real(_)))
}

fn is_text(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, quoted } if *quoted || matches!(resolve(text), Plain::Text(_)))
}

/// The text JavaScript makes of a value.
pub(crate) fn text_of(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, quoted: true } => text.clone(),
        Value::Scalar { text, quoted: false } => match resolve(text) {
            Plain::Null => "null".into(),
            Plain::Bool(b) => b.to_string(),
            Plain::Whole(n) => n.to_string(),
            Plain::Real(n) => number_text(n),
            Plain::Text(text) => text.into(),
        },
        Value::Map(_) => "[object Object]".into(),
        Value::List(items) => {
            let text = |node: &Node| match &node.value {
                Value::Scalar { text, quoted: false } if resolve(text) == Plain::Null => String::new(),
                _ => text_of(node),
            };
            items.iter().map(text).collect::<Vec<_>>().join(",")
        }
    }
}

/// What Wokwi's command line refuses of what stands under a verb, before anything runs. It looks at less than this harness does.
fn validate(word: &str, value: &Node) -> Result<(), Problem> {
    let refuse = |at: &Node, help: &str| Err(Problem::new(at.at.clone(), format!("{word}: {}", at.describe()), help));
    let needs: &[&[&str]] = match word {
        "delay" if !is_text(value) => return refuse(value, "a duration is a number and its unit: `500ms`"),
        "write-serial" => match &value.value {
            Value::List(items) if items.is_empty() => return refuse(value, "give at least one number, or a text"),
            Value::List(items) => {
                return items.iter().find(|item| !is_number(item)).map_or(Ok(()), |odd| refuse(odd, "a byte is a number"));
            }
            _ if is_text(value) => return Ok(()),
            _ => return refuse(value, "allowed: a text, or a list of numbers"),
        },
        "expect-pin" => &[&["name", "pin"]],
        "set-control" => &[&["name", "control"]],
        "take-screenshot" => &[&["part-id"], &["save-to", "compare-with"]],
        "touch" | "touch-press" | "touch-move" | "touch-release" => &[&["part-id"]],
        _ => &[],
    };
    for keys in needs {
        if !keys.iter().any(|key| value.get(key).is_some_and(truthy)) {
            let help = format!("add `{}: …`; Wokwi takes 0 and an empty text for a missing one", keys[0]);
            return Err(Problem::new(value.at.clone(), format!("{word}: no `{}`", keys.join("` or `")), help));
        }
    }
    if matches!(word, "touch" | "touch-press" | "touch-move") {
        for key in ["x", "y"] {
            match value.get(key) {
                Some(number) if is_number(number) => {}
                Some(other) => return refuse(other, "allowed: a number"),
                None => return refuse(value, "add `x: …` and `y: …`, in pixels"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_of_wokwi_is_one_of_ours_and_no_word_from_elsewhere_is() {
        assert!(VERBS.iter().all(|name| verb(name).is_some()));
        assert!(ELSEWHERE.iter().flat_map(|(words, _)| *words).all(|word| verb(word).is_none()));
        assert!(KEYS.iter().all(|(name, _)| VERBS.contains(name)));
    }
}
