//! From a node to a Rust type through serde, so that every refusal knows its place and unknown keys do not hide what follows.

use super::problem::{Problem, choice};
use super::yaml::{Key, Node, Plain, Value, resolve};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Unexpected, Visitor};
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// Types that may be written as one word instead of a mapping: the type, and the field that the word then is.
const SHORT: &[(&str, &str)] = &[
    ("CaMet", "request"),
    ("LinkTo", "to"),
    ("FailOn", "text"),
    ("PacketSeen", "kind"),
    ("Withhold", "answer"),
    ("WrongId", "answer"),
    ("Cut", "after"),
    ("SessionPresent", "says"),
    ("Certificate", "is"),
    ("NotTls", "answer"),
];

/// Reads a value of type `T`, or says everything that is wrong with the node.
///
/// # Errors
/// At least one problem, each at the place it concerns.
pub fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Vec<Problem>> {
    let problems = RefCell::new(Vec::new());
    let outcome = T::deserialize(Typed { node, problems: &problems });
    let mut problems = problems.into_inner();
    match outcome {
        Ok(value) if problems.is_empty() => Ok(value),
        Ok(_) => Err(problems),
        Err(fault) => {
            // A mistyped key also shows up as a missing one: the nearest right word has said it already.
            let echo =
                fault.missing.is_some_and(|missing| problems.iter().any(|p| p.help.contains(&format!("did you mean `{missing}`"))));
            if !echo {
                problems.push(Problem::new(fault.at.unwrap_or_else(|| node.at.clone()), fault.met, fault.help));
            }
            Err(problems)
        }
    }
}

/// Why a node is not of the type. A custom message may have two lines: what was met, and what to write instead.
#[derive(Debug)]
pub struct Fault {
    at: Option<Range<usize>>,
    met: String,
    help: String,
    missing: Option<&'static str>,
}

impl Fault {
    fn new(met: impl Into<String>, help: impl Into<String>) -> Fault {
        Fault { at: None, met: met.into(), help: help.into(), missing: None }
    }
    fn at(mut self, at: &Range<usize>) -> Fault {
        self.at.get_or_insert_with(|| at.clone());
        self
    }
    /// Says whose value it is, where the whole value is meant.
    fn of(mut self, key: &Key, value: &Range<usize>) -> Fault {
        if self.at.as_ref() == Some(value) && self.missing.is_none() && !self.met.contains(key.text.as_str()) {
            self.met = format!("{}: {}", key.text, self.met);
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.met, self.help)
    }
}

/// What a reader of YAML calls what Rust calls a type.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number, 0 to 255",
        "u16" => "a whole number, 0 to 65535",
        "u32" => "a whole number, 0 to 4294967295",
        "a nonzero u16" => "a whole number, 1 to 65535",
        "a nonzero u32" => "a whole number, 1 to 4294967295",
        "i8" => "a whole number, -128 to 127",
        "usize" | "u64" => "a whole number, 0 or more",
        other => other,
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        let message = message.to_string();
        let (met, help) = message.split_once('\n').unwrap_or((&message, ""));
        Fault::new(met, help)
    }
    fn invalid_type(met: Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        let met = match met {
            Unexpected::Unit | Unexpected::Option => "nothing".to_string(),
            Unexpected::Bool(b) => format!("`{b}`"),
            Unexpected::Signed(n) => format!("the number {n}"),
            Unexpected::Unsigned(n) => format!("the number {n}"),
            Unexpected::Float(n) => format!("the number {n}"),
            Unexpected::Str(text) => format!("the text {}", super::yaml::shown(text)),
            Unexpected::Seq => "a list".into(),
            Unexpected::Map => "a mapping".into(),
            other => other.to_string(),
        };
        Fault::new(met, format!("allowed: {}", in_words(&expected.to_string())))
    }
    fn invalid_value(met: Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        Fault::invalid_type(met, expected)
    }
    fn unknown_variant(met: &str, allowed: &'static [&'static str]) -> Fault {
        Fault::new(format!("unknown word `{met}`"), choice(met, allowed))
    }
    fn unknown_field(met: &str, allowed: &'static [&'static str]) -> Fault {
        Fault::new(format!("unknown key `{met}`"), choice(met, allowed))
    }
    fn missing_field(field: &'static str) -> Fault {
        Fault { missing: Some(field), ..Fault::new(format!("`{field}` is missing here"), format!("add `{field}: …`")) }
    }
}

struct Typed<'a> {
    node: &'a Node,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Typed<'a> {
    fn scalar(&self) -> Option<(&'a str, Plain<'a>)> {
        match &self.node.value {
            Value::Scalar { text, quoted: true } => Some((text, Plain::Text(text))),
            Value::Scalar { text, quoted: false } => Some((text, resolve(text))),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.scalar(), Some((_, Plain::Null)))
    }

    fn wrong(&self, allowed: impl Into<String>) -> Fault {
        Fault::new(self.node.describe(), allowed).at(&self.node.at)
    }

    fn text(&self) -> Result<&'a str, Fault> {
        match self.scalar() {
            Some((text, Plain::Text(_))) => Ok(text),
            Some((_, Plain::Null)) => Err(self.wrong("allowed: a text")),
            Some((text, _)) => Err(self.wrong(format!("a text is meant: write \"{text}\", with quotes"))),
            None => Err(self.wrong("allowed: a text")),
        }
    }

    fn visit_list<'de, V: Visitor<'de>>(&self, items: &'a [Node], visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { items: items.iter(), problems: self.problems }).map_err(|e: Fault| e.at(&self.node.at))
    }

    fn visit_mapping<'de, V: Visitor<'de>>(&self, fields: Option<&'static [&'static str]>, visitor: V) -> Result<V::Value, Fault> {
        let entries = Entries { entries: self.node.entries().iter(), value: None, fields, problems: self.problems };
        visitor.visit_map(entries).map_err(|e: Fault| e.at(&self.node.at))
    }
}

macro_rules! numbers {
    ($($deserialize:ident)*) => { $(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.scalar() {
                Some((_, Plain::Whole(n))) => visitor.visit_i64(n).map_err(|e: Fault| e.at(&self.node.at)),
                _ => Err(self.wrong("allowed: a whole number")),
            }
        }
    )* };
}

impl<'de> Deserializer<'de> for Typed<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let at = &self.node.at;
        match (&self.node.value, self.scalar()) {
            (_, Some((_, Plain::Null))) => visitor.visit_unit(),
            (_, Some((_, Plain::Bool(b)))) => visitor.visit_bool(b),
            (_, Some((_, Plain::Whole(n)))) if n >= 0 => visitor.visit_u64(n.unsigned_abs()),
            (_, Some((_, Plain::Whole(n)))) => visitor.visit_i64(n),
            (_, Some((_, Plain::Real(n)))) => visitor.visit_f64(n),
            (_, Some((_, Plain::Text(text)))) => visitor.visit_str(text),
            (Value::List(items), _) => self.visit_list(items, visitor),
            (_, None) => self.visit_mapping(None, visitor),
        }
        .map_err(|e: Fault| e.at(at))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar() {
            Some((_, Plain::Bool(b))) => visitor.visit_bool(b).map_err(|e: Fault| e.at(&self.node.at)),
            _ => Err(self.wrong("allowed: true, false")),
        }
    }

    numbers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar() {
            Some((_, Plain::Whole(_) | Plain::Real(_))) => self.deserialize_any(visitor),
            _ => Err(self.wrong("allowed: a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.text()?).map_err(|e: Fault| e.at(&self.node.at))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        let at = self.node.at.clone();
        visitor.visit_newtype_struct(self).map_err(|e: Fault| e.at(&at))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::List(items) => self.visit_list(items, visitor),
            _ => Err(self.wrong("allowed: a list, such as `[…]` or lines that begin with `- `")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Map(_) => self.visit_mapping(None, visitor),
            _ => Err(self.wrong("allowed: a mapping, such as `{ key: value }`")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let short = SHORT.iter().find(|(short, _)| *short == name);
        match (&self.node.value, short) {
            (Value::Map(_), _) => self.visit_mapping(Some(fields), visitor),
            (Value::Scalar { .. }, Some((_, field))) if !self.is_null() => {
                let key = Key { at: self.node.at.clone(), text: (*field).into() };
                let entry = [(key, self.node.clone())];
                let entries = Entries { entries: entry.iter(), value: None, fields: Some(fields), problems: self.problems };
                visitor.visit_map(entries).map_err(|e: Fault| e.at(&self.node.at))
            }
            _ if fields.is_empty() => Err(self.wrong("write `{}`: nothing can be set here")),
            _ if self.is_null() => Err(self.wrong(format!("write `{{}}`, or some of: {}", fields.join(", ")))),
            _ => Err(self.wrong(format!("allowed: a mapping with some of: {}", fields.join(", ")))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let at = &self.node.at;
        let known = |word: &str, at: &Range<usize>| {
            if variants.contains(&word) {
                Ok(())
            } else {
                Err(Fault::new(format!("unknown word `{word}`"), choice(word, variants)).at(at))
            }
        };
        let listed = || format!("allowed: one of {}", variants.join(", "));
        match &self.node.value {
            Value::Scalar { text, quoted } if *quoted || resolve(text) != Plain::Null => {
                known(text, at)?;
                if *quoted || matches!(resolve(text), Plain::Text(_)) {
                    visitor
                        .visit_enum(Variant { word: text, at, value: None, problems: self.problems })
                        .map_err(|e: Fault| e.at(at))
                } else {
                    Err(self.wrong(format!("a text is meant: write \"{text}\", with quotes")))
                }
            }
            Value::Map(entries) => match &entries[..] {
                [(key, value)] => {
                    known(&key.text, &key.at)?;
                    let variant = Variant { word: &key.text, at: &key.at, value: Some(value), problems: self.problems };
                    visitor.visit_enum(variant).map_err(|e: Fault| e.at(&value.at))
                }
                [] => Err(self.wrong(listed())),
                [_, (second, _), ..] => {
                    let met = format!("{} keys where one is meant", entries.len());
                    Err(Fault::new(met, listed()).at(&second.at))
                }
            },
            _ => Err(self.wrong(listed())),
        }
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple_struct ignored_any }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;
    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Typed { node, problems: self.problems }).map(Some).map_err(|e: Fault| e.at(&node.at))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<(&'a Key, &'a Node)>,
    /// A struct's fields; none for a map of free keys.
    fields: Option<&'static [&'static str]>,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Entries<'a> {
    /// The next entry whose key is a field; the ones before it are mistakes.
    fn known_key(&mut self) -> Option<(&'a Key, &'a Node)> {
        for (key, value) in self.entries.by_ref() {
            match self.fields {
                Some(fields) if !fields.contains(&key.text.as_str()) => {
                    let problem = Problem::new(key.at.clone(), format!("unknown key `{}`", key.text), choice(&key.text, fields));
                    self.problems.borrow_mut().push(problem);
                }
                _ => return Some((key, value)),
            }
        }
        None
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.known_key() else { return Ok(None) };
        self.value = Some((key, value));
        let word: de::value::StrDeserializer<'_, Fault> = key.text.as_str().into_deserializer();
        seed.deserialize(word).map(Some).map_err(|e: Fault| e.at(&key.at))
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, node)) = self.value.take() else { return Err(Fault::new("a value without a key", "")) };
        seed.deserialize(Typed { node, problems: self.problems }).map_err(|fault: Fault| {
            // What follows is not read any more, but its keys can be looked at.
            while self.known_key().is_some() {}
            fault.at(&node.at).of(key, &node.at)
        })
    }
}

struct Variant<'a> {
    word: &'a str,
    at: &'a Range<usize>,
    value: Option<&'a Node>,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Variant<'a>;
    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Variant<'a>), Fault> {
        let word: de::value::StrDeserializer<'_, Fault> = self.word.into_deserializer();
        Ok((seed.deserialize(word).map_err(|e: Fault| e.at(self.at))?, self))
    }
}

impl<'a> Variant<'a> {
    fn value(&self) -> Result<Typed<'a>, Fault> {
        match self.value {
            Some(node) => Ok(Typed { node, problems: self.problems }),
            None => {
                Err(Fault::new(format!("`{}` alone", self.word), format!("it needs a value: write `{}: …`", self.word)).at(self.at))
            }
        }
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Fault;
    fn unit_variant(self) -> Result<(), Fault> {
        match self.value {
            None => Ok(()),
            Some(node) => {
                Err(Fault::new(node.describe(), format!("`{}` takes no value: write the word alone", self.word)).at(&node.at))
            }
        }
    }
    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.value()?)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.value()?.deserialize_seq(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.value()?.deserialize_struct("", fields, visitor)
    }
}
