//! An answer that no device has room for.

use super::Misbehaviour;
use crate::ca::fake::Reply;

pub(super) struct Huge;

/// Bytes of the body.
const LENGTH: usize = 10 * 1024 * 1024;

impl Misbehaviour for Huge {
    fn reply(&self, reply: &mut Reply) -> bool {
        // JSON may end in white space: whoever reads all of it finds what an honest answer holds.
        reply.body.resize(LENGTH.max(reply.body.len()), b' ');
        true
    }
}
