//! The stream to the broker: opening it, and carrying bytes both ways with bounds.

use crate::net::{BoxStream, Net, failure, limit};
use crate::tls::{LastClient, Terms, handshake, stream_failure};
use device_core::config::Security;
use device_core::input::{NetFailure, NetFailureKind};
use device_core::output::{CONNECT_LIMIT, Connect};
use device_core::time::UnixTime;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

/// Bytes that wait for a broker that does not read; more end the connection.
pub const UNSENT_LIMIT: usize = 256 * 1024;
/// How long a connection whose writing has failed is still read (wall clock): the reason, such as a TLS alert, may be on its way.
pub const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);
/// How long a connection that the device has closed may take to hand over what was sent before (wall clock).
pub const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// Bytes read at once; a fleet has as many of these as devices.
const CHUNK: usize = 512;

/// Opens the stream that the device asks for, TLS included, within `CONNECT_LIMIT`.
///
/// # Errors
/// Why there is none.
pub(crate) async fn open(net: Net, last: LastClient, wish: Box<Connect>, date: Option<UnixTime>) -> Result<Link, NetFailure> {
    let by = limit(CONNECT_LIMIT);
    let client = match wish.security {
        Security::Plain => None,
        Security::ServerTls | Security::MutualTls => {
            let identity = wish.identity.as_ref().filter(|_| wish.security == Security::MutualTls);
            Some(last.client(&Terms { trust: &wish.trust, identity, versions: wish.tls_versions, date })?)
        }
    };
    let stream = net.connect(&wish.host, wish.port, by).await?;
    Ok(Link::new(match client {
        None => stream,
        Some(client) => handshake(stream, &wish.host, client, by).await?,
    }))
}

/// An open stream to the broker.
pub(crate) struct Link {
    stream: BoxStream,
    unsent: VecDeque<u8>,
    chunk: Box<[u8; CHUNK]>,
    /// Writing has failed for this reason; reading goes on until the timer says so.
    broken: Option<(NetFailure, Pin<Box<Sleep>>)>,
}

impl Link {
    fn new(stream: BoxStream) -> Link {
        Link { stream, unsent: VecDeque::new(), chunk: Box::new([0; CHUNK]), broken: None }
    }

    /// Sends: what the system takes at once is gone at once, the rest follows while [`Link::receive`] is awaited.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if self.unsent.len() + bytes.len() > UNSENT_LIMIT {
            self.break_off(failure(NetFailureKind::Reset, format!("the broker has not read {UNSENT_LIMIT} bytes")));
            return;
        }
        self.unsent.extend(bytes);
        let _ = self.poll_write(&mut Context::from_waker(Waker::noop()));
    }

    /// The bytes that come next, or why none will. Safe to drop while waiting.
    pub async fn receive(&mut self) -> Result<&[u8], NetFailure> {
        let read = poll_fn(|cx| {
            let _ = self.poll_write(cx);
            let mut buffer = ReadBuf::new(&mut self.chunk[..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => return Poll::Ready(Ok(buffer.filled().len())),
                Poll::Ready(Ok(())) => return Poll::Ready(Err(failure(NetFailureKind::Ended, "the broker closed the connection"))),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(stream_failure(&e, "read from the broker"))),
                Poll::Pending => {}
            }
            match &mut self.broken {
                Some((_, timer)) => timer.as_mut().poll(cx).map(|()| Ok(0)),
                None => Poll::Pending,
            }
        })
        .await;
        match (read, &self.broken) {
            (Ok(0), Some((why, _))) => Err(why.clone()),
            (Ok(n), _) => Ok(&self.chunk[..n]),
            // An alert tells more than the failed write that it caused; a mere end does not.
            (Err(why), Some((first, _))) if why.kind != NetFailureKind::Alert => Err(first.clone()),
            (Err(why), _) => Err(why),
        }
    }

    /// Hands over what was sent, closes in good order, and takes what still comes, so that the system does not reset the connection under
    /// the last packet.
    pub async fn close(mut self) {
        let closing = async {
            while !self.unsent.is_empty() && self.broken.is_none() {
                poll_fn(|cx| self.poll_write(cx)).await;
            }
            self.stream.shutdown().await?;
            while self.stream.read(&mut self.chunk[..]).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // Nobody waits for this connection any more, however it ends.
        let _ = timeout(LINGER_LIMIT, closing).await;
    }

    fn break_off(&mut self, why: NetFailure) {
        self.unsent = VecDeque::new();
        self.broken = Some((why, Box::pin(sleep(LAST_WORDS_LIMIT))));
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.unsent.is_empty() {
            let (front, _) = self.unsent.as_slices();
            match Pin::new(&mut self.stream).poll_write(cx, front) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => drop(self.unsent.drain(..n)),
                Poll::Ready(Ok(_)) => self.break_off(failure(NetFailureKind::Reset, "write to the broker: nothing is taken")),
                Poll::Ready(Err(e)) => self.break_off(stream_failure(&e, "write to the broker")),
            }
        }
        if self.unsent.capacity() > CHUNK {
            self.unsent = VecDeque::new();
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(e)) if self.broken.is_none() => {
                self.break_off(stream_failure(&e, "write to the broker"));
                Poll::Ready(())
            }
            other => other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tokio::io::duplex;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_is_told() {
        let (ours, mut theirs) = duplex(8);
        let mut link = Link::new(Box::new(ours));
        link.send(b"0123456789abcdef");
        let peer = tokio::spawn(async move {
            let mut read = [0; 16];
            theirs.read_exact(&mut read).await.unwrap();
            theirs.write_all(b"ack").await.unwrap();
            read
        });
        assert_eq!(link.receive().await.unwrap(), b"ack");
        assert_eq!(&peer.await.unwrap(), b"0123456789abcdef");
        assert_eq!(link.receive().await.unwrap_err().kind, NetFailureKind::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_never_reads_costs_a_bounded_memory() {
        let (ours, _theirs) = duplex(8);
        let mut link = Link::new(Box::new(ours));
        for _ in 0..1000 {
            link.send(&[0; 1024]);
        }
        assert!(link.unsent.len() <= UNSENT_LIMIT);
        let why = link.receive().await.unwrap_err();
        assert_eq!(why.kind, NetFailureKind::Reset);
        assert!(why.text.contains("has not read"), "{}", why.text);
    }

    /// The other side has gone, and has said why before.
    struct Refusing;

    impl AsyncRead for Refusing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_alert_tells_more_than_the_write_it_broke() {
        let mut link = Link::new(Box::new(Refusing));
        link.send(b"CONNECT");
        let why = link.receive().await.unwrap_err();
        assert_eq!(why.kind, NetFailureKind::Alert);
        assert!(why.text.contains("certificate_revoked"), "{}", why.text);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_hands_over_what_was_sent() {
        let (ours, mut theirs) = duplex(4);
        let mut link = Link::new(Box::new(ours));
        link.send(b"goodbye");
        let peer = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        link.close().await;
        assert_eq!(peer.await.unwrap(), b"goodbye");
        // And a peer that takes nothing does not hold it for ever.
        let (ours, _theirs) = duplex(4);
        let mut link = Link::new(Box::new(ours));
        link.send(b"goodbye");
        link.close().await;
    }
}
