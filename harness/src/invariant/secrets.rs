//! Nothing secret is ever said, by anybody, on any source.

use super::{Breach, Invariant};
use crate::event::{Event, Source};

/// What the redactor puts in place of a secret it found; that it had to is the breach.
const REDACTED: &str = "<redacted:";

/// Fails when a source says a secret the redactor knows, or anything that looks like a private key.
#[derive(Debug)]
pub(super) struct Secrets;

impl Invariant for Secrets {
    fn observe(&mut self, event: &Event) -> Option<Breach> {
        if event.from == Source::Runner {
            return None;
        }
        let mut found = None;
        event.what.clone().for_each_text(&mut |text| {
            if found.is_none() {
                found = secret_in(text);
            }
        });
        found.map(|secret| Breach::Fails(format!("a secret was said on {}: {secret}", event.from)))
    }
}

fn secret_in(text: &str) -> Option<String> {
    if let Some(at) = text.find(REDACTED) {
        let label = &text[at + REDACTED.len()..];
        return label.find('>').map(|end| crate::event::printable(&label[..end]).into_owned());
    }
    text.contains("PRIVATE KEY").then(|| "a private key".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exchange, What};

    #[test]
    fn a_redacted_or_keylike_text_fails_on_every_source_but_the_runner() {
        for (text, fails) in [
            ("-----BEGIN EC PRIVATE KEY-----", true),
            ("password=<redacted:wifi-password>", true),
            ("Connected to broker", false),
            ("<redacted: never closed", false),
        ] {
            for from in Source::ALL {
                let what = What::Exchange(Exchange { method: "GET".into(), path: "/".into(), status: None, body: text.into() });
                let breach = Secrets.observe(&Event { at_us: 0, from, what });
                assert_eq!(breach.is_some(), fails && from != Source::Runner, "{text} on {from}");
            }
        }
    }
}
