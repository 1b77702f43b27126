//! The vocabularies that come with the program.

use super::{Vocabulary, read};
use std::path::Path;
use std::sync::LazyLock;

/// Each by name, and as its file.
pub const BUILT_IN: [(&str, &str); 1] = [("esp-idf", include_str!("esp-idf.yaml"))];

/// The vocabulary of this name.
pub fn built_in(name: &str) -> Option<&'static Vocabulary> {
    static READ: LazyLock<Vec<(&str, Vocabulary)>> = LazyLock::new(|| {
        let read = |(name, text): &(&'static str, &str)| Some((*name, read(Path::new(name), text.as_bytes()).ok()?));
        BUILT_IN.iter().filter_map(read).collect()
    });
    READ.iter().find(|(known, _)| *known == name).map(|(_, vocabulary)| vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_can_be_read() {
        for (name, text) in BUILT_IN {
            if let Err(wrong) = read(Path::new(name), text.as_bytes()) {
                panic!("{}", wrong.render(false));
            }
            assert!(built_in(name).is_some(), "{name}");
        }
    }
}
