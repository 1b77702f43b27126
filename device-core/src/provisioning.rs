//! The HTTP API of an unprovisioned device: its requests, parsed once into values that cannot be wrong, and its answers.
//!
//! | call | answer |
//! |---|---|
//! | `GET /scan`, `GET /local-wifi` | the networks in the air |
//! | `GET /status` | where the device stands |
//! | `GET /api/mqtt/stats` | the MQTT connection and its ledger |
//! | `POST /provision` | takes the credentials |
//!
//! A request is checked in this order, and the first check that fails answers: path (404), method (405, with `Allow`), size of the
//! body (413), content type (415), bearer (401), body (400); the device itself then looks whether it is provisioned already (409)
//! and whether storage takes the credentials (500, 503). Nothing is stored before the last check, and 200 is said only after it.

use crate::input::{Network, Request};
use crate::output::Response;
use crate::secret::Secret;
use crate::storage::Credentials;
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use core::fmt;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::json;

/// The longest body, in bytes.
pub const BODY_LIMIT: usize = 4096;
/// The longest SSID, in bytes (IEEE 802.11, 9.4.2.2).
pub const SSID_MAX: usize = 32;
/// The shortest WPA2 passphrase, in bytes.
pub const PASSWORD_MIN: usize = 8;
/// The longest WPA2 passphrase, in bytes.
pub const PASSWORD_MAX: usize = 63;
/// A WPA2 key as hex digits has exactly so many.
pub const PASSWORD_HEX: usize = 64;
/// The longest device id, in bytes.
pub const DEVICE_ID_MAX: usize = 64;
/// The longest provisioning or user token, in bytes.
pub const TOKEN_MAX: usize = 512;
/// What stands for the user token when the console provisions without one.
pub const NO_USER_TOKEN: &str = "-";

/// A call of the API, with the body's credentials where it has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GET /scan` and `GET /local-wifi`.
    Scan,
    /// `GET /status`.
    Status,
    /// `GET /api/mqtt/stats`.
    MqttStats,
    /// `POST /provision`.
    Provision(Credentials),
}

/// A request that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// One line; no value that may be secret.
    pub why: String,
    /// `Allow` header, with 405.
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal with this status and reason.
    pub fn new(status: u16, why: impl Into<String>) -> Self {
        Refusal { status, why: why.into(), allow: None }
    }

    /// The answer that says it.
    pub fn response(&self) -> Response {
        let body = json!({ "status": "error", "message": self.why });
        Response { status: self.status, body: format!("{body}"), allow: self.allow }
    }
}

/// The answer to a `POST /provision` whose credentials are stored.
pub fn saved() -> Response {
    ok(&json!({ "status": "ok", "message": "Credentials saved" }))
}

/// The answer 200 with this JSON.
pub fn ok(body: &serde_json::Value) -> Response {
    Response { status: 200, body: format!("{body}"), allow: None }
}

/// The answer to a scan.
pub fn networks(networks: &[Network]) -> Response {
    let list: alloc::vec::Vec<_> =
        networks.iter().map(|n| json!({ "ssid": n.ssid, "rssi": n.rssi, "channel": n.channel, "secure": n.secure })).collect();
    ok(&json!({ "networks": list, "count": networks.len() }))
}

/// Reads a request.
///
/// # Errors
/// The answer it gets instead, by the order of checks in the module's text.
pub fn parse(request: &Request<'_>) -> Result<Call, Refusal> {
    let (call, method) = match request.path {
        "/scan" | "/local-wifi" => (Some(Call::Scan), "GET"),
        "/status" => (Some(Call::Status), "GET"),
        "/api/mqtt/stats" => (Some(Call::MqttStats), "GET"),
        "/provision" => (None, "POST"),
        _ => return Err(Refusal::new(404, "no such path")),
    };
    if request.method != method {
        return Err(Refusal { allow: Some(method), ..Refusal::new(405, format!("only {method} is allowed")) });
    }
    match call {
        Some(call) => Ok(call),
        None => provision(request).map(Call::Provision),
    }
}

fn provision(request: &Request<'_>) -> Result<Credentials, Refusal> {
    if request.body.len() > BODY_LIMIT {
        return Err(Refusal::new(413, format!("body: allowed {BODY_LIMIT} bytes")));
    }
    let media = request.content_type.and_then(|t| t.split(';').next()).unwrap_or("").trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(415, "Content-Type: allowed application/json"));
    }
    let unauthorized = || Refusal::new(401, "Authorization: allowed Bearer and a token of 1-512 printable characters");
    let (scheme, token) = request.authorization.and_then(|a| a.trim().split_once(' ')).ok_or_else(unauthorized)?;
    let user_token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || !is_token(user_token) {
        return Err(unauthorized());
    }
    Body::parse(request.body)?.credentials(Some(user_token))
}

/// Reads the JSON of the console's `provision`: the same body, with the bearer as the field `user_token` (absent or `-`: none).
///
/// # Errors
/// The refusal that the HTTP API would give (400 or 413).
pub fn parse_console(json: &str) -> Result<Credentials, Refusal> {
    if json.len() > BODY_LIMIT {
        return Err(Refusal::new(413, format!("body: allowed {BODY_LIMIT} bytes")));
    }
    Body::parse(json.as_bytes())?.credentials(None)
}

fn is_token(token: &str) -> bool {
    (1..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether this may be a device's id.
pub fn is_device_id(id: &str) -> bool {
    (1..=DEVICE_ID_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_password(password: &str) -> bool {
    let hex = password.len() == PASSWORD_HEX && password.bytes().all(|b| b.is_ascii_hexdigit());
    // A Wi-Fi driver that takes C strings would join with what stands before a NUL.
    let phrase = (PASSWORD_MIN..=PASSWORD_MAX).contains(&password.len()) && !password.contains('\0');
    password.is_empty() || phrase || hex
}

/// The known fields of the body, as they came.
#[derive(Default)]
struct Body {
    ssid: Option<Value>,
    password: Option<Value>,
    device_id: Option<Value>,
    provisioning_token: Option<Value>,
    user_token: Option<Value>,
}

impl Body {
    fn parse(body: &[u8]) -> Result<Body, Refusal> {
        // serde_json's texts hold positions and, here, no values: every value is taken and judged later.
        serde_json::from_slice(body).map_err(|e| Refusal::new(400, format!("body: {e}")))
    }

    fn credentials(self, bearer: Option<&str>) -> Result<Credentials, Refusal> {
        let user_token = match (bearer, self.user_token) {
            (Some(bearer), _) => bearer.to_owned(),
            (None, None) => NO_USER_TOKEN.to_owned(),
            (None, token) => required("user_token", token, is_token, "1-512 printable characters without blanks")?,
        };
        let ssid = required(
            "ssid",
            self.ssid,
            |s| (1..=SSID_MAX).contains(&s.len()) && !s.contains('\0'),
            "1-32 bytes, none of them NUL",
        )?;
        let password = required("password", self.password, is_password, "no or 8-63 bytes, or 64 hex digits")?;
        let device_id = required("device_id", self.device_id, is_device_id, "1-64 of A-Z a-z 0-9 _ -")?;
        let token = required("provisioning_token", self.provisioning_token, is_token, "1-512 printable characters without blanks")?;
        Ok(Credentials {
            ssid,
            password: Secret::new(password),
            device_id,
            provisioning_token: Some(Secret::new(token)),
            user_token: Secret::new(user_token),
            confirmed: false,
        })
    }
}

fn required(name: &str, value: Option<Value>, fits: impl Fn(&str) -> bool, allowed: &str) -> Result<String, Refusal> {
    match value {
        None => Err(Refusal::new(400, format!("{name}: missing"))),
        Some(Value::Other) => Err(Refusal::new(400, format!("{name}: must be a string"))),
        Some(Value::Text(text)) if fits(&text) => Ok(text),
        Some(Value::Text(text)) => Err(Refusal::new(400, format!("{name}: met {} bytes, allowed {allowed}", text.len()))),
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Body, D::Error> {
        deserializer.deserialize_any(BodyVisitor)
    }
}

/// Reads an object by hand, since a field that comes twice must be refused and an unknown one skipped without recursion.
struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut body = Body::default();
        let mut seen = alloc::collections::BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let slot = match name.as_str() {
                "ssid" => Some(&mut body.ssid),
                "password" => Some(&mut body.password),
                "device_id" => Some(&mut body.device_id),
                "provisioning_token" => Some(&mut body.provisioning_token),
                "user_token" => Some(&mut body.user_token),
                _ => None,
            };
            match slot {
                Some(slot) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            if !seen.insert(name) {
                return Err(serde::de::Error::custom("a field comes twice"));
            }
        }
        Ok(body)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Body, E> {
        Err(E::custom("must be an object"))
    }
}

/// A string, or anything else.
enum Value {
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn post(body: &[u8]) -> Request<'_> {
        Request {
            method: "POST",
            path: "/provision",
            authorization: Some("Bearer user"),
            content_type: Some("application/json"),
            body,
        }
    }

    fn body(ssid: &str, password: &str, device_id: &str, token: &str) -> Vec<u8> {
        json!({ "ssid": ssid, "password": password, "device_id": device_id, "provisioning_token": token }).to_string().into_bytes()
    }

    use alloc::string::ToString as _;

    fn status(request: &Request<'_>) -> u16 {
        parse(request).map_or_else(|r| r.status, |_| 200)
    }

    const GOOD: [&str; 4] = ["lab", "correct-horse", "device_0070", "token"];

    #[test]
    fn a_good_body_is_taken() {
        let bytes = body("lab", "correct-horse", "device_0070", "token");
        let Ok(Call::Provision(c)) = parse(&post(&bytes)) else { panic!("refused") };
        assert_eq!((c.ssid.as_str(), c.password.expose(), c.device_id.as_str()), ("lab", "correct-horse", "device_0070"));
        assert_eq!((c.provisioning_token.as_ref().map(Secret::expose), c.user_token.expose()), (Some("token"), "user"));
    }

    #[test]
    fn every_limit_holds_on_both_sides() {
        let n = |n: usize| "a".repeat(n);
        let [ssid, password, id, token] = GOOD;
        for (b, expected) in [
            (body("", password, id, token), 400),
            (body(&n(32), password, id, token), 200),
            (body(&n(33), password, id, token), 400),
            (body("ééééééééééééééééé", password, id, token), 400),
            (body(ssid, "", id, token), 200),
            (body(ssid, &n(7), id, token), 400),
            (body(ssid, &n(8), id, token), 200),
            (body(ssid, &n(63), id, token), 200),
            (body(ssid, &n(64), id, token), 200),
            (body(ssid, &"g".repeat(64), id, token), 400),
            (body(ssid, &n(65), id, token), 400),
            (body(ssid, password, "", token), 400),
            (body(ssid, password, &n(64), token), 200),
            (body(ssid, password, &n(65), token), 400),
            (body(ssid, password, "a/b", token), 400),
            (body(ssid, password, "a+", token), 400),
            (body(ssid, password, id, ""), 400),
            (body(ssid, password, id, &n(512)), 200),
            (body(ssid, password, id, &n(513)), 400),
            (body(ssid, password, id, "a b"), 400),
            (body("a\0b", password, id, token), 400),
            (body(ssid, "correct\0horse", id, token), 400),
            (body(ssid, password, id, "a\r\nX: y"), 400),
        ] {
            assert_eq!(status(&post(&b)), expected, "{}", String::from_utf8_lossy(&b));
        }
        let mut padded = body(ssid, password, id, token);
        padded.resize(BODY_LIMIT, b' ');
        assert_eq!(status(&post(&padded)), 200);
        padded.push(b' ');
        assert_eq!(status(&post(&padded)), 413);
    }

    #[test]
    fn each_field_must_be_there_once_and_a_string() {
        for name in ["ssid", "password", "device_id", "provisioning_token"] {
            let good: serde_json::Value = serde_json::from_slice(&body("lab", "correct-horse", "d", "t")).expect("json");
            for value in [None, Some(json!(1)), Some(json!(null)), Some(json!([])), Some(json!({ "a": [1.5, true] }))] {
                let mut bad = good.clone();
                match value {
                    None => bad.as_object_mut().expect("object").remove(name),
                    Some(v) => bad.as_object_mut().expect("object").insert(name.into(), v),
                };
                let refusal = parse(&post(bad.to_string().as_bytes())).expect_err(name);
                assert!(refusal.status == 400 && refusal.why.starts_with(name), "{refusal:?}");
            }
            let twice = good.to_string().replacen('{', &format!("{{\"{name}\":\"12345678\","), 1);
            assert_eq!(status(&post(twice.as_bytes())), 400, "{twice}");
        }
        let unknown = body("lab", "correct-horse", "d", "t").iter().map(|b| *b as char).collect::<String>();
        assert_eq!(status(&post(unknown.replacen('{', "{\"x\":{\"y\":[1]},", 1).as_bytes())), 200);
        assert_eq!(status(&post(unknown.replacen('{', "{\"x\":1,\"x\":2,", 1).as_bytes())), 400);
    }

    #[test]
    fn the_first_failed_check_answers() {
        let good = body("lab", "correct-horse", "d", "t");
        let big = [b' '; BODY_LIMIT + 1];
        let no_type = Request { content_type: None, ..post(&big) };
        assert_eq!(status(&Request { path: "/x", ..no_type }), 404);
        let refusal = parse(&Request { method: "GET", ..no_type }).expect_err("method");
        assert_eq!((refusal.status, refusal.allow), (405, Some("POST")));
        assert_eq!(status(&no_type), 413);
        assert_eq!(status(&Request { content_type: Some("text/plain"), authorization: None, ..post(b"x") }), 415);
        assert_eq!(status(&Request { content_type: Some("Application/JSON; charset=utf-8"), ..post(&good) }), 200);
        for bearer in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic dTpw"), Some("Bearer a b"), Some("Bearer é")] {
            assert_eq!(status(&Request { authorization: bearer, ..post(b"x") }), 401, "{bearer:?}");
        }
        assert_eq!(status(&post(b"x")), 400);
        assert_eq!(status(&Request { method: "GET", path: "/local-wifi", ..no_type }), 200);
        assert_eq!(status(&Request { path: "/status", ..no_type }), 405);
    }

    #[test]
    fn malformed_json_is_refused_without_repeating_it() {
        let deep = "[".repeat(BODY_LIMIT);
        let nested = format!("{{\"ssid\":{}", "{\"a\":".repeat(500));
        let unknown = format!("{{\"x\":{}{}}}", "[".repeat(1800), "]".repeat(1800));
        for bad in
            ["", "{", "[]", "\"hunter2\"", "1", "null", "{\"ssid\":\"hunter2\"", "{} x", "{\"ssid\":}", &deep, &nested, &unknown]
        {
            let refusal = parse(&post(bad.as_bytes())).expect_err(bad);
            assert!(refusal.status == 400 && !refusal.why.contains("hunter2"), "{refusal:?}");
        }
        assert_eq!(status(&post(b"\xff\xfe{}")), 400);
    }

    #[test]
    fn the_console_takes_the_same_body() {
        let text = String::from_utf8(body("lab", "correct-horse", "d", "t")).expect("text");
        assert_eq!(parse_console(&text).expect("good").user_token.expose(), NO_USER_TOKEN);
        let with = text.replacen('{', "{\"user_token\":\"u\",", 1);
        assert_eq!(parse_console(&with).expect("good").user_token.expose(), "u");
        assert_eq!(parse_console("{}").expect_err("empty").status, 400);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in Just(body("lab", "correct-horse", "d", "t")), at in 0usize..80, byte: u8, cut in 0usize..120) {
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(cut);
            let s = status(&post(&bytes));
            prop_assert!(s == 200 || s == 400);
        }
    }
}
