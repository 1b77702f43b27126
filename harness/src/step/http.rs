//! `http`: any call to the device's HTTP API.

use super::{Act, Meaning, Progress, Verb, Watch, secrets_in_json};
use crate::event::{Event, Source, What};
use crate::scenario::header::Capability;
use crate::scenario::value::Text;
use crate::testbed::{ActError, HttpCall, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The largest body that `blanks` can make, in bytes.
pub const BLANKS_MAX: u32 = 1 << 20;

/// Calls the device's HTTP API. The answer must come within 10 s and be as expected.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Http {
    /// The method; unset: GET.
    #[serde(default = "get")]
    method: String,
    /// The path, such as `/status`.
    path: String,
    /// Headers by name.
    #[serde(default)]
    headers: BTreeMap<String, Text>,
    /// The body, as it is.
    #[serde(default)]
    body: Option<String>,
    /// The body, as JSON; sent with its Content-Type.
    #[serde(default)]
    json: Option<serde_json::Value>,
    /// A body of so many blanks.
    #[serde(default)]
    #[schemars(range(max = BLANKS_MAX))]
    blanks: Option<u32>,
    /// What the answer must be.
    #[serde(default)]
    expect: Expect,
}

fn get() -> String {
    "GET".into()
}

/// What the answer must be.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Expect {
    /// The status; unset: 200.
    #[serde(default)]
    status: StatusRange,
    /// A text in the body.
    #[serde(default)]
    body_contains: Option<String>,
}

/// An HTTP status, 100 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct StatusRange(pub u16);

impl Default for StatusRange {
    fn default() -> StatusRange {
        StatusRange(200)
    }
}

impl TryFrom<u16> for StatusRange {
    type Error = String;
    fn try_from(status: u16) -> Result<StatusRange, String> {
        if (100..=599).contains(&status) { Ok(StatusRange(status)) } else { Err(format!("the status {status}\nallowed: 100 to 599")) }
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 100, "maximum": 599, "description": "An HTTP status." })
    }
}

impl Verb for Http {
    const NAME: &'static str = "http";
    const EXAMPLE: &'static str = "- power-on: {}\n- http: { path: /status, expect: { body-contains: provisioning } }\n- http: { method: DELETE, path: /status, expect: { status: 405 } }";
    fn mean(self) -> Result<Meaning, String> {
        if !self.path.starts_with('/') || self.path.contains(char::is_whitespace) {
            return Err(format!("the path `{}`\na path begins with `/` and has no blanks", self.path));
        }
        if self.method.is_empty() || !self.method.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(format!("the method `{}`\na method is a word, such as GET or POST", self.method));
        }
        if [self.body.is_some(), self.json.is_some(), self.blanks.is_some()].into_iter().filter(|given| *given).count() > 1 {
            return Err("more than one body\ngive one of: body, json, blanks".into());
        }
        if self.blanks.is_some_and(|blanks| blanks > BLANKS_MAX) {
            return Err(format!("a body of more than {BLANKS_MAX} blanks\nallowed: up to {BLANKS_MAX}"));
        }
        let bad = |text: &str| text.is_empty() || text.contains(['\r', '\n', '\0']);
        if let Some((name, _)) = self.headers.iter().find(|(name, value)| bad(name) || value.0.contains(['\r', '\n', '\0'])) {
            return Err(format!("the header `{}`\na header's name and value are one line", name.escape_debug()));
        }
        let (method, path, expect) = (self.method.to_uppercase(), self.path.clone(), self.expect.clone());
        let watch = move || AnswerWatch::new(&method, &path, expect.status, expect.body_contains.clone());
        Ok(Meaning::act(self).then(watch).needs(&[Capability::Http]))
    }
}

#[async_trait]
impl Act for Http {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let mut headers: Vec<(String, String)> = self.headers.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
        let body = match (&self.body, &self.json, self.blanks) {
            (Some(body), _, _) => body.clone().into_bytes(),
            (_, Some(json), _) => {
                if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                    headers.push(("Content-Type".into(), "application/json".into()));
                }
                json.to_string().into_bytes()
            }
            (_, _, Some(blanks)) => vec![b' '; blanks as usize],
            _ => Vec::new(),
        };
        testbed.http(HttpCall { method: self.method.to_uppercase(), path: self.path.clone(), headers, body }).await
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        let bearers = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let mut secrets: Vec<_> =
            bearers.filter_map(|(_, value)| Some(("user-token", value.0.rsplit(' ').next()?.to_owned()))).collect();
        secrets.extend(self.body.iter().flat_map(|body| secrets_in_json(body)));
        secrets.extend(self.json.iter().flat_map(|body| secrets_in_json(&body.to_string())));
        secrets
    }
}

/// Waits for the answer to a call, which must be as expected.
#[derive(Clone, Debug)]
pub(super) struct AnswerWatch {
    method: String,
    path: String,
    status: StatusRange,
    body_contains: Option<String>,
}

impl AnswerWatch {
    pub(super) fn new(method: &str, path: &str, status: StatusRange, body_contains: Option<String>) -> AnswerWatch {
        AnswerWatch { method: method.into(), path: path.into(), status, body_contains }
    }
}

impl Watch for AnswerWatch {
    fn reads(&self) -> &[Source] {
        &[Source::Http]
    }
    fn observe(&mut self, event: &Event) -> Progress {
        let What::Exchange(exchange) = &event.what else { return Progress::Waiting };
        if exchange.method != self.method || exchange.path != self.path {
            return Progress::Waiting;
        }
        let call = format!("{} {}", self.method, self.path);
        match exchange.status {
            None => Progress::Failed(format!("{call} got no answer: {}", exchange.body)),
            Some(status) if status != self.status.0 => {
                Progress::Failed(format!("{call} was answered with {status}, expected {}: {}", self.status.0, exchange.body))
            }
            Some(_) => match &self.body_contains {
                Some(text) if !exchange.body.contains(text) => {
                    Progress::Failed(format!("the answer to {call} does not contain `{text}`: {}", exchange.body))
                }
                _ => Progress::Met,
            },
        }
    }
    fn within(&self) -> Duration {
        super::WITHIN_DEFAULT
    }
    fn time_up(&mut self) -> Progress {
        Progress::Failed(format!("no answer to {} {}", self.method, self.path))
    }
    fn describe(&self) -> String {
        format!("answer {} to {} {}", self.status.0, self.method, self.path)
    }
}
