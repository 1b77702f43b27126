//! YAML text to a tree of nodes that know their place, within limits (size, depth, nodes, aliases unfolded).

use super::problem::Problem;
use super::yaml_1_1;
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The largest scenario file, in bytes.
pub const FILE_MAX: usize = 256 * 1024;
/// How deep lists and mappings may stand in one another.
pub const DEPTH_MAX: usize = 32;
/// The most aliases of one anchor.
pub const ALIASES_MAX: usize = 100;
/// The most values in a file, aliases counted as what they stand for.
pub const NODES_MAX: usize = 20_000;

/// A value, and the bytes of the file it stands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Bytes of the file.
    pub at: Range<usize>,
    /// What stands there.
    pub value: Value,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text, a number, `true`, or nothing: told apart only when a type is asked for. Quoted ones are always texts.
    Scalar {
        /// As it reads, with YAML's escapes undone.
        text: String,
        /// Whether it is a text whatever it looks like.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file. Keys are scalars.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Bytes of the file.
    pub at: Range<usize>,
    /// The word.
    pub text: String,
}

/// A plain scalar by YAML 1.2's core schema.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain<'a> {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction or an exponent, or one beyond ±2⁵³.
    Real(f64),
    /// Anything else.
    Text(&'a str),
}

/// What a plain scalar means by YAML 1.2's core schema (`yes` is a text, `012` is 12).
pub fn resolve(text: &str) -> Plain<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Real(f64::NAN),
        _ => {}
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return i64::from_str_radix(digits, radix).map_or_else(|_| Plain::Real(large(digits, radix)), number);
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Plain::Real(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if numeric {
        if let Ok(whole) = text.parse() {
            return number(whole);
        }
        if let Ok(real) = text.parse() {
            return Plain::Real(real);
        }
    }
    Plain::Text(text)
}

/// A whole number, as far as the numbers of YAML's other readers (IEEE 754 doubles) hold it exactly.
fn number<'a>(whole: i64) -> Plain<'a> {
    const EXACT_MAX: u64 = 1 << 53;
    #[expect(clippy::cast_precision_loss, reason = "that it rounds is what is meant")]
    if whole.unsigned_abs() <= EXACT_MAX { Plain::Whole(whole) } else { Plain::Real(whole as f64) }
}

/// The value of digits that are too many for 64 bits.
fn large(digits: &str, radix: u32) -> f64 {
    digits.chars().filter_map(|c| c.to_digit(radix)).fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit))
}

impl Node {
    /// A mapping's value under a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, v)| v)
    }

    /// A mapping's entries; none for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// How many values this is, itself included.
    pub fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, v)| v.count()).sum(),
        }
    }

    /// In words, for messages: `the number 5`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { text, quoted: true } => format!("the text {}", shown(text)),
            Value::Scalar { text, quoted: false } => match resolve(text) {
                Plain::Null => "nothing".into(),
                Plain::Bool(_) => format!("`{text}`"),
                Plain::Whole(_) | Plain::Real(_) => format!("the number {text}"),
                Plain::Text(text) => format!("the text {}", shown(text)),
            },
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

/// A text in backquotes, cut where it gets long.
pub fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut short: String =
        text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect::<String>().replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().count() > SHOWN_MAX {
        short.push('…');
    }
    format!("`{short}`")
}

/// Reads one document.
///
/// # Errors
/// All that keeps the text from being one YAML document within the limits, every key that stands twice in a mapping, and every tag that
/// means nothing here.
pub fn parse(source: &str) -> Result<Node, Vec<Problem>> {
    let (node, odd) = parse_loosely(source)?;
    if odd.is_empty() { Ok(node) } else { Err(odd) }
}

/// Reads one document, and what a reader that is less strict passes over: tags that mean nothing here.
///
/// # Errors
/// As [`parse`], those tags aside.
pub fn parse_loosely(source: &str) -> Result<(Node, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader { source, nodes: 0, anchors: HashMap::new(), problems: Vec::new(), odd: Vec::new(), old: false };
    let mut parser = Parser::new_from_str(source);
    match reader.document(&mut parser) {
        Ok(node) if reader.problems.is_empty() => Ok((node, reader.odd)),
        Ok(_) => Err(reader.problems),
        Err(problem) => {
            reader.problems.push(problem);
            Err(reader.problems)
        }
    }
}

/// What a tag asks for.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Real,
    Bool,
    Null,
    Binary,
}

impl Kind {
    /// Whether a scalar is of the kind; else it is a text.
    fn holds(self, plain: &Plain<'_>) -> bool {
        matches!(
            (self, plain),
            (Kind::Whole, Plain::Whole(_))
                | (Kind::Real, Plain::Real(_))
                | (Kind::Bool, Plain::Bool(_))
                | (Kind::Null, Plain::Null)
        )
    }
}

struct Reader<'s> {
    source: &'s str,
    nodes: usize,
    anchors: HashMap<usize, Anchor>,
    problems: Vec<Problem>,
    /// What is passed over by those who are not strict.
    odd: Vec<Problem>,
    /// Whether the document says `%YAML 1.1`.
    old: bool,
}

/// What an anchor stands for.
struct Anchor {
    node: Node,
    uses: usize,
}

type Next<'s> = Result<(Event<'s>, Range<usize>), Problem>;

impl<'s> Reader<'s> {
    fn next<I: Iterator<Item = Result<(Event<'s>, Span), granit_parser::ScanError>>>(&self, events: &mut I) -> Next<'s> {
        loop {
            match events.next() {
                Some(Ok((Event::Comment(..) | Event::StreamStart, _))) => {}
                Some(Ok((event, span))) => return Ok((event, span.byte_range().unwrap_or(0..0))),
                Some(Err(error)) => return Err(self.syntax(&error)),
                None => return Ok((Event::StreamEnd, self.source.len()..self.source.len())),
            }
        }
    }

    fn syntax(&self, error: &granit_parser::ScanError) -> Problem {
        let at = error.marker().byte_offset().unwrap_or(0).min(self.source.len());
        let line_start = self.source[..at].rfind('\n').map_or(0, |n| n + 1);
        let line_end = self.source[at..].find('\n').map_or(self.source.len(), |n| at + n);
        let line = &self.source[line_start..line_end];
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(tab) = indent.find('\t') {
            let tab = line_start + tab;
            return Problem::new(
                tab..tab + 1,
                "a tab in the indentation",
                "YAML is indented with blanks: replace the tab by blanks",
            );
        }
        let info = error.info();
        let help = match line.trim_start().chars().next() {
            _ if info.contains("unknown anchor") => {
                "no anchor of this name stands before; a text that begins with `*` needs quotes"
            }
            _ if line.contains("${") && line.contains(['[', '{']) => {
                "inside of `{ … }` and `[ … ]`, `${name}` needs quotes: `\"${name}\"`"
            }
            _ if info.contains("mapping values") => "a text with `: ` in it needs quotes",
            _ if info.contains("flow") => "a bracket is not closed, here or in a line before, or a text with brackets needs quotes",
            Some('@' | '`') => "a value that begins with this character needs quotes",
            _ => "look at the indentation of this line and of the one before, and at quotes",
        };
        let end = if at < line_end { at + self.source[at..].chars().next().map_or(1, char::len_utf8) } else { at };
        Problem::new(at..end, format!("this is not YAML: {info}"), help)
    }

    fn document<I: Iterator<Item = Result<(Event<'s>, Span), granit_parser::ScanError>>>(
        &mut self,
        events: &mut I,
    ) -> Result<Node, Problem> {
        match self.next(events)? {
            (Event::DocumentStart(_, version), at) => {
                self.old = version.is_some_and(|version| (version.major, version.minor) == (1, 1));
                let before = self.source.get(..at.start).unwrap_or_default();
                if let Some(end) = before.lines().find(|line| line.trim_end() == "...") {
                    let at = before.find(end).unwrap_or_default();
                    return Err(Problem::new(at..at + 3, "the end of a document before it begins", "remove this line"));
                }
            }
            (_, at) => {
                return Err(Problem::new(
                    0..at.start.min(1),
                    "an empty file",
                    "a scenario has at least `name`, `version: 1` and `steps`",
                ));
            }
        }
        let (event, at) = self.next(events)?;
        let node = self.node(events, event, at, 0)?;
        let _ = self.next(events)?;
        match self.next(events)? {
            (Event::StreamEnd, _) => Ok(node),
            (_, at) => Err(Problem::new(at, "a second document", "a scenario is one YAML document: one file each")),
        }
    }

    fn node<I: Iterator<Item = Result<(Event<'s>, Span), granit_parser::ScanError>>>(
        &mut self,
        events: &mut I,
        event: Event<'s>,
        at: Range<usize>,
        depth: usize,
    ) -> Result<Node, Problem> {
        if depth > DEPTH_MAX {
            return Err(Problem::new(at, format!("more than {DEPTH_MAX} levels of nesting"), "no scenario needs that many"));
        }
        self.grow(1, &at)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = match self.tag(tag.as_ref(), &at) {
                    // Bytes, which no verb takes: to JavaScript they are numbers under the keys 0, 1, ….
                    Some(Kind::Binary) => {
                        let byte = Value::Scalar { text: "0".into(), quoted: false };
                        Value::Map(vec![(Key { at: at.clone(), text: "0".into() }, Node { at: at.clone(), value: byte })])
                    }
                    Some(kind) => Value::Scalar { quoted: !kind.holds(&resolve(&text)), text: text.into_owned() },
                    None if self.old && style == ScalarStyle::Plain => match yaml_1_1::as_1_2(&text) {
                        Some(text) => Value::Scalar { text: text.into_owned(), quoted: false },
                        None => Value::Scalar { text: text.into_owned(), quoted: true },
                    },
                    None => Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain },
                };
                (Node { at, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_ref(), &at);
                let mut items = Vec::new();
                let end = loop {
                    match self.next(events)? {
                        (Event::SequenceEnd, end) => break end.end,
                        (event, at) => items.push(self.node(events, event, at, depth + 1)?),
                    }
                };
                (Node { at: self.trimmed(at.start..end), value: Value::List(items) }, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_ref(), &at);
                let mut entries: Vec<(Key, Node)> = Vec::new();
                let mut seen = HashMap::new();
                let mut merged = Vec::new();
                let end = loop {
                    let (event, key_at) = self.next(events)?;
                    if event == Event::MappingEnd {
                        break key_at.end;
                    }
                    let key = self.node(events, event, key_at, depth + 1)?;
                    let (event, value_at) = self.next(events)?;
                    let value = self.node(events, event, value_at, depth + 1)?;
                    let text = match key.value {
                        Value::Scalar { text, .. } => text,
                        // `{{ name }}` of a template: no word that anybody knows, but a key.
                        Value::List(_) | Value::Map(_) => self.source.get(key.at.clone()).unwrap_or_default().to_owned(),
                    };
                    let key = Key { at: key.at, text };
                    if self.old && key.text == "<<" {
                        merged.extend(self.merged(value)?);
                        continue;
                    }
                    if let Some(first) = seen.insert(key.text.clone(), key.at.start) {
                        let (line, column) = super::problem::place(self.source, first);
                        let met = format!("`{}` stands twice in this mapping", key.text);
                        self.problems.push(Problem::new(
                            key.at,
                            met,
                            format!("the first is at line {line}, column {column}: keep one"),
                        ));
                        continue;
                    }
                    entries.push((key, value));
                };
                for (key, value) in merged {
                    if !entries.iter().any(|(there, _)| there.text == key.text) {
                        entries.push((key, value));
                    }
                }
                let start = entries.first().map_or(at.start, |(k, _)| at.start.min(k.at.start));
                (Node { at: self.trimmed(start..end), value: Value::Map(entries) }, anchor)
            }
            Event::Alias(id) => {
                let Some(target) = self.anchors.get_mut(&id) else {
                    return Err(Problem::new(at, "an alias inside of what it stands for", "an alias cannot contain itself"));
                };
                target.uses += 1;
                if target.uses > ALIASES_MAX {
                    let met = format!("more than {ALIASES_MAX} aliases of one anchor");
                    return Err(Problem::new(at, met, "use a matrix, or split the scenario"));
                }
                let copy = Node { at: at.clone(), value: target.node.value.clone() };
                self.grow(copy.count(), &at)?;
                (copy, 0)
            }
            _ => return Err(Problem::new(at, "the document ends here", "a value is missing")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor { node: node.clone(), uses: 0 });
        }
        Ok(node)
    }

    fn grow(&mut self, by: usize, at: &Range<usize>) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(by);
        if self.nodes > NODES_MAX {
            let help = "aliases count as what they stand for; split the scenario or use a matrix";
            return Err(Problem::new(at.clone(), format!("more than {NODES_MAX} values in one file"), help));
        }
        Ok(())
    }

    /// What a tag makes of a scalar, if there is one.
    fn tag(&mut self, tag: Option<&Cow<'_, Tag>>, at: &Range<usize>) -> Option<Kind> {
        let tag = tag?;
        Some(match tag.core_suffix() {
            Some("int") => Kind::Whole,
            Some("float") => Kind::Real,
            Some("bool") => Kind::Bool,
            Some("null") => Kind::Null,
            Some(_) => Kind::Text,
            None if tag.original() == "!" => Kind::Text,
            None => {
                let met = format!("the tag {}", shown(&tag.original()));
                self.odd.push(Problem::new(at.clone(), met, "scenarios have no tags: remove it"));
                if tag.original() == "!!binary" { Kind::Binary } else { Kind::Text }
            }
        })
    }

    /// What YAML 1.1's merge key adds: the entries of a mapping, or of several, the first of which wins.
    fn merged(&self, from: Node) -> Result<Vec<(Key, Node)>, Problem> {
        match from.value {
            Value::Map(entries) => Ok(entries),
            Value::List(items) => Ok(items.into_iter().map(|item| self.merged(item)).collect::<Result<Vec<_>, _>>()?.concat()),
            Value::Scalar { .. } => Err(Problem::new(from.at, "nothing to merge", "`<<` takes a mapping, or a list of them")),
        }
    }

    /// A block's end reaches over the blank lines behind it; what is shown should not.
    fn trimmed(&self, at: Range<usize>) -> Range<usize> {
        let end = at.end.min(self.source.len());
        let start = at.start.min(end);
        match self.source.get(start..end) {
            Some(text) => start..start + text.trim_end().len(),
            None => start..end,
        }
    }
}
