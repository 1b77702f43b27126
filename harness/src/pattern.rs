//! What a text is compared with: a regular expression, a piece of text, an MQTT topic filter.

use crate::scenario::yaml::shown;
use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;

/// The longest pattern, in bytes.
pub const PATTERN_MAX: usize = 4096;
/// The most memory a compiled pattern may take, in bytes.
pub const COMPILED_MAX: usize = 1 << 20;

/// A regular expression (the `regex` crate's: no look-around, linear time), met anywhere in a text unless anchored.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is met somewhere in `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Its groups that have a name.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.capture_names().flatten()
    }

    /// What its groups hold where it is met first.
    pub(crate) fn captures<'t>(&self, text: &'t str) -> Option<regex::Captures<'t>> {
        self.0.captures(text)
    }

    /// Where in `text` the first match ends.
    pub fn find_end(&self, text: &str) -> Option<usize> {
        self.0.find(text).map(|met| met.end())
    }

    /// The same, with `^` and `$` at the ends of lines.
    pub fn by_line(self) -> Pattern {
        let again =
            RegexBuilder::new(self.0.as_str()).multi_line(true).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build();
        Pattern(again.unwrap_or(self.0))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0.as_str())
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Pattern, String> {
        if text.len() > PATTERN_MAX {
            return Err(format!("a pattern of {} bytes\nallowed: up to {PATTERN_MAX} bytes", text.len()));
        }
        match RegexBuilder::new(&text).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build() {
            Ok(regex) => Ok(Pattern(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(format!("the pattern {}, which takes too much memory\nuse smaller repetitions", shown(&text)))
            }
            Err(error) => {
                // The crate's own report draws the place over several lines; its last line says what is wrong.
                let why = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
                let escaped = regex::escape(&text);
                Err(format!("the pattern {}: {why}\nto mean the text itself, use `text`, or write '{escaped}'", shown(&text)))
            }
        }
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": PATTERN_MAX,
            "description": "A regular expression (syntax of Rust's `regex`), met anywhere in the text unless anchored."
        })
    }
}

/// An MQTT topic filter: `+` stands for one level, `#` at the end for all that follow (MQTT 5.0, 4.7.1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TopicFilter(String);

impl TopicFilter {
    /// Whether a topic is met. As the standard has it, a filter that begins with a wildcard does not meet `$SYS` and its like.
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for part in self.0.split('/') {
            match (part, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (part, Some(level)) if part == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TopicFilter {
    type Error = String;
    fn try_from(text: String) -> Result<TopicFilter, String> {
        let refused = |why: &str| Err(format!("the topic filter {}\n{why}", shown(&text)));
        if text.is_empty() || text.len() > 65_535 {
            return refused("a topic filter has 1 to 65535 bytes");
        }
        if text.contains('\0') {
            return refused("a topic has no NUL");
        }
        let levels: Vec<_> = text.split('/').collect();
        for (index, level) in levels.iter().enumerate() {
            if level.contains('#') && (*level != "#" || index + 1 < levels.len()) {
                return refused("`#` stands alone in the last level: `devices/#`");
            }
            if level.contains('+') && *level != "+" {
                return refused("`+` stands alone in its level: `devices/+/status`");
            }
        }
        Ok(TopicFilter(text))
    }
}

impl JsonSchema for TopicFilter {
    fn schema_name() -> Cow<'static, str> {
        "TopicFilter".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([^#+]*|\+)(/([^#+]*|\+))*(/#)?$|^#$",
            "minLength": 1,
            "description": "An MQTT topic filter: `+` stands for one level, `#` at the end for all that follow."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_filters_are_those_of_the_standard() {
        let meets = |filter: &str, topic: &str| TopicFilter::try_from(filter.to_string()).unwrap().matches(topic);
        for (filter, topic) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("#", "a/b"),
            ("$SYS/#", "$SYS/x"),
        ] {
            assert!(meets(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in
            [("a/+", "a"), ("a/+", "a/b/c"), ("+", "/finance"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a/b", "a/c"), ("a", "a/b")]
        {
            assert!(!meets(filter, topic), "{filter} {topic}");
        }
        for filter in ["", "a/#/b", "a#", "a/+b", "#/a", "a\0"] {
            assert!(TopicFilter::try_from(filter.to_string()).is_err(), "{filter}");
        }
    }

    #[test]
    fn patterns_are_bounded() {
        for text in ["(", "a{1000}{1000}{1000}", &"x".repeat(PATTERN_MAX + 1)] {
            assert!(Pattern::try_from(text.to_string()).is_err(), "{:.20}", text);
        }
        assert!(Pattern::try_from("^I \\(".to_string()).unwrap().matches("I (5) boot"));
    }
}
