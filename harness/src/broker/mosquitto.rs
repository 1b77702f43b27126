//! Mosquitto as a child process of ours, whichever program it is: its files, its port, its start and its ends.

use super::conf::{BrokerSpec, Place};
use super::{Backend, Broker, BrokerError, Endpoint, Log};
use crate::child::{Ends, Guarded, PrivateDir, is_root};
use async_trait::async_trait;
use device_core::config::{Security, TlsVersions};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;

/// How long Mosquitto may take to serve (it takes 5–65 ms when idle).
pub const READY_WITHIN: Duration = Duration::from_secs(10);
/// How many times the start is tried when somebody else took the port.
pub(super) const PORT_ATTEMPTS_MAX: u32 = 8;

/// A program that is Mosquitto.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub path: PathBuf,
    /// What comes before Mosquitto's own arguments.
    pub arguments: Vec<OsString>,
    pub ends: Ends,
    pub backend: Backend,
}

/// A Mosquitto of ours. Dropped: killed, and its files removed.
#[derive(Debug)]
pub struct Mosquitto {
    // Dropped first: its directory goes from under a dead process.
    child: Option<(Guarded, JoinHandle<()>)>,
    program: Program,
    spec: BrokerSpec,
    home: PrivateDir,
    endpoint: Endpoint,
    plain: Option<Endpoint>,
    log: Log,
    // Bound and never listening, for as long as the broker may start again.
    _hold: [Option<TcpSocket>; 2],
}

/// Why a start did not work.
enum Failure {
    PortTaken,
    Other(BrokerError),
}

impl Mosquitto {
    /// Starts it for the first time, on a port that is free.
    pub(super) async fn launch(program: Program, spec: BrokerSpec) -> Result<Self, BrokerError> {
        check(&spec)?;
        let help = "check that the directory for temporary files is there, writable and not full (TMPDIR)";
        let home =
            PrivateDir::new("broker").map_err(|e| BrokerError::new(format!("no place for the broker's files: {e}"), help))?;
        let nowhere = Endpoint { host: "localhost".into(), address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let mut mosquitto = Mosquitto {
            child: None,
            program,
            plain: spec.plain_beside.then(|| nowhere.clone()),
            spec,
            home,
            endpoint: nowhere,
            log: Log::new(),
            _hold: [None, None],
        };
        for _ in 0..PORT_ATTEMPTS_MAX {
            (mosquitto.endpoint.address, mosquitto._hold[0]) = choose_port()?;
            if let Some(plain) = &mut mosquitto.plain {
                (plain.address, mosquitto._hold[1]) = choose_port()?;
            }
            match mosquitto.start_once().await {
                Ok(()) => return Ok(mosquitto),
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Err(port_taken(mosquitto.endpoint.address))
    }

    async fn start_once(&mut self) -> Result<(), Failure> {
        let other = |what: String, help: &str| Failure::Other(BrokerError::new(what, help));
        self.write_files().map_err(Failure::Other)?;
        let mut arguments = self.program.arguments.clone();
        arguments.extend(["-c".into(), self.home.path().join("mosquitto.conf").into()]);
        let mut environment = Vec::new();
        if self.spec.security != Security::Plain && self.spec.tls == TlsVersions::Only12 {
            environment.push(("OPENSSL_CONF".to_owned(), self.home.path().join("openssl.cnf").into()));
        }
        self.log.forget_tail();
        self.log.unwatch();
        let mut lines = self.log.lines();
        let spawned = Guarded::spawn(&self.program.path, &arguments, &environment, self.program.ends).await;
        let mut child = spawned.map_err(|e| {
            other(format!("{} does not start: {e}", self.program.path.display()), "check that it is there and may be executed")
        })?;
        let stderr = child.stderr();
        let log = self.log.clone();
        let mut reading = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                log.read(stderr).await;
            }
        });
        tokio::select! {
            biased;
            () = until_running(&mut lines) => {
                self.child = Some((child, reading));
                self.log.serves();
                Ok(())
            }
            _ = &mut reading => {
                let ended = child.gone().await.map_or_else(|e| e.to_string(), |status| status.to_string());
                let said = last_words(&self.log);
                if said.contains("Address already in use") {
                    return Err(Failure::PortTaken);
                }
                Err(other(
                    format!("the {} ended at its start ({ended}), saying: {said}", self.program.backend),
                    "see what it says; another Mosquitto can be named by MOSQUITTO_BIN",
                ))
            }
            () = tokio::time::sleep(READY_WITHIN) => {
                // Dropped here, the child is killed.
                let said = last_words(&self.log);
                let what = format!("the {} does not serve after {} s, saying: {said}", self.program.backend, READY_WITHIN.as_secs());
                Err(other(what, "try again on a less busy machine"))
            }
        }
    }

    fn write_files(&self) -> Result<(), BrokerError> {
        let home = self.home.path().display().to_string();
        let listener = |at: &Endpoint| format!("{} 127.0.0.1", at.address.port());
        let place = Place {
            files: home.clone(),
            store: home,
            listener: listener(&self.endpoint),
            plain_listener: self.plain.as_ref().map(listener),
            stay_root: is_root(),
        };
        for (name, content) in self.spec.files(&place) {
            let written = self.home.write(name, content.as_bytes());
            let cannot =
                |e| BrokerError::new(format!("the broker's {name} cannot be written: {e}"), "make room for temporary files");
            written.map_err(cannot)?;
        }
        Ok(())
    }

    fn ended<T>(&self, result: io::Result<T>) -> Result<(), BrokerError> {
        match result {
            Ok(_) => Ok(()),
            Err(e) => Err(BrokerError::new(format!("the {} does not end: {e}", self.program.backend), "end it by hand")),
        }
    }
}

/// Takes a free port of 127.0.0.1, and holds it where the system lets two sockets have one as long as only one listens (Linux): nobody
/// else is given it, also not while the broker is down.
pub(super) fn choose_port() -> Result<(SocketAddr, Option<TcpSocket>), BrokerError> {
    let choose = || {
        let socket = TcpSocket::new_v4()?;
        if cfg!(target_os = "linux") {
            socket.set_reuseaddr(true)?;
        }
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok((socket.local_addr()?, cfg!(target_os = "linux").then_some(socket)))
    };
    choose().map_err(|e: io::Error| {
        BrokerError::new(format!("no free port on 127.0.0.1: {e}"), "end what holds thousands of ports, and try again")
    })
}

/// Each attempt found the port taken.
pub(super) fn port_taken(address: SocketAddr) -> BrokerError {
    let what = format!("port {} was taken by another program each time", address.port());
    BrokerError::new(what, "see what takes ports on this machine")
}

/// Refuses a specification that is not whole.
pub(super) fn check(spec: &BrokerSpec) -> Result<(), BrokerError> {
    match spec.fault() {
        Some(fault) => Err(BrokerError::new(format!("such a broker cannot be: {fault}"), "complete its specification")),
        None => Ok(()),
    }
}

/// Refuses what a running Mosquitto would pass over in silence.
pub(super) fn check_reload(now: &BrokerSpec, then: &BrokerSpec) -> Result<(), BrokerError> {
    match now.read_at_start_only(then) {
        Some(what) => {
            let what = format!("a running Mosquitto does not read again {what}, and would go on with what it has");
            Err(BrokerError::new(what, "restart it"))
        }
        None => Ok(()),
    }
}

/// Refuses a port that was never chosen.
pub(super) fn check_restart(then: &BrokerSpec, plain: Option<&Endpoint>) -> Result<(), BrokerError> {
    if then.plain_beside && plain.is_none() {
        return Err(BrokerError::new("the broker has no second port", "start it with both listeners"));
    }
    Ok(())
}

/// There is nobody to read anything again.
pub(super) fn not_running() -> BrokerError {
    BrokerError::new("the broker cannot read its files again: it does not run, or this system has no SIGHUP", "start it")
}

/// Waits until a Mosquitto that was asked to has read all of its files again.
///
/// # Errors
/// When it does not within [`READY_WITHIN`], or says that it could not read one: what it serves by then is nobody's wish. Without its
/// revocation list, it takes every certificate.
pub(super) async fn reread(mut lines: Receiver<Arc<str>>, at: &Endpoint) -> Result<(), BrokerError> {
    let read = async {
        until(&mut lines, |line| line == "Reloading config.").await;
        // It reads in one turn of its loop, and accepts connections in another: whatever it said of its files, it said before this line.
        let _knock = TcpStream::connect(at.address).await;
        let mut said = Vec::new();
        loop {
            let line = next(&mut lines).await;
            if line.starts_with("New connection from ") {
                return said;
            }
            said.push(line);
        }
    };
    let Ok(said) = tokio::time::timeout(READY_WITHIN, read).await else {
        let what = format!("the broker has not read its files again after {} s", READY_WITHIN.as_secs());
        return Err(BrokerError::new(what, "see the last lines of its log"));
    };
    // What it says of a client's handshake meanwhile begins with `OpenSSL Error`.
    let wrong: Vec<&str> = said.iter().map(|line| &**line).filter(|line| line.starts_with("Error")).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => {
            let what = format!("the broker could not read its files again, saying: {}", wrong.join(" | "));
            Err(BrokerError::new(what, "correct the file and restart the broker: it may let everybody in, or nobody"))
        }
    }
}

/// The next line; never, when there are no more.
async fn next(lines: &mut Receiver<Arc<str>>) -> Arc<str> {
    loop {
        match lines.recv().await {
            Ok(line) => return line,
            Err(RecvError::Lagged(_)) => {}
            // Whoever waits has another branch, or a limit.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn until(lines: &mut Receiver<Arc<str>>, is_it: impl Fn(&str) -> bool) {
    while !is_it(&next(lines).await) {}
}

/// Waits for the line that says that all listeners are open.
pub(super) async fn until_running(lines: &mut Receiver<Arc<str>>) {
    until(lines, |line| line.ends_with(" running")).await;
}

#[async_trait]
impl Broker for Mosquitto {
    fn backend(&self) -> &Backend {
        &self.program.backend
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
        if !cfg!(unix) || self.child.as_mut().is_none_or(|(child, _)| child.has_ended()) {
            return Err(not_running());
        }
        self.spec = spec;
        self.write_files()?;
        let lines = self.log.lines();
        if let Some((child, _)) = &self.child {
            child.ask_to_reread();
        }
        reread(lines, self.plain_endpoint().unwrap_or(&self.endpoint)).await
    }

    async fn restart(&mut self, spec: BrokerSpec) -> Result<(), BrokerError> {
        check(&spec)?;
        check_restart(&spec, self.plain.as_ref())?;
        self.stop().await?;
        self.spec = spec;
        self.start().await
    }

    async fn start(&mut self) -> Result<(), BrokerError> {
        if self.child.as_mut().is_some_and(|(child, _)| !child.has_ended()) {
            return Ok(());
        }
        self.child = None;
        for _ in 0..PORT_ATTEMPTS_MAX {
            match self.start_once().await {
                Ok(()) => return Ok(()),
                // Whoever has it now may have it for a moment only (an outgoing connection); each attempt takes some milliseconds.
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Err(port_taken(self.endpoint.address))
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.log.unwatch();
        let Some((child, reading)) = self.child.take() else { return Ok(()) };
        let ended = child.stop().await;
        read_to_the_end(reading).await;
        self.ended(ended)
    }

    async fn kill(&mut self) -> Result<(), BrokerError> {
        self.log.unwatch();
        let Some((child, reading)) = self.child.take() else { return Ok(()) };
        let ended = child.kill().await;
        read_to_the_end(reading).await;
        self.ended(ended)
    }
}

/// The lines of the last start, for an error's text.
pub(super) fn last_words(log: &Log) -> String {
    match log.tail() {
        tail if tail.is_empty() => "nothing".into(),
        tail => tail.join(" | "),
    }
}

/// Waits for the last words of a process that has ended, so that they are not said after its next start.
pub(super) async fn read_to_the_end(reading: JoinHandle<()>) {
    let abort = reading.abort_handle();
    if tokio::time::timeout(crate::child::STOP_PATIENCE, reading).await.is_err() {
        abort.abort();
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that is a shell script.
    async fn script(script: &str) -> Result<Mosquitto, BrokerError> {
        let backend = Backend { name: "process", version: "2".into(), place: "a script".into() };
        let arguments = vec!["-c".into(), script.into(), "sh".into()];
        Mosquitto::launch(Program { path: "/bin/sh".into(), arguments, ends: Ends::ByReaper, backend }, BrokerSpec::plain()).await
    }

    #[tokio::test]
    async fn a_port_that_somebody_took_is_left_to_him() {
        let taken_once = r#"
            said="$(dirname "$2")/said"; port="$(sed -n 's/^listener \([0-9]*\) .*/\1/p' "$2")"
            if [ ! -e "$said" ]; then echo "$port" > "$said"; echo "Error: Address already in use" >&2; exit 1; fi
            echo "first $(cat "$said")" >&2; echo "fake running" >&2; read -r end"#;
        let broker = script(taken_once).await.unwrap();
        assert_eq!(broker.log().tail().len(), 2, "the words of the first start are forgotten");
        let first = broker.log().tail()[0].strip_prefix("first ").unwrap().to_owned();
        assert_ne!(first, broker.endpoint().address.port().to_string());

        let error = script("echo 'Error: Address already in use' >&2; exit 1").await.unwrap_err();
        assert!(error.what.contains("was taken by another program each time"), "{error}");
    }

    #[tokio::test]
    async fn a_broker_that_ended_by_itself_is_started_again() {
        let mut broker = script("echo 'fake running' >&2; read -r end").await.unwrap();
        let (child, _) = broker.child.as_mut().unwrap();
        let first = child.pid();
        let pid = rustix::process::Pid::from_raw(first.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        child.gone().await.unwrap();
        broker.start().await.unwrap();
        assert_ne!(broker.child.as_ref().unwrap().0.pid(), first);
    }
}
