//! Mosquitto in a container, through testcontainers: Docker, or Podman with its Docker-compatible interface.
//!
//! The container listens on a port of 127.0.0.1 that stays its own over stop, kill and start; its files lie in the container alone. It is
//! removed, with its volumes, when dropped; should this process be killed, by the reaper (see [`crate::child`]); should that be
//! killed too, by the next harness on this machine, which knows it by its label.

pub(crate) mod engine;
mod owner;
mod tar;

use super::conf::{BrokerSpec, Place};
use super::log::Cutter;
use super::mosquitto::{
    PORT_ATTEMPTS_MAX, check, check_reload, check_restart, choose_port, last_words, not_running, port_taken, read_to_the_end,
    reread, until_running,
};
use super::{Backend, Broker, BrokerError, Endpoint, Log};
use crate::child;
use async_trait::async_trait;
use device_core::config::{Security, TlsVersions};
use engine::{Engine, RETRY_AFTER};
use futures_util::StreamExt;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use testcontainers::bollard::body_full;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::models::{HostConfig, HostConfigLogConfig, PortBinding};
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    UploadToContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, CopyTargetOptions, GenericImage, ImageExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// The image, unless another is named. A whole version, since `:2` is 2.0 today and 2.1 tomorrow.
pub const IMAGE: &str = "eclipse-mosquitto:2.0.22";
/// How long an engine may take to make and start a container (0.3–1 s when idle).
const STARTED_WITHIN: Duration = Duration::from_secs(60);
/// How long Mosquitto may take to serve in its container, and the engine to tell.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// How long the words of a container that did not start may take.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// How long Mosquitto may take to end when asked, in seconds, before the engine kills it.
const STOP_PATIENCE_S: i32 = 5;
/// How long the engine may take over ending it.
const ENDED_WITHIN: Duration = Duration::from_secs(20);
/// The port in the container, and the plain one beside it.
const PORT: u16 = 8883;
const PLAIN_PORT: u16 = 1883;
/// Mosquitto's folders in its image. Its entry point makes the second one the user `mosquitto`'s, in 2.0 and in 2.1.
const FILES: &str = "/mosquitto/config";
const STORE: &str = "/mosquitto/data";
/// Files that are copied in are root's, and Mosquitto is not root when it reads some of them; nobody else is in there.
const FILE_MODE: u32 = 0o644;

/// A Mosquitto in a container of ours. Dropped: killed and removed, in the background.
pub struct Container {
    engine: Engine,
    image: String,
    spec: BrokerSpec,
    charge: Charge,
    reading: Option<JoinHandle<()>>,
    /// Bytes of the container's log that were read; the engine tells all of it again to each reader.
    read: Arc<AtomicU64>,
    backend: Backend,
    endpoint: Endpoint,
    plain: Option<Endpoint>,
    log: Log,
    // Bound and never listening, for as long as the broker may start again.
    hold: [Option<TcpSocket>; 2],
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("name", &self.charge.name).field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Sees to everything that may take long (a pull) before the first broker is wanted.
///
/// # Errors
/// When no engine answers, or it has no such image.
pub async fn prepare(image: Option<&str>) -> Result<(), BrokerError> {
    Engine::find().await?.provide(&image_name(image)).await
}

/// Starts a Mosquitto from this image, or `$HARNESS_MOSQUITTO_IMAGE`, or [`IMAGE`].
///
/// # Errors
/// When no engine answers on this machine, when it has no such image and may not pull it, or when it does not start.
pub async fn start(spec: BrokerSpec, image: Option<&str>) -> Result<Container, BrokerError> {
    check(&spec)?;
    let engine = Engine::find().await?;
    let image = image_name(image);
    engine.provide(&image).await?;
    let nowhere = Endpoint { host: "localhost".into(), address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
    let mut container = Container {
        charge: Charge::new(),
        reading: None,
        read: Arc::default(),
        backend: Backend { name: "container", version: "unknown".into(), place: format!("{image}, {}", engine.version) },
        plain: spec.plain_beside.then(|| nowhere.clone()),
        endpoint: nowhere,
        log: Log::new(),
        hold: [None, None],
        engine,
        image,
        spec,
    };
    for _ in 0..PORT_ATTEMPTS_MAX {
        (container.endpoint.address, container.hold[0]) = choose_port()?;
        if let Some(plain) = &mut container.plain {
            (plain.address, container.hold[1]) = choose_port()?;
        }
        match container.make().await {
            Ok(()) => return Ok(container),
            Err(Failure::Other(error)) => return Err(error),
            // What was made for the port that is taken is of no use.
            Err(Failure::PortTaken) => container.charge = Charge::new(),
        }
    }
    Err(port_taken(container.endpoint.address))
}

fn image_name(wanted: Option<&str>) -> String {
    let named = || std::env::var("HARNESS_MOSQUITTO_IMAGE").ok().filter(|image| !image.is_empty());
    wanted.map(str::to_owned).or_else(named).unwrap_or_else(|| IMAGE.into())
}

/// Name and tag, or name and digest, as testcontainers wants them; together they are the image again.
fn name_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        // A colon before the last slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// Why a start did not work.
enum Failure {
    PortTaken,
    Other(BrokerError),
}

impl Container {
    /// Makes the container and starts it for the first time.
    async fn make(&mut self) -> Result<(), Failure> {
        self.log.unwatch();
        let lines = self.log.lines();
        let made = match tokio::time::timeout(STARTED_WITHIN, self.request().start()).await {
            Ok(Ok(made)) => made,
            Ok(Err(e)) => return Err(self.with_last_words(self.no_start(&e)).await),
            Err(_) => return Err(self.no_start(&format!("it takes longer than {} s", STARTED_WITHIN.as_secs()))),
        };
        self.charge.is_made(made);
        self.serve(lines).await
    }

    fn request(&self) -> ContainerRequest<GenericImage> {
        let (name, tag) = name_and_tag(&self.image);
        let image = self.ports().iter().fold(GenericImage::new(name, tag), |image, (port, _)| image.with_exposed_port(port.tcp()));
        let mut request = image
            .with_cmd(["/usr/sbin/mosquitto".to_owned(), "-c".into(), format!("{FILES}/mosquitto.conf")])
            .with_container_name(&self.charge.name)
            .with_label(owner::LABEL, owner::this_process())
            .with_startup_timeout(STARTED_WITHIN)
            .with_host_config_modifier(host_config(self.ports()));
        for (name, content) in self.files() {
            let target = CopyTargetOptions::new(format!("{FILES}/{name}")).with_mode(FILE_MODE);
            request = request.with_copy_to(target, content.into_bytes());
        }
        if self.spec.security != Security::Plain && self.spec.tls == TlsVersions::Only12 {
            request = request.with_env_var("OPENSSL_CONF", format!("{FILES}/openssl.cnf"));
        }
        request
    }

    /// Its ports inside, and where they are outside.
    fn ports(&self) -> Vec<(u16, u16)> {
        let plain = self.plain.as_ref().map(|plain| (PLAIN_PORT, plain.address.port()));
        [(PORT, self.endpoint.address.port())].into_iter().chain(plain).collect()
    }

    fn files(&self) -> Vec<(&'static str, String)> {
        let listener = |port: u16| format!("{port} 0.0.0.0");
        // Without `user root` it becomes the user `mosquitto`, to whom the image's entry point gives the store.
        self.spec.files(&Place {
            files: FILES.into(),
            store: STORE.into(),
            listener: listener(PORT),
            plain_listener: self.plain.is_some().then(|| listener(PLAIN_PORT)),
            stay_root: false,
        })
    }

    /// Puts the files of what it is now into the container, whether that runs or not.
    async fn put_files(&self) -> Result<(), BrokerError> {
        let archive = tar::archive(&self.files(), FILE_MODE);
        let options = UploadToContainerOptionsBuilder::new().path(FILES).build();
        let putting = self.engine.docker.upload_to_container(&self.charge.name, Some(options), body_full(archive.into()));
        match tokio::time::timeout(STARTED_WITHIN, putting).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.engine.failed("put files into the broker's container", &e)),
            Err(_) => {
                let why = format!("it takes longer than {} s", STARTED_WITHIN.as_secs());
                Err(self.engine.failed("put files into the broker's container", &why))
            }
        }
    }

    /// Follows what the container says until it serves.
    async fn serve(&mut self, mut lines: tokio::sync::broadcast::Receiver<Arc<str>>) -> Result<(), Failure> {
        let mut reading = tokio::spawn(follow(self.engine.clone(), self.charge.name.clone(), self.read.clone(), self.log.clone()));
        tokio::select! {
            biased;
            () = until_running(&mut lines) => {
                if let Some(version) = self.log.tail().iter().find_map(|line| version(line)) {
                    self.backend.version = version.to_owned();
                }
                self.reading = Some(reading);
                self.log.serves();
                Ok(())
            }
            _ = &mut reading => {
                let said = last_words(&self.log);
                if said.contains("Address already in use") {
                    return Err(Failure::PortTaken);
                }
                Err(Failure::Other(BrokerError::new(
                    format!("the {} ended at its start ({}), saying: {said}", self.backend, self.exit_status().await),
                    "see what it says; another image can be named by HARNESS_MOSQUITTO_IMAGE",
                )))
            }
            () = tokio::time::sleep(SERVES_WITHIN) => {
                reading.abort();
                let what = format!("the {} does not serve after {} s, saying: {}", self.backend, SERVES_WITHIN.as_secs(), last_words(&self.log));
                Err(Failure::Other(BrokerError::new(what, "try again on a less busy machine")))
            }
        }
    }

    /// Adds what the container has said, if it has: it may have ended before testcontainers could look at it.
    async fn with_last_words(&self, failure: Failure) -> Failure {
        let Failure::Other(BrokerError { what, help }) = failure else { return failure };
        let read = follow(self.engine.clone(), self.charge.name.clone(), self.read.clone(), self.log.clone());
        // A container that still runs says no end.
        let _ = tokio::time::timeout(LAST_WORDS_WITHIN, read).await;
        match self.log.tail().is_empty() {
            true => Failure::Other(BrokerError { what, help }),
            false => {
                let what = format!("the {} ended at its start, saying: {} ({what})", self.backend, last_words(&self.log));
                Failure::Other(BrokerError { what, help })
            }
        }
    }

    async fn exit_status(&self) -> String {
        let asked = tokio::time::timeout(ENDED_WITHIN, self.engine.docker.inspect_container(&self.charge.name, None)).await;
        let status = asked.ok().and_then(Result::ok).and_then(|told| told.state?.exit_code);
        status.map_or_else(|| "exit status unknown".into(), |status| format!("exit status: {status}"))
    }

    fn no_start(&self, why: &dyn fmt::Display) -> Failure {
        let why = why.to_string();
        if ["address already in use", "port is already allocated"].iter().any(|words| why.contains(words)) {
            return Failure::PortTaken;
        }
        Failure::Other(self.engine.failed(&format!("start a container from {}", self.image), &why))
    }

    /// Starts the container that is there once more.
    async fn start_again(&mut self) -> Result<(), Failure> {
        self.log.unwatch();
        self.log.forget_tail();
        let lines = self.log.lines();
        let starting = self.engine.docker.start_container(&self.charge.name, None::<StartContainerOptions>);
        match tokio::time::timeout(STARTED_WITHIN, starting).await {
            Ok(Ok(())) => self.serve(lines).await,
            Ok(Err(e)) => Err(self.no_start(&e)),
            Err(_) => Err(self.no_start(&format!("it takes longer than {} s", STARTED_WITHIN.as_secs()))),
        }
    }

    /// Waits until the container has ended and all that it said is read.
    async fn ended(&mut self, reading: JoinHandle<()>) -> Result<(), BrokerError> {
        let not_running = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut waiting = Box::pin(self.engine.docker.wait_container(&self.charge.name, Some(not_running)));
        match tokio::time::timeout(ENDED_WITHIN, waiting.next()).await {
            // A status that is not 0 is told as an error.
            Ok(None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. }))) => {}
            Ok(Some(Err(e))) => return Err(self.engine.failed("tell whether the broker has ended", &e)),
            Err(_) => return Err(self.engine.failed("end the broker", &format!("it runs after {} s", ENDED_WITHIN.as_secs()))),
        }
        read_to_the_end(reading).await;
        // The engine tells of the end first and closes the port after that.
        let closed = async {
            while TcpStream::connect(self.endpoint.address).await.is_ok() {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        };
        match tokio::time::timeout(ENDED_WITHIN, closed).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.engine.failed("close the broker's port", &format!("it is open after {} s", ENDED_WITHIN.as_secs()))),
        }
    }
}

/// Reads the container's log until it ends, but not what was read before.
async fn follow(engine: Engine, name: String, read: Arc<AtomicU64>, log: Log) {
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).tail("all").build();
    let mut known = read.load(Ordering::Relaxed);
    let mut frames = Box::pin(engine.docker.logs(&name, Some(options)));
    let (mut out, mut err) = (Cutter::new(&log), Cutter::new(&log));
    while let Some(Ok(frame)) = frames.next().await {
        let (lines, bytes) = match frame {
            LogOutput::StdErr { message } => (&mut err, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut out, message),
            LogOutput::StdIn { .. } => continue,
        };
        let old = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        known -= old as u64;
        read.fetch_add((bytes.len() - old) as u64, Ordering::Relaxed);
        lines.take(&bytes[old..]);
    }
    drop((out, err));
    log.ended();
}

/// The version in Mosquitto's first line, `mosquitto version 2.0.11 starting`.
fn version(line: &str) -> Option<&str> {
    line.strip_prefix("mosquitto version ")?.strip_suffix(" starting")
}

/// Reached over loopback alone, at a port of our choice: the engine would take all addresses, and another port at each start. The address
/// is 127.0.0.1 also where testcontainers takes this machine for a container and names the bridge's gateway.
fn host_config(ports: Vec<(u16, u16)>) -> impl Fn(&mut HostConfig) + Send + Sync + 'static {
    move |config| {
        let binding = |&(inside, outside): &(u16, u16)| {
            let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(outside.to_string()) };
            (format!("{inside}/tcp"), Some(vec![binding]))
        };
        config.publish_all_ports = Some(false);
        config.port_bindings = Some(ports.iter().map(binding).collect());
        // One that can be read back, whatever the engine's default is.
        config.log_config = Some(HostConfigLogConfig { typ: Some("json-file".into()), config: None });
    }
}

#[async_trait]
impl Broker for Container {
    fn backend(&self) -> &Backend {
        &self.backend
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn plain_endpoint(&self) -> Option<&Endpoint> {
        self.plain.as_ref().filter(|_| self.spec.plain_beside)
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn reload(&mut self, spec: BrokerSpec) -> Result<(), BrokerError> {
        check(&spec)?;
        check_reload(&self.spec, &spec)?;
        if self.reading.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(not_running());
        }
        self.spec = spec;
        self.put_files().await?;
        let lines = self.log.lines();
        let options = KillContainerOptionsBuilder::new().signal("SIGHUP").build();
        let asked = self.engine.docker.kill_container(&self.charge.name, Some(options));
        match tokio::time::timeout(ENDED_WITHIN, asked).await {
            Ok(Err(e)) => return Err(self.engine.failed("have the broker read its files again", &e)),
            // Whether it heard is seen in what it says.
            Ok(Ok(())) | Err(_) => {}
        }
        reread(lines, self.plain_endpoint().unwrap_or(&self.endpoint)).await
    }

    async fn restart(&mut self, spec: BrokerSpec) -> Result<(), BrokerError> {
        check(&spec)?;
        check_restart(&spec, self.plain.as_ref())?;
        if spec.tls != self.spec.tls {
            let what = "the TLS versions of a container's broker are set when it is made";
            return Err(BrokerError::new(what, "make another broker"));
        }
        self.stop().await?;
        self.spec = spec;
        self.put_files().await?;
        self.start().await
    }

    async fn start(&mut self) -> Result<(), BrokerError> {
        match self.reading.take() {
            Some(reading) if !reading.is_finished() => {
                self.reading = Some(reading);
                return Ok(());
            }
            // It has ended by itself; how far is for the engine to say.
            Some(reading) => self.ended(reading).await?,
            None => {}
        }
        for _ in 0..PORT_ATTEMPTS_MAX {
            match self.start_again().await {
                Ok(()) => return Ok(()),
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Err(port_taken(self.endpoint.address))
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        let Some(reading) = self.reading.take() else { return Ok(()) };
        self.log.unwatch();
        let options = StopContainerOptionsBuilder::new().t(STOP_PATIENCE_S).build();
        let asked = tokio::time::timeout(ENDED_WITHIN, self.engine.docker.stop_container(&self.charge.name, Some(options))).await;
        self.asked(asked.unwrap_or(Ok(())))?;
        self.ended(reading).await
    }

    async fn kill(&mut self) -> Result<(), BrokerError> {
        let Some(reading) = self.reading.take() else { return Ok(()) };
        self.log.unwatch();
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let asked = tokio::time::timeout(ENDED_WITHIN, self.engine.docker.kill_container(&self.charge.name, Some(options))).await;
        self.asked(asked.unwrap_or(Ok(())))?;
        self.ended(reading).await
    }
}

impl Container {
    /// What the engine says to a request to end the broker. It may have ended by itself, and an answer that is late is waited for elsewhere.
    fn asked(&self, answer: Result<(), Error>) -> Result<(), BrokerError> {
        match answer {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 304 | 409, .. }) => Ok(()),
            Err(e) => Err(self.engine.failed("end the broker", &e)),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }
}

/// A container that is ours to remove.
struct Charge {
    name: String,
    made: Option<ContainerAsync<GenericImage>>,
}

impl Charge {
    /// A name that no other container has, for one that is about to be made.
    fn new() -> Charge {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let name = format!("harness-broker-{}-{}-{now:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Told before it is made, so that no moment is left in which a SIGKILL would leave it behind.
        child::expect_container(&name);
        Charge { name, made: None }
    }

    fn is_made(&mut self, made: ContainerAsync<GenericImage>) {
        child::container_is_made(&self.name);
        self.made = Some(made);
    }
}

impl Drop for Charge {
    /// Removes it from a thread of its own: removing takes some tenths of a second, and the runtime may be ending or gone. What the end
    /// of the process cuts off, the reaper does.
    fn drop(&mut self) {
        let (name, made) = (std::mem::take(&mut self.name), self.made.take());
        let remove = move || {
            let is_made = made.is_some();
            if made.is_some_and(rm) || engine::remove_now(vec![(name.clone(), is_made)]) {
                child::container_is_gone(&name);
            }
        };
        // Without a thread, the reaper or the next harness removes it.
        let _ = std::thread::Builder::new().name("harness-remove".into()).spawn(remove);
    }
}

/// Removes a container as testcontainers does; whether it did.
fn rm(made: ContainerAsync<GenericImage>) -> bool {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(made.rm()).is_ok(),
        Err(_) => {
            // Its drop needs a runtime.
            std::mem::forget(made);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_split_as_engines_read_it() {
        for (image, expected) in [
            (IMAGE, ("eclipse-mosquitto", "2.0.22")),
            ("mosquitto", ("mosquitto", "latest")),
            ("localhost:5000/mosquitto", ("localhost:5000/mosquitto", "latest")),
            ("localhost:5000/a/mosquitto:2", ("localhost:5000/a/mosquitto", "2")),
            ("mosquitto@sha256:abcd", ("mosquitto@sha256", "abcd")),
        ] {
            assert_eq!(name_and_tag(image), expected, "{image}");
        }
    }

    #[test]
    fn the_version_is_in_the_first_line() {
        assert_eq!(version("mosquitto version 2.0.11 starting"), Some("2.0.11"));
        assert_eq!(version("mosquitto version 2.0.11 running"), None);
    }
}
