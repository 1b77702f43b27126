//! The states a device can be in (S4's names) and which may follow which.

use core::fmt;

/// Where a device stands between boot and a working MQTT session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Just booted: storage is being read.
    Init,
    /// Deciding whether credentials are stored.
    CheckProvisioning,
    /// The provisioning API is up; waiting for credentials.
    ApMode,
    /// Joining the access point.
    WifiConnecting,
    /// On the network; asking for the time.
    WifiConnected,
    /// Deciding whether a usable certificate is stored.
    CheckCertificates,
    /// Making a key and a CSR, and asking the CA for a certificate.
    SubmitCsr,
    /// Opening the connection to the broker, or waiting to try again.
    MqttConnecting,
    /// The MQTT session is up.
    MqttConnected,
}

impl State {
    /// Every state, in the order of a first boot.
    pub const ALL: [State; 9] = [
        State::Init,
        State::CheckProvisioning,
        State::ApMode,
        State::WifiConnecting,
        State::WifiConnected,
        State::CheckCertificates,
        State::SubmitCsr,
        State::MqttConnecting,
        State::MqttConnected,
    ];

    /// The name S4 gives it, such as `AP_MODE`.
    pub const fn name(self) -> &'static str {
        match self {
            State::Init => "INIT",
            State::CheckProvisioning => "CHECK_PROVISIONING",
            State::ApMode => "AP_MODE",
            State::WifiConnecting => "WIFI_CONNECTING",
            State::WifiConnected => "WIFI_CONNECTED",
            State::CheckCertificates => "CHECK_CERTIFICATES",
            State::SubmitCsr => "SUBMIT_CSR",
            State::MqttConnecting => "MQTT_CONNECTING",
            State::MqttConnected => "MQTT_CONNECTED",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
