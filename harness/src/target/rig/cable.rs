//! A cable: two threads between a serial port, which blocks, and a console, which does not. A port that goes away is opened again when
//! it comes back.

use super::port::{self, LOOK_EVERY};
use crate::event::{Ended, Source, What};
use crate::trace::tape::Tape;
use crate::verdict::lasting;
use serialport::SerialPort;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long a port may be away: a board that is plugged in again, or whose USB port begins anew after a reset.
pub const AWAY_MAX: Duration = Duration::from_secs(10);
/// Bytes on their way in each direction that nobody has taken.
const AHEAD_MAX: usize = 64 * 1024;
/// How long the thread that writes lets go of the port between two tries.
const YIELD: Duration = Duration::from_millis(1);
/// Bytes of one read or write.
const CHUNK: usize = 4096;

/// A cable that is plugged in. Dropped, it is pulled: its threads end within some tenths of a second.
#[derive(Debug)]
pub struct Cable {
    line: Arc<Line>,
    threads: Vec<JoinHandle<()>>,
}

/// What the two threads share.
#[derive(Debug)]
struct Line {
    path: String,
    baud: u32,
    tape: Mutex<Option<Tape>>,
    pulled: watch::Sender<bool>,
    /// For the thread that writes.
    port: Mutex<Writing>,
    back: Condvar,
}

/// The port, for the thread that writes. It is kept here and nowhere else, so that nobody holds a port that has gone away: the system
/// gives its name to the next one only when its last user lets it go.
#[derive(Debug)]
enum Writing {
    /// Here it is.
    There(Box<dyn SerialPort>),
    /// It has gone away, and may come back.
    Away,
    /// It does not come back.
    Gone,
}

impl Cable {
    /// Plugs the cable in: what the board says, and what it is told. Inside a runtime only.
    ///
    /// # Errors
    /// The port cannot be used twice (to read and to write), or there can be no threads.
    pub fn plug(port: Box<dyn SerialPort>, path: &str, baud: u32) -> io::Result<(Cable, DuplexStream, DuplexStream)> {
        let writing = port.try_clone().map_err(io::Error::from)?;
        let line = Arc::new(Line {
            path: path.to_owned(),
            baud,
            tape: Mutex::default(),
            pulled: watch::Sender::new(false),
            port: Mutex::new(Writing::There(writing)),
            back: Condvar::new(),
        });
        let (says, to_host) = duplex(AHEAD_MAX);
        let (hears, from_host) = duplex(AHEAD_MAX);
        let runtime = (Handle::current(), Handle::current());
        let (listens, tells) = (line.clone(), line.clone());
        let threads = vec![
            std::thread::Builder::new().name("port-says".into()).spawn(move || listens.listen(port, to_host, &runtime.0))?,
            std::thread::Builder::new().name("port-hears".into()).spawn(move || tells.tell(from_host, &runtime.1))?,
        ];
        Ok((Cable { line, threads }, says, hears))
    }

    /// From now on, what happens to the port is told on this tape.
    pub fn tell(&self, tape: &Tape) {
        *lock(&self.line.tape) = Some(tape.clone());
    }

    /// Pulls the cable; returns when its threads have ended and the port is free.
    pub async fn pull(mut self) {
        self.line.pulled.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        let ended = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = ended.await;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.line.pulled.send_replace(true);
    }
}

impl Line {
    fn is_pulled(&self) -> bool {
        *self.pulled.borrow()
    }

    /// What the board says, until nobody listens, the cable is pulled or the port stays away.
    fn listen(&self, mut port: Box<dyn SerialPort>, mut to_host: DuplexStream, runtime: &Handle) {
        let (mut chunk, mut pulled) = ([0; CHUNK], self.pulled.subscribe());
        while !self.is_pulled() {
            let why = match port.read(&mut chunk) {
                Ok(0) => "it ended".to_owned(),
                Ok(read) => {
                    let passed = runtime.block_on(async {
                        tokio::select! {
                            passed = to_host.write_all(&chunk[..read]) => passed.is_ok(),
                            _ = pulled.wait_for(|pulled| *pulled) => false,
                        }
                    });
                    if passed {
                        continue;
                    }
                    break;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => continue,
                Err(error) => error.to_string(),
            };
            drop(port);
            *lock(&self.port) = Writing::Away;
            self.say(What::Note(format!("the port went away: {why}")));
            match self.wait_for_return() {
                Some(back) => port = back,
                None => break,
            }
        }
        *lock(&self.port) = Writing::Gone;
        self.back.notify_all();
    }

    /// The port, when it has come back; none, and a word on the tape, when it has not in time.
    fn wait_for_return(&self) -> Option<Box<dyn SerialPort>> {
        let began = Instant::now();
        while !self.is_pulled() {
            let opened = port::open(&self.path, self.baud).map_err(|error| error.what).and_then(|port| {
                let writing = port.try_clone().map_err(|error| error.to_string())?;
                Ok((port, writing))
            });
            match opened {
                Ok((port, writing)) => {
                    self.say(What::Note(format!("the port came back after {}", lasting(began.elapsed()))));
                    *lock(&self.port) = Writing::There(writing);
                    self.back.notify_all();
                    return Some(port);
                }
                Err(why) if began.elapsed() >= AWAY_MAX => {
                    let why = format!("its port went away and did not come back within {}: could not {why}", lasting(AWAY_MAX));
                    self.say_from(Source::Device, What::Ended(Ended::Lost { why }));
                    return None;
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
        None
    }

    /// What the board is told, until nobody says anything any more, the cable is pulled or the port stays away.
    fn tell(&self, mut from_host: DuplexStream, runtime: &Handle) {
        let (mut chunk, mut pulled) = ([0; CHUNK], self.pulled.subscribe());
        loop {
            let told = runtime.block_on(async {
                tokio::select! {
                    told = from_host.read(&mut chunk) => told.unwrap_or(0),
                    _ = pulled.wait_for(|pulled| *pulled) => 0,
                }
            });
            if told == 0 || self.write(&chunk[..told]).is_err() {
                return;
            }
        }
    }

    /// Writes these bytes, as soon as the port is there. What is left of them when it goes away is lost.
    ///
    /// # Errors
    /// The cable was pulled, or the port stays away.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        let mut port = lock(&self.port);
        while !left.is_empty() {
            if self.is_pulled() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            match &mut *port {
                Writing::There(there) => match there.write(left) {
                    Ok(written) => left = &left[written..],
                    // A board that takes no bytes; whoever tells it notices by a limit of its own. The thread that reads may want the lock.
                    Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {
                        port = self.back.wait_timeout(port, YIELD).unwrap_or_else(PoisonError::into_inner).0;
                    }
                    Err(_) => {
                        *port = Writing::Away;
                        if left.len() < bytes.len() {
                            return Ok(());
                        }
                    }
                },
                Writing::Away => port = self.back.wait_timeout(port, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0,
                Writing::Gone => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
        Ok(())
    }

    fn say(&self, what: What) {
        self.say_from(Source::Runner, what);
    }

    fn say_from(&self, from: Source, what: What) {
        if let Some(tape) = &*lock(&self.tape) {
            tape.say(from, what);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::port::BAUD_DEFAULT;
    use super::super::pty::Socket;
    use super::*;
    use crate::child::PrivateDir;
    use crate::trace::redact::Redactor;

    /// How long whatever a test waits for may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn socket() -> (PrivateDir, Socket, String) {
        let folder = PrivateDir::new("cable").unwrap();
        let path = folder.path().join("port");
        let mut socket = Socket::new(&path).unwrap();
        socket.plug().unwrap();
        (folder, socket, path.to_string_lossy().into_owned())
    }

    fn plug(path: &str) -> (Cable, DuplexStream, DuplexStream) {
        Cable::plug(port::open(path, BAUD_DEFAULT).unwrap(), path, BAUD_DEFAULT).unwrap()
    }

    async fn exchange(socket: &Socket, says: &mut DuplexStream, hears: &mut DuplexStream) {
        let mut bytes = [0; 5];
        let both = async {
            socket.write(b"\xffsaid").await.unwrap();
            says.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"\xffsaid");
            hears.write_all(b"\0told").await.unwrap();
            assert_eq!(socket.read(&mut bytes).await.unwrap(), 5);
            assert_eq!(&bytes, b"\0told");
        };
        tokio::time::timeout(PATIENCE, both).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cable_that_is_pulled_or_dropped_leaves_the_port_to_others() {
        let (_folder, socket, path) = socket();
        let (cable, mut says, mut hears) = plug(&path);
        exchange(&socket, &mut says, &mut hears).await;
        cable.pull().await;
        assert_eq!(tokio::time::timeout(PATIENCE, says.read(&mut [0])).await.unwrap().unwrap(), 0);

        // At once; after a drop within some tenths of a second.
        drop(plug(&path));
        let began = Instant::now();
        while port::open(&path, BAUD_DEFAULT).is_err() {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_that_comes_back_goes_on_in_the_same_console() {
        let (_folder, mut socket, path) = socket();
        let (cable, mut says, mut hears) = plug(&path);
        let (tape, mut events) = Tape::new(Redactor::new());
        cable.tell(&tape);
        for _ in 0..2 {
            exchange(&socket, &mut says, &mut hears).await;
            socket.unplug();
            let note = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap().what;
            assert!(matches!(&note, What::Note(note) if note.starts_with("the port went away")), "{note}");
            // Told while it is away, heard when it is back.
            hears.write_all(b"kept").await.unwrap();
            socket.plug().unwrap();
            let note = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap().what;
            assert!(matches!(&note, What::Note(note) if note.starts_with("the port came back")), "{note}");
            let mut bytes = [0; 16];
            let read = tokio::time::timeout(PATIENCE, socket.read(&mut bytes)).await.unwrap().unwrap();
            assert_eq!(&bytes[..read], b"kept");
        }
        cable.pull().await;
    }
}
