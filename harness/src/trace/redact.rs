//! Secrets are replaced before anything is written, shown or kept.
//!
//! A secret is known in each form somebody might say it in: plain, as JSON, Rust and the console escape it, percent-encoded, as hex
//! digits, as base64 (both alphabets, at any place in what was encoded) and as a list of bytes. Private keys in PEM are known by their
//! frame, also when nobody registered them.

use crate::event::Source;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

/// Secrets shorter than this, in bytes, are not redacted: they would be found in every word.
pub const SECRET_MIN: usize = 3;
/// Forms shorter than this, in bytes, are redacted only where no letter or digit stands before or after them.
pub const FREE_MIN: usize = 6;
/// Lines after the first line of a private key in PEM that may belong to it.
const KEY_LINES_MAX: u8 = 100;
/// How every private key in PEM begins and ends.
const KEY_MARK: &str = "PRIVATE KEY-----";
const KEY_LABEL: &str = "private-key";

/// Knows the secrets of a trial and replaces them by `<redacted:label>`. Clones share what they know; it may learn at any time.
#[derive(Clone)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Redactor({} forms)", known.forms.len())
    }
}

impl Default for Redactor {
    fn default() -> Redactor {
        let mut known = Known::default();
        for form in mark_forms() {
            known.forms.insert(form, Meaning::KeyMark);
        }
        Redactor { known: Arc::new(RwLock::new(known)) }
    }
}

#[derive(Default)]
struct Known {
    forms: BTreeMap<String, Meaning>,
    /// Made from the forms when it is first needed after a change.
    search: Option<Arc<Search>>,
}

struct Search {
    automaton: AhoCorasick,
    meanings: Vec<Meaning>,
}

#[derive(Clone)]
enum Meaning {
    /// This secret.
    Secret(Arc<str>),
    /// The frame of a private key, itself encoded: all of the encoded text around it goes.
    KeyMark,
}

impl Redactor {
    /// A redactor that knows no secrets yet, only what private keys look like.
    pub fn new() -> Redactor {
        Redactor::default()
    }

    /// Makes a secret known under a label (kebab-case, and stable from run to run, such as `wifi-password`). The label of the first
    /// registration of a secret stays. Secrets shorter than [`SECRET_MIN`] are ignored.
    pub fn register(&self, label: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        let label: Arc<str> = label.into();
        let mut forms = forms(secret);
        if let Ok(text) = std::str::from_utf8(secret)
            && text.contains("-----BEGIN ")
        {
            let body: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
            forms.extend(body.iter().filter(|line| line.len() >= 16).map(|line| (*line).to_owned()));
            forms.extend(STANDARD.decode(body.concat()).map(|der| self::forms(&der)).unwrap_or_default());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms {
            known.forms.entry(form).or_insert_with(|| Meaning::Secret(label.clone()));
        }
        known.search = None;
    }

    /// Replaces every known secret, and every private key, in the text.
    pub fn redact(&self, text: &mut String) {
        if text.len() < SECRET_MIN {
            return;
        }
        if text.contains(KEY_MARK) {
            *text = without_keys(text);
        }
        let Some(search) = self.search() else { return };
        let Some(clean) = search.replace(text) else { return };
        *text = clean;
    }

    /// The text with every secret replaced.
    pub fn redacted(&self, text: impl Into<String>) -> String {
        let mut text = text.into();
        self.redact(&mut text);
        text
    }

    fn search(&self) -> Option<Arc<Search>> {
        if let Some(search) = &self.known.read().unwrap_or_else(PoisonError::into_inner).search {
            return Some(search.clone());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.search.is_none() {
            // The kind that is quickest to make: secrets become known one after the other, and lines are short.
            let mut builder = AhoCorasick::builder();
            builder.match_kind(MatchKind::LeftmostLongest).kind(Some(AhoCorasickKind::NoncontiguousNFA));
            let automaton = builder.build(known.forms.keys()).ok()?;
            known.search = Some(Arc::new(Search { automaton, meanings: known.forms.values().cloned().collect() }));
        }
        known.search.clone()
    }
}

impl Search {
    fn replace(&self, text: &str) -> Option<String> {
        let mut clean = String::new();
        let mut done = 0;
        for found in self.automaton.find_iter(text) {
            let (mut start, mut end) = (found.start(), found.end());
            if start < done {
                continue;
            }
            let label = match &self.meanings[found.pattern()] {
                Meaning::Secret(label) => {
                    let free = end - start >= FREE_MIN
                        || !(is_word_end(text[..start].chars().next_back()) || is_word_end(text[end..].chars().next()));
                    if !free {
                        continue;
                    }
                    label
                }
                Meaning::KeyMark => {
                    start = done.max(text[..start].rfind(|c| !is_encoded(c)).map_or(0, |at| at + char_len(text, at)));
                    end = text[end..].find(|c| !is_encoded(c)).map_or(text.len(), |at| end + at);
                    KEY_LABEL
                }
            };
            clean.push_str(&text[done..start]);
            let _ = write!(clean, "<redacted:{label}>");
            done = end;
        }
        (done > 0).then(|| clean + &text[done..])
    }
}

fn is_word_end(c: Option<char>) -> bool {
    c.is_some_and(char::is_alphanumeric)
}

fn is_encoded(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-%".contains(c)
}

fn char_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// The text with each private key in PEM, from its first mark to its last or to the end of the text, replaced.
fn without_keys(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(mark) = rest.find(KEY_MARK) {
        let start = rest[..mark].rfind("-----").unwrap_or(mark);
        clean.push_str(&rest[..start]);
        let _ = write!(clean, "<redacted:{KEY_LABEL}>");
        let after = &rest[mark + KEY_MARK.len()..];
        // A key's first mark is followed by its last; a last mark alone ends what an earlier line began.
        let is_first = rest[start..mark].contains("BEGIN");
        rest = match after.find(KEY_MARK) {
            Some(last) if is_first => &after[last + KEY_MARK.len()..],
            None if is_first => "",
            _ => after,
        };
    }
    clean + rest
}

/// Redacts the lines of private keys that are said one line at a time.
#[derive(Debug, Default)]
pub(super) struct KeyLines([u8; Source::ALL.len()]);

impl KeyLines {
    /// Looks at a line before it is redacted; replaces it when it belongs to a key that an earlier line of the same source began.
    pub(super) fn redact(&mut self, from: Source, line: &mut String) {
        let left = &mut self.0[from as usize];
        if let Some(mark) = line.rfind(KEY_MARK) {
            let begins = line[..mark].rfind("-----").is_some_and(|start| line[start..mark].contains("BEGIN"));
            *left = if begins { KEY_LINES_MAX } else { 0 };
        } else if *left > 0 {
            *left -= 1;
            let start = line.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + char_len(line, at));
            if line[start..].trim_end().chars().all(is_encoded) && start < line.len() {
                line.truncate(start);
                let _ = write!(line, "<redacted:{KEY_LABEL}>");
            }
        }
    }
}

/// Every form a secret may be said in.
fn forms(secret: &[u8]) -> Vec<String> {
    if secret.len() < SECRET_MIN {
        return vec![];
    }
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push(text.to_owned());
        let json = json_escaped(text);
        forms.push(json_escaped(&json));
        forms.push(json);
        forms.push(text.encode_utf16().map(ascii_json).collect());
        forms.push(text.escape_debug().to_string());
        let debug = format!("{text:?}");
        forms.push(debug[1..debug.len() - 1].to_owned());
        forms.push(text.escape_default().to_string());
        forms.push(text.escape_unicode().to_string());
        // As `device_core::report` writes a word: brackets and blanks cannot end it.
        let as_word = |c: char| match c {
            '\\' => "\\\\".to_owned(),
            ' ' | ')' | ',' => format!("\\u{{{:x}}}", u32::from(c)),
            c if c.is_control() => format!("\\u{{{:x}}}", u32::from(c)),
            c => c.to_string(),
        };
        forms.push(text.chars().map(as_word).collect());
    }
    forms.push(secret.escape_ascii().to_string());
    let list = |between: &str, byte: &dyn Fn(u8) -> String| secret.iter().map(|b| byte(*b)).collect::<Vec<_>>().join(between);
    for between in ["", ":", " ", "-", ", "] {
        forms.push(list(between, &|b| format!("{b:02x}")));
        forms.push(list(between, &|b| format!("{b:02X}")));
    }
    for between in [", ", ",", " "] {
        forms.push(list(between, &|b| b.to_string()));
        forms.push(list(between, &|b| format!("0x{b:02x}")));
        forms.push(list(between, &|b| format!("0x{b:02X}")));
    }
    forms.push(list(", ", &|b| format!("{b:x}")));
    for prefix in ["%", "\\x"] {
        forms.push(list("", &|b| format!("{prefix}{b:02x}")));
        forms.push(list("", &|b| format!("{prefix}{b:02X}")));
    }
    // What stays as it is differs between encoders: letters only, RFC 3986's unreserved, JavaScript's, path segments', forms'.
    for kept in ["", "-._~", "-_.!~*'()", "-._~!$&'()*+,;=:@", "*-._"] {
        let keep = |b: u8| b.is_ascii_alphanumeric() || kept.as_bytes().contains(&b);
        for blank in ["%20", "+"] {
            let encode = |upper: bool| {
                let byte = |b: u8| match b {
                    b if keep(b) => char::from(b).to_string(),
                    b' ' => blank.to_owned(),
                    b if upper => format!("%{b:02X}"),
                    b => format!("%{b:02x}"),
                };
                list("", &byte)
            };
            forms.push(encode(true));
            forms.push(encode(false));
        }
    }
    forms.extend(base64_forms(secret));
    forms.retain(|form| form.len() >= SECRET_MIN);
    forms
}

/// Base64 of the secret alone, and of what is certain of it wherever it stands in a longer text.
fn base64_forms(secret: &[u8]) -> Vec<String> {
    let mut forms = vec![STANDARD.encode(secret)];
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        let whole = engine.encode(secret);
        // Lines of PEM and MIME.
        for width in [64, 76].into_iter().filter(|width| whole.len() > *width) {
            forms.extend(
                whole
                    .as_bytes()
                    .chunks(width)
                    .filter(|line| line.len() >= 16)
                    .map(|line| String::from_utf8_lossy(line).into_owned()),
            );
        }
        forms.push(whole);
        for before in 0..3 {
            let mut shifted = vec![0; before];
            shifted.extend_from_slice(secret);
            let encoded = engine.encode(&shifted);
            // A character carries six bits; those that also carry a neighbour's bits are not certain.
            let certain = (before * 8).div_ceil(6)..shifted.len() * 8 / 6;
            forms.extend(encoded.get(certain).filter(|form| form.len() >= FREE_MIN).map(str::to_owned));
        }
    }
    forms
}

/// The frame of a private key, encoded.
fn mark_forms() -> Vec<String> {
    let mark = KEY_MARK.as_bytes();
    let hex = |upper: bool| mark.iter().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect::<String>();
    let mut forms = base64_forms(mark);
    forms.extend([hex(false), hex(true), KEY_MARK.replace(' ', "%20"), KEY_MARK.replace(' ', "+")]);
    forms
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A UTF-16 unit as writers of pure ASCII put it into JSON.
fn ascii_json(unit: u16) -> String {
    match u8::try_from(unit).map(char::from) {
        Ok(c) if c.is_ascii() => json_escaped(c.encode_utf8(&mut [0; 4])),
        _ => format!("\\u{unit:04x}"),
    }
}
