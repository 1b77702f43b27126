//! YAML text to a tree of nodes that know their place, within limits (size, depth, nodes, aliases unfolded).

use super::problem::Problem;
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The largest scenario file, in bytes.
pub const FILE_MAX: usize = 256 * 1024;
/// How deep lists and mappings may stand in one another.
pub const DEPTH_MAX: usize = 32;
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
    /// A number with a fraction or an exponent, or too large for `Whole`.
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
            && digits.bytes().all(|b| b.is_ascii_alphanumeric())
            && let Ok(number) = i64::from_str_radix(digits, radix)
        {
            return Plain::Whole(number);
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
        if let Ok(number) = text.parse() {
            return Plain::Whole(number);
        }
        if let Ok(number) = text.parse() {
            return Plain::Real(number);
        }
    }
    Plain::Text(text)
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
/// All that keeps the text from being one YAML document within the limits, and every key that stands twice in a mapping.
pub fn parse(source: &str) -> Result<Node, Vec<Problem>> {
    let mut reader = Reader { source, nodes: 0, anchors: HashMap::new(), problems: Vec::new() };
    let mut parser = Parser::new_from_str(source);
    match reader.document(&mut parser) {
        Ok(node) if reader.problems.is_empty() => Ok(node),
        Ok(_) => Err(reader.problems),
        Err(problem) => {
            reader.problems.push(problem);
            Err(reader.problems)
        }
    }
}

struct Reader<'s> {
    source: &'s str,
    nodes: usize,
    anchors: HashMap<usize, Node>,
    problems: Vec<Problem>,
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
            (Event::DocumentStart(..), _) => {}
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
                let forced = self.tag(tag.as_ref(), &at);
                (
                    Node { at, value: Value::Scalar { text: text.into_owned(), quoted: forced || style != ScalarStyle::Plain } },
                    anchor,
                )
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
                let end = loop {
                    let (event, key_at) = self.next(events)?;
                    if event == Event::MappingEnd {
                        break key_at.end;
                    }
                    let key = self.node(events, event, key_at, depth + 1)?;
                    let (event, value_at) = self.next(events)?;
                    let value = self.node(events, event, value_at, depth + 1)?;
                    let Value::Scalar { text, .. } = key.value else {
                        self.problems.push(Problem::new(key.at, "a key that is not a word", "keys are words"));
                        continue;
                    };
                    let key = Key { at: key.at, text };
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
                let start = entries.first().map_or(at.start, |(k, _)| at.start.min(k.at.start));
                (Node { at: self.trimmed(start..end), value: Value::Map(entries) }, anchor)
            }
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id) else {
                    return Err(Problem::new(at, "an alias inside of what it stands for", "an alias cannot contain itself"));
                };
                let copy = Node { at: at.clone(), value: target.value.clone() };
                self.grow(copy.count(), &at)?;
                (copy, 0)
            }
            _ => return Err(Problem::new(at, "the document ends here", "a value is missing")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
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

    /// Whether the tag makes a text of a scalar.
    fn tag(&mut self, tag: Option<&Cow<'_, Tag>>, at: &Range<usize>) -> bool {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() => tag.core_suffix() == Some("str"),
            Some(tag) => {
                self.problems.push(Problem::new(
                    at.clone(),
                    format!("the tag {}", shown(&tag.original())),
                    "scenarios have no tags: remove it",
                ));
                false
            }
            None => false,
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
