//! A secret taken out of a stream of bytes in passing, also where it comes in pieces.

use device_core::secret::Secret;

/// What stands in its place.
const MASK: &[u8] = b"<redacted:wokwi-token>";

/// Takes one secret out of a stream.
#[derive(Debug)]
pub struct Mask {
    secret: Secret,
    /// The beginning of what may become the secret.
    held: Vec<u8>,
}

impl Mask {
    /// A mask for this secret; an empty one is none.
    pub fn new(secret: &Secret) -> Mask {
        Mask { secret: secret.clone(), held: Vec::new() }
    }

    /// What may be shown now. The beginning of a secret is held back until it is known not to be one.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let secret = self.secret.expose().as_bytes();
        if secret.is_empty() {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len());
        self.held.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = find(&self.held[from..], secret) {
            out.extend_from_slice(&self.held[from..from + at]);
            out.extend_from_slice(MASK);
            from += at + secret.len();
        }
        let longest = (self.held.len() - from).min(secret.len() - 1);
        let kept = (0..=longest).rev().find(|kept| secret.starts_with(&self.held[self.held.len() - kept..])).unwrap_or(0);
        out.extend_from_slice(&self.held[from..self.held.len() - kept]);
        self.held.drain(..self.held.len() - kept);
        out
    }

    /// What was held back, when nothing follows.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The text without the secret.
    pub fn masked(secret: &Secret, text: &[u8]) -> String {
        let mut mask = Mask::new(secret);
        let mut out = mask.pass(text);
        out.extend(mask.rest());
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn find(bytes: &[u8], secret: &[u8]) -> Option<usize> {
    bytes.windows(secret.len()).position(|window| window == secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_get_through_in_pieces_either() {
        let secret = Secret::new("wok_wow_wok_x");
        let text = b"a wok_wow_wok_x, wok_wow_wok_wow_wok_x and wok_wo".as_slice();
        let whole = Mask::masked(&secret, text);
        assert_eq!(whole, "a <redacted:wokwi-token>, wok_wow_<redacted:wokwi-token> and wok_wo");
        for size in 1..text.len() {
            let mut mask = Mask::new(&secret);
            let mut out: Vec<u8> = text.chunks(size).flat_map(|chunk| mask.pass(chunk)).collect();
            out.extend(mask.rest());
            assert_eq!(String::from_utf8_lossy(&out), whole, "in pieces of {size}");
        }
        assert_eq!(Mask::masked(&Secret::new(""), b"as it is"), "as it is");
    }

    #[test]
    fn what_cannot_become_the_secret_is_shown_at_once() {
        let mut mask = Mask::new(&Secret::new("secret"));
        assert_eq!(mask.pass(b"login: "), b"login: ");
        assert_eq!(mask.pass(b"sec"), b"");
        assert_eq!(mask.pass(b"ond"), b"second");
    }
}
