//! A serial port that is none: a pseudo-terminal at a path that stays, which can be unplugged and plugged in again.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::unix::pipe::{Receiver, Sender};

/// How long the port waits for whoever has it open to read; after that it counts as nobody's, and what is said is lost, as on a wire.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// A socket in the wall: a path, and the port behind it while it is plugged in.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    plugged: Option<Plugged>,
}

#[derive(Debug)]
struct Plugged {
    told: Receiver,
    says: Sender,
    /// Nobody took what was said last.
    deaf: AtomicBool,
    /// Held so that a port that nobody has open is silent, and no error.
    _device: OwnedFd,
}

impl Socket {
    /// A socket at this path, with nothing in it. A link that is there already is replaced; anything else is left alone.
    ///
    /// # Errors
    /// Something else is there.
    pub fn new(path: &Path) -> io::Result<Socket> {
        match path.symlink_metadata() {
            Ok(there) if !there.is_symlink() => Err(io::ErrorKind::AlreadyExists.into()),
            _ => Ok(Socket { path: path.to_owned(), plugged: None }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new port, and the path lead to it. Inside a runtime only.
    ///
    /// # Errors
    /// There can be no more pseudo-terminals, or no link there.
    pub fn plug(&mut self) -> io::Result<()> {
        self.unplug();
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&host)?;
        unlockpt(&host)?;
        let name = ptsname(&host, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let device = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty())?;
        // Until somebody opens it and sets it as he likes, nothing is echoed back to the board.
        let mut settings = tcgetattr(&device)?;
        settings.make_raw();
        tcsetattr(&device, OptionalActions::Now, &settings)?;
        fcntl_setfl(&host, fcntl_getfl(&host)? | OFlags::NONBLOCK)?;
        let beside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&beside);
        std::os::unix::fs::symlink(OsStr::from_bytes(name.to_bytes()), &beside)?;
        std::fs::rename(&beside, &self.path)?;
        // No pipe, but read and written like one.
        let told = Receiver::from_owned_fd_unchecked(host.try_clone()?)?;
        let says = Sender::from_owned_fd_unchecked(host)?;
        self.plugged = Some(Plugged { told, says, deaf: AtomicBool::new(false), _device: device });
        Ok(())
    }

    /// Takes the port away: whoever has it open hears that it ended.
    pub fn unplug(&mut self) {
        if self.plugged.take().is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// The next bytes that the board is told; for ever none while nothing is plugged in. Safe to drop while waiting.
    ///
    /// # Errors
    /// As the port's.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let Some(Plugged { told, .. }) = &self.plugged else { return std::future::pending().await };
        loop {
            told.readable().await?;
            match told.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Says these bytes to whoever has the port open. What nobody takes is lost.
    ///
    /// # Errors
    /// As the port's.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(Plugged { says, deaf, .. }) = &self.plugged else { return Ok(()) };
        while !bytes.is_empty() {
            let patience = if deaf.load(Ordering::Relaxed) { Duration::ZERO } else { TAKEN_WITHIN };
            let Ok(ready) = tokio::time::timeout(patience, says.writable()).await else {
                deaf.store(true, Ordering::Relaxed);
                return Ok(());
            };
            ready?;
            match says.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    bytes = &bytes[written?..];
                    deaf.store(false, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.unplug();
    }
}

#[cfg(test)]
mod tests {
    use super::super::port;
    use super::*;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn a_port_can_be_used_and_goes_away_and_comes_back_at_its_path() {
        let folder = crate::child::PrivateDir::new("pty").unwrap();
        let path = folder.path().join("port");
        let mut socket = Socket::new(&path).unwrap();
        for _ in 0..2 {
            socket.plug().unwrap();
            let mut open = port::open(&path.to_string_lossy(), port::BAUD_DEFAULT).unwrap();
            socket.write(b"\x00\xffsaid\r\n").await.unwrap();
            let mut said = [0; 8];
            open.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"\x00\xffsaid\r\n");
            open.write_all(b"told\n").unwrap();
            let mut told = [0; 16];
            let count = socket.read(&mut told).await.unwrap();
            assert_eq!(&told[..count], b"told\n");
            socket.unplug();
            assert!(!path.exists() && open.read(&mut said).is_err_and(|e| e.kind() != io::ErrorKind::TimedOut));
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_is_lost() {
        let folder = crate::child::PrivateDir::new("pty").unwrap();
        let mut socket = Socket::new(&folder.path().join("port")).unwrap();
        socket.write(b"into the void").await.unwrap();
        socket.plug().unwrap();
        tokio::time::timeout(Duration::from_secs(30), socket.write(&[b'x'; 1 << 20])).await.unwrap().unwrap();
    }

    #[test]
    fn what_is_no_link_is_left_alone() {
        assert!(Socket::new(Path::new("/")).is_err());
    }
}
