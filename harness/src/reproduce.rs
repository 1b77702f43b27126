//! Writes a scenario in which the twin meets the trouble that a log shows.

use crate::diagnose::{Diagnosis, Trouble};
use crate::event::What;
use crate::trace::log::Log;
use device_core::report::Report;
use device_core::state::State;

/// The surroundings and the steps that bring a trouble about.
#[derive(Default)]
struct Shape {
    /// Keys of the file beside its steps, each with its line ends.
    world: String,
    /// Steps, without the dash.
    steps: Vec<String>,
}

impl Shape {
    fn new(world: &str, steps: &[&str]) -> Shape {
        Shape { world: world.into(), steps: steps.iter().map(ToString::to_string).collect() }
    }

    fn then(mut self, step: impl Into<String>) -> Shape {
        self.steps.push(step.into());
        self
    }
}

/// How the device was set up, as far as the log says it.
struct Setup {
    /// `mqtt: v3.1.1`, where it said so.
    old_mqtt: bool,
    /// `plain` or `server-tls`, where it said so.
    security: Option<&'static str>,
    /// The network it was to join.
    ssid: Option<String>,
}

const ON: &str = "power-on: {}";
const PROVISION: &str = "provision: {}";
/// A listener's TLS version that a device of the other does not share.
const TLS_MISMATCH: &str = "device: { security: server-tls, tls: \"1.2\" }\nbroker: { tls: \"1.3\" }\n";

/// The scenario's text, for the log in the file of this name.
///
/// # Errors
/// Why the twin cannot show it, as a sentence with what can be done instead.
pub fn scenario(told: &Diagnosis, log: &Log, file: &str) -> Result<String, String> {
    let Some(trouble) = &told.trouble else {
        return Err("the log shows no trouble that was not got over: there is nothing to reproduce".into());
    };
    let setup = setup(log);
    let shape = match &trouble.report {
        Some(report) => of_report(report, &setup),
        None => of_state(trouble, told.at_end),
    }?;
    let mut text = format!("name: {}\nversion: 1\ndescription: |\n", quoted(&format!("What {file} shows, on the twin")));
    for line in [&format!("The log says: {}", trouble.line), &format!("Likely: {}.", trouble.likely)] {
        text += &format!("  {}\n", line.chars().filter(|c| !c.is_control()).take(400).collect::<String>());
    }
    text += &shape.world;
    text += "within: 20d\nsteps:\n";
    shape.steps.iter().for_each(|step| text += &format!("  - {step}\n"));
    Ok(text)
}

fn of_report(report: &Report, setup: &Setup) -> Result<Shape, String> {
    let seen = |with: &str| {
        let with = if with.is_empty() { String::new() } else { format!(", with: {{ {with} }}") };
        format!("wait-for: {{ device: {{ report: {}{with} }}, within: 30s }}", report.word().name)
    };
    let ssid = setup.ssid.as_deref().unwrap_or("lab");
    Ok(match report {
        Report::WifiFailed { reason } => wifi(reason, ssid, seen(&format!("reason: {reason}")))?,
        Report::ProvisionRefused { status, why } => refused_request(*status, why)?.then(seen(&format!("status: {status}"))),
        Report::EnrollmentRefused { status } => {
            let token = if *status == 401 { "unknown" } else { "expired" };
            Shape::new("", &[ON, &format!("provision: {{ token: {token} }}")]).then(seen(&format!("status: {status}")))
        }
        Report::CertificateRefused { why } => {
            let lie = lie_for(why).ok_or_else(|| cannot(&format!("no misbehaviour of the fake CA leads to `{why}`")))?;
            Shape::new(&format!("ca:\n  misbehave: [{lie}]\n"), &[ON, PROVISION]).then(seen(&format!("why: {why}")))
        }
        Report::EnrollmentFailed { why } => enrollment(why).then(seen("")),
        Report::TimeUnknown { .. } => Shape::new("device:\n  settings: { SNTP_HOST: \"\" }\n", &[ON, PROVISION]).then(seen("")),
        Report::RenewalFailed { .. } => Shape::new(
            "ca: { lifetime: 90d }\n",
            &[
                ON,
                PROVISION,
                "wait-for: { state: MQTT_CONNECTED, within: 30s }",
                "ca: { misbehave: [{ refuse: { status: 503, times: 1 } }] }",
                "clock: { jump: 61d }",
            ],
        )
        .then(seen("")),
        Report::CertificateExpired { .. } => Shape::new(
            "ca: { lifetime: 90d }\n",
            &[ON, PROVISION, "wait-for: { state: MQTT_CONNECTED, within: 30s }", "ca: away", "clock: { jump: 91d }"],
        )
        .then(seen("")),
        Report::MqttConnectFailed { why, detail } => connection(why, detail, setup).then(seen("")),
        Report::MqttRefused { code } => {
            let mqtt = if setup.old_mqtt || *code < 128 { "  mqtt: v3.1.1\n" } else { "" };
            let world = format!(
                "device:\n  security: server-tls\n{mqtt}  settings: {{ MQTT_USER: gardener, MQTT_PASSWORD: wrong-one }}\n\
                 broker:\n  users: {{ gardener: water-can }}\n"
            );
            Shape::new(&world, &[ON, PROVISION]).then(seen(""))
        }
        Report::PublishRefused { .. } => Shape::new(
            "broker:\n  acl: |\n    pattern write devices/%u/status\n",
            &[ON, PROVISION, "wait-for: { device: { report: mqtt-connected }, within: 30s }", "telemetry: {}"],
        )
        .then(seen("")),
        Report::MqttDisconnected { .. } => Shape::new(
            &of_connection(setup),
            &[ON, PROVISION, "wait-for: { device: { report: mqtt-connected }, within: 30s }", "broker: kill"],
        )
        .then(seen("")),
        Report::StorageFailed { .. } => return Err(cannot("the twin's storage does not wear out")),
        _ => return Err(cannot("no scenario is known for it")),
    })
}

fn wifi(reason: &str, ssid: &str, seen: String) -> Result<Shape, String> {
    let network = |more: &str| format!("air:\n  - {{ ssid: {}, password: correct-horse{more} }}\n", quoted(ssid));
    let join = |password: &str| format!("provision: {{ ssid: {}, password: {password} }}", quoted(ssid));
    Ok(match reason {
        "wrong-password" => Shape::new(&network(""), &[ON, &join("wrong-horse")]).then(seen),
        "not-found" => {
            let other = if ssid == "another-network" { "lab" } else { "another-network" };
            Shape::new(&format!("air:\n  - {{ ssid: {other}, password: correct-horse }}\n"), &[ON, &join("correct-horse")])
                .then(seen)
        }
        "no-address" => Shape::new(&network(", dhcp: false"), &[ON, &join("correct-horse")]).then(seen),
        "lost" => {
            let step = format!("command: 'air remove {}'", ssid.replace('\'', "''"));
            let connected = "wait-for: { device: { report: wifi-connected }, within: 30s }";
            if ssid.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)) {
                return Err(cannot("the name of the network cannot stand in a console command"));
            }
            Shape::new(&network(""), &[ON, &join("correct-horse"), connected, &step]).then(seen)
        }
        _ => return Err(cannot("the log does not say why the network could not be joined")),
    })
}

fn refused_request(status: u16, why: &str) -> Result<Shape, String> {
    let body = |ssid: &str, password: &str, id: &str, token: &str| {
        format!(
            "provision: {{ body: '{{\"ssid\":\"{ssid}\",\"password\":\"{password}\",\"device_id\":\"{id}\"{token}}}', expect: 400 }}"
        )
    };
    let (ssid, password, id, token) = ("lab", "correct-horse", "${device}", ",\"provisioning_token\":\"t0ken\"");
    let field = why.split(':').next().unwrap_or_default();
    let step = match (status, field) {
        (400, "ssid") => body("abcdefghijklmnopqrstuvwxyz0123456", password, id, token),
        (400, "password") => body(ssid, "7-bytes", id, token),
        (400, "device_id") => body(ssid, password, "../etc", token),
        (400, "provisioning_token") => body(ssid, password, id, ""),
        (400, _) => "provision: { body: '{', expect: 400 }".into(),
        (401, _) => "http: { method: POST, path: /provision, json: { ssid: lab }, expect: { status: 401 } }".into(),
        (405, _) => "http: { path: /provision, expect: { status: 405 } }".into(),
        (413, _) => "http: { method: POST, path: /provision, headers: { Authorization: Bearer of-a-user, Content-Type: application/json }, blanks: 4097, expect: { status: 413 } }".into(),
        (415, _) => "http: { method: POST, path: /provision, headers: { Authorization: Bearer of-a-user, Content-Type: text/plain }, body: '{}', expect: { status: 415 } }".into(),
        (409, _) => {
            let connected = "wait-for: { state: MQTT_CONNECTED, within: 30s }";
            return Ok(Shape::new("", &[ON, PROVISION, connected, "provision: { ssid: another, expect: 409 }"]));
        }
        _ => return Err(cannot(&format!("no request is known that is refused with {status}"))),
    };
    Ok(Shape::new("", &[ON, &step]))
}

/// The fake CA's misbehaviour that makes a device refuse a certificate for this reason.
fn lie_for(why: &str) -> Option<&'static str> {
    Some(match why {
        "expired" => "expired",
        "not-yet-valid" => "not-yet-valid",
        "another-key" => "wrong-key",
        "another-name" => "wrong-name",
        "unknown-issuer" => "unknown-issuer",
        "is-a-ca" => "ca-true",
        "bad-reply" => "html",
        "broken-chain" => "two-certificates",
        _ => return None,
    })
}

fn enrollment(why: &str) -> Shape {
    let (kind, rest) = why.split_once(": ").unwrap_or((why, ""));
    let lie = match kind {
        "certificate-not-yet-valid" if rest.contains("it is 1970") => {
            return Shape::new("device:\n  settings: { SNTP_HOST: \"\" }\n", &[ON, PROVISION]);
        }
        "wrong-name" => "listener: wrong-name".to_owned(),
        "certificate-expired" => "listener: expired".to_owned(),
        "certificate-not-yet-valid" => "listener: not-yet-valid".to_owned(),
        "unknown-issuer" | "bad-certificate" => "listener: unknown-issuer".to_owned(),
        "status 302" => "redirect".to_owned(),
        "too-large" => "huge".to_owned(),
        "reset" | "ended" => "reset: { at-bytes: 120 }".to_owned(),
        kind => match kind.strip_prefix("status ") {
            Some(status @ ("429" | "500" | "502" | "503" | "504")) => format!("refuse: {{ status: {status} }}"),
            _ => return Shape::new("", &["ca: away", ON, PROVISION]),
        },
    };
    Shape::new(&format!("ca:\n  misbehave:\n    - {lie}\n"), &[ON, PROVISION])
}

fn connection(why: &str, detail: &str, setup: &Setup) -> Shape {
    let to = |world: &str| Shape::new(world, &[ON, PROVISION]);
    match why {
        "wrong-name" => to("broker: { names: [other-host.invalid] }\n"),
        "certificate-expired" => to("broker: { certificate: expired }\n"),
        "unknown-issuer" | "bad-certificate" => to("broker: { certificate: unknown-ca }\n"),
        "certificate-not-yet-valid" => to("device:\n  security: server-tls\n  settings: { SNTP_HOST: \"\" }\n"),
        "tls" | "tls-alert" => to(TLS_MISMATCH),
        _ if detail.contains("protocol_version") => to(TLS_MISMATCH),
        // However the way to it is barred, the device cannot connect.
        _ => Shape::new(&of_connection(setup), &["broker: stop", ON, PROVISION]),
    }
}

/// `device:`, as the log says it was.
fn of_connection(setup: &Setup) -> String {
    let mut keys = Vec::new();
    keys.extend(setup.security.map(|level| format!("security: {level}")));
    keys.extend(setup.old_mqtt.then(|| "mqtt: v3.1.1".to_owned()));
    if keys.is_empty() { String::new() } else { format!("device: {{ {} }}\n", keys.join(", ")) }
}

/// A log that merely ends somewhere.
fn of_state(trouble: &Trouble, at_end: Option<State>) -> Result<Shape, String> {
    if trouble.scenario.is_none() {
        return Err(cannot("the firmware itself died, and the twin is another program"));
    }
    match at_end {
        Some(State::ApMode) => Ok(Shape::new("", &[ON, "wait-for: { state: AP_MODE, within: 30s }"])),
        Some(State::CheckCertificates | State::SubmitCsr) => Ok(Shape::new(
            "ca:\n  misbehave: [{ slow: { before: 2s } }]\n",
            &[
                ON,
                PROVISION,
                "wait-for: { device: { report: csr-submitted }, within: 30s }",
                "expect-none: { device: { report: certificate-stored }, for: 500ms }",
            ],
        )),
        _ => Err(cannot("the log ends in the middle: record a longer one")),
    }
}

fn cannot(why: &str) -> String {
    format!("the twin cannot show it: {why}")
}

/// A text as YAML's single-quoted scalar; `$` doubled, since `${…}` means something.
fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", text.replace('\'', "''").replace("${", "$${"))
}

fn setup(log: &Log) -> Setup {
    let mut setup = Setup { old_mqtt: false, security: None, ssid: None };
    for event in &log.events {
        let What::Line(line) = &event.what else { continue };
        match Report::from_line(line) {
            Some((_, Report::MqttConnecting { version, .. })) => setup.old_mqtt = version == "v3.1.1",
            Some((_, Report::SecurityLevel { level })) => {
                setup.security = ["plain", "server-tls"].into_iter().find(|known| *known == level);
            }
            Some((_, Report::WifiConnecting { ssid })) if (1..=32).contains(&ssid.len()) => setup.ssid = Some(ssid),
            _ => {}
        }
    }
    setup
}
