//! The one place where streams come from: outgoing connections over the board's network stack, IPv4.

use crate::clock::ticks;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::IpAddr;
use core::time::Duration;
use critical_section::Mutex;
use device_core::input::{NetFailure, NetFailureKind};
use embassy_net::dns::{DnsQueryType, Error as DnsError};
use embassy_net::tcp::{ConnectError, Error, TcpReader, TcpSocket, TcpWriter};
use embassy_net::{IpAddress, IpEndpoint, Stack};
use embassy_time::{Instant, with_deadline, with_timeout};
use embedded_io_async::{ErrorType, Read, Write};

/// The addresses of one host name that are tried, at most.
pub const ADDRESSES_MAX: usize = 4;
/// The bytes that may wait in each direction of a connection, beside those that TLS keeps.
pub const WINDOW: usize = 2048;
/// How long a connection that has ended may take to say so (wall clock).
pub const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// When a byte last came over any connection; one processor, one task.
static HEARD: Mutex<Cell<Instant>> = Mutex::new(Cell::new(Instant::MIN));

/// When a byte last came over any connection, be it in the middle of a record.
pub(crate) fn last_heard() -> Instant {
    critical_section::with(|cs| HEARD.borrow(cs).get())
}

fn note_heard() {
    critical_section::with(|cs| HEARD.borrow(cs).set(Instant::now()));
}

/// The memory of one connection.
pub(crate) struct Buffers {
    receive: Box<[u8]>,
    send: Box<[u8]>,
}

impl Buffers {
    pub fn new() -> Buffers {
        Buffers { receive: vec![0; WINDOW].into(), send: vec![0; WINDOW].into() }
    }
}

/// An open connection.
pub(crate) struct Stream<'a>(TcpSocket<'a>);

impl<'a> Stream<'a> {
    /// Opens a stream to `host` (name or IPv4 address) before `by`; tries each of the host's addresses in turn, the time that is left shared
    /// evenly among those that are left.
    ///
    /// # Errors
    /// No such host, or the failure of the address tried last.
    pub async fn connect(
        stack: Stack<'a>,
        buffers: &'a mut Buffers,
        host: &str,
        port: u16,
        by: Instant,
    ) -> Result<Stream<'a>, NetFailure> {
        let addresses = resolve(stack, host, by).await?;
        let mut socket = TcpSocket::new(stack, &mut buffers.receive, &mut buffers.send);
        // Small packets that await an answer: Nagle's algorithm would only delay them.
        socket.set_nagle_enabled(false);
        let mut last = failure(NetFailureKind::NoSuchHost, format!("{host} has no address"));
        for (i, address) in addresses.iter().enumerate() {
            let left = by.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
            let endpoint = IpEndpoint::new(*address, port);
            last = match with_timeout(share, socket.connect(endpoint)).await {
                Ok(Ok(())) => return Ok(Stream(socket)),
                Ok(Err(e)) => connect_failure(e, endpoint),
                Err(_) => {
                    failure(NetFailureKind::TimedOut, format!("connect to {endpoint}: no answer in {} ms", share.as_millis()))
                }
            };
            socket.abort();
        }
        Err(last)
    }

    /// Says that nothing more comes, and takes what still comes, so that the last bytes are not reset; for `GOODBYE_LIMIT` at most.
    pub async fn close(mut self) {
        let closing = async {
            self.0.close();
            let mut rest = [0; 128];
            while self.0.read(&mut rest).await.is_ok_and(|n| n > 0) {}
            self.0.flush().await
        };
        if !matches!(with_timeout(ticks(GOODBYE_LIMIT), closing).await, Ok(Ok(()))) {
            self.0.abort();
            // The reset goes out with the next packet of the stack.
            let _ = with_timeout(ticks(GOODBYE_LIMIT), self.0.flush()).await;
        }
    }
}

impl ErrorType for Stream<'_> {
    type Error = Error;
}

impl Read for Stream<'_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let count = self.0.read(bytes).await?;
        note_heard();
        Ok(count)
    }
}

impl Write for Stream<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.write(bytes).await
    }

    /// Does not wait until the peer has acknowledged everything, as the socket's own flush would.
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl mbedtls_rs::Split for Stream<'_> {
    type Read<'s>
        = Noted<'s>
    where
        Self: 's;
    type Write<'s>
        = Unflushed<'s>
    where
        Self: 's;

    fn split(&mut self) -> (Noted<'_>, Unflushed<'_>) {
        let (reader, writer) = self.0.split();
        (Noted(reader), Unflushed(writer))
    }
}

/// A reader whose bytes are noted.
pub(crate) struct Noted<'a>(TcpReader<'a>);

impl ErrorType for Noted<'_> {
    type Error = Error;
}

impl Read for Noted<'_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let count = self.0.read(bytes).await?;
        note_heard();
        Ok(count)
    }
}

/// A writer whose flush waits for nobody.
pub(crate) struct Unflushed<'a>(TcpWriter<'a>);

impl ErrorType for Unflushed<'_> {
    type Error = Error;
}

impl Write for Unflushed<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The addresses of a host: what it says, if it is an IPv4 address; what the name server says, if it is a name.
///
/// # Errors
/// The name does not resolve, or not in time.
pub(crate) async fn resolve(stack: Stack<'_>, host: &str, by: Instant) -> Result<Vec<IpAddress>, NetFailure> {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => return Ok(vec![IpAddress::Ipv4(ip)]),
        Ok(IpAddr::V6(_)) => return Err(failure(NetFailureKind::Unreachable, format!("reach {host}: no route, IPv4 only"))),
        Err(_) => {}
    }
    match with_deadline(by, stack.dns_query(host, DnsQueryType::A)).await {
        Ok(Ok(found)) => Ok(found.iter().copied().take(ADDRESSES_MAX).collect()),
        Ok(Err(e)) => {
            let why = match e {
                DnsError::InvalidName => "not a name",
                DnsError::NameTooLong => "too long",
                DnsError::Failed => "the name server does not know it",
            };
            Err(failure(NetFailureKind::NoSuchHost, format!("look up {host}: {why}")))
        }
        Err(_) => Err(failure(NetFailureKind::TimedOut, format!("look up {host}: no answer in time"))),
    }
}

/// Takes `host[:port]` apart: a name, an IPv4 address, an IPv6 address bare or in brackets. `None`: not of that form.
pub(crate) fn host_and_port(text: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        match after {
            "" => (host, default),
            _ => (host, after.strip_prefix(':')?.parse().ok()?),
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (text, default),
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, default),
        }
    };
    (!host.is_empty()).then_some((host, port))
}

/// A failure of this kind.
pub(crate) fn failure(kind: NetFailureKind, text: impl Into<String>) -> NetFailure {
    NetFailure { kind, text: text.into() }
}

fn connect_failure(e: ConnectError, to: IpEndpoint) -> NetFailure {
    let (kind, why) = match e {
        ConnectError::ConnectionReset => (NetFailureKind::Refused, "refused"),
        ConnectError::TimedOut => (NetFailureKind::TimedOut, "no answer"),
        ConnectError::NoRoute => (NetFailureKind::Unreachable, "no route"),
        ConnectError::InvalidState => (NetFailureKind::Unreachable, "the socket is in use"),
    };
    failure(kind, format!("connect to {to}: {why}"))
}

/// The failure that an error of a bare stream stands for; `what` was being done.
pub(crate) fn stream_failure(e: &Error, what: &str) -> NetFailure {
    let Error::ConnectionReset = e;
    failure(NetFailureKind::Reset, format!("{what}: the connection was reset"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_apart() {
        assert_eq!(host_and_port("time.test", 123), Some(("time.test", 123)));
        assert_eq!(host_and_port("10.0.2.2:9", 123), Some(("10.0.2.2", 9)));
        assert_eq!(host_and_port("::1", 123), Some(("::1", 123)));
        assert_eq!(host_and_port("[::1]:9", 123), Some(("::1", 9)));
        for wrong in ["", ":9", "a:b", "a:70000", "[::1", "[::1]9", "[]:9"] {
            assert_eq!(host_and_port(wrong, 123), None, "{wrong}");
        }
    }
}
