//! An HTTP error instead of a certificate.

use super::Misbehaviour;
use crate::ca::fake::Reply;
use crate::scenario::value::Period;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Answers `sign-csr` and `renew` with an HTTP error, issues nothing and spends no token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Refuse {
    /// The HTTP status, 400 to 599.
    #[serde(deserialize_with = "error_status")]
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// How many requests are refused before the CA is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
    /// What its `Retry-After` header says, rounded up to whole seconds: `retry-after: 2s`; no such header when left out.
    #[serde(default)]
    pub retry_after: Option<Period>,
}

impl Misbehaviour for Refuse {
    fn reply(&self, reply: &mut Reply) -> bool {
        *reply = Reply::error(self.status, "the CA refuses, as it was told to");
        if let Some(Period(after)) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            reply.headers.push(("retry-after", seconds.to_string()));
        }
        true
    }

    fn times(&self) -> Option<u32> {
        self.times.map(NonZeroU32::get)
    }
}

fn error_status<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    if (400..=599).contains(&status) {
        return Ok(status);
    }
    Err(serde::de::Error::custom(format_args!("the status {status}, which refuses nothing\nuse 400 to 599, such as `status: 503`")))
}
