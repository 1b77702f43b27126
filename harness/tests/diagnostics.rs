//! What a person reads who made a mistake in a scenario file: planted mistakes, and the whole report for each.

use harness::scenario;
use std::path::Path;

/// A good file with one line put in the place of another, or added when `from` is empty.
fn planted(from: &str, to: &str) -> String {
    let good = "\
name: A device connects
version: 1
device: { mqtt: v5 }
air:
  - { ssid: lab, password: correct-horse }
steps:
  - power-on: {}
  - provision: { ssid: lab, password: correct-horse }
  - wait-for: { device: { report: certificate-stored }, within: 5s }
";
    if from.is_empty() {
        return format!("{good}{to}\n");
    }
    assert_eq!(good.matches(from).count(), 1, "{from}");
    good.replace(from, to)
}

fn report(text: impl AsRef<[u8]>) -> String {
    match scenario::read(Path::new("scenarios/example.yaml"), text.as_ref()) {
        Ok(file) if file.warnings.is_empty() => panic!("no mistake was found"),
        Ok(file) => file.warnings.render(false),
        Err(diagnostics) => diagnostics.render(false),
    }
}

/// Compares with the accepted reports, all of one kind in one file.
fn check(name: &str, mistakes: &[(&str, String)]) {
    let reports: Vec<String> = mistakes.iter().map(|(what, text)| format!("==== {what}\n{}", report(text))).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, reports.join("\n")));
}

#[test]
fn mistakes_in_yaml() {
    check(
        "yaml",
        &[
            ("a tab", planted("  - power-on: {}", "\t- power-on: {}")),
            ("a bracket left open", planted("{ mqtt: v5 }", "{ mqtt: v5")),
            ("a text that needs quotes", planted("name: A device connects", "name: A device: it connects")),
            ("a parameter that needs quotes", planted("{ mqtt: v5 }", "{ mqtt: ${version} }")),
            ("a key twice", planted("version: 1", "version: 1\nname: Another")),
            ("an unknown alias", planted("{ mqtt: v5 }", "*settings")),
            ("a tag", planted("{ mqtt: v5 }", "!secret v5")),
            ("a second document", planted("", "---\nname: Another")),
            ("an empty file", "# nothing but a comment\n".into()),
            ("a list instead of a mapping", "- power-on: {}\n".into()),
            ("wrong indentation", planted("  - provision", " - provision")),
        ],
    );
}

#[test]
fn mistakes_in_words() {
    check(
        "words",
        &[
            ("an unknown key", planted("device: { mqtt", "devise: { mqtt")),
            ("an unknown inner key", planted("mqtt: v5", "mqqt: v5")),
            ("a wrong value", planted("mqtt: v5", "mqtt: v4")),
            ("a wrong verb", planted("power-on: {}", "poweron: {}")),
            ("a verb of another language", planted("power-on: {}", "click-button: btn1")),
            ("two verbs in one step", planted("  - power-on: {}\n", "  - power-on: {}\n    provision: {}\n")),
            ("no verb", planted("- power-on: {}", "- name: Boot")),
            ("a verb without its value", planted("power-on: {}", "power-on")),
            ("a verb with nothing after it", planted("power-on: {}", "power-on:")),
            ("a limit beside the verb", planted(", within: 5s }", " }\n    timeout: 5s")),
            ("an unknown report", planted("certificate-stored", "certificate_stored")),
            ("a report nothing like any", planted("certificate-stored", "toast-ready")),
            (
                "an unknown field of a report",
                planted("{ report: certificate-stored }", "{ report: wifi-failed, with: { why: lost } }"),
            ),
            (
                "a word where a report has a number",
                planted("{ report: certificate-stored }", "{ report: backoff, with: { attempt: one } }"),
            ),
            ("a log line taken for a report", planted("{ report: certificate-stored }", "{ line: Certificate stored }")),
            ("no source", planted("{ device: { report: certificate-stored }, within: 5s }", "{ within: 5s }")),
            ("two sources", planted("within: 5s", "ca: sign-csr")),
            ("a CA that tells an unknown lie", planted("version: 1", "version: 1\nca: { misbehave: [expird] }")),
            ("an unknown setting", planted("mqtt: v5", "settings: { QUEUE_LIMT: 4 }")),
            ("a state in small letters", planted("device: { report: certificate-stored }", "state: mqtt_connected")),
        ],
    );
}

#[test]
fn mistakes_about_a_scripted_broker() {
    let lies = |text: &str| planted("version: 1", &format!("version: 1\nbroker: {{ scripted: [{text}] }}"));
    let step = |text: &str| planted("provision: { ssid: lab, password: correct-horse }", text);
    check(
        "scripted",
        &[
            ("a lie that there is not", lies("withold: puback")),
            ("a lie without its value", lies("withhold")),
            ("an answer that there is not", lies("withhold: pubak")),
            ("an answer that has no code", lies("refuse: { answer: pingresp, code: 3 }")),
            ("a code that is none", lies("refuse: { answer: suback, code: 256 }")),
            ("never at all", lies("cut: { after: connack, times: 0 }")),
            ("half a byte", lies("bytes: { hex: \"20 0\" }")),
            ("what is no hex", lies("bytes: { hex: \"2g\" }")),
            ("an order of no size", lies("large-order: { bytes: 0 }")),
            ("an access control list", planted("version: 1", "version: 1\nbroker: { acl: \"topic read #\", scripted: [] }")),
            ("a packet of a real broker", step("wait-for: { packet: pingreq }")),
            ("a packet that there is not", step("wait-for: { packet: pingrek }")),
            ("a packet never seen of a real broker", planted("version: 1", "version: 1\nnever: [{ packet: wrong }]")),
            ("a real broker that is to lie", step("broker: { misbehave: [cut: connack] }")),
            ("a real broker that is to be healed", step("broker: heal")),
            ("no lie", step("broker: { misbehave: [] }")),
        ],
    );
}

#[test]
fn mistakes_in_values() {
    check(
        "values",
        &[
            ("a duration without a unit", planted("within: 5s", "within: 5")),
            ("a duration in words", planted("within: 5s", "within: 5 seconds")),
            ("a negative delay", planted("", "  - delay: -5ms")),
            ("a number where a text is meant", planted("mqtt: v5", "tls: 1.3")),
            (
                "a text where a number is meant",
                planted("{ ssid: lab, password: correct-horse }\n  - wait", "{ expect: ok }\n  - wait"),
            ),
            (
                "a status that does not exist",
                planted("{ ssid: lab, password: correct-horse }\n  - wait", "{ expect: 2000 }\n  - wait"),
            ),
            ("a wrong pattern", planted("report: certificate-stored", "pattern: 'Connected ('")),
            ("a wrong topic filter", planted("device: { report: certificate-stored }", "mqtt: { topic: 'devices/#/status' }")),
            ("a missing field", planted("device: { report: certificate-stored }", "mqtt: { retained: true }")),
            (
                "a network name that is too long",
                planted("air:\n  - { ssid: lab", "air:\n  - { ssid: a-network-name-of-more-than-32-bytes"),
            ),
            ("a setting out of its range", planted("mqtt: v5", "settings: { QUEUE_LIMIT: 0 }")),
            ("a date of another form", planted("version: 1", "version: 1\ntime: { date: 1 May 2026 }")),
            ("another version", planted("version: 1", "version: 2")),
            ("a version in quotes", planted("version: 1", "version: \"1\"")),
            ("no name and no steps", "version: 1\n".into()),
            ("steps that are no list", "name: x\nversion: 1\nsteps: { power-on: {} }\n".into()),
            ("a snapshot with a path", planted("", "  - snapshot: ../golden")),
            ("no steps at all", "name: x\nversion: 1\nsteps: []\n".into()),
        ],
    );
}

#[test]
fn mistakes_in_the_matrix() {
    check(
        "matrix",
        &[
            (
                "an unknown parameter",
                planted("ssid: lab, password: correct-horse }\n  - wait", "ssid: \"${sid}\" }\n  - wait")
                    .replace("version: 1", "version: 1\nmatrix: { ssid: [lab, attic] }"),
            ),
            ("an unused parameter", planted("version: 1", "version: 1\nmatrix: { flavour: [a, b] }")),
            ("a parameter that is set twice", planted("version: 1", "version: 1\nmatrix: { mqtt: [v5, v3.1.1] }")),
            (
                "a value that is wrong in one row",
                planted("mqtt: v5", "mqtt: \"${version}\"").replace("version: 1", "version: 1\nmatrix: { version: [v5, v6] }"),
            ),
            (
                "values without names",
                planted("mqtt: v5", "settings: \"${some}\"")
                    .replace("version: 1", "version: 1\nmatrix: { some: [{ QUEUE_LIMIT: 4 }] }"),
            ),
            (
                "too many combinations",
                planted("version: 1", &format!("version: 1\nmatrix: {{ a: {0:?}, b: {0:?} }}", (0..20).collect::<Vec<_>>())),
            ),
        ],
    );
}

#[test]
fn several_mistakes_at_once() {
    let text = planted("mqtt: v5", "mqtt: v6, tsl: both")
        .replace("power-on: {}", "poweron: {}")
        .replace("ssid: lab, password: correct-horse }\n  - wait", "sid: lab, tokn: good }\n  - wait")
        .replace("within: 5s", "within: 5");
    check("several", &[("six mistakes", text)]);
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("hello.yaml"), planted("", "")).unwrap();
    let of = |path: &Path| scenario::load(path).unwrap_err().render(false).replace(&folder.path().display().to_string(), "FOLDER");
    let mut reports = vec![of(&path("helo.yaml")), of(folder.path())];
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("name".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let latin1 = b"name: caf\xe9\nversion: 1\n".to_vec();
    let huge = vec![b' '; scenario::yaml::FILE_MAX + 1];
    reports.extend([utf16, latin1, huge].iter().map(report));
    #[cfg(unix)]
    {
        let status = std::process::Command::new("mkfifo").arg(path("pipe.yaml")).status().unwrap();
        assert!(status.success());
        reports.push(of(&path("pipe.yaml")));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    #[cfg(unix)]
    settings.bind(|| insta::assert_snapshot!("files", reports.join("\n")));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_not_matter() {
    let text = format!("\u{feff}{}", planted("", "").replace('\n', "\r\n"));
    let file = scenario::read(Path::new("x.yaml"), text.as_bytes()).unwrap();
    assert_eq!((file.scenarios[0].steps[0].line, file.scenarios[0].steps[0].column), (7, 5));
}

#[test]
fn bombs_are_refused_at_once() {
    let began = std::time::Instant::now();
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        aliases.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
    }
    let deep = format!("name: {}{}\n", "[".repeat(5_000), "]".repeat(5_000));
    let blocks: String = (0..2_000).map(|n| format!("{}- \n", " ".repeat(n.min(100)))).collect();
    let wide = format!("name: x\nversion: 1\nsteps: []\n{}", (0..30_000).map(|n| format!("k{n}: 1\n")).collect::<String>());
    for text in [aliases, deep, blocks, wide] {
        let refused = scenario::read(Path::new("x.yaml"), text.as_bytes()).unwrap_err();
        assert!(refused.render(false).len() < 50_000);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}
