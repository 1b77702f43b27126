//! Texts that are waited for in complete lines of what the device says, as `--expect-text` and `--fail-text` do.

/// Characters of a line that are looked at.
const LINE_MAX: usize = 10_000;

/// Looks for texts.
#[derive(Debug, Default)]
pub struct Lines {
    line: String,
    expected: Option<String>,
    failing: Option<String>,
}

/// What was found in some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The text that is expected.
    pub expected: bool,
    /// The text that must not come.
    pub failing: bool,
}

impl Lines {
    /// Looks for these; an empty text is none.
    pub fn new(expected: Option<String>, failing: Option<String>) -> Lines {
        Lines { line: String::new(), expected, failing }
    }

    /// Takes bytes, each for a character (Latin-1), and says what the lines that they end hold. A text is found once.
    pub fn feed(&mut self, bytes: &[u8]) -> Found {
        let mut found = Found::default();
        let mut length = self.line.chars().count();
        for byte in bytes {
            if *byte != b'\n' {
                if length < LINE_MAX {
                    self.line.push(char::from(*byte));
                    length += 1;
                }
                continue;
            }
            let holds = |text: &Option<String>| text.as_ref().is_some_and(|text| self.line.contains(text.as_str()));
            if holds(&self.expected) {
                (self.expected, found.expected) = (None, true);
            }
            if holds(&self.failing) {
                (self.failing, found.failing) = (None, true);
            }
            self.line.clear();
            length = 0;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_count_and_bytes_are_latin_1() {
        let mut lines = Lines::new(Some("ok".into()), Some("bad".into()));
        assert_eq!(lines.feed(b"it is o"), Found::default());
        assert_eq!(lines.feed(b"k"), Found::default());
        assert_eq!(lines.feed(b"\nok\n"), Found { expected: true, failing: false });
        assert_eq!(lines.feed(b"ok\nbad\n"), Found { expected: false, failing: true });
        let mut lines = Lines::new(Some("\u{f6}".into()), None);
        assert_eq!(lines.feed("\u{f6}\n".as_bytes()), Found::default(), "UTF-8 is never found");
        assert!(lines.feed(b"\xf6\n").expected);
        let mut lines = Lines::new(Some("end".into()), None);
        assert!(!lines.feed(&[&[b'x'; LINE_MAX - 2][..], b"end\n"].concat()).expected, "a line is cut");
    }
}
