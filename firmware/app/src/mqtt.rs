//! The stream to the broker: opening it, and carrying bytes both ways with bounds, in one errand from its first packet to its last.

use crate::clock::ticks;
use crate::net::{Buffers, Stream, failure, stream_failure};
use crate::tls::{Client, Library, Terms, handshake, session_failure};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::pin;
use core::time::Duration;
use device_core::config::Security;
use device_core::input::{NetFailure, NetFailureKind};
use device_core::output::{CONNECT_LIMIT, Connect};
use device_core::time::UnixTime;
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::channel::Channel;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, with_timeout};
use embedded_io_async::{Read, Write};

/// Bytes that wait for a broker that does not read; more end the connection.
pub const UNSENT_LIMIT: usize = 32 * 1024;
/// How long a connection whose writing has failed is still read (wall clock): the reason, such as a TLS alert, may be on its way.
pub const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);
/// How long a connection that the device has closed may take to hand over what was sent before (wall clock).
pub const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// Chunks that were received and not taken; reading stops until they are.
const SAID_MAX: usize = 2;
const CHUNK: usize = 1024;
/// The bytes that are sent together, at most.
const BATCH: usize = 4096;

/// What a connection tells the shell.
pub(crate) enum Said {
    /// It is open.
    Open,
    /// It did not come about; nothing follows.
    Failed(NetFailure),
    /// Bytes came.
    Bytes(Vec<u8>),
    /// It has ended; nothing follows.
    Ended(NetFailure),
}

/// The shell's end of a connection to the broker; [`carry`] has the other.
#[derive(Clone)]
pub(crate) struct Link(Rc<Ends>);

struct Ends {
    said: Channel<NoopRawMutex, Said, SAID_MAX>,
    unsent: RefCell<VecDeque<u8>>,
    more: Signal<NoopRawMutex, ()>,
    overrun: Cell<bool>,
    closed: Cell<bool>,
    closing: Signal<NoopRawMutex, ()>,
}

impl Link {
    pub fn new() -> Link {
        Link(Rc::new(Ends {
            said: Channel::new(),
            unsent: RefCell::new(VecDeque::new()),
            more: Signal::new(),
            overrun: Cell::new(false),
            closed: Cell::new(false),
            closing: Signal::new(),
        }))
    }

    /// Sends, as soon as the broker takes it.
    pub fn send(&self, bytes: &[u8]) {
        let mut unsent = self.0.unsent.borrow_mut();
        if unsent.len() + bytes.len() > UNSENT_LIMIT {
            self.0.overrun.set(true);
        } else {
            unsent.extend(bytes);
        }
        self.0.more.signal(());
    }

    /// What the connection says next. Safe to drop while waiting.
    pub async fn hear(&self) -> Said {
        self.0.said.receive().await
    }

    /// Has it end like this, before anything else that it has to say.
    pub fn fail(&self, said: Said) {
        self.close();
        self.0.said.clear();
        // There is room: the line was emptied, and the connection says nothing any more.
        let _ = self.0.said.try_send(said);
    }

    /// Closes: what was sent is handed over, and nothing is said any more.
    pub fn close(&self) {
        self.0.closed.set(true);
        self.0.closing.signal(());
        self.0.more.signal(());
    }

    /// The next bytes to send, in one record: all that wait, up to what a record holds.
    fn batch(&self) -> Option<Vec<u8>> {
        let mut unsent = self.0.unsent.borrow_mut();
        let n = unsent.len().min(BATCH);
        let batch: Vec<u8> = unsent.drain(..n).collect();
        if unsent.is_empty() {
            *unsent = VecDeque::new();
        }
        (!batch.is_empty()).then_some(batch)
    }

    async fn say(&self, said: Said) {
        if !self.0.closed.get() {
            select(self.0.said.send(said), self.closed()).await;
        }
    }

    async fn closed(&self) {
        if !self.0.closed.get() {
            self.0.closing.wait().await;
        }
    }
}

/// A connection's whole life: opens the stream that the device asks for, TLS included, within `CONNECT_LIMIT`, and carries it.
pub(crate) async fn carry(stack: Stack<'static>, library: Library, wish: Box<Connect>, date: Option<UnixTime>, link: Link) {
    let by = Instant::now() + ticks(library.limit(CONNECT_LIMIT));
    let Connect { host, port, security, trust, identity, tls_versions: versions } = *wish;
    let client = match security {
        Security::Plain => None,
        Security::ServerTls | Security::MutualTls => {
            let identity = identity.as_ref().filter(|_| security == Security::MutualTls);
            match (Terms { trust: &trust, identity, versions, date }).client() {
                Ok(client) => Some(client),
                Err(why) => return link.say(Said::Failed(why)).await,
            }
        }
    };
    drop((trust, identity));
    let mut buffers = Buffers::new();
    let mut stream = match select(Stream::connect(stack, &mut buffers, &host, port, by), link.closed()).await {
        Either::First(Ok(stream)) => stream,
        Either::First(Err(why)) => return link.say(Said::Failed(why)).await,
        Either::Second(()) => return,
    };
    match client {
        None => {
            link.say(Said::Open).await;
            let (reader, writer) = mbedtls_rs::Split::split(&mut stream);
            exchange(&link, reader, writer, |e| stream_failure(e, "the broker's stream")).await;
        }
        Some(client) => secured(library, &mut stream, &host, client, by, &link).await,
    }
    stream.close().await;
}

async fn secured(library: Library, stream: &mut Stream<'_>, host: &str, client: Client, by: Instant, link: &Link) {
    let mut session = match select(handshake(library, stream, host, client, by), link.closed()).await {
        Either::First(Ok(session)) => session,
        Either::First(Err(why)) => return link.say(Said::Failed(why)).await,
        Either::Second(()) => return,
    };
    link.say(Said::Open).await;
    match session.split().await {
        Ok((reader, writer)) => exchange(link, reader, writer, |e| session_failure(e, 0, "the broker's stream")).await,
        Err(e) => return link.say(Said::Ended(session_failure(&e, 0, "the broker's stream"))).await,
    }
    // Nobody waits for this connection any more, however it ends.
    let _ = with_timeout(ticks(LINGER_LIMIT), session.close()).await;
}

/// Carries bytes both ways until either side ends it.
async fn exchange<E>(
    link: &Link,
    mut reader: impl Read<Error = E>,
    mut writer: impl Write<Error = E>,
    why: impl Fn(&E) -> NetFailure,
) {
    let reading = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk).await {
                Ok(0) => break failure(NetFailureKind::Ended, "the broker closed the connection"),
                Ok(n) => link.say(Said::Bytes(chunk[..n].to_vec())).await,
                Err(e) => break why(&e),
            }
        }
    };
    let writing = async {
        loop {
            while let Some(batch) = link.batch() {
                if let Err(e) = writer.write_all(&batch).await {
                    return Some(why(&e));
                }
                if let Err(e) = writer.flush().await {
                    return Some(why(&e));
                }
            }
            if link.0.closed.get() {
                return None;
            }
            if link.0.overrun.get() {
                return Some(failure(NetFailureKind::Reset, format!("the broker has not read {UNSENT_LIMIT} bytes")));
            }
            link.0.more.wait().await;
        }
    };
    let mut reading = pin!(reading);
    let ended = match select(&mut reading, writing).await {
        Either::First(why) => why,
        Either::Second(None) => return,
        Either::Second(Some(first)) => match with_timeout(ticks(LAST_WORDS_LIMIT), reading).await {
            // An alert tells more than the failed write that it caused; a mere end does not.
            Ok(why) if why.kind == NetFailureKind::Alert => why,
            _ => first,
        },
    };
    link.say(Said::Ended(ended)).await;
}
