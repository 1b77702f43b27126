//! What steps do to the broker: switch it, change it, shut a device out of it, pose as a device to it.

use super::{ActError, Servers, TAP, Testbed, with_tap};
use crate::broker::{Broker, BrokerSpec, Login, Rival, Tap, Tls, scripted};
use crate::event::{Source, What};
use crate::scenario::header::ServerCertificate;
use crate::scenario::value::Text;
use crate::trace::tape::Tape;
use device_core::command::Command;
use device_core::config::Security;
use device_core::secret::Secret;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the tap may take to come back after the broker was started again.
const TAP_WITHIN: Duration = Duration::from_secs(5);

/// How a `broker` step switches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerAct {
    /// Starts it (again), on the same port and with what it had stored.
    Start,
    /// Ends it in good order.
    Stop,
    /// Ends it as a power cut would (SIGKILL).
    Kill,
}

/// What is changed of a broker; what is none stays.
#[derive(Clone, Debug, Default)]
pub struct BrokerChange {
    /// Its users; the tap remains one.
    pub users: Option<BTreeMap<String, Text>>,
    /// Its access control list.
    pub acl: Option<String>,
    /// A new server certificate.
    pub certificate: Option<ServerCertificate>,
    /// Whose certificates it takes.
    pub clients: Option<Clients>,
    /// Whether its plain port is open.
    pub plain_too: Option<bool>,
}

/// Whose certificates a broker takes from devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// The CA's.
    Ours,
    /// The CA's, and those of the CA that is to follow it.
    Both,
    /// Those of the CA that follows alone. The tap then has one of that.
    Next,
}

/// How a running broker learns of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It reads its files again (SIGHUP); connections stay.
    Reload,
    /// It is ended in good order and started again.
    Restart,
}

/// What a second client with the device's name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rivalry {
    /// It connects, and is gone when the device takes its session back.
    Once,
    /// It connects again whenever it is thrown out.
    Insists,
    /// It goes.
    Ends,
}

impl Testbed {
    /// Starts, stops or kills the broker.
    ///
    /// # Errors
    /// When it does not obey, or is shared.
    pub async fn broker(&mut self, act: BrokerAct) -> Result<(), ActError> {
        let broker = self.servers().await?.own_broker()?;
        let now = match act {
            BrokerAct::Start => broker.start().await.map(|()| "started"),
            BrokerAct::Stop => broker.stop().await.map(|()| "stopped"),
            BrokerAct::Kill => broker.kill().await.map(|()| "killed"),
        }?;
        self.tape.say(Source::Runner, What::BrokerPower { now: now.into() });
        Ok(())
    }

    /// The scripted broker lies like this from now on, in place of the lies before; none: it is honest.
    ///
    /// # Errors
    /// When the broker is a real one.
    pub async fn misbehave_broker(&mut self, lies: &[scripted::Lie]) -> Result<(), ActError> {
        let broker = self.servers().await?.broker.as_ref();
        let broker = broker.ok_or_else(|| ActError::new("have a shared broker lie", "write `broker: { scripted: [] }`"))?;
        Ok(broker.misbehave(lies)?)
    }

    /// Changes the broker while it runs. When this returns, it goes by what it was told.
    ///
    /// # Errors
    /// When it is shared; when it would not learn of the change in this way; when it says that it could not read a file.
    pub async fn change_broker(&mut self, change: &BrokerChange, how: How) -> Result<(), ActError> {
        let made = |certificate| self.world.new_server_identity(&self.broker_names(certificate), certificate);
        let new = change.certificate.map(made).transpose()?;
        let users = change.users.as_ref().map(|users| self.users(users));
        let (ours, next) = (self.world.pki().clone(), self.world.next_pki()?);
        let tape = self.tape.clone();
        let servers = self.servers().await?;
        let mut spec = servers.spec.clone();
        if let Some(users) = users {
            if users.is_empty() != spec.users.is_empty() {
                let what = "change whether the broker has users: the tap has logged in, or has not";
                return Err(ActError::new(what, "give it users under `broker:`, and at least one here"));
            }
            spec.users = users;
        }
        if let Some(acl) = &change.acl {
            spec.acl = with_tap(acl);
        }
        if let Some(server) = new {
            if spec.security == Security::Plain {
                return Err(ActError::new("give the broker another certificate: it is plain", "write `security:` under `broker:`"));
            }
            if let Some(tls) = &servers.login.tls {
                tls.also_pin(&server.chain_pem)?;
            }
            spec.server = Some(server);
        }
        if let Some(open) = change.plain_too {
            spec.plain_beside = open;
        }
        let Some(clients) = change.clients else {
            servers.apply(spec, how, &tape).await?;
            if how == How::Restart {
                servers.tap.ready(TAP_WITHIN).await?;
            }
            self.told_broker(how);
            return Ok(());
        };
        let (trusted, tap) = match clients {
            Clients::Ours => (ours.device_ca_pem(), ours.client(TAP)?),
            Clients::Both => (ours.device_ca_pem() + &next.device_ca_pem(), ours.client(TAP)?),
            Clients::Next => (next.device_ca_pem(), next.client(TAP)?),
        };
        let Some(server) = spec.server.clone().filter(|_| spec.security == Security::MutualTls) else {
            return Err(ActError::new("change whose certificates the broker takes: it takes none", "write `security: mutual-tls`"));
        };
        spec.client_ca = Some(trusted);
        servers.apply(spec, how, &tape).await?;
        servers.login.tls = Some(Tls::pinned(&server.chain_pem, Some(&tap))?);
        self.told_broker(how);
        self.connect_tap_anew().await
    }

    /// In place of the tap whose certificate is of no use any more.
    async fn connect_tap_anew(&mut self) -> Result<(), ActError> {
        let (filters, tape) = ([self.filter()], self.tape.clone());
        let servers = self.servers().await?;
        servers.tap = Tap::connect(&servers.endpoint, servers.login.clone(), &filters, &tape).await?;
        Ok(())
    }

    fn told_broker(&self, how: How) {
        self.tape.say(
            Source::Runner,
            match how {
                How::Reload => What::Note("the broker has read its files again".into()),
                How::Restart => What::BrokerPower { now: "started".into() },
            },
        );
    }

    /// Revokes every certificate that the CA has issued to this trial's device, and has the broker read the new list.
    ///
    /// # Errors
    /// When there is none, or the broker has no list, or says that it could not read it.
    pub async fn revoke(&mut self) -> Result<(), ActError> {
        let (device_id, tape) = (self.device_id.clone(), self.tape.clone());
        let servers = self.servers().await?;
        if servers.spec.crl.is_none() {
            return Err(ActError::new("revoke: the broker has no revocation list", "write `broker: { crl: true }`"));
        }
        if servers.ca.revoke(&device_id) == 0 {
            return Err(ActError::new("revoke: the device has no certificate that is not", "wait until it has one"));
        }
        let spec = BrokerSpec { crl: Some(servers.ca.crl()?), ..servers.spec.clone() };
        servers.apply(spec, How::Reload, &tape).await?;
        self.told_broker(How::Reload);
        Ok(())
    }

    /// A second client connects with the device's client id (and, under mutual TLS, a certificate in its name), so that the broker
    /// throws the device out.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn take_over(&mut self, rivalry: Rivalry) -> Result<(), ActError> {
        let device_id = self.device_id.clone();
        if rivalry == Rivalry::Ends {
            self.servers().await?.rival = None;
            return Ok(());
        }
        let pki = self.world.pki().clone();
        let servers = self.servers().await?;
        let identity = (servers.spec.security == Security::MutualTls).then(|| pki.client(&device_id)).transpose()?;
        let server = servers.spec.server.as_ref().filter(|_| servers.spec.security != Security::Plain);
        let tls = server.map(|server| Tls::pinned(&server.chain_pem, identity.as_ref())).transpose()?;
        let login = Login { user: servers.login.user.clone(), tls };
        servers.rival = Some(Rival::connect(&servers.endpoint, login, &device_id, rivalry == Rivalry::Insists).await?);
        Ok(())
    }

    /// Tells the device its settings for this security level, and further ones, and has it store them.
    ///
    /// # Errors
    /// When the device is off, or takes no bytes.
    pub async fn configure(&mut self, security: Security, more: &[(String, Secret)]) -> Result<(), ActError> {
        let servers = self.servers().await?;
        let ports = [servers.ca_link.address().port(), servers.broker_links.port(security), servers.time.address().port()];
        let mut settings = self.settings(security, ports);
        settings.extend(more.iter().cloned());
        let mut lines = String::new();
        for (name, value) in settings {
            lines += &(Command::Set { name, value }.line() + "\n");
        }
        self.write_serial((lines + &Command::Save.line() + "\n").as_bytes()).await
    }
}

impl Servers {
    fn own_broker(&mut self) -> Result<&mut Box<dyn Broker>, ActError> {
        let shared = || ActError::new("switch the broker: it is shared with other trials", "write `broker: { exclusive: true }`");
        self.broker.as_mut().ok_or_else(shared)
    }

    /// Makes the broker this one; a restart is a stop, said here, and a start, said when the tap is back.
    async fn apply(&mut self, spec: BrokerSpec, how: How, tape: &Tape) -> Result<(), ActError> {
        let broker = self.own_broker()?;
        match how {
            How::Reload => broker.reload(spec.clone()).await?,
            How::Restart => {
                tape.say(Source::Runner, What::BrokerPower { now: "stopped".into() });
                broker.restart(spec.clone()).await?;
            }
        }
        self.spec = spec;
        Ok(())
    }
}
