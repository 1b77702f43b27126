//! What a device's log tells: how far it came, where it stopped, what is likely wrong, and which scenario shows that.

use crate::event::{Event, Source, What, printable};
use crate::invariant::{self, Breach};
use crate::scenario::Scenario;
use crate::script::{Action, Script};
use crate::trace::log::Log;
use crate::verdict::Judgement;
use device_core::report::Report;
use device_core::state::State;
use std::fmt;

/// What a log tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The state furthest on the way to a session that the device was in since its last boot; none when no line was understood.
    pub reached: Option<State>,
    /// The state it was in at the end.
    pub at_end: Option<State>,
    /// The device's id, where a line says it.
    pub device_id: Option<String>,
    /// How often it booted.
    pub boots: u32,
    /// Lines that were understood, of all.
    pub understood: (usize, usize),
    /// What it did wrong by the rules that hold always: a crash, a secret said.
    pub breaches: Vec<String>,
    /// The trouble it had not got over at the end.
    pub trouble: Option<Trouble>,
}

/// What is likely wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// The line that says so, or how long the state had lasted.
    pub line: String,
    /// What is likely wrong.
    pub likely: &'static str,
    /// The next thing to do.
    pub help: &'static str,
    /// The scenario that shows it, below the folder `scenarios`.
    pub scenario: &'static str,
}

impl Diagnosis {
    /// Whether the device was connected at the end, and nothing was wrong with it.
    pub fn is_well(&self) -> bool {
        self.at_end == Some(State::MqttConnected) && self.trouble.is_none() && self.breaches.is_empty()
    }
}

/// What is likely wrong, what to do, the scenario that shows it, and the state that is to be left behind before it is over.
type Cause = (&'static str, &'static str, &'static str, State);

/// Looks at a log by the device's state machine.
pub fn diagnose(log: &Log) -> Diagnosis {
    let mut told = Diagnosis {
        reached: None,
        at_end: None,
        device_id: None,
        boots: log.boots,
        understood: (0, 0),
        breaches: Vec::new(),
        trouble: None,
    };
    let mut rules = invariant::all();
    let mut over_at: Option<State> = None;
    for event in &log.events {
        for breach in rules.iter_mut().filter_map(|rule| rule.observe(event)) {
            if let Breach::Fails(text) = breach
                && !told.breaches.contains(&text)
            {
                told.breaches.push(text);
            }
        }
        if matches!(event.what, What::Power(_)) {
            (told.reached, told.at_end) = (None, None);
        }
        let What::Line(line) = &event.what else { continue };
        told.understood.1 += 1;
        let Some((said, report)) = Report::from_line(line) else { continue };
        told.understood.0 += 1;
        if let Report::CredentialsSaved { device_id: id } | Report::MqttConnecting { client_id: id, .. } = &report {
            told.device_id = Some(id.clone());
        }
        if let Some(state) = state_of(&report) {
            told.at_end = Some(state);
            told.reached = told.reached.max(Some(state));
            if over_at.is_some_and(|over| state > over) {
                (told.trouble, over_at) = (None, None);
            }
        }
        if let Some((likely, help, scenario, over)) = cause(&report) {
            // A follow-up of the same trouble says less than its first line.
            if !matches!(report, Report::EnrollmentFailed { ref why } if why.starts_with("certificate refused")) {
                told.trouble = Some(Trouble { line: printable(said.text).into_owned(), likely, help, scenario });
                over_at = Some(over);
            }
        }
    }
    if told.trouble.is_none() {
        told.trouble = told.at_end.and_then(stands_still);
    }
    told
}

/// The state that a line proves.
fn state_of(report: &Report) -> Option<State> {
    Some(match report {
        Report::State { to, .. } => *to,
        Report::Status { state, .. } => *state,
        Report::Booting { .. } => State::Init,
        Report::ApStarted { .. } => State::ApMode,
        Report::WifiConnecting { .. } => State::WifiConnecting,
        Report::WifiConnected { .. } => State::WifiConnected,
        Report::CsrSubmitted { .. } => State::SubmitCsr,
        Report::MqttConnecting { .. } => State::MqttConnecting,
        Report::MqttConnected { .. } => State::MqttConnected,
        _ => return None,
    })
}

/// What a line of trouble likely means.
fn cause(report: &Report) -> Option<Cause> {
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
            "tls" if detail.contains("version") => (
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
fn is_certificate(why: &str) -> bool {
    ["certificate-", "unknown-issuer", "wrong-name", "bad-certificate"].iter().any(|kind| why.starts_with(kind))
}

/// What is likely when a log ends in a state without a line of trouble.
fn stands_still(state: State) -> Option<Trouble> {
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
    Some(Trouble { line: format!("the log ends in {state}"), likely, help, scenario })
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (understood, lines) = self.understood;
        let Some(reached) = self.reached else {
            writeln!(f, "nothing understood: none of {lines} lines since the last boot is one of the device's vocabulary")?;
            return self.breaches.iter().try_for_each(|breach| writeln!(f, "  wrong: {breach}"));
        };
        let place = State::ALL.iter().position(|state| *state == reached).unwrap_or_default() + 1;
        writeln!(f, "reached {reached} (stage {place} of {}); {understood} of {lines} lines understood", State::ALL.len())?;
        if let Some(end) = self.at_end.filter(|end| *end != reached) {
            writeln!(f, "  at the end: {end}")?;
        }
        if self.boots > 1 {
            writeln!(f, "  booted {} times", self.boots)?;
        }
        for breach in &self.breaches {
            writeln!(f, "  wrong: {breach}")?;
        }
        match &self.trouble {
            None => writeln!(f, "  no trouble that was not got over"),
            Some(Trouble { line, likely, help, scenario }) => {
                writeln!(f, "  stopped at: {line}\n  likely: {likely}\n  next: {help}\n  shown by: scenarios/{scenario}.yaml")
            }
        }
    }
}

/// Judges a log by a scenario: what it does is taken as done, and what it expects of other sources than the console is left out, as the
/// second part says, by line of the file. A log that ends before the scenario does is inconclusive.
pub fn judge(log: &Log, mut scenario: Scenario) -> (Judgement, Vec<usize>) {
    let mut left_out = Vec::new();
    for step in &mut scenario.steps {
        let elsewhere = step.watch.as_ref().is_some_and(|make| (make.0)().reads() != [Source::Device]);
        if elsewhere {
            left_out.push(step.line);
            step.watch = None;
        }
        step.snapshot = None;
    }
    scenario.steps.retain(|step| step.act.is_some() || step.watch.is_some());
    let mut script = Script::new(&scenario, 1.0);
    let mut events = log.events.iter();
    let mut at_us = 0;
    while !script.finished() {
        if let Some(Action::Begin { step }) = script.poll() {
            script.handle(&Event { at_us, from: Source::Runner, what: What::StepBegan { step } });
            if scenario.steps.get(step).is_some_and(|step| step.act.is_some()) {
                script.handle(&Event { at_us, from: Source::Runner, what: What::Acted { step } });
            }
            continue;
        }
        let Some(event) = events.next() else { break };
        at_us = event.at_us;
        script.handle(event);
    }
    (script.judgement(), left_out)
}
