//! The body of `sign-csr` and `renew`: `{"device_id", "csr"}`, with unknown fields ignored and duplicate ones refused.

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// The longest device id, bytes (SPEC §1).
pub const DEVICE_ID_MAX: usize = 64;

/// A request to certify, before its CSR is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Who says it asks: 1–64 of `A-Za-z0-9_-`.
    pub device_id: String,
    /// The CSR, PEM.
    pub csr: String,
}

/// Why a body is refused. The texts are shown to the requester and hold nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEnrolment {
    /// Not JSON, or nested too deeply, or a field of the wrong type, missing or there twice.
    #[error("the body is not a JSON object with one text `device_id` and one text `csr`")]
    NotJson,
    /// Not 1–64 of `A-Za-z0-9_-`.
    #[error("device_id is not 1 to 64 of A-Z a-z 0-9 _ -")]
    DeviceId,
}

impl Enrolment {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not what it must be.
    pub fn from_json(body: &[u8]) -> Result<Enrolment, BadEnrolment> {
        let Fields { device_id, csr } = serde_json::from_slice(body).map_err(|_| BadEnrolment::NotJson)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=DEVICE_ID_MAX).contains(&device_id.len()) || !device_id.bytes().all(allowed) {
            return Err(BadEnrolment::DeviceId);
        }
        Ok(Enrolment { device_id, csr })
    }
}

struct Fields {
    device_id: String,
    csr: String,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with device_id and csr")
    }

    // By hand, because a derived one lets unknown fields come twice.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let (mut seen, mut device_id, mut csr) = (HashSet::new(), None, None);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "device_id" => device_id = Some(map.next_value()?),
                "csr" => csr = Some(map.next_value()?),
                _ => {
                    // Read rather than skipped, because only what is read has a limit to its depth.
                    map.next_value::<serde_json::Value>()?;
                }
            }
            if !seen.insert(field) {
                return Err(A::Error::custom("a field is there twice"));
            }
        }
        match (device_id, csr) {
            (Some(device_id), Some(csr)) => Ok(Fields { device_id, csr }),
            _ => Err(A::Error::custom("a field is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_duplicate_ones_refused() {
        let good = Enrolment { device_id: "a_B-9".into(), csr: "x".into() };
        assert_eq!(Enrolment::from_json(br#"{"device_id":"a_B-9","more":[{"csr":1}],"csr":"x"}"#), Ok(good));
        for bad in [
            r#"{"device_id":"a","csr":"x","csr":"x"}"#,
            r#"{"device_id":"a","csr":"x","more":1,"more":1}"#,
            r#"{"device_id":"a","device\u005fid":"a","csr":"x"}"#,
            r#"{"device_id":"a"}"#,
            r#"{"device_id":"a","csr":null}"#,
            r#"{"device_id":"a","csr":"x"} {}"#,
            r#"["a","x"]"#,
            "",
        ] {
            assert_eq!(Enrolment::from_json(bad.as_bytes()), Err(BadEnrolment::NotJson), "{bad}");
        }
        let deep = format!(r#"{{"device_id":"a","csr":"x","more":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(Enrolment::from_json(deep.as_bytes()), Err(BadEnrolment::NotJson));
        assert_eq!(Enrolment::from_json(b"{\"device_id\":\"\xff\",\"csr\":\"x\"}"), Err(BadEnrolment::NotJson));
    }

    #[test]
    fn device_ids_are_checked() {
        for (id, good) in
            [("a".repeat(64), true), ("a".repeat(65), false), (String::new(), false), ("a b".into(), false), ("é".into(), false)]
        {
            let body = serde_json::json!({"device_id": id, "csr": "x"}).to_string();
            assert_eq!(Enrolment::from_json(body.as_bytes()).is_ok(), good, "{id}");
        }
    }
}
