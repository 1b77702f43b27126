//! Settings from environment variables: every spelling of the table, files read, contradictions refused.

use device_core::config::{Config, PEM_MAX, SETTINGS, Setting};
use device_core::secret::Secret;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// A variable that cannot be used, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Two spellings of one setting disagree.
    #[error("{first} and {second} are two names of one setting and differ; set one of them")]
    Conflict {
        /// One spelling.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A value that is no text.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// A file that cannot be read.
    #[error("could not read the file {path} that {name} names: {why}")]
    File {
        /// The variable.
        name: &'static str,
        /// What it holds.
        path: String,
        /// Why not.
        why: io::Error,
    },
    /// A value outside what the setting allows.
    #[error("{0}")]
    Value(#[from] device_core::config::ConfigError),
}

/// The settings among these variables, by their canonical names, ready for [`crate::Parts`]. Other variables are not looked at; an empty
/// one counts as not set.
///
/// # Errors
/// The first variable that cannot be used; never shows a secret's value.
pub fn settings(variables: impl Fn(&str) -> Option<OsString>) -> Result<BTreeMap<String, Secret>, EnvironmentError> {
    let mut settings = BTreeMap::new();
    let mut config = Config::default();
    for setting in SETTINGS {
        if let Some((name, value)) = given(setting, &variables)? {
            // Said with the spelling that was used.
            config.set(name, value.expose())?;
            settings.insert(setting.name.to_owned(), value);
        }
    }
    config.check()?;
    Ok(settings)
}

fn given(
    setting: &'static Setting,
    variables: &impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(&'static str, Secret)>, EnvironmentError> {
    let mut found: Option<(&'static str, OsString)> = None;
    for name in [setting.name].into_iter().chain(setting.aliases.iter().copied()) {
        let Some(value) = variables(name).filter(|v| !v.is_empty()) else { continue };
        match &found {
            Some((first, other)) if *other != value => return Err(EnvironmentError::Conflict { first, second: name }),
            Some(_) => {}
            None => found = Some((name, value)),
        }
    }
    let Some((name, value)) = found else { return Ok(None) };
    let value = if setting.file {
        read(Path::new(&value)).map_err(|why| EnvironmentError::File { name, path: value.display().to_string(), why })?
    } else {
        value.into_string().map_err(|_| EnvironmentError::NotText(name))?
    };
    Ok(Some((name, Secret::new(value))))
}

fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        // A FIFO would never end.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(PEM_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<BTreeMap<String, Secret>, EnvironmentError> {
        settings(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn every_spelling_sets_the_same() {
        for name in ["MQTT_HOST", "MQTT_BROKER_HOST"] {
            let settings = with(&[(name, "broker.test"), ("HOME", "/nowhere")]).unwrap();
            assert_eq!(settings, BTreeMap::from([("MQTT_HOST".to_owned(), Secret::new("broker.test"))]));
        }
        assert!(with(&[("MQTT_HOST", "a"), ("MQTT_BROKER_HOST", "a")]).is_ok());
        let e = with(&[("MQTT_HOST", "a"), ("MQTT_BROKER_HOST", "b")]).unwrap_err().to_string();
        assert!(e.contains("MQTT_HOST") && e.contains("MQTT_BROKER_HOST"), "{e}");
        assert!(with(&[("MQTT_PORT", "")]).unwrap().is_empty());
    }

    #[test]
    fn wrong_values_name_the_variable_and_never_a_secret() {
        let e = with(&[("MQTT_BROKER_PORT", "many")]).unwrap_err().to_string();
        assert!(e.contains("MQTT_BROKER_PORT") && e.contains("many") && e.contains("65535"), "{e}");
        let e = with(&[("MQTT_PASSWORD", "hush\u{7}hush")]).unwrap_err().to_string();
        assert!(e.contains("MQTT_PASSWORD") && !e.contains("hush"), "{e}");
    }

    #[test]
    fn files_are_read_and_missing_ones_named() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("ca.crt");
        let path = path.to_str().unwrap();
        let e = with(&[("MQTT_CA_CERT", path)]).unwrap_err().to_string();
        assert!(e.contains("MQTT_CA_CERT") && e.contains(path), "{e}");
        fs::write(path, "rubbish").unwrap();
        assert!(with(&[("MQTT_CA_CERT", path)]).unwrap_err().to_string().contains("PEM"));
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(path, pem).unwrap();
        assert_eq!(with(&[("MQTT_CA_CERT", path)]).unwrap()["MQTT_CA_CERTS"].expose(), pem);
        assert!(with(&[("BACKEND_CA", at.path().to_str().unwrap())]).unwrap_err().to_string().contains("not a file"));
    }
}
