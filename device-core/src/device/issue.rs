//! Getting a certificate from the CA: enrolment with the provisioning token, renewal with the old certificate.

use super::Device;
use super::store::Change;
use crate::backoff::Backoff;
use crate::enrollment::{self, Reply};
use crate::input::{NetFailure, NetFailureKind};
use crate::output::{ClientIdentity, Output, Post, Trust};
use crate::renewal;
use crate::report::Report;
use crate::secret::Secret;
use crate::state::State;
use crate::storage::Issued;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// What is asked of the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Enrol,
    Renew,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The shell makes the CSR.
    Csr,
    /// A new key is being stored.
    Key,
    /// The CA is asked.
    Reply,
    /// The certificate is being stored.
    Certificate,
    /// Failed; begun again at this moment.
    Wait(Instant),
}

/// A certificate on its way.
#[derive(Debug)]
pub(super) struct Issuance {
    purpose: Purpose,
    stage: Stage,
    /// The same CSR is sent again and again, so that a CA whose answer was lost gives the same certificate.
    csr: Option<String>,
    backoff: Backoff,
}

impl Device {
    /// Decides whether a certificate is needed, or another one.
    pub(super) fn check_certificates(&mut self, now: Instant) {
        self.enter(State::CheckCertificates);
        self.plan_renewal(now);
        if !self.config.enrols() {
            self.issuance = None;
            return self.begin_mqtt(now);
        }
        let issued = self.stored.identity.as_ref().is_some_and(|i| i.issued.is_some());
        match self.own_validity() {
            Some(validity) if self.unix_time(now).is_some_and(|date| renewal::expired(validity, date)) => {
                self.say(Report::CertificateExpired { not_after: validity.not_after });
                self.last_error = Some("certificate-expired".into());
                self.enter(State::SubmitCsr);
                self.begin_issuance(Purpose::Renew);
            }
            // What cannot be read cannot be judged either: the broker will say what it thinks of it.
            Some(_) => self.begin_mqtt(now),
            None if issued => self.begin_mqtt(now),
            None => {
                self.enter(State::SubmitCsr);
                self.begin_issuance(Purpose::Enrol);
            }
        }
    }

    /// Plans the renewal of the stored certificate, as far as the date is known.
    pub(super) fn plan_renewal(&mut self, now: Instant) {
        self.renewal_at = self.own_validity().filter(|_| self.config.enrols()).zip(self.unix_time(now)).map(|(validity, date)| {
            let wait = renewal::due(validity).0.saturating_sub(date.0);
            now + Duration::from_secs(u64::try_from(wait).unwrap_or(0))
        });
    }

    pub(super) fn issuance_retry(&self) -> Option<Instant> {
        match self.issuance.as_ref()?.stage {
            Stage::Wait(at) if self.ip.is_some() => Some(at),
            _ => None,
        }
    }

    /// When the next renewal begins, where the device is in a state to begin one.
    pub(super) fn renewal_due(&self) -> Option<Instant> {
        let free = self.issuance.is_none() && self.ip.is_some();
        self.renewal_at.filter(|_| free && matches!(self.state, State::MqttConnecting | State::MqttConnected))
    }

    /// The key of the CSR could not be stored: both are gone.
    pub(super) fn forget_csr(&mut self) {
        if let Some(issuance) = &mut self.issuance {
            issuance.csr = None;
        }
    }

    /// Ends a back-off wait.
    pub(super) fn hurry_issuance(&mut self, now: Instant) {
        if let Some(Issuance { stage: Stage::Wait(at), .. }) = &mut self.issuance {
            *at = now;
        }
    }

    pub(super) fn tick_issuance(&mut self, now: Instant) {
        let due = self.renewal_at.is_some_and(|at| at <= now) && self.issuance.is_none() && self.ip.is_some();
        if due
            && matches!(self.state, State::MqttConnecting | State::MqttConnected)
            && let Some(validity) = self.own_validity()
        {
            self.say(Report::RenewalDue { not_after: validity.not_after });
            self.begin_issuance(Purpose::Renew);
        }
        if self.issuance_retry().is_some_and(|at| at <= now) {
            self.resume_issuance(now);
        }
    }

    fn begin_issuance(&mut self, purpose: Purpose) {
        match &mut self.issuance {
            Some(issuance) if issuance.purpose == purpose => {}
            other => {
                *other = Some(Issuance { purpose, stage: Stage::Wait(Instant::default()), csr: None, backoff: Backoff::default() })
            }
        }
    }

    /// Makes the CSR, or sends the one there is.
    fn resume_issuance(&mut self, now: Instant) {
        let Some(issuance) = &mut self.issuance else { return };
        if self.csr_owed || self.reply_owed {
            // An answer to something abandoned is still to come; the shell's limits bound the wait.
            issuance.stage = Stage::Wait(now + Duration::from_secs(1));
            return;
        }
        if issuance.csr.is_some() {
            return self.post_csr(now);
        }
        issuance.stage = Stage::Csr;
        let key = match issuance.purpose {
            Purpose::Enrol => self.stored.identity.as_ref().map(|i| i.key.clone()),
            Purpose::Renew => self.stored.next_key.clone(),
        };
        self.csr_owed = true;
        self.outputs.push_back(Output::MakeCsr { device_id: self.device_id().into(), key });
    }

    pub(super) fn csr_made(&mut self, now: Instant, key: Secret, csr: String) {
        let wanted = core::mem::take(&mut self.csr_owed);
        let Some(issuance) = self.issuance.as_mut().filter(|i| wanted && i.stage == Stage::Csr) else { return };
        let known = match issuance.purpose {
            Purpose::Enrol => self.stored.identity.as_ref().map(|i| &i.key),
            Purpose::Renew => self.stored.next_key.as_ref(),
        };
        let change = match (known, issuance.purpose) {
            (Some(known), _) if *known != key => return self.issuance_failed(now, "the CSR was made with another key".into()),
            (Some(_), _) => None,
            (None, Purpose::Enrol) => Some(Change::Key(key)),
            (None, Purpose::Renew) => Some(Change::NextKey(key)),
        };
        issuance.csr = Some(csr);
        match change {
            // A key is stored before anybody hears of it.
            Some(change) => {
                issuance.stage = Stage::Key;
                self.change(change);
            }
            None => self.post_csr(now),
        }
    }

    pub(super) fn post_csr(&mut self, now: Instant) {
        let Some(Issuance { purpose, csr: Some(csr), .. }) = &self.issuance else { return };
        let Some(backend) = &self.config.backend_url else { return };
        let body = enrollment::request(self.device_id(), csr);
        let trust = self.config.backend_ca.clone().map_or(Trust::System, Trust::Anchors);
        let (path, bearer, identity) = match purpose {
            Purpose::Enrol => match self.stored.credentials.as_ref().and_then(|c| c.provisioning_token.clone()) {
                Some(token) => ("sign-csr", Some(token), None),
                None => return self.fall_back("no-provisioning-token"),
            },
            Purpose::Renew => ("renew", None, self.enrolled_identity()),
        };
        if self.ip.is_none() {
            return self.issuance_failed(now, "not on the network".into());
        }
        let url = format!("{backend}/{path}");
        let post = Post { url: url.clone(), bearer, body, trust, identity, tls_versions: self.config.tls_versions };
        self.say(Report::CsrSubmitted { url });
        self.outputs.push_back(Output::PostCsr(Box::new(post)));
        self.reply_owed = true;
        if let Some(issuance) = &mut self.issuance {
            issuance.stage = Stage::Reply;
        }
    }

    /// The stored certificate and its key.
    pub(super) fn enrolled_identity(&self) -> Option<ClientIdentity> {
        let identity = self.stored.identity.as_ref()?;
        let issued = identity.issued.as_ref()?;
        Some(ClientIdentity { certificate: issued.certificate.clone(), key: identity.key.clone() })
    }

    pub(super) fn ca_replied(&mut self, now: Instant, status: u16, body: &[u8]) {
        let wanted = core::mem::take(&mut self.reply_owed);
        let Some(purpose) = self.issuance.as_ref().filter(|i| wanted && i.stage == Stage::Reply).map(|i| i.purpose) else { return };
        match (status, purpose) {
            (200, _) => self.judge_reply(now, purpose, body),
            (401 | 403, Purpose::Enrol) => self.refused_by_ca(status),
            (401 | 403, Purpose::Renew) if self.state == State::SubmitCsr => self.refused_by_ca(status),
            _ => self.issuance_failed(now, format!("status {status}")),
        }
    }

    /// Stores what came, if it is fit to be.
    fn judge_reply(&mut self, now: Instant, purpose: Purpose, body: &[u8]) {
        let csr = self.issuance.as_ref().and_then(|i| i.csr.as_deref()).unwrap_or_default();
        let checked = Reply::parse(body).and_then(|reply| {
            let validity = enrollment::check(&reply, self.device_id(), csr, self.judged_by(now), self.signatures)?;
            Ok((Box::new(Issued { certificate: reply.certificate, ca_certificate: reply.ca_certificate }), validity))
        });
        match checked {
            Ok((issued, validity)) => {
                if let Some(issuance) = &mut self.issuance {
                    issuance.stage = Stage::Certificate;
                }
                self.change(match purpose {
                    Purpose::Enrol => Change::Certificate(issued, validity),
                    Purpose::Renew => Change::Renewal(issued, validity),
                });
            }
            Err(unfit) => {
                self.say(Report::CertificateRefused { why: unfit.word().into() });
                self.issuance_failed(now, format!("certificate refused: {unfit}"));
            }
        }
    }

    pub(super) fn ca_failed(&mut self, now: Instant, failure: &NetFailure) {
        let wanted = core::mem::take(&mut self.reply_owed);
        let Some(issuance) = self.issuance.as_ref().filter(|i| wanted && i.stage == Stage::Reply) else { return };
        if issuance.purpose == Purpose::Renew && self.state == State::SubmitCsr && failure.kind == NetFailureKind::Alert {
            // The CA refuses the expired certificate already in TLS: there is nothing left to prove who asks.
            self.say(Report::RenewalFailed { why: format!("{}: {}", failure.kind.word(), failure.text) });
            self.change(Change::Forget);
            return self.fall_back("certificate-expired");
        }
        self.issuance_failed(now, format!("{}: {}", failure.kind.word(), failure.text));
    }

    fn refused_by_ca(&mut self, status: u16) {
        self.say(Report::EnrollmentRefused { status });
        self.change(Change::Forget);
        self.fall_back(&format!("ca-refused-{status}"));
    }

    /// Tries again later; in a renewal the old identity stays in use.
    pub(super) fn issuance_failed(&mut self, now: Instant, why: String) {
        let Some(issuance) = &mut self.issuance else { return };
        let purpose = issuance.purpose;
        let mut backoff = core::mem::take(&mut issuance.backoff);
        self.last_error = Some(why.clone());
        let (report, what) = match purpose {
            Purpose::Enrol => (Report::EnrollmentFailed { why }, "enrollment"),
            Purpose::Renew => (Report::RenewalFailed { why }, "renewal"),
        };
        self.say(report);
        let wait = backoff.next(&mut self.rng);
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.say(Report::Backoff { what: what.into(), ms, attempt: backoff.attempts() });
        if let Some(issuance) = &mut self.issuance {
            issuance.backoff = backoff;
            issuance.stage = Stage::Wait(now + wait);
        }
    }

    /// The certificate is stored: on to the broker, or once more to it.
    pub(super) fn issued(&mut self, now: Instant) {
        self.issuance = None;
        self.last_error = None;
        self.plan_renewal(now);
        match self.state {
            State::SubmitCsr => self.begin_mqtt(now),
            State::MqttConnecting | State::MqttConnected => {
                self.step_out();
                self.mqtt_retry = None;
                self.begin_mqtt(now);
            }
            _ => {}
        }
    }
}
