//! A connection that ends without a word.

use super::saying::{End, Saying};
use super::{Answer, Misbehaviour, or_word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Cuts the connection behind an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_word)]
pub struct Cut {
    /// Behind which answer.
    pub after: Answer,
    /// How many connections are cut before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for Cut {
    fn saying(&self, saying: &mut Saying) -> bool {
        let cut = saying.is(self.after);
        if cut {
            saying.end = Some(End::Cut);
        }
        cut
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
