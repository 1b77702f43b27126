//! Wokwi's own files: told apart by their verbs, read as Wokwi's command line reads them, and what to say to those who write what it refuses.

use super::header::Header;
use super::problem::{Problem, nearest};
use super::yaml::{Key, Node, Value};
use super::{Dialect, typed};
use crate::step::verb;

/// Wokwi's verbs, in the order in which its command line looks for them: of two in one step it runs the first of this list only.
pub(super) const VERBS: [&str; 11] = [
    "delay",
    "expect-chip-output",
    "expect-pin",
    "set-control",
    "wait-serial",
    "write-serial",
    "take-screenshot",
    "touch",
    "touch-press",
    "touch-move",
    "touch-release",
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

/// Of two verbs in one step, what Wokwi makes of it.
pub(super) fn two_verbs(first: &str, second: &str) -> Option<String> {
    let place = |word: &str| VERBS.iter().position(|verb| *verb == word);
    let (first, second) = (place(first)?, place(second)?);
    let runs = VERBS[first.min(second)];
    Some(format!("Wokwi runs `{runs}` only and drops the other without a word"))
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
    let mapping = matches!(key.text.as_str(), "device" | "broker" | "ca" | "time" | "matrix");
    let list = matches!(key.text.as_str(), "air" | "exclude" | "targets" | "needs" | "never" | "fail-on");
    let other_shape = (mapping && !matches!(value.value, Value::Map(_))) || (list && !matches!(value.value, Value::List(_)));
    if other_shape && key.text != "fail-on" {
        let shape = if mapping { "mapping" } else { "list" };
        let help = format!("Wokwi does not read this key; here it would be a {shape}");
        return Some(Problem::warning(key.at.clone(), format!("`{}` is not read", key.text), help));
    }
    let alone = Node { at: value.at.clone(), value: Value::Map(vec![(key.clone(), value.clone())]) };
    let unknown = format!("unknown key `{}`", key.text);
    let known =
        typed::read::<Header>(&alone).err().is_none_or(|mistakes| !mistakes.iter().any(|p| p.at == key.at && p.met == unknown));
    if known {
        return None;
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
    Some(Problem::warning(key.at.clone(), format!("`{}` is not read", key.text), help))
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
            if matches!(key.text.as_str(), "part" | "id" | "partId" | "part_id") && !has_part {
                let met = format!("`{}` in `{}`", key.text, word.text);
                problems.push(Problem::new(key.at.clone(), met, "the part is named by `part-id`: `part-id: …`"));
                key.text = "part-id".into();
                return true;
            }
            if dialect == Dialect::Own {
                // Where our own verbs are, keys are checked strictly.
                return true;
            }
            let help = format!("Wokwi drops it without a word; `{}` knows {}", word.text, known.join(", "));
            problems.push(Problem::warning(key.at.clone(), format!("`{}` is not read", key.text), help));
            false
        });
    }
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
