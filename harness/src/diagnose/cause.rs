//! What a line of trouble likely means, what to do next, and which scenario shows it.

use super::Trouble;
use device_core::report::Report;
use device_core::state::State;

/// What is likely wrong, what to do, the scenario that shows it, and the state that is to be left behind before it is over.
pub(super) type Cause = (&'static str, &'static str, &'static str, State);

/// What a line of trouble likely means.
pub(super) fn cause(report: &Report) -> Option<Cause> {
    use State::{ApMode, CheckCertificates, MqttConnected, MqttConnecting, SubmitCsr, WifiConnecting};
    Some(match report {
        Report::ProvisionRefused { status: 401, .. } => (
            "the app calls the device without a bearer token it takes",
            "send `Authorization: Bearer <user token>` with POST /provision",
            "provisioning/refused-requests",
            ApMode,
        ),
        Report::ProvisionRefused { status: 400, .. } => (
            "the body of POST /provision breaks a limit",
            "send ssid (1-32 bytes), password (none, 8-63 bytes or 64 hex digits), device_id and provisioning_token",
            "provisioning/refused-bodies",
            ApMode,
        ),
        Report::ProvisionRefused { .. } => (
            "the device does not take such a request",
            "send POST /provision, application/json, up to 4 KiB, once",
            "provisioning/refused-requests",
            ApMode,
        ),
        Report::WifiFailed { reason } => match reason.as_str() {
            "wrong-password" => (
                "the Wi-Fi password is wrong",
                "provision the device again with the right password",
                "provisioning/network-trouble",
                WifiConnecting,
            ),
            "not-found" => (
                "the access point is not there, or only on 5 GHz, which this chip does not hear",
                "switch it on, check the SSID letter by letter, and offer it on 2.4 GHz",
                "provisioning/network-trouble",
                WifiConnecting,
            ),
            "no-address" => (
                "the network's DHCP server does not answer",
                "look at the router's DHCP server and its free addresses",
                "provisioning/network-trouble",
                WifiConnecting,
            ),
            "unsaid" => (
                "the Wi-Fi network cannot be joined: its password, its name or its signal",
                "log at level Info: `wifi:state` lines, or the reason in WIFI_EVENT_STA_DISCONNECTED, say which",
                "provisioning/network-trouble",
                WifiConnecting,
            ),
            _ => (
                "the Wi-Fi connection was lost",
                "look at signal strength and at the router",
                "provisioning/network-trouble",
                WifiConnecting,
            ),
        },
        Report::EnrollmentRefused { .. } => (
            "the provisioning token is unknown, expired, spent, or bound to another device",
            "issue a new token for this device id, and provision the device again",
            "enrollment/token-refused",
            SubmitCsr,
        ),
        Report::CertificateRefused { .. } => (
            "the CA answered with a certificate that is not for this device, or not in order",
            "compare its key, CN, dates and issuer with the CSR: openssl x509 -noout -text, openssl req -noout -text",
            "enrollment/bad-certificate",
            SubmitCsr,
        ),
        Report::EnrollmentFailed { why } if why.starts_with("certificate-not-yet-valid") && why.contains("it is 1970") => (
            "the device does not know the time, so no certificate is valid yet",
            "set SNTP_HOST, and let UDP port 123 through",
            "time/unknown",
            SubmitCsr,
        ),
        Report::EnrollmentFailed { why } if why.starts_with("status ") => {
            ("the CA is busy or broken; the device tries again", "look at the CA's own log", "enrollment/ca-busy", SubmitCsr)
        }
        Report::EnrollmentFailed { why } if is_certificate(why) => (
            "the device does not trust the backend's server certificate",
            "compare BACKEND_CA, the name in BACKEND_URL and the dates with it: openssl s_client -showcerts",
            "tls/ca-certificate",
            SubmitCsr,
        ),
        Report::EnrollmentFailed { why } if why.starts_with("no-such-host") => (
            "the backend's name cannot be looked up",
            "check the name in BACKEND_URL, and the DNS server that DHCP gives: nslookup NAME",
            "enrollment/ca-away",
            SubmitCsr,
        ),
        Report::EnrollmentFailed { .. } => (
            "the backend cannot be reached, or hangs up",
            "check BACKEND_URL, DNS and the firewall",
            "enrollment/answer-lost",
            SubmitCsr,
        ),
        Report::CertificateExpired { .. } => (
            "the device's own certificate has expired",
            "renew it in time, or enrol the device again",
            "renewal/due",
            CheckCertificates,
        ),
        Report::RenewalFailed { .. } => {
            ("the certificate could not be renewed", "look at the CA's own log", "renewal/due", MqttConnected)
        }
        Report::TimeUnknown { .. } => (
            "the device does not know the time",
            "set SNTP_HOST, and let UDP port 123 through",
            "time/unknown",
            State::WifiConnected,
        ),
        Report::MqttConnectFailed { why, detail } => match why.as_str() {
            "no-such-host" => (
                "the broker's name cannot be looked up",
                "check MQTT_HOST letter by letter, and the DNS server that DHCP gives: nslookup NAME",
                "broker/away-at-first",
                MqttConnecting,
            ),
            "refused" => (
                "nothing listens on the broker's port: another port, or the broker is not running",
                "check MQTT_PORT (1883 plain, 8883 TLS) and that the broker runs: nc -vz HOST PORT",
                "broker/away-at-first",
                MqttConnecting,
            ),
            "timed-out" | "unreachable" => (
                "no way to the broker: a firewall drops the packets, or the address is another network's",
                "try it from the same network: nc -vz HOST PORT",
                "broker/away-at-first",
                MqttConnecting,
            ),
            "certificate-not-yet-valid" => (
                "the device does not know the time, so the broker's certificate is not valid yet",
                "set SNTP_HOST (esp_netif_sntp), and connect only when the time is known",
                "time/unknown",
                MqttConnecting,
            ),
            "tls-alert" => (
                "the broker ended the TLS handshake: it does not take the client certificate, or has no TLS version or cipher in common",
                "read the broker's log; compare the client certificate's issuer with the broker's `cafile`: openssl verify -CAfile",
                "tls/version-mismatch",
                MqttConnecting,
            ),
            "bad-identity" => (
                "a certificate or key in the firmware cannot be read",
                "look at the PEM as it is embedded: whole lines, and the zero byte at its end counted (EMBED_TXTFILES)",
                "tls/broker-certificate",
                MqttConnecting,
            ),
            "tls" if detail.contains("does not speak TLS") => (
                "the broker's port does not speak TLS",
                "use the port of the TLS listener (usually 8883)",
                "tls/version-mismatch",
                MqttConnecting,
            ),
            "tls" if detail.contains("version") || detail.contains("cipher") => (
                "device and broker have no TLS version in common",
                "let the broker accept TLS 1.2 and 1.3",
                "tls/version-mismatch",
                MqttConnecting,
            ),
            why if is_certificate(why) => (
                "the device does not trust the broker's server certificate",
                "compare the trust anchor, MQTT_HOST and the dates with it: openssl s_client -showcerts",
                "tls/broker-certificate",
                MqttConnecting,
            ),
            _ => (
                "the broker cannot be reached, or hangs up: port, firewall, or a client certificate it does not take",
                "check MQTT_HOST and MQTT_PORT, and read the broker's log",
                "broker/away-at-first",
                MqttConnecting,
            ),
        },
        Report::MqttRefused { code: 4 | 134 } => (
            "the broker does not take the device's user or password",
            "check MQTT_USER and MQTT_PASSWORD, and whether the broker knows them: mosquitto_pub -u USER -P PASSWORD",
            "broker/refused-login",
            MqttConnecting,
        ),
        Report::MqttRefused { .. } => (
            "the broker does not take the device's user, password or certificate",
            "check MQTT_USER and MQTT_PASSWORD, and whether the broker knows them",
            "broker/refused-login",
            MqttConnecting,
        ),
        Report::SubscribeRefused { .. } | Report::PublishRefused { .. } => (
            "the broker's access control list does not let the device use this topic",
            "add the topic for this user to the broker's acl_file, and reload it",
            "broker/acl",
            MqttConnected,
        ),
        Report::MqttDisconnected { .. } => {
            ("the broker went away, or cut the connection", "read the broker's log", "broker/killed", MqttConnecting)
        }
        Report::StorageFailed { .. } => {
            ("the device's storage is full or worn", "erase it, or make it larger", "power/cut-before-write", MqttConnected)
        }
        _ => return None,
    })
}

/// Whether a kind of failure is about a server's certificate.
pub(super) fn is_certificate(why: &str) -> bool {
    ["certificate-", "unknown-issuer", "wrong-name", "bad-certificate"].iter().any(|kind| why.starts_with(kind))
}

/// What is likely when a log ends in a state without a line of trouble.
pub(super) fn stands_still(state: State) -> Option<Trouble> {
    let (likely, help, scenario) = match state {
        State::MqttConnected => return None,
        State::Init | State::CheckProvisioning => {
            ("it stopped while it read its storage", "look at what it said last; erase its flash if it is new", "power/restart")
        }
        State::ApMode => ("it waits to be provisioned", "join its access point and send POST /provision", "happy/mutual-tls"),
        State::WifiConnecting => ("it was joining the Wi-Fi network", "record a longer log", "provisioning/network-trouble"),
        State::WifiConnected => ("it was asking for the time", "check SNTP_HOST, and let UDP port 123 through", "time/sntp"),
        State::CheckCertificates | State::SubmitCsr => {
            ("the CA had not answered", "record a longer log; check BACKEND_URL and the CA's own log", "enrollment/answer-lost")
        }
        State::MqttConnecting => (
            "the broker had not answered",
            "record a longer log; check MQTT_HOST, MQTT_PORT and the broker's log",
            "broker/away-at-first",
        ),
    };
    Some(Trouble { line: format!("the log ends in {state}"), likely, help, scenario: Some(scenario), report: None })
}
