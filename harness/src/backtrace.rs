//! A crashed device's backtrace in words: which functions, in which files, by the debug information of its image.

use addr2line::Loader;
use std::path::Path;

/// Frames that are told at most.
pub const FRAMES_MAX: usize = 16;

/// Finds why a device crashed in the last lines of its console, in ESP-IDF's words; none when they do not say.
pub fn reason(lines: &str) -> Option<&str> {
    let line = lines.lines().rev().find(|line| line.contains("Guru Meditation Error"))?;
    Some(line.trim())
}

/// The addresses of the last `Backtrace: 0xPC:0xSP 0xPC:0xSP …` among these lines, innermost first.
pub fn addresses(lines: &str) -> Vec<u64> {
    let Some(line) = lines.lines().rev().find_map(|line| line.trim().strip_prefix("Backtrace:")) else { return Vec::new() };
    let address = |word: &str| u64::from_str_radix(word.split(':').next()?.strip_prefix("0x")?, 16).ok();
    line.split_whitespace().map_while(address).take(FRAMES_MAX).collect()
}

/// Says where each address is in the image: `function at file:line`, those that the compiler put into it first; an address that the
/// image knows nothing of stays a number.
///
/// # Errors
/// When the image cannot be read; the message says why.
pub fn decode(image: &Path, addresses: &[u64]) -> Result<Vec<String>, String> {
    let loader = Loader::new(image).map_err(|e| e.to_string())?;
    let mut frames = Vec::new();
    for &address in addresses {
        let known = frames.len();
        if let Ok(mut found) = loader.find_frames(address) {
            while let Ok(Some(frame)) = found.next() {
                let name = frame.function.as_ref().and_then(|f| f.demangle().ok()).map(|name| plain(&name));
                let at = frame.location.as_ref().and_then(|at| Some(format!("{}:{}", below_source(at.file?), at.line?)));
                frames.extend(match (name, at) {
                    (Some(name), Some(at)) => Some(format!("{name} at {at}")),
                    (name, at) => name.or(at),
                });
            }
        }
        if frames.len() == known {
            frames.push(match loader.find_symbol(address) {
                Some(symbol) => plain(&addr2line::demangle_auto(symbol.into(), None)),
                None => format!("{address:#010x}"),
            });
        }
    }
    frames.truncate(FRAMES_MAX);
    Ok(frames)
}

/// A function's name without the hash that Rust puts behind it.
fn plain(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name.to_owned(),
        _ => name.to_owned(),
    }
}

/// A source file as people know it: `app/src/shell.rs`, wherever the image was built.
fn below_source(file: &str) -> String {
    let parts: Vec<&str> = file.split(['/', '\\']).collect();
    let from = parts.iter().rposition(|part| *part == "src").unwrap_or(parts.len().saturating_sub(1)).saturating_sub(1);
    parts[from..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "I (7) state: INIT\n\nGuru Meditation Error: Core  0 panic'ed (Panic). provoked at src/provoke.rs:23\r\n\
        Backtrace: 0x80001234:0x803ffe00 0x8000abcd:0x803ffe40\r\n";

    #[test]
    fn the_last_words_tell_why_and_where() {
        assert_eq!(reason(LAST), Some("Guru Meditation Error: Core  0 panic'ed (Panic). provoked at src/provoke.rs:23"));
        assert_eq!(addresses(LAST), [0x8000_1234, 0x8000_abcd]);
        assert_eq!(reason("I (1) boot: fine\n"), None);
        assert!(addresses("Backtrace: CORRUPTED 0x1\n").is_empty());
        assert!(addresses("Backtrace: 0xzz:0x1\n").is_empty());
    }

    #[test]
    fn places_are_short() {
        assert_eq!(below_source("/home/me/firmware/app/src/shell.rs"), "app/src/shell.rs");
        assert_eq!(below_source("C:\\w\\embassy-0.1\\src\\raw\\mod.rs"), "embassy-0.1/src/raw/mod.rs");
        assert_eq!(below_source("main.rs"), "main.rs");
        assert_eq!(plain("app::run::h0123456789abcdef"), "app::run");
    }

    #[test]
    fn what_is_no_image_is_said() {
        assert!(decode(Path::new("/no/such/image"), &[1]).is_err());
    }
}
