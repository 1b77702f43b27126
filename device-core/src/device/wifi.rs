//! Joining the network, and asking for the time on it.

use super::store::Change;
use super::{Device, TIME_TRIES, WIFI_TRIES};
use crate::backoff::STABLE_AFTER;
use crate::input::WifiFailure;
use crate::output::Output;
use crate::report::Report;
use crate::state::State;
use crate::time::{Instant, UnixTime};

impl Device {
    /// The credentials are stored: the access point closes, and the device goes to the network.
    pub(super) fn provisioned(&mut self, now: Instant) {
        self.last_error = None;
        self.say(Report::ApStopped {});
        self.outputs.push_back(Output::StopAp);
        self.wifi_backoff.reset();
        self.join(now);
    }

    pub(super) fn join(&mut self, now: Instant) {
        let Some(credentials) = &self.stored.credentials else { return };
        let (ssid, password) = (credentials.ssid.clone(), credentials.password.clone());
        self.enter(State::WifiConnecting);
        if self.telemetry_at.is_none() {
            self.plan_reading(now);
        }
        self.say(Report::WifiConnecting { ssid: ssid.clone() });
        self.outputs.push_back(Output::JoinWifi { ssid, password });
        self.joining = true;
    }

    pub(super) fn wifi_up(&mut self, now: Instant, ip: [u8; 4]) {
        if !self.joining {
            return;
        }
        self.joining = false;
        self.ip = Some(ip);
        self.wifi_stable = Some(now + STABLE_AFTER);
        self.say(Report::WifiConnected { ip });
        self.enter(State::WifiConnected);
        if self.stored.credentials.as_ref().is_some_and(|c| !c.confirmed) && !self.config.enrols() {
            self.change(Change::Confirm);
        }
        self.time_backoff.reset();
        self.ask_time(now);
    }

    pub(super) fn wifi_down(&mut self, now: Instant, why: WifiFailure) {
        if !self.joining && self.ip.is_none() {
            return;
        }
        let confirmed = self.ip.is_some() || self.stored.credentials.as_ref().is_some_and(|c| c.confirmed);
        self.say(Report::WifiFailed { reason: why.word().into() });
        self.last_error = Some(why.word().into());
        (self.joining, self.ip) = (false, None);
        (self.wifi_stable, self.time_retry, self.mqtt_retry, self.mqtt_stable) = (None, None, None, None);
        self.drop_link();
        if !confirmed && self.wifi_backoff.attempts() + 1 >= WIFI_TRIES {
            return self.fall_back(why.word());
        }
        self.enter(State::WifiConnecting);
        self.wifi_retry = Some(self.back_off(now, "wifi", |d| &mut d.wifi_backoff));
    }

    /// Asks the time server, or goes on without where there is none.
    pub(super) fn ask_time(&mut self, now: Instant) {
        match self.config.sntp_host.clone() {
            None => self.go_on(now, "SNTP_HOST is not set"),
            Some(host) if self.ip.is_some() && !self.time_asked => {
                self.time_asked = true;
                self.outputs.push_back(Output::SyncTime { host });
            }
            Some(_) => {}
        }
    }

    pub(super) fn time_synced(&mut self, now: Instant, outcome: Result<UnixTime, ()>) {
        self.time_asked = false;
        match outcome {
            Ok(unix) => self.set_time(now, unix, "sntp"),
            Err(()) if self.ip.is_none() => {}
            Err(()) => {
                self.time_retry = Some(self.back_off(now, "time", |d| &mut d.time_backoff));
                if self.date.is_some() || self.time_backoff.attempts() >= TIME_TRIES {
                    self.go_on(now, "the time server does not answer");
                }
            }
        }
    }

    /// Waits for the date no longer.
    fn go_on(&mut self, now: Instant, without: &str) {
        if self.state != State::WifiConnected {
            return;
        }
        if self.date.is_none() {
            self.say(Report::TimeUnknown { why: without.into() });
        }
        self.check_certificates(now);
    }

    pub(super) fn set_time(&mut self, now: Instant, unix: UnixTime, by: &str) {
        let first = self.date.is_none();
        self.date = Some((now, unix));
        self.time_retry = None;
        self.time_backoff.reset();
        self.say(Report::TimeSet { unix, by: by.into() });
        self.plan_renewal(now);
        if self.state == State::WifiConnected {
            self.check_certificates(now);
        } else if first {
            // What failed for want of a date is tried again at once.
            self.mqtt_retry = self.mqtt_retry.map(|_| now);
            self.hurry_issuance(now);
        }
    }
}
