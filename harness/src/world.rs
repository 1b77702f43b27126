//! What the trials of one process share: the runtime, the authority, and brokers that serve many trials.

use crate::broker::{Backend, BrokerError, BrokerSpec, Choice, Endpoint, Log, Started};
use crate::ca::pki::{DAY_S, Identity, Pki, PkiError, ServerFlaw, ServerSpec};
use crate::scenario::header::{self, ServerCertificate};
use crate::target::{Equipment, Facts};
use crate::testbed::{TAP, server_names};
use device_core::config::Security;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch};

/// The world could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// No runtime.
    #[error("could not start the asynchronous runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// No authority.
    #[error("could not make the certificates of the testbed: {0}")]
    Pki(#[from] PkiError),
    /// No broker of the kind that was chosen.
    #[error("could not have a broker: {0}")]
    Broker(#[from] BrokerError),
}

/// How long `close` waits for brokers to end.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What the trials of one process share.
#[derive(Debug)]
pub struct World {
    runtime: Option<Runtime>,
    pki: Arc<Pki>,
    next_pki: Mutex<Option<Arc<Pki>>>,
    choice: Choice,
    shared: Mutex<Vec<SharedCell>>,
    backend: OnceCell<Backend>,
    interrupt: watch::Sender<bool>,
    devices: AtomicU32,
    /// By target: the devices that no trial has now, where there are only so many.
    free: Mutex<BTreeMap<&'static str, Arc<Semaphore>>>,
    identities: Mutex<Vec<Known>>,
    tap: Mutex<Option<Arc<Identity>>>,
    tap_password: String,
    http: reqwest::Client,
}

/// A broker that is started once, by whoever wants one like this first.
type SharedCell = (BrokerSpec, Arc<OnceCell<Arc<Shared>>>);
/// A server certificate by its names and what is wrong with it.
type Known = ((Vec<String>, ServerCertificate), Arc<Identity>);

/// A broker that many trials use at the same time; nobody may stop it before the world ends.
#[derive(Debug)]
pub struct Shared {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where it listens without TLS, beside that.
    pub plain: Option<Endpoint>,
    /// What it says.
    pub log: Log,
    started: Mutex<Option<Started>>,
}

impl World {
    /// Makes a runtime and an authority. Brokers start when the first trial wants one.
    ///
    /// # Errors
    /// When the system gives no threads or no randomness, or when containers were chosen and there can be none.
    pub fn open(choice: &Choice) -> Result<World, WorldError> {
        // One provider for whoever asks rustls for the process's own; somebody else's choice stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(choice.prepare())?;
        let pki = Arc::new(Pki::new(wall_unix())?);
        let tap_password = random_word()?;
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none());
        let http = http.build().map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(World {
            runtime: Some(runtime),
            pki,
            next_pki: Mutex::default(),
            choice: choice.clone(),
            shared: Mutex::default(),
            backend: OnceCell::new(),
            interrupt: watch::Sender::new(false),
            devices: AtomicU32::new(1),
            free: Mutex::default(),
            identities: Mutex::default(),
            tap: Mutex::default(),
            tap_password,
            http,
        })
    }

    /// The runtime.
    ///
    /// # Panics
    /// After `close`.
    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap_or_else(|| unreachable!("the world is closed when nobody uses it any more"))
    }

    /// The authority of every certificate in this process's testbeds.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// A device id that no other trial of this process has, and hardly any other process.
    pub fn device_id(&self) -> String {
        let n = self.devices.fetch_add(1, Ordering::Relaxed);
        format!("esp32-{:04x}{n:04x}", std::process::id() & 0xffff)
    }

    /// Waits until a device of this kind is free, where there are only so many. It is again when the permit is dropped.
    pub async fn turn(&self, facts: &Facts, equipment: &Equipment) -> Option<OwnedSemaphorePermit> {
        let devices = (facts.there_are)(equipment)?;
        let free = lock(&self.free).entry(facts.name).or_insert_with(|| Arc::new(Semaphore::new(devices.max(1)))).clone();
        free.acquire_owned().await.ok()
    }

    /// The certificate of a broker like this; the same one for the same wish, so that brokers can be shared.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn server_identity(&self, spec: &header::BrokerSpec) -> Result<Arc<Identity>, PkiError> {
        let names = spec.names.clone().unwrap_or_else(server_names);
        let mut known = lock(&self.identities);
        if let Some((_, identity)) = known.iter().find(|(key, _)| (&key.0, key.1) == (&names, spec.certificate)) {
            return Ok(identity.clone());
        }
        let identity = Arc::new(self.new_server_identity(&names, spec.certificate)?);
        known.push(((names, spec.certificate), identity.clone()));
        Ok(identity)
    }

    /// A certificate for a broker that nobody had before.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn new_server_identity(&self, names: &[String], certificate: ServerCertificate) -> Result<Identity, PkiError> {
        let mut wanted = ServerSpec::new(names);
        match certificate {
            ServerCertificate::Good => self.pki.server(&wanted),
            ServerCertificate::Expired => {
                wanted.not_before = Some(wall_unix() - 30 * DAY_S);
                wanted.not_after = Some(wall_unix() - DAY_S);
                self.pki.server(&wanted)
            }
            ServerCertificate::CommonNameOnly => self.pki.server(&ServerSpec { flaw: Some(ServerFlaw::CommonNameOnly), ..wanted }),
            ServerCertificate::AnyPurpose => self.pki.server(&ServerSpec { flaw: Some(ServerFlaw::AnyPurpose), ..wanted }),
            ServerCertificate::Authority => self.pki.server(&ServerSpec { flaw: Some(ServerFlaw::Authority), ..wanted }),
            ServerCertificate::UnknownCa => Pki::new(wall_unix())?.server(&wanted),
            ServerCertificate::NextCa => self.next_pki()?.server(&wanted),
        }
    }

    /// The authority that is to follow this one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn next_pki(&self) -> Result<Arc<Pki>, PkiError> {
        let mut next = lock(&self.next_pki);
        Ok(match &*next {
            Some(pki) => pki.clone(),
            None => next.insert(Arc::new(Pki::new(wall_unix())?)).clone(),
        })
    }

    /// The tap's certificate.
    ///
    /// # Errors
    /// When none can be made.
    pub fn tap_identity(&self) -> Result<Arc<Identity>, PkiError> {
        let mut known = lock(&self.tap);
        Ok(match &*known {
            Some(identity) => identity.clone(),
            None => known.insert(Arc::new(self.pki.client(TAP)?)).clone(),
        })
    }

    /// The tap's password, where the broker wants one; of this process alone.
    pub fn tap_password(&self) -> &str {
        &self.tap_password
    }

    /// The client of devices' HTTP APIs. It keeps no connection open.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Which broker serves, once one does.
    pub fn backend(&self) -> Option<&Backend> {
        self.backend.get()
    }

    /// A broker like this that other trials use too; started when it is the first of its kind.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn shared_broker(&self, spec: &BrokerSpec) -> Result<Arc<Shared>, BrokerError> {
        let cell = {
            let mut shared = lock(&self.shared);
            // One that died under other trials is no reason for this one to fail too.
            let died = |cell: &OnceCell<Arc<Shared>>| cell.get().is_some_and(|shared| shared.log.has_died());
            match shared.iter().find(|(known, cell)| known == spec && !died(cell)) {
                Some((_, cell)) => cell.clone(),
                None => {
                    let cell = Arc::new(OnceCell::new());
                    shared.push((spec.clone(), cell.clone()));
                    cell
                }
            }
        };
        let start = || async {
            let started = self.own_broker(spec.clone()).await?;
            let (endpoint, plain) = (started.broker.endpoint().clone(), started.broker.plain_endpoint().cloned());
            let log = started.broker.log().clone();
            Ok(Arc::new(Shared { endpoint, plain, log, started: Mutex::new(Some(started)) }))
        };
        cell.get_or_try_init(start).await.cloned()
    }

    /// A broker for one trial alone. The first broker of a process is said in a line on standard error.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn own_broker(&self, spec: BrokerSpec) -> Result<Started, BrokerError> {
        if let Choice::External(address) = &self.choice
            && spec.security != Security::Plain
        {
            return Err(BrokerError {
                what: format!("the broker at {address} does not know this testbed's CA, and the scenario wants TLS"),
                help: "run it with the broker process or bundled, or with `security: plain`".into(),
            });
        }
        let started = self.choice.start(spec).await?;
        if self.backend.set(started.broker.backend().clone()).is_ok() {
            crate::say::aside(&started.said);
        }
        Ok(started)
    }

    /// Tells every trial to end.
    pub fn interrupt(&self) {
        self.interrupt.send_replace(true);
    }

    /// Becomes true when trials are to end.
    pub fn interrupted(&self) -> watch::Receiver<bool> {
        self.interrupt.subscribe()
    }

    /// Ends the brokers, and waits (at most 3 s) until they have ended.
    pub fn close(&self) {
        let cells: Vec<_> = lock(&self.shared).drain(..).map(|(_, cell)| cell).collect();
        self.runtime().block_on(async {
            let mut ending = tokio::task::JoinSet::new();
            for started in cells.iter().filter_map(|cell| lock(&cell.get()?.started).take()) {
                let mut broker = started.broker;
                ending.spawn(async move { broker.kill().await });
            }
            let _ = tokio::time::timeout(CLOSE_LIMIT, async { while ending.join_next().await.is_some() {} }).await;
        });
        crate::child::finish();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A word that nobody can guess: 32 hex digits.
fn random_word() -> Result<String, std::io::Error> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("no random numbers"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The wall clock, seconds since 1970.
pub fn wall_unix() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
