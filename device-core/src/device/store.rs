//! Changes of the stored set, one at a time: what each one writes, and what happens once it is written or is not.

use super::Device;
use crate::config::AP_PASSWORD;
use crate::enrollment::Validity;
use crate::output::{Output, RequestId};
use crate::provisioning::{self, Refusal};
use crate::report::Report;
use crate::secret::Secret;
use crate::state::State;
use crate::storage::{Credentials, Identity, Issued, StorageFailure, Stored, Write};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;

/// The most changes that wait for storage; a command that would add another is refused.
pub(super) const CHANGES_MAX: usize = 4;

/// A change of the stored set.
#[derive(Debug)]
pub(super) enum Change {
    Settings(BTreeMap<alloc::string::String, Secret>),
    Credentials(Box<Credentials>, Asker),
    /// The network was joined with the credentials.
    Confirm,
    /// The CA refused the credentials.
    Forget,
    Key(Secret),
    Certificate(Box<Issued>, Validity),
    NextKey(Secret),
    Renewal(Box<Issued>, Validity),
    Reset,
}

/// Who brought credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Http(RequestId),
    Console,
}

/// A write that storage has not answered.
#[derive(Debug)]
pub(super) struct Pending {
    change: Change,
    set: Box<Stored>,
}

impl Change {
    fn write(&self) -> Write {
        match self {
            Change::Settings(_) => Write::Settings,
            Change::Credentials(..) | Change::Confirm | Change::Forget => Write::Credentials,
            Change::Key(_) => Write::Key,
            Change::Certificate(..) => Write::Certificate,
            Change::NextKey(_) => Write::NextKey,
            Change::Renewal(..) => Write::Renewal,
            Change::Reset => Write::Reset,
        }
    }

    /// The set with this change. The invariant of the whole file: a certificate only ever enters it beside its own key.
    fn apply(&self, set: &Stored) -> Stored {
        let mut set = set.clone();
        match self {
            Change::Settings(staged) => {
                set.settings.extend(staged.clone());
                set.settings.retain(|_, value| !value.is_empty());
            }
            Change::Credentials(credentials, _) => {
                // A key that was certified, or submitted, for another device stays with that one. What was issued goes in any case, since
                // the new token is there to get another.
                let former = set.credentials.as_ref().map(|c| c.device_id == credentials.device_id);
                set.identity =
                    set.identity.filter(|i| former.unwrap_or(i.issued.is_none())).map(|i| Identity { issued: None, ..i });
                set.next_key = None;
                set.credentials = Some((**credentials).clone());
            }
            Change::Confirm => {}
            Change::Forget => set.credentials = None,
            Change::Key(key) => set.identity = Some(Identity { key: key.clone(), issued: None }),
            Change::Certificate(issued, _) => {
                if let Some(identity) = &mut set.identity {
                    identity.issued = Some((**issued).clone());
                }
                if let Some(credentials) = &mut set.credentials {
                    credentials.provisioning_token = None;
                }
            }
            Change::NextKey(key) => set.next_key = Some(key.clone()),
            Change::Renewal(issued, _) => {
                if let Some(key) = set.next_key.take() {
                    set.identity = Some(Identity { key, issued: Some((**issued).clone()) });
                }
            }
            Change::Reset => set = Stored::default(),
        }
        set
    }
}

impl Device {
    /// Queues a change; it is written when its turn comes.
    pub(super) fn change(&mut self, change: Change) {
        self.changes.push_back(change);
        self.begin_change();
    }

    /// Whether a command may queue a change.
    pub(super) fn takes_changes(&self) -> bool {
        self.changes.len() < CHANGES_MAX
    }

    /// Whether credentials are being stored.
    pub(super) fn storing_credentials(&self) -> bool {
        let waiting = self.changes.iter().chain(self.pending.as_ref().map(|p| &p.change));
        waiting.into_iter().any(|c| matches!(c, Change::Credentials(..) | Change::Forget | Change::Reset))
    }

    /// Hands the next change to storage, unless it still owes an answer.
    pub(super) fn begin_change(&mut self) {
        if self.pending.is_some() {
            return;
        }
        let Some(change) = self.changes.pop_front() else { return };
        let mut set = Box::new(change.apply(&self.stored));
        if let Some(credentials) = set.credentials.as_mut().filter(|_| self.ip.is_some()) {
            credentials.confirmed = true;
        }
        self.outputs.push_back(Output::Store { write: change.write(), set: set.clone() });
        self.pending = Some(Pending { change, set });
    }

    pub(super) fn stored(&mut self, now: Instant, outcome: Result<(), StorageFailure>) {
        let Some(Pending { change, set }) = self.pending.take() else { return };
        match outcome {
            Ok(()) => {
                self.stored = *set;
                self.changed(now, change);
            }
            Err(failure) => {
                self.say(Report::StorageFailed { why: format!("{}: {}", change.write().name(), failure.word()) });
                self.not_changed(now, change, failure);
            }
        }
    }

    fn changed(&mut self, now: Instant, change: Change) {
        match change {
            Change::Settings(staged) => self.settings_saved(now, &staged),
            Change::Credentials(_, asker) => {
                let device_id = self.device_id().into();
                self.say(Report::CredentialsSaved { device_id });
                if let Asker::Http(id) = asker {
                    self.outputs.push_back(Output::Respond(id, provisioning::saved()));
                }
                self.provisioned(now);
            }
            Change::Confirm | Change::Forget => {}
            Change::Key(_) => {
                self.say(Report::KeyMade {});
                self.post_csr(now);
            }
            Change::NextKey(_) => self.post_csr(now),
            Change::Certificate(_, validity) => {
                let subject = self.device_id().into();
                self.say(Report::CertificateStored { subject, not_after: validity.not_after });
                self.issued(now);
            }
            Change::Renewal(_, validity) => {
                self.say(Report::RenewalStored { not_after: validity.not_after });
                self.issued(now);
            }
            Change::Reset => {
                self.say(Report::FactoryReset {});
                while let Some(number) = self.queue.last_number() {
                    self.queue.remove(number);
                    self.outputs.push_back(Output::QueuePop(number));
                }
                self.halt();
            }
        }
    }

    fn not_changed(&mut self, now: Instant, change: Change, failure: StorageFailure) {
        match change {
            Change::Credentials(_, Asker::Http(id)) => {
                let status = if failure == StorageFailure::Full { 503 } else { 500 };
                self.refuse(id, &Refusal::new(status, format!("storage: {}", failure.word())));
            }
            Change::Key(_) | Change::NextKey(_) => {
                self.forget_csr();
                self.issuance_failed(now, format!("storage: {}", failure.word()));
            }
            Change::Certificate(..) | Change::Renewal(..) => {
                self.issuance_failed(now, format!("storage: {}", failure.word()));
            }
            // The refused token stays stored, but is not used again before the next start, which will hear the same refusal.
            Change::Forget | Change::Confirm | Change::Reset | Change::Settings(_) | Change::Credentials(_, Asker::Console) => {}
        }
    }

    /// Restarts; whatever was going on ends.
    pub(super) fn halt(&mut self) {
        self.outputs.push_back(Output::Reboot);
        self.halted = true;
    }

    /// Leaves broker, network and CA, and opens the access point; `why` is what `/status` says.
    pub(super) fn fall_back(&mut self, why: &str) {
        self.last_error = Some(why.into());
        self.leave_broker();
        self.session = None;
        self.issuance = None;
        (self.mqtt_retry, self.mqtt_stable, self.renewal_at) = (None, None, None);
        (self.wifi_retry, self.wifi_stable, self.time_retry, self.telemetry_at) = (None, None, None, None);
        self.wifi_backoff.reset();
        self.mqtt_backoff.reset();
        if self.joining || self.ip.is_some() {
            self.outputs.push_back(Output::LeaveWifi);
        }
        (self.joining, self.ip) = (false, None);
        self.start_ap();
    }

    pub(super) fn start_ap(&mut self) {
        self.enter(State::ApMode);
        let ssid = format!("{}{}", super::AP_SSID, self.ap_suffix);
        let password = self.config.ap_password.clone().unwrap_or_else(|| Secret::new(AP_PASSWORD));
        self.say(Report::ApStarted { ssid: ssid.clone() });
        self.outputs.push_back(Output::StartAp { ssid, password });
    }
}
