//! The one place where streams come from: outgoing connections, listeners and datagrams, TCP and UDP today.

use device_core::input::{NetFailure, NetFailureKind};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// The addresses of one host name that are tried, at most.
pub const ADDRESSES_MAX: usize = 8;

/// A two-way stream of bytes, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream that has forgotten what carries it.
pub type BoxStream = Box<dyn Stream>;

/// Where a twin's streams come from. The only kind today is the operating system's TCP and UDP.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Net {}

impl Net {
    /// The operating system's network.
    pub fn tcp() -> Net {
        Net {}
    }

    /// Opens a stream to `host` (name, IPv4 or IPv6 address) before `by`; tries each of the host's addresses in turn, the time
    /// that is left shared evenly among those that are left.
    ///
    /// # Errors
    /// No such host, or the failure of the address tried last.
    pub(crate) async fn connect(&self, host: &str, port: u16, by: Instant) -> Result<BoxStream, NetFailure> {
        let addresses = resolve(host.trim_start_matches('[').trim_end_matches(']'), port, by).await?;
        let mut last = failure(NetFailureKind::NoSuchHost, format!("{host} has no address"));
        for (i, address) in addresses.iter().enumerate() {
            let left = by.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
            last = match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small packets that await an answer: Nagle's algorithm would only delay them. A stream that has just died says so later.
                    let _ = stream.set_nodelay(true);
                    return Ok(Box::new(stream));
                }
                Ok(Err(e)) => io_failure(&e, &format!("connect to {address}")),
                Err(_) => failure(NetFailureKind::TimedOut, format!("connect to {address}: no answer in {} ms", share.as_millis())),
            };
        }
        Err(last)
    }

    /// Listens on this address; port 0 chooses a free one.
    ///
    /// # Errors
    /// What the operating system says, such as an address in use.
    pub(crate) async fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Listener { listener, address })
    }

    /// Opens a datagram socket that talks to `host` only.
    ///
    /// # Errors
    /// No such host, or no route to it.
    pub(crate) async fn datagrams(&self, host: &str, port: u16, by: Instant) -> Result<UdpSocket, NetFailure> {
        let mut last = failure(NetFailureKind::NoSuchHost, format!("{host} has no address"));
        for address in resolve(host, port, by).await? {
            let local: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
            let opened = async {
                let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
                socket.connect(address).await?;
                Ok::<_, io::Error>(socket)
            };
            match opened.await {
                Ok(socket) => return Ok(socket),
                Err(e) => last = io_failure(&e, &format!("reach {address}")),
            }
        }
        Err(last)
    }
}

/// An open door.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next caller. Safe to drop while waiting.
    ///
    /// # Errors
    /// Such as no descriptor left; the caller should pause before it asks again.
    pub async fn accept(&self) -> io::Result<BoxStream> {
        let (stream, _) = self.listener.accept().await?;
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
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

async fn resolve(host: &str, port: u16, by: Instant) -> Result<Vec<SocketAddr>, NetFailure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    match timeout_at(by, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => Ok(found.take(ADDRESSES_MAX).collect()),
        Ok(Err(e)) => Err(failure(NetFailureKind::NoSuchHost, format!("look up {host}: {e}"))),
        Err(_) => Err(failure(NetFailureKind::TimedOut, format!("look up {host}: no answer in time"))),
    }
}

/// A failure of this kind.
pub(crate) fn failure(kind: NetFailureKind, text: impl Into<String>) -> NetFailure {
    NetFailure { kind, text: text.into() }
}

/// The failure that an I/O error of a bare stream stands for; `what` was being done.
pub(crate) fn io_failure(e: &io::Error, what: &str) -> NetFailure {
    let kind = match e.kind() {
        io::ErrorKind::ConnectionRefused => NetFailureKind::Refused,
        io::ErrorKind::TimedOut => NetFailureKind::TimedOut,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::WriteZero
        | io::ErrorKind::UnexpectedEof => NetFailureKind::Reset,
        _ => NetFailureKind::Unreachable,
    };
    failure(kind, format!("{what}: {e}"))
}

/// A limit that ends so much later from now.
pub(crate) fn limit(d: Duration) -> Instant {
    Instant::now() + d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_apart() {
        assert_eq!(host_and_port("time.test", 123), Some(("time.test", 123)));
        assert_eq!(host_and_port("time.test:9", 123), Some(("time.test", 9)));
        assert_eq!(host_and_port("127.0.0.1:9", 123), Some(("127.0.0.1", 9)));
        assert_eq!(host_and_port("::1", 123), Some(("::1", 123)));
        assert_eq!(host_and_port("[::1]", 123), Some(("::1", 123)));
        assert_eq!(host_and_port("[::1]:9", 123), Some(("::1", 9)));
        for wrong in ["", ":9", "a:b", "a:70000", "[::1", "[::1]9", "[]:9"] {
            assert_eq!(host_and_port(wrong, 123), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_refuses_and_a_strange_name_does_not_resolve() {
        let port = Net::tcp().listen("127.0.0.1:0".parse().unwrap()).await.unwrap().address().port();
        let e = Net::tcp().connect("127.0.0.1", port, limit(Duration::from_secs(5))).await.err().unwrap();
        assert_eq!(e.kind, NetFailureKind::Refused, "{}", e.text);
        let e = Net::tcp().connect("no-such-host.invalid", 1, limit(Duration::from_secs(5))).await.err().unwrap();
        assert!(matches!(e.kind, NetFailureKind::NoSuchHost | NetFailureKind::TimedOut), "{}", e.text);
    }
}
