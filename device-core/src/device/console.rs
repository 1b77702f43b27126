//! The console's commands, carried out.

use super::Device;
use super::store::{Asker, Change};
use crate::command::{Command, HELP};
use crate::config::{self, Config, SETTINGS};
use crate::output::Output;
use crate::provisioning;
use crate::report::Report;
use crate::secret::Secret;
use crate::state::State;
use crate::surroundings::TEXT_MAX;
use crate::time::{Instant, UnixTime};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

impl Device {
    pub(super) fn console_line(&mut self, now: Instant, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        match Command::parse(line) {
            Ok(command) => {
                if let Err(why) = self.obey(now, command) {
                    self.say(Report::CommandRefused { why });
                }
            }
            Err(error) => self.say(Report::CommandRefused { why: error.to_string() }),
        }
    }

    fn obey(&mut self, now: Instant, command: Command) -> Result<(), String> {
        let verb = command.verb();
        let simulated = || self.simulated.then_some(()).ok_or_else(|| format!("{verb}: only on simulated targets"));
        let free = || self.takes_changes().then_some(()).ok_or_else(|| format!("{verb}: storage is busy"));
        match command {
            Command::Set { name, value } => return self.stage(&name, value),
            Command::Save => {
                free()?;
                return self.save();
            }
            Command::Show => return self.show(),
            Command::Provision(json) => {
                free()?;
                match provisioning::parse_console(json.expose()).and_then(|c| self.may_provision().map(|()| c)) {
                    Ok(credentials) => self.provision(credentials, Asker::Console),
                    Err(refusal) => self.refuse_provision(&refusal, Asker::Console),
                }
                return Ok(());
            }
            Command::Time(unix) => {
                self.set_time(now, UnixTime(unix), "console");
                return Ok(());
            }
            Command::ClockJump { ms } => {
                simulated()?;
                self.outputs.push_back(Output::JumpClock(Duration::from_millis(ms)));
                self.say(Report::ClockJumped { ms });
                return Ok(());
            }
            Command::ClockSkip(on) => {
                simulated()?;
                self.outputs.push_back(Output::SkipWaits(on));
            }
            Command::Air(change) => {
                simulated()?;
                self.outputs.push_back(Output::Air(change));
            }
            Command::Cut { write, nth } => {
                simulated()?;
                self.outputs.push_back(Output::Cut { write, nth });
            }
            Command::Surroundings(kept) => {
                if self.surroundings_owed {
                    return Err(format!("{verb}: storage is busy"));
                }
                if kept.as_ref().is_some_and(|kept| kept.text().len() > TEXT_MAX) {
                    return Err(format!("{verb}: longer than {TEXT_MAX} bytes when written out"));
                }
                self.surroundings_owed = true;
                self.outputs.push_back(Output::KeepSurroundings(kept));
                return Ok(());
            }
            Command::Status => {
                self.say_status();
                return Ok(());
            }
            Command::Telemetry => {
                if self.stored.credentials.is_none() {
                    return Err("telemetry: not provisioned".into());
                }
                self.make_reading(now);
            }
            Command::Reboot => {
                self.say(Report::CommandDone { command: verb.into() });
                self.halt();
                return Ok(());
            }
            Command::FactoryReset => {
                free()?;
                self.change(Change::Reset);
                return Ok(());
            }
            Command::Help => {
                HELP.iter().for_each(|line| self.say(Report::Help { text: (*line).into() }));
            }
        }
        self.say(Report::CommandDone { command: verb.into() });
        Ok(())
    }

    /// The answer to `surroundings`.
    pub(super) fn surroundings_kept(&mut self, outcome: Result<(), &str>) {
        if core::mem::take(&mut self.surroundings_owed) {
            self.say(match outcome {
                Ok(()) => Report::CommandDone { command: "surroundings".into() },
                Err(why) => Report::CommandRefused { why: format!("surroundings: {why}") },
            });
        }
    }

    fn stage(&mut self, name: &str, value: Secret) -> Result<(), String> {
        Config::default().set(name, value.expose()).map_err(|e| e.to_string())?;
        let name = config::setting(name).map_or(name, |s| s.name);
        self.staged.insert(name.into(), value);
        self.say(Report::CommandDone { command: format!("set {name}") });
        Ok(())
    }

    fn save(&mut self) -> Result<(), String> {
        if self.staged.is_empty() {
            self.say(Report::SettingsSaved { count: 0 });
            return Ok(());
        }
        let mut candidate = Config::default();
        for (name, value) in self.stored.settings.iter().chain(&self.staged).chain(&self.environment) {
            // What cannot be used was said when it was met.
            let _ = candidate.set(name, value.expose());
        }
        candidate.check().map_err(|e| e.to_string())?;
        let staged = core::mem::take(&mut self.staged);
        self.change(Change::Settings(staged));
        Ok(())
    }

    /// The settings are stored: they count from now on.
    pub(super) fn settings_saved(&mut self, now: Instant, staged: &BTreeMap<String, Secret>) {
        self.say(Report::SettingsSaved { count: u32::try_from(staged.len()).unwrap_or(u32::MAX) });
        let before = self.config.clone();
        self.configure();
        if before.telemetry_period_ms != self.config.telemetry_period_ms && self.state != State::ApMode {
            self.plan_reading(now);
        }
        if before.sntp_host != self.config.sntp_host && self.ip.is_some() {
            self.ask_time(now);
        }
        if before.ap_password != self.config.ap_password && self.state == State::ApMode {
            self.start_ap();
        }
        let apart =
            |c: &Config| Config { telemetry_period_ms: None, queue_limit: None, sntp_host: None, ap_password: None, ..c.clone() };
        if apart(&before) == apart(&self.config) {
            return;
        }
        match self.state {
            State::MqttConnecting | State::MqttConnected => {
                self.leave_broker();
                self.session = None;
                self.mqtt_retry = None;
                self.mqtt_backoff.reset();
                self.check_certificates(now);
            }
            State::SubmitCsr => {
                self.check_certificates(now);
                self.hurry_issuance(now);
            }
            _ => {}
        }
    }

    fn show(&mut self) -> Result<(), String> {
        let lines: Vec<_> = SETTINGS
            .iter()
            .filter_map(|setting| {
                let named = |map: &BTreeMap<String, Secret>| {
                    let found = map.iter().find(|(name, _)| config::setting(name).is_some_and(|s| s.name == setting.name));
                    found.map(|(_, value)| config::shown_value(setting, value))
                };
                named(&self.environment).or_else(|| named(&self.stored.settings)).map(|value| (setting.name, value))
            })
            .collect();
        for (name, value) in lines {
            self.say(Report::Setting { name: name.into(), value });
        }
        self.say(Report::CommandDone { command: "show".into() });
        Ok(())
    }

    fn say_status(&mut self) {
        let ledger = self.ledger;
        self.say(Report::Status {
            state: self.state,
            connected: self.state == State::MqttConnected,
            produced: ledger.produced,
            delivered: ledger.delivered,
            queued: self.queue.len() as u64,
            dropped: ledger.dropped(),
            connects: ledger.connects,
        });
    }
}
