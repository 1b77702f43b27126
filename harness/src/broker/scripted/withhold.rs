//! No answer.

use super::saying::Saying;
use super::{Answer, Misbehaviour, or_word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Keeps an answer back, and acts as if it had been sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_word)]
pub struct Withhold {
    /// Which.
    pub answer: Answer,
    /// How many are withheld before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for Withhold {
    fn saying(&self, saying: &mut Saying) -> bool {
        let withheld = saying.is(self.answer);
        if withheld {
            saying.instead = Some(Vec::new());
        }
        withheld
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
