//! `provision`: the user's app gives the device its credentials.

use super::http::{AnswerWatch, StatusRange};
use super::{Act, Meaning, Verb, secrets_in_json};
use crate::scenario::header::Capability;
use crate::testbed::{ActError, HttpCall, Testbed, Token};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Calls `POST /provision` on the device, as the user's app does: the Wi-Fi network to join, the device's id, and the token it gets
/// its certificate with. The answer must come within 10 s and have the status expected.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Provision {
    /// The network's name; unset: lab.
    #[serde(default = "lab")]
    ssid: String,
    /// The network's password; unset: correct-horse.
    #[serde(default = "correct_horse")]
    password: String,
    /// Which provisioning token is sent; unset: good.
    #[serde(default)]
    token: TokenKind,
    /// The device's id; unset: the trial's own.
    #[serde(default)]
    device_id: Option<String>,
    /// The user's bearer token; unset: one of the trial's own.
    #[serde(default)]
    user_token: Option<String>,
    /// A body sent in place of all that: any text, for refusals.
    #[serde(default)]
    body: Option<String>,
    /// The status expected; unset: 200.
    #[serde(default)]
    expect: StatusRange,
}

fn lab() -> String {
    "lab".into()
}
fn correct_horse() -> String {
    "correct-horse".into()
}

/// A provisioning token.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum TokenKind {
    /// A fresh one that the CA accepts.
    #[default]
    Good,
    /// One that the CA has never seen.
    Unknown,
    /// One that has expired.
    Expired,
    /// One for another device.
    OtherDevice,
}

impl From<TokenKind> for Token {
    fn from(kind: TokenKind) -> Token {
        match kind {
            TokenKind::Good => Token::Good,
            TokenKind::Unknown => Token::Unknown,
            TokenKind::Expired => Token::Expired,
            TokenKind::OtherDevice => Token::OtherDevice,
        }
    }
}

impl Verb for Provision {
    const NAME: &'static str = "provision";
    const EXAMPLE: &'static str = "- power-on: {}\n- provision: { ssid: lab, password: short, expect: 400 }\n- provision: { ssid: lab, password: correct-horse, token: good }";
    fn mean(self) -> Result<Meaning, String> {
        let expect = self.expect;
        Ok(Meaning::act(self).then(move || AnswerWatch::new("POST", "/provision", expect, None)).needs(&[Capability::Http]))
    }
}

#[async_trait]
impl Act for Provision {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let device_id = self.device_id.clone().unwrap_or_else(|| testbed.device_id().to_string());
        let user_token = self.user_token.clone().unwrap_or_else(|| format!("user-of-{device_id}"));
        testbed.keep_secret("user-token", &user_token);
        let body = match &self.body {
            Some(body) => body.clone(),
            None => {
                let token = testbed.token(&self.token.into()).await?;
                let (ssid, password) = (&self.ssid, &self.password);
                serde_json::json!({ "ssid": ssid, "password": password, "device_id": device_id, "provisioning_token": token }).to_string()
            }
        };
        let headers = vec![
            ("Authorization".into(), format!("Bearer {user_token}")),
            ("Content-Type".into(), "application/json".into()),
        ];
        testbed.http(HttpCall { method: "POST".into(), path: "/provision".into(), headers, body: body.into_bytes() }).await
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        let mut secrets = vec![("wifi-password", self.password.clone())];
        secrets.extend(self.user_token.clone().map(|token| ("user-token", token)));
        secrets.extend(self.body.iter().flat_map(|body| secrets_in_json(body)));
        secrets
    }
}
