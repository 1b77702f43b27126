//! A web page where JSON should be.

use super::Misbehaviour;
use crate::ca::fake::Reply;

pub(super) struct Html;

impl Misbehaviour for Html {
    fn reply(&self, reply: &mut Reply) -> bool {
        *reply = Reply {
            status: 200,
            content_type: "text/html; charset=utf-8",
            body: b"<!DOCTYPE html><html><title>Welcome</title><body>Please log in to use this network.</body></html>\n".to_vec(),
            ..Reply::error(200, "")
        };
        true
    }
}
