//! A scenario's parameters multiplied out: one row for each combination, with the parameters put in where the file uses them.

use crate::scenario::problem::{Problem, choice};
use crate::scenario::yaml::{Key, NODES_MAX, Node, Plain, Value, resolve, shown};
use std::collections::BTreeSet;

/// The most combinations one file may have.
pub const ROWS_MAX: usize = 256;
/// The most parameters one file may have.
pub const PARAMETERS_MAX: usize = 16;
/// The most values that all rows of a file may have together.
const ROW_NODES_MAX: usize = 40 * NODES_MAX;
/// The longest name of a parameter or of its value, in characters.
const LABEL_MAX: usize = 40;
/// Stands for the trial's device id in any text; not a parameter of the matrix.
pub const DEVICE: &str = "device";
/// Parameters that set keys of the header by themselves: name, and where.
const WELL_KNOWN: &[(&str, &[&str])] = &[("mqtt", &["device"]), ("tls", &["device"]), ("security", &["device", "broker"])];

/// One combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Stable and readable: `mqtt=v5,tls=1.3`; empty without a matrix.
    pub name: String,
    /// The document with its parameters put in.
    pub doc: Node,
}

struct Parameter<'a> {
    key: &'a Key,
    /// Name and value; the first parameter varies slowest.
    values: Vec<(String, &'a Node)>,
}

/// Multiplies a document's `matrix` out. Mistakes in the matrix, and parameters that do not exist, are pushed to `problems`.
pub fn expand(doc: &Node, problems: &mut Vec<Problem>) -> Vec<Row> {
    let found = problems.len();
    let parameters = doc.get("matrix").map(|matrix| parameters(matrix, problems)).unwrap_or_default();
    let excluded = doc.get("exclude").map(|list| exclusions(list, &parameters, problems)).unwrap_or_default();
    if problems.len() > found {
        return Vec::new();
    }
    let total = parameters.iter().fold(1usize, |n, p| n.saturating_mul(p.values.len()));
    if total > ROWS_MAX || total.saturating_mul(doc.count()) > ROW_NODES_MAX {
        let at = doc.get("matrix").map_or(0..0, |m| m.at.clone());
        problems.push(Problem::new(
            at,
            format!("a matrix of {total} combinations"),
            format!("allowed: up to {ROWS_MAX}, fewer in a large file; split the scenario"),
        ));
        return Vec::new();
    }

    let mut used = BTreeSet::new();
    let mut met = vec![false; excluded.len()];
    let mut rows = Vec::new();
    for index in 0..total {
        let mut rest = index;
        let mut chosen: Vec<(&str, &str, &Node)> = Vec::new();
        for parameter in parameters.iter().rev() {
            let (label, value) = &parameter.values[rest % parameter.values.len()];
            rest /= parameter.values.len();
            chosen.insert(0, (&parameter.key.text, label, value));
        }
        let mut out = false;
        for (wishes, met) in excluded.iter().zip(&mut met) {
            if wishes.iter().all(|(name, label)| chosen.iter().any(|(n, l, _)| n == name && l == label)) {
                (out, *met) = (true, true);
            }
        }
        if out {
            continue;
        }
        let name = chosen.iter().map(|(name, label, _)| format!("{name}={label}")).collect::<Vec<_>>().join(",");
        let mut filling = Filling { chosen: &chosen, used: &mut used, problems };
        let mut doc = filling.document(doc);
        set_well_known(&mut doc, &chosen, problems);
        rows.push(Row { name, doc });
    }
    if let Some(at) = doc.get("exclude").map(|list| list.at.clone()) {
        if rows.is_empty() {
            problems.push(Problem::new(at, "every combination is excluded", "leave at least one"));
        } else if met.contains(&false) {
            problems.push(Problem::warning(at, "an exclusion that excludes nothing", "remove it"));
        }
    }
    // A mistyped use makes a parameter look unused.
    let mistaken = problems.iter().any(|p| !p.warning);
    for parameter in parameters.iter().filter(|_| !mistaken) {
        let name = &parameter.key.text;
        if !used.contains(name) && !WELL_KNOWN.iter().any(|(known, _)| known == name) {
            let help = format!("write `${{{name}}}` where its value belongs, or remove it");
            problems.push(Problem::warning(parameter.key.at.clone(), format!("the parameter `{name}` is not used"), help));
        }
    }
    rows
}

fn parameters<'a>(matrix: &'a Node, problems: &mut Vec<Problem>) -> Vec<Parameter<'a>> {
    let Value::Map(entries) = &matrix.value else {
        problems.push(Problem::new(
            matrix.at.clone(),
            matrix.describe(),
            "allowed: a mapping of parameter to values, such as `{ mqtt: [v5, v3.1.1] }`",
        ));
        return Vec::new();
    };
    if entries.len() > PARAMETERS_MAX {
        problems.push(Problem::new(
            matrix.at.clone(),
            format!("{} parameters", entries.len()),
            format!("allowed: up to {PARAMETERS_MAX}"),
        ));
        return Vec::new();
    }
    let mut parameters = Vec::new();
    for (key, node) in entries {
        if key.text == DEVICE {
            problems.push(Problem::new(
                key.at.clone(),
                "the parameter `device`",
                "`${device}` is the trial's device id: choose another name",
            ));
        } else if !is_label(&key.text) || key.text.contains('.') {
            problems.push(Problem::new(
                key.at.clone(),
                format!("the parameter {}", shown(&key.text)),
                format!("a name has 1 to {LABEL_MAX} of A-Z a-z 0-9 _ -"),
            ));
        }
        let mut values: Vec<(String, &Node)> = Vec::new();
        let mut add = |label: &str, value: &'a Node, at: &std::ops::Range<usize>, problems: &mut Vec<Problem>| {
            if !is_label(label) {
                let met = format!("the value {}, which makes no name for a trial", shown(label));
                problems.push(Problem::new(
                    at.clone(),
                    met,
                    "give the values names: `{ short-name: value, … }` in place of the list",
                ));
            } else if values.iter().any(|(l, _)| l == label) {
                problems.push(Problem::new(at.clone(), format!("the value `{label}` stands twice"), "keep one"));
            } else {
                values.push((label.to_string(), value));
            }
        };
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                for item in items {
                    match &item.value {
                        Value::Scalar { text, quoted } if *quoted || resolve(text) != Plain::Null => {
                            add(text, item, &item.at, problems)
                        }
                        _ => {
                            let help = "a list has texts, numbers and booleans; give other values names: `{ name: value, … }`";
                            problems.push(Problem::new(item.at.clone(), item.describe(), help));
                        }
                    }
                }
            }
            Value::Map(named) if !named.is_empty() => {
                for (label, value) in named {
                    add(&label.text, value, &label.at, problems);
                }
            }
            _ => {
                let help = "allowed: a list of values, or a mapping of name to value, with at least one";
                problems.push(Problem::new(node.at.clone(), node.describe(), help));
            }
        }
        parameters.push(Parameter { key, values });
    }
    parameters
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

type Exclusion<'a> = Vec<(&'a str, &'a str)>;

fn exclusions<'a>(list: &'a Node, parameters: &[Parameter<'_>], problems: &mut Vec<Problem>) -> Vec<Exclusion<'a>> {
    let Value::List(items) = &list.value else {
        problems.push(Problem::new(
            list.at.clone(),
            list.describe(),
            "allowed: a list of mappings, such as `[{ security: plain, tls: \"1.2\" }]`",
        ));
        return Vec::new();
    };
    let mut excluded = Vec::new();
    for item in items {
        let mut wishes = Vec::new();
        if item.entries().is_empty() {
            problems.push(Problem::new(item.at.clone(), item.describe(), "allowed: a mapping of parameter to value"));
        }
        for (key, value) in item.entries() {
            let Some(parameter) = parameters.iter().find(|p| p.key.text == key.text) else {
                let names: Vec<_> = parameters.iter().map(|p| p.key.text.as_str()).collect();
                problems.push(Problem::new(key.at.clone(), format!("the parameter `{}`", key.text), choice(&key.text, &names)));
                continue;
            };
            let label = match &value.value {
                Value::Scalar { text, .. } => text.as_str(),
                _ => "",
            };
            if parameter.values.iter().any(|(l, _)| l == label) {
                wishes.push((key.text.as_str(), label));
            } else {
                let labels: Vec<_> = parameter.values.iter().map(|(l, _)| l.as_str()).collect();
                problems.push(Problem::new(value.at.clone(), value.describe(), choice(label, &labels)));
            }
        }
        excluded.push(wishes);
    }
    excluded
}

struct Filling<'a> {
    chosen: &'a [(&'a str, &'a str, &'a Node)],
    used: &'a mut BTreeSet<String>,
    problems: &'a mut Vec<Problem>,
}

impl Filling<'_> {
    fn document(&mut self, doc: &Node) -> Node {
        let value = match &doc.value {
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(key, node)| {
                        let raw = matches!(key.text.as_str(), "matrix" | "exclude");
                        (key.clone(), if raw { node.clone() } else { self.node(node) })
                    })
                    .collect(),
            ),
            value => value.clone(),
        };
        Node { at: doc.at.clone(), value }
    }

    fn node(&mut self, node: &Node) -> Node {
        let value = match &node.value {
            Value::Scalar { text, quoted } => {
                let whole = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
                match whole.and_then(|name| self.find(name)).and_then(Result::ok) {
                    Some(value) => value.value.clone(),
                    None => Value::Scalar { quoted: *quoted, text: self.text(text, node) },
                }
            }
            Value::List(items) => Value::List(items.iter().map(|item| self.node(item)).collect()),
            Value::Map(entries) => Value::Map(entries.iter().map(|(key, value)| (key.clone(), self.node(value))).collect()),
        };
        Node { at: node.at.clone(), value }
    }

    /// The value of `name`, or of a key inside of it, `name.key`. None: there is no such parameter; an error: no such key.
    fn find(&mut self, name: &str) -> Option<Result<Node, String>> {
        let mut parts = name.split('.');
        let parameter = parts.next()?;
        let (_, _, value) = self.chosen.iter().find(|(n, ..)| *n == parameter)?;
        self.used.insert(parameter.to_string());
        let mut value = *value;
        for part in parts {
            let Some(inner) = value.get(part) else {
                let keys: Vec<_> = value.entries().iter().map(|(key, _)| key.text.as_str()).collect();
                return Some(Err(choice(part, &keys)));
            };
            value = inner;
        }
        Some(Ok(value.clone()))
    }

    fn text(&mut self, text: &str, node: &Node) -> String {
        fill(text, |name| {
            if name == DEVICE {
                return None;
            }
            let (met, help) = match self.find(name) {
                Some(Ok(Node { value: Value::Scalar { text, .. }, .. })) => return Some(text),
                Some(Ok(_)) => {
                    let help = "its value is a list or a mapping, which can only stand alone, without quotes";
                    (format!("`${{{name}}}` inside a text"), help.to_string())
                }
                Some(Err(help)) => (format!("`${{{name}}}`: the parameter's value has no such key"), help),
                None => {
                    let names: Vec<_> = self.chosen.iter().map(|(n, ..)| *n).chain([DEVICE]).collect();
                    let help = format!("{}; `$${{` means `${{` itself", choice(name, &names));
                    (format!("the parameter `${{{name}}}`"), help)
                }
            };
            self.problems.push(Problem::new(node.at.clone(), met, help));
            None
        })
    }
}

/// Puts values in for `${name}`; where there is none, and in `$${name}`, the text stays.
fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        let Some(length) = rest[at..].find('}') else { break };
        let name = &rest[at + 2..at + length];
        out.push_str(&rest[..at]);
        match if escaped { None } else { value(name) } {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..=at + length]),
        }
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    out
}

/// Puts the device's id in for `${device}`, and takes the escape off `$${`.
pub fn name_device(node: &Node, device_id: &str) -> Node {
    let value = match &node.value {
        Value::Scalar { text, quoted } if text.contains("${") => {
            let filled = fill(text, |name| (name == DEVICE).then(|| device_id.to_string()));
            Value::Scalar { text: filled.replace("$${", "${"), quoted: *quoted || text.contains(DEVICE) }
        }
        Value::Scalar { .. } => node.value.clone(),
        Value::List(items) => Value::List(items.iter().map(|item| name_device(item, device_id)).collect()),
        Value::Map(entries) => {
            Value::Map(entries.iter().map(|(key, value)| (key.clone(), name_device(value, device_id))).collect())
        }
    };
    Node { at: node.at.clone(), value }
}

fn set_well_known(doc: &mut Node, chosen: &[(&str, &str, &Node)], problems: &mut Vec<Problem>) {
    for (name, _, value) in chosen {
        let Some((_, places)) = WELL_KNOWN.iter().find(|(known, _)| known == name) else { continue };
        let Value::Map(top) = &mut doc.value else { continue };
        for place in *places {
            let key = |text: &str| Key { at: value.at.clone(), text: text.to_string() };
            let index = top.iter().position(|(k, _)| k.text == *place).unwrap_or_else(|| {
                top.push((key(place), Node { at: value.at.clone(), value: Value::Map(Vec::new()) }));
                top.len() - 1
            });
            let Value::Map(entries) = &mut top[index].1.value else { continue };
            match entries.iter().find(|(k, _)| k.text == *name) {
                Some((_, own)) if own.at == value.at => {}
                Some((_, own)) if *place == "device" => {
                    problems.push(Problem::new(
                        own.at.clone(),
                        format!("`{name}` here and in the matrix"),
                        "the matrix sets it: remove it here",
                    ));
                }
                // The broker's own wish is stronger: a mismatch may be what is shown.
                Some(_) => {}
                None => entries.push((key(name), (*value).clone())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::yaml;

    fn rows(text: &str) -> (Vec<Row>, Vec<Problem>) {
        let mut problems = Vec::new();
        let rows = expand(&yaml::parse(text).unwrap(), &mut problems);
        (rows, problems)
    }

    #[test]
    fn rows_have_stable_names_in_the_order_of_the_file() {
        let (rows, problems) =
            rows("matrix: { mqtt: [v5, v3.1.1], tls: [\"1.2\", \"1.3\"] }\nexclude: [{ mqtt: v5, tls: \"1.2\" }]");
        assert_eq!(problems, []);
        let names: Vec<_> = rows.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["mqtt=v5,tls=1.3", "mqtt=v3.1.1,tls=1.2", "mqtt=v3.1.1,tls=1.3"]);
        let device = rows[0].doc.get("device").unwrap();
        assert_eq!(device.get("mqtt").unwrap().value, Value::Scalar { text: "v5".into(), quoted: false });
    }

    #[test]
    fn a_value_alone_keeps_its_type_and_one_in_a_text_becomes_text() {
        let (rows, problems) = rows("matrix: { n: { one: 1, many: [1, 2] } }\na: ${n}");
        assert_eq!(problems, []);
        assert_eq!(rows[0].doc.get("a").unwrap().describe(), "the number 1");
        assert_eq!(rows[1].doc.get("a").unwrap().describe(), "a list");
        let (rows, problems) = self::rows("matrix: { n: { one: { k: 1 } } }\na: [\"${n.k}\", \"x${n.k}\"]");
        assert_eq!(problems, []);
        assert!(
            matches!(&rows[0].doc.get("a").unwrap().value, Value::List(items) if items[0].describe() == "the number 1" && items[1].describe() == "the text `x1`")
        );
        let (rows, problems) = self::rows("matrix: { n: [1, 2] }\na: x${n}y$${n}${device}");
        assert_eq!(problems, []);
        assert_eq!(name_device(&rows[1].doc, "dev-7").get("a").unwrap().describe(), "the text `x2y${n}dev-7`");
    }

    #[test]
    fn mistakes_are_found() {
        for (text, met) in [
            ("matrix: 5", "the number 5"),
            ("matrix: { a: [] }\nb: ${a}", "a list"),
            ("matrix: { a: [x, x] }\nb: ${a}", "the value `x` stands twice"),
            ("matrix: { a: [[1]] }\nb: ${a}", "a list"),
            ("matrix: { device: [a] }\nb: ${a}", "the parameter `device`"),
            ("matrix: { a: [x] }\nb: ${a}${c}", "the parameter `${c}`"),
            ("matrix: { a: [x] }\nb: c", "the parameter `a` is not used"),
            ("matrix: { a: { m: {} } }\nb: x${a}", "`${a}` inside a text"),
            ("matrix: { a: { m: { k: v } } }\nb: ${a.x}", "`${a.x}`: the parameter's value has no such key"),
            ("matrix: { a: [x] }\nexclude: [{ a: x }]\nb: ${a}", "every combination is excluded"),
            ("matrix: { a: [x] }\nexclude: [{ a: y }]\nb: ${a}", "the text `y`"),
            ("matrix: { mqtt: [v5] }\ndevice: { mqtt: v5 }", "`mqtt` here and in the matrix"),
        ] {
            let (_, problems) = rows(text);
            assert!(problems.iter().any(|p| p.met == met), "{text}: {problems:?}");
        }
        let big = format!("matrix: {{ a: {0:?}, b: {0:?} }}\nx: ${{a}}${{b}}", (0..20).collect::<Vec<_>>());
        assert!(rows(&big).1[0].met.starts_with("a matrix of 400"));
    }
}
