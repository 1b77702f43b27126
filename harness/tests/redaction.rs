//! Every secret, in every form, in every kind of event: absent from the trace, the report, the golden and Debug output.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use common::{scenario, wait};
use harness::event::{CaRequest, ClientHello, Ended, Event, Exchange, MqttMessage, Power, ServerHello, Source, What};
use harness::golden::{Reach, Story};
use harness::report::{Told, console, json};
use harness::script::Script;
use harness::trace::format::{FORMAT, Header, Recorded, VERSION};
use harness::trace::redact::Redactor;
use harness::trace::tape::Tape;
use harness::trace::write::Writer;
use harness::verdict::Place;
use proptest::prelude::*;
use std::time::Duration;

const PASSWORD: &str = "correct horse, \"battery\"\\é staple";
const TOKEN: &str = "tok-7f3a9c1e5b2d";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n\
    OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n\
    1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n\
    -----END PRIVATE KEY-----\n";

/// A secret as somebody might say it, and the name of the form.
fn spoken(secret: &[u8]) -> Vec<(&'static str, String)> {
    let text = String::from_utf8_lossy(secret).into_owned();
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let around = |before: &str| [before.as_bytes(), secret, b" tail"].concat();
    let percent: String =
        secret.iter().map(|b| if b.is_ascii_alphanumeric() { char::from(*b).to_string() } else { format!("%{b:02X}") }).collect();
    let json = serde_json::to_string(&text).unwrap();
    vec![
        ("plain", text.clone()),
        ("json", json.clone()),
        ("json in json", serde_json::to_string(&json).unwrap()),
        ("Debug", format!("{text:?}")),
        ("byte list", format!("{secret:?}")),
        ("byte list, hex", format!("{secret:02x?}")),
        ("bytes, comma", secret.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        ("escaped bytes", secret.escape_ascii().to_string()),
        ("hex", hex.clone()),
        ("HEX", hex.to_uppercase()),
        ("hex:colons", secret.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")),
        ("percent", percent.clone()),
        ("percent, form", percent.replace("%20", "+")),
        (
            "percent, lower case",
            percent
                .split('%')
                .enumerate()
                .map(|(n, part)| match (n, part.is_char_boundary(2)) {
                    (1.., true) => part[..2].to_lowercase() + &part[2..],
                    _ => part.into(),
                })
                .collect::<Vec<_>>()
                .join("%"),
        ),
        ("percent, all", secret.iter().map(|b| format!("%{b:02X}")).collect()),
        ("base64", STANDARD.encode(secret)),
        ("base64 without padding", STANDARD_NO_PAD.encode(secret)),
        ("base64 for URLs", URL_SAFE.encode(secret)),
        ("base64 for URLs without padding", URL_SAFE_NO_PAD.encode(secret)),
        ("base64, shifted by 1", STANDARD.encode(around("u"))),
        ("base64, shifted by 2", STANDARD.encode(around("us"))),
        ("base64, shifted by 3", STANDARD.encode(around("us:"))),
        ("base64 for URLs, shifted by 5", URL_SAFE.encode(around("user:"))),
    ]
}

/// The text in every place an event has one.
fn events(text: &str) -> Vec<(Source, What)> {
    let t = || text.to_owned();
    let hello = ClientHello { to: t(), connection: 1, versions: vec![t()], sni: Some(t()), suites: vec![t()], groups: vec![t()] };
    let request =
        CaRequest { what: t(), device_id: Some(t()), status: None, outcome: t(), lies: vec![t()], issued: [(t(), t())].into() };
    vec![
        (Source::Device, What::Line(format!("I (1) wifi: Access point started: {text}"))),
        (Source::Broker, What::Line(t())),
        (Source::Device, What::Partial(t())),
        (
            Source::Http,
            What::Exchange(Exchange { method: t(), path: t(), status: Some(200), body: format!("{{\"a\":\"{text}\"}}") }),
        ),
        (Source::Ca, What::Request(request)),
        (Source::Mqtt, What::Message(MqttMessage { topic: t(), payload: t(), qos: 1, retained: false })),
        (Source::Link, What::Opened { to: t(), connection: 1 }),
        (Source::Link, What::ClientHello(hello)),
        (Source::Link, What::ServerHello(ServerHello { to: t(), connection: 1, version: t(), suite: t() })),
        (Source::Link, What::ClientCertificate { to: t(), connection: 1, sent: true }),
        (Source::Link, What::Alert { to: t(), connection: 1, by: t(), name: t() }),
        (Source::Link, What::Closed { to: t(), connection: 1, bytes_up: 1, bytes_down: 1 }),
        (Source::Runner, What::Power(Power::CutBefore { write: t() })),
        (Source::Runner, What::BrokerPower { now: t() }),
        (Source::Runner, What::ActFailed { step: 0, why: t() }),
        (Source::Runner, What::Note(t())),
        (Source::Runner, What::Broke { why: t() }),
        (Source::Runner, What::Gap { why: t() }),
        (Source::Device, What::Ended(Ended::Crashed { why: t(), backtrace: vec![t()] })),
        (Source::Device, What::Ended(Ended::Lost { why: t() })),
    ]
}

fn header(text: &str) -> Header {
    Header {
        format: FORMAT.into(),
        version: VERSION,
        scenario: Recorded { name: "s".into(), path: "s.yaml".into(), sha256: "00".into(), text: text.into() },
        row: [("password".to_owned(), text.to_owned())].into(),
        target: "twin".into(),
        facts: [("fact".to_owned(), text.to_owned())].into(),
        patience: 1.0,
        seed: 0,
        tool: "0".into(),
        broker: "none".into(),
        started_unix: 0,
    }
}

/// Everything that is written or shown of a trial in which this was said, one output after the other.
fn outputs(redactor: &Redactor, said: Vec<(Source, What)>, text: &str) -> String {
    let (tape, mut heard) = Tape::new(redactor.clone());
    said.into_iter().for_each(|(from, what)| tape.say(from, what));
    let events: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok()).collect();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    let mut writer = Writer::create(&path, &header(text), redactor).unwrap();
    events.iter().for_each(|event| writer.event(event).unwrap());
    drop(writer);
    let mut out = std::fs::read_to_string(&path).unwrap();

    // One trial an event: each is judged and reported as the reason for a verdict.
    let scenario = scenario(vec![wait(Source::Device, "never said")]);
    for event in &events {
        let mut script = Script::new(&scenario, 1.0);
        script.handle(&Event { at_us: 0, from: Source::Runner, what: What::StepBegan { step: 0 } });
        script.handle(event);
        script.handle(&Event { at_us: u64::MAX, from: Source::Runner, what: What::Interrupted });
        let judgement = script.judgement();
        let told = Told { name: "s", target: "twin", judgement: &judgement, took: Duration::ZERO, trace: None };
        out += &console::trial(&told, console::Colour::Never);
        out += &json::trial(&told, harness::exit::Warnings::Allowed);
        out += &format!("{script:?}");
    }
    let mut reach = Reach::default();
    Source::ALL.iter().for_each(|source| reach.advance(*source, events.len()));
    let place = Place { file: "s.yaml".into(), line: 1, step: None, name: "snapshot".into() };
    out += &Story::new("s".into(), place, &events, &reach, "localhost").text;
    out += &format!("{events:?}{tape:?}{redactor:?}");
    out
}

#[test]
fn no_secret_in_any_form_is_left_in_any_output() {
    let redactor = Redactor::new();
    for (label, secret) in [("wifi-password", PASSWORD), ("token", TOKEN)] {
        redactor.register(label, secret);
    }
    redactor.register("device-key", KEY);
    let der = STANDARD.decode(KEY.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    for (label, secret) in [("wifi-password", PASSWORD.as_bytes()), ("token", TOKEN.as_bytes()), ("device-key", &der)] {
        let forms = spoken(secret);
        for (form, said) in forms.iter().filter(|(form, _)| {
            std::str::from_utf8(secret).is_ok() || !form.contains("plain") && !form.contains("json") && *form != "Debug"
        }) {
            let out = outputs(&redactor, events(said), said);
            assert!(out.contains(&format!("<redacted:{label}>")), "{label}, {form}: {said}");
            // What stays of base64 are the characters that also carry a neighbour's bits.
            for (other, form_said) in &forms {
                let certain = &form_said[form_said.floor_char_boundary(4)..form_said.floor_char_boundary(form_said.len() - 4)];
                if other.starts_with("base64, shifted") || other.starts_with("base64 for URLs, shifted") || certain.is_empty() {
                    continue;
                }
                let certain = if certain.len() > 40 { &certain[..certain.floor_char_boundary(40)] } else { certain };
                assert!(!out.contains(certain), "{label}, said as {form}, found as {other}: {certain}");
            }
        }
    }
}

#[test]
fn an_unknown_private_key_is_redacted_whole_or_line_by_line() {
    let redactor = Redactor::new();
    let body: Vec<&str> = KEY.lines().filter(|line| !line.starts_with('-')).collect();
    for said in [
        KEY.to_owned(),
        KEY.replace('\n', "\\n"),
        format!("{{\"key\":{}}}", serde_json::to_string(KEY).unwrap()),
        KEY.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE").replace("END PRIVATE", "END EC PRIVATE"),
        format!("before {} after", KEY.trim_end()),
        KEY[..100].to_owned(),
        STANDARD.encode(KEY),
        STANDARD.encode(format!("x{KEY}")),
        URL_SAFE_NO_PAD.encode(format!("xy{KEY}")),
        KEY.bytes().map(|b| format!("{b:02x}")).collect(),
        KEY.replace(' ', "%20").replace('\n', "%0A"),
    ] {
        let out = redactor.redacted(said.clone());
        assert!(out.contains("<redacted:private-key>"), "{said}: {out}");
        assert!(body.iter().all(|line| !out.contains(&line[..20])), "{said}: {out}");
        assert!(!out.contains(&STANDARD.encode(KEY)[60..90]) && !out.contains("4d494748"), "{said}: {out}");
        assert_eq!(out.starts_with("before ") && out.ends_with(" after"), said.starts_with("before"), "{out}");
    }
    for prefix in ["", "I (42) cert: "] {
        let said = KEY.lines().map(|line| (Source::Device, What::Line(format!("{prefix}{line}"))));
        // Another source may speak in between.
        let other = (Source::Broker, What::Line("a broker's words stay".into()));
        let after = (Source::Device, What::Line("MQTTconnected".into()));
        let out = outputs(&redactor, said.flat_map(|line| [line, other.clone()]).chain([after]).collect(), "");
        assert!(body.iter().all(|line| !out.contains(line)), "{out}");
        assert!(out.contains("a broker's words stay") && out.contains("MQTTconnected"));
    }
}

#[test]
fn short_secrets_are_redacted_as_words_only() {
    let redactor = Redactor::new();
    redactor.register("pin", "1234");
    redactor.register("nothing", "");
    redactor.register("letter", "a");
    assert_eq!(redactor.redacted("pin=1234, 51234 a 1234"), "pin=<redacted:pin>, 51234 a <redacted:pin>");
}

#[test]
fn what_is_no_secret_stays() {
    let redactor = Redactor::new();
    redactor.register("token", TOKEN);
    for text in [
        "",
        "x",
        "I (1) boot: device-core 0.1.0",
        "tok-7f3a9c1e5b2",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ] {
        assert_eq!(redactor.redacted(text), text);
    }
    assert_eq!(redactor.redacted(format!("é{TOKEN}é{TOKEN}")), "é<redacted:token>é<redacted:token>");
}

#[test]
fn a_secret_may_become_known_while_others_speak() {
    let redactor = Redactor::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let redactor = &redactor;
            scope.spawn(move || {
                let secret = format!("secret-number-{n}");
                redactor.register("one", &secret);
                for _ in 0..100 {
                    assert_eq!(redactor.redacted(&secret), "<redacted:one>");
                }
            });
        }
    });
}

proptest! {
    /// Whatever the secret and whatever is around it, no form of it is left.
    #[test]
    fn any_secret_is_found(secret in "\\PC{8,40}", before in "\\PC{0,5}", after in "\\PC{0,5}") {
        let redactor = Redactor::new();
        redactor.register("x", &secret);
        for (form, said) in spoken(secret.as_bytes()) {
            let out = redactor.redacted(format!("{before}{said}{after}"));
            prop_assert!(out.contains("<redacted:x>"), "{}: {} -> {}", form, said, out);
        }
    }

    /// Hostile text is no trouble.
    #[test]
    fn any_text_is_redacted(text in "(?s)(-----BEGIN |PRIVATE KEY-----|-----END |.|UFJJVkFURSBLRVktLS0tL){0,12}") {
        let out = Redactor::new().redacted(&text);
        prop_assert!(!out.contains("PRIVATE KEY-----"), "{}", out);
    }
}
