//! The HTTP API's answers.

use super::store::{Asker, Change};
use super::{Device, SCANS_MAX};
use crate::config::Security;
use crate::input::{Network, Request};
use crate::output::{Output, RequestId, Response};
use crate::provisioning::{self, Call, Refusal};
use crate::report::Report;
use crate::state::State;
use crate::storage::Credentials;
use alloc::boxed::Box;
use alloc::format;
use serde_json::json;

impl Device {
    pub(super) fn http(&mut self, id: RequestId, request: &Request<'_>) {
        match provisioning::parse(request) {
            Ok(Call::Scan) if self.scans.len() >= SCANS_MAX => self.refuse(id, &Refusal::new(503, "too many scans at once")),
            Ok(Call::Scan) => {
                if self.scans.is_empty() {
                    self.outputs.push_back(Output::Scan);
                }
                self.scans.push(id);
            }
            Ok(Call::Status) => self.respond(id, self.status()),
            Ok(Call::MqttStats) => self.respond(id, self.mqtt_stats()),
            Ok(Call::Provision(credentials)) => match self.may_provision() {
                Ok(()) => self.provision(credentials, Asker::Http(id)),
                Err(refusal) => self.refuse_provision(&refusal, Asker::Http(id)),
            },
            Err(refusal) if request.path == "/provision" => self.refuse_provision(&refusal, Asker::Http(id)),
            Err(refusal) => self.refuse(id, &refusal),
        }
    }

    pub(super) fn scanned(&mut self, networks: &[Network]) {
        for id in core::mem::take(&mut self.scans) {
            self.respond(id, provisioning::networks(networks));
        }
    }

    /// Whether credentials are taken now.
    pub(super) fn may_provision(&self) -> Result<(), Refusal> {
        let open = self.state == State::ApMode && !self.storing_credentials();
        if open { Ok(()) } else { Err(Refusal::new(409, "already provisioned")) }
    }

    pub(super) fn provision(&mut self, credentials: Credentials, asker: Asker) {
        self.change(Change::Credentials(Box::new(credentials), asker));
    }

    pub(super) fn refuse_provision(&mut self, refusal: &Refusal, asker: Asker) {
        self.say(Report::ProvisionRefused { status: refusal.status, why: refusal.why.clone() });
        if let Asker::Http(id) = asker {
            self.refuse(id, refusal);
        }
    }

    pub(super) fn refuse(&mut self, id: RequestId, refusal: &Refusal) {
        self.respond(id, refusal.response());
    }

    fn respond(&mut self, id: RequestId, response: Response) {
        self.outputs.push_back(Output::Respond(id, response));
    }

    /// `connected` means on the network, as in S4; `state` tells more.
    fn status(&self) -> Response {
        let status = match self.state {
            State::ApMode => "provisioning",
            _ if self.ip.is_some() => "connected",
            _ => "disconnected",
        };
        let ip = core::net::Ipv4Addr::from(self.ip.unwrap_or_default());
        let body = json!({ "status": status, "ip": format!("{ip}"), "state": self.state.name(), "last_error": self.last_error });
        provisioning::ok(&body)
    }

    fn mqtt_stats(&self) -> Response {
        let (security, ledger) = (self.config.security(), self.ledger);
        provisioning::ok(&json!({
            "tls_enabled": security != Security::Plain,
            "tls_mutual": security == Security::MutualTls,
            "qos_level": 1,
            "reliability_percentage": ledger.reliability_percentage(),
            "connected": self.state == State::MqttConnected,
            "produced": ledger.produced,
            "delivered": ledger.delivered,
            "queued": self.queue.len(),
            "dropped": ledger.dropped(),
            "connects": ledger.connects,
        }))
    }
}
