//! A goodbye that nobody expects.

use super::saying::Saying;
use super::{Answer, Misbehaviour};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Sends DISCONNECT behind an answer and closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disconnect {
    /// Behind which answer.
    pub after: Answer,
    /// The v5 reason code, 0 to 255: `0x8b` (139) is a server that shuts down.
    pub reason: u8,
    /// How many connections end so before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for Disconnect {
    fn saying(&self, saying: &mut Saying) -> bool {
        let ends = saying.is(self.after);
        if ends {
            saying.disconnect(self.reason);
        }
        ends
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
