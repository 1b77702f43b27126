//! An answer that sends the device, and its token, elsewhere.

use super::Misbehaviour;
use crate::ca::fake::Reply;

pub(super) struct Redirect;

/// Where to: a host that is nowhere (RFC 6761 §6.4), so that whoever follows is heard to fail in another way.
const LOCATION: &str = "https://another-host.invalid/sign-csr";

impl Misbehaviour for Redirect {
    fn reply(&self, reply: &mut Reply) -> bool {
        *reply = Reply::error(302, "the CA is elsewhere, it was told to say");
        reply.headers.push(("location", LOCATION.to_owned()));
        true
    }
}
