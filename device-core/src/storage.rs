//! What a device keeps over a power cut: one set, replaced as a whole, so that no cut leaves half of it.

use crate::secret::Secret;
use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The NVS namespace S4 uses.
pub const NAMESPACE: &str = "device_config";

/// Everything stored. A write replaces the whole set: after a cut it is the old one or the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stored {
    /// Settings made on the console, by their canonical names (`config::SETTINGS`). Values may be secret.
    pub settings: BTreeMap<String, Secret>,
    /// What `POST /provision` brought.
    pub credentials: Option<Credentials>,
    /// The device's key and, once enrolled, its certificate.
    pub identity: Option<Identity>,
    /// A renewal under way: a new key whose certificate has not come yet. The old identity stays in use until it has.
    pub next_key: Option<Secret>,
}

/// What `POST /provision` brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Network name, 1–32 bytes.
    pub ssid: String,
    /// WPA2 passphrase (8–63 bytes), 64 hex digits, or empty for an open network.
    pub password: Secret,
    /// Device id, 1–64 of `A-Za-z0-9_-`.
    pub device_id: String,
    /// Spent by the first certificate, and forgotten then.
    pub provisioning_token: Option<Secret>,
    /// The bearer of `POST /provision`, for later API calls on the user's behalf.
    pub user_token: Secret,
    /// Whether the network was ever joined with them. Until then a few failures lead back to AP_MODE; afterwards it is tried for ever.
    #[serde(default)]
    pub confirmed: bool,
}

/// The device's own key and what was issued for it. A certificate without its key cannot be represented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// PKCS#8 PEM, ECDSA P-256.
    pub key: Secret,
    /// What the CA issued, once it has.
    pub issued: Option<Issued>,
}

/// What the CA issued for the stored key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// PEM: the device's certificate first, intermediates after it.
    pub certificate: String,
    /// PEM: the anchor(s) for the broker.
    pub ca_certificate: String,
}

/// Why the set is being written: the name of a point at which power may be cut (just before it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Write {
    /// Console settings.
    Settings,
    /// Credentials from `POST /provision`.
    Credentials,
    /// A freshly made key.
    Key,
    /// The issued certificate with its CA; forgets the provisioning token.
    Certificate,
    /// The new key of a renewal.
    NextKey,
    /// The renewed certificate together with its key.
    Renewal,
    /// Everything forgotten.
    Reset,
    /// A reading enters the offline queue.
    QueuePush,
    /// An acknowledged reading leaves it.
    QueuePop,
}

impl Write {
    /// Every kind of write.
    pub const ALL: [Write; 9] = [
        Write::Settings,
        Write::Credentials,
        Write::Key,
        Write::Certificate,
        Write::NextKey,
        Write::Renewal,
        Write::Reset,
        Write::QueuePush,
        Write::QueuePop,
    ];

    /// Its name in scenarios and on the console.
    pub const fn name(self) -> &'static str {
        match self {
            Write::Settings => "settings",
            Write::Credentials => "credentials",
            Write::Key => "key",
            Write::Certificate => "certificate",
            Write::NextKey => "next-key",
            Write::Renewal => "renewal",
            Write::Reset => "reset",
            Write::QueuePush => "queue-push",
            Write::QueuePop => "queue-pop",
        }
    }

    /// The write of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Write> {
        Write::ALL.into_iter().find(|w| w.name() == name)
    }
}

/// How much of a write is done when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Nothing.
    Before,
    /// Half of it.
    Torn,
    /// All of it, and nobody was told.
    After,
}

impl Moment {
    /// Every moment.
    pub const ALL: [Moment; 3] = [Moment::Before, Moment::Torn, Moment::After];

    /// Its name in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::Torn => "torn",
            Moment::After => "after",
        }
    }
}

/// Why a write did not happen. The old set is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFailure {
    /// No room.
    Full,
    /// The medium refused.
    Failed,
}

impl StorageFailure {
    /// Its word on the console.
    pub const fn word(self) -> &'static str {
        match self {
            StorageFailure::Full => "full",
            StorageFailure::Failed => "failed",
        }
    }
}
