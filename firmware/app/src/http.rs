//! The HTTP server of the provisioning API: reads requests within limits, hands them to the device, writes its answers.

use crate::clock::ticks;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;
use device_core::input::Request;
use device_core::output::{RequestId, Response};
use device_core::provisioning::BODY_LIMIT;
use embassy_net::Stack;
use embassy_net::tcp::TcpSocket;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::channel::Channel;
use embassy_sync::signal::Signal;
use embassy_time::{Timer, with_timeout};
use embedded_io_async::Write as _;

/// The port it listens on.
pub const PORT: u16 = 80;
/// Connections served at once; more are refused by the network stack, which has no backlog.
pub const CONNECTIONS_MAX: usize = 4;
/// How long a request's head may take, and how long a connection may rest between requests.
pub const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a request's body may take as a whole.
pub const BODY_READ_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last, whatever is done on it.
pub const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// The bytes of the largest request head; half of what the twin takes, since each connection may hold so much of the heap.
pub const HEAD_BYTES_MAX: usize = 4 * 1024;
/// The most header lines of a request.
const HEADERS_MAX: usize = 64;
/// What an aborted request may still send before its connection is dropped, so that its sender reads the answer.
const DRAIN_BYTES_MAX: usize = 256 * 1024;
/// How long the last answer of a connection may take to arrive: a packet that is lost is sent again after one second, then after two more.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The bytes that may wait in each direction of a connection.
const WINDOW: usize = 1024;
const CHUNK: usize = 512;

/// A request that has been read.
pub(crate) struct OwnedRequest {
    method: String,
    path: String,
    authorization: Option<String>,
    content_type: Option<String>,
    body: Vec<u8>,
}

impl OwnedRequest {
    /// As the device reads it.
    pub fn as_request(&self) -> Request<'_> {
        Request {
            // RFC 9110 section 9.3.2: HEAD is GET whose answer has no body, which the server sees to.
            method: if self.method == "HEAD" { "GET" } else { &self.method },
            path: &self.path,
            authorization: self.authorization.as_deref(),
            content_type: self.content_type.as_deref(),
            body: &self.body,
        }
    }
}

/// Where requests come in and answers go out.
pub(crate) struct Desk {
    asked: Channel<NoopRawMutex, (RequestId, OwnedRequest), CONNECTIONS_MAX>,
    places: [Place; CONNECTIONS_MAX],
    next: Cell<u64>,
    /// An answer has arrived, or never will.
    delivered: Signal<NoopRawMutex, ()>,
}

/// One connection's place at the desk.
#[derive(Default)]
struct Place {
    waits_for: Cell<Option<RequestId>>,
    /// An answer is on its way there.
    answering: Cell<bool>,
    answer: Signal<NoopRawMutex, Response>,
}

impl Desk {
    pub fn new() -> Desk {
        Desk { asked: Channel::new(), places: Default::default(), next: Cell::new(1), delivered: Signal::new() }
    }

    /// The next request. Safe to drop while waiting.
    pub async fn ask(&self) -> (RequestId, OwnedRequest) {
        self.asked.receive().await
    }

    /// Answers; somebody who has left meanwhile gets nothing.
    pub fn respond(&self, id: RequestId, response: Response) {
        if let Some(place) = self.places.iter().find(|p| p.waits_for.get() == Some(id)) {
            place.answering.set(true);
            place.answer.signal(response);
        }
    }

    /// Waits until every answer that was given has reached its asker, or never will. Safe to drop while waiting.
    pub async fn answered(&self) {
        while self.places.iter().any(|p| p.answering.get()) {
            self.delivered.wait().await;
        }
    }

    /// Whether somebody waits for an answer of the device.
    pub fn is_asked(&self) -> bool {
        self.places.iter().any(|p| p.waits_for.get().is_some())
    }

    async fn answer(&self, place: usize, request: OwnedRequest) -> Response {
        let id = RequestId(self.next.get());
        self.next.set(id.0 + 1);
        let place = &self.places[place];
        place.answer.reset();
        place.waits_for.set(Some(id));
        let _leave = Leave(place);
        self.asked.send((id, request)).await;
        place.answer.wait().await
    }
}

/// Leaves the place when the connection does.
struct Leave<'a>(&'a Place);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.waits_for.set(None);
    }
}

/// The end of an answer's way: it has arrived, or the connection has gone.
struct Delivery<'a>(&'a Desk, usize);

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if self.0.places[self.1].answering.take() {
            self.0.delivered.signal(());
        }
    }
}

/// Serves one connection after the other at this place of the desk, for ever.
pub(crate) async fn serve(stack: Stack<'static>, desk: Rc<Desk>, place: usize) -> ! {
    let (mut receive, mut send): (Box<[u8]>, Box<[u8]>) = (vec![0; WINDOW].into(), vec![0; WINDOW].into());
    loop {
        let mut socket = TcpSocket::new(stack, &mut receive, &mut send);
        socket.set_nagle_enabled(false);
        if socket.accept(PORT).await.is_err() {
            Timer::after(ticks(ACCEPT_PAUSE)).await;
            continue;
        }
        let mut connection = Connection { socket, waiting: Vec::new() };
        let _ = with_timeout(ticks(CONNECTION_LIMIT), connection.converse(&desk, place)).await;
        connection.end().await;
    }
}

/// Why a connection ends.
enum End {
    /// The client has gone, or has been silent for too long.
    Silent,
    /// An answer without the device: status and message.
    Refused(u16, &'static str),
}

struct Connection<'a> {
    socket: TcpSocket<'a>,
    /// What was read and not used.
    waiting: Vec<u8>,
}

/// What the head of a request says.
struct Head {
    request: OwnedRequest,
    body: Body,
    persists: bool,
    expects_continue: bool,
}

#[derive(Clone, Copy)]
enum Body {
    Bytes(u64),
    Chunks,
}

const BAD_HEAD: End = End::Refused(400, "the request's head cannot be read");
const BAD_BODY: End = End::Refused(400, "the body is broken");

impl Connection<'_> {
    async fn converse(&mut self, desk: &Desk, place: usize) {
        loop {
            match self.turn(desk, place).await {
                Ok(true) => {}
                Ok(false) | Err(End::Silent) => return,
                Err(End::Refused(status, message)) => {
                    let body = format!(r#"{{"status":"error","message":"{message}"}}"#);
                    let _ = self.write(&Response { status, body, allow: None }, false, true).await;
                    return;
                }
            }
        }
    }

    /// One request and its answer; false when it is the last on this connection.
    async fn turn(&mut self, desk: &Desk, place: usize) -> Result<bool, End> {
        let head = with_timeout(ticks(HEAD_LIMIT), self.head()).await.map_err(|_| End::Silent)??;
        let Head { mut request, body, persists, expects_continue } = head;
        if expects_continue && self.waiting.is_empty() && !matches!(body, Body::Bytes(0)) {
            self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| End::Silent)?;
        }
        let read = with_timeout(ticks(BODY_READ_LIMIT), self.body(body)).await;
        request.body = read.map_err(|_| End::Refused(408, "the body takes too long"))??;
        let last = !persists || request.body.len() > BODY_LIMIT;
        let without_body = request.method == "HEAD";
        let _delivery = Delivery(desk, place);
        let response = desk.answer(place, request).await;
        self.write(&response, without_body, last).await.map_err(|()| End::Silent)?;
        // Until it is acknowledged.
        let _ = with_timeout(ticks(DRAIN_LIMIT), self.socket.flush()).await;
        Ok(!last)
    }

    /// Reads more; an error at the end of the stream.
    async fn more(&mut self) -> Result<(), End> {
        let mut chunk = [0; CHUNK];
        match self.socket.read(&mut chunk).await {
            Ok(n) if n > 0 => {
                self.waiting.reserve_exact(n);
                self.waiting.extend_from_slice(&chunk[..n]);
                Ok(())
            }
            _ => Err(End::Silent),
        }
    }

    async fn head(&mut self) -> Result<Head, End> {
        loop {
            let mut headers = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut head = httparse::Request::new(&mut headers);
            match head.parse(&self.waiting) {
                Ok(httparse::Status::Complete(n)) => {
                    let head = understand(&head)?;
                    self.waiting.drain(..n);
                    return Ok(head);
                }
                Ok(httparse::Status::Partial) if self.waiting.len() >= HEAD_BYTES_MAX => {
                    return Err(End::Refused(431, "the request's head is too long"));
                }
                Ok(httparse::Status::Partial) => self.more().await?,
                Err(httparse::Error::TooManyHeaders) => return Err(End::Refused(431, "the request's head is too long")),
                Err(_) => return Err(BAD_HEAD),
            }
        }
    }

    /// Reads at most `BODY_LIMIT` + 1 bytes, which is one more than the device accepts.
    async fn body(&mut self, body: Body) -> Result<Vec<u8>, End> {
        let broken = |_| BAD_BODY;
        match body {
            Body::Bytes(n) => {
                let n = usize::try_from(n).unwrap_or(usize::MAX).min(BODY_LIMIT + 1);
                while self.waiting.len() < n {
                    self.more().await.map_err(broken)?;
                }
                let rest = self.waiting.split_off(n);
                Ok(core::mem::replace(&mut self.waiting, rest))
            }
            Body::Chunks => self.chunks().await,
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        loop {
            match httparse::parse_chunk_size(&self.waiting) {
                Ok(httparse::Status::Complete((at, 0))) => {
                    self.waiting.drain(..at);
                    self.trailers().await?;
                    return Ok(body);
                }
                Ok(httparse::Status::Complete((at, size))) => {
                    self.waiting.drain(..at);
                    let room = BODY_LIMIT + 1 - body.len();
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    let wanted = size.min(room);
                    while self.waiting.len() < wanted {
                        self.more().await.map_err(|_| BAD_BODY)?;
                    }
                    body.extend(self.waiting.drain(..wanted));
                    if body.len() > BODY_LIMIT {
                        return Ok(body);
                    }
                    while self.waiting.len() < 2 {
                        self.more().await.map_err(|_| BAD_BODY)?;
                    }
                    if !self.waiting.starts_with(b"\r\n") {
                        return Err(BAD_BODY);
                    }
                    self.waiting.drain(..2);
                }
                Ok(httparse::Status::Partial) if self.waiting.len() > CHUNK => return Err(BAD_BODY),
                Ok(httparse::Status::Partial) => self.more().await.map_err(|_| BAD_BODY)?,
                Err(_) => return Err(BAD_BODY),
            }
        }
    }

    /// Reads what follows the last chunk, up to the empty line.
    async fn trailers(&mut self) -> Result<(), End> {
        loop {
            if self.waiting.starts_with(b"\r\n") {
                self.waiting.drain(..2);
                return Ok(());
            }
            if let Some(end) = self.waiting.windows(4).position(|w| w == b"\r\n\r\n") {
                self.waiting.drain(..end + 4);
                return Ok(());
            }
            if self.waiting.len() > HEAD_BYTES_MAX {
                return Err(BAD_BODY);
            }
            self.more().await.map_err(|_| BAD_BODY)?;
        }
    }

    async fn write(&mut self, response: &Response, without_body: bool, last: bool) -> Result<(), ()> {
        let Response { status, body, allow } = response;
        let mut text = format!("HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\n", reason(*status));
        if let Some(allow) = allow {
            text += &format!("allow: {allow}\r\n");
        }
        if last {
            text += "connection: close\r\n";
        }
        text += &format!("content-length: {}\r\n\r\n", body.len());
        if !without_body {
            text += body;
        }
        self.socket.write_all(text.as_bytes()).await.map_err(drop)
    }

    /// Closes in good order. A sender that has gone, or does not read, is not waited for.
    async fn end(mut self) {
        let drain = async {
            self.socket.close();
            let mut drained = 0;
            let mut chunk = [0; CHUNK];
            while let Ok(n) = self.socket.read(&mut chunk).await {
                drained += n;
                if n == 0 || drained > DRAIN_BYTES_MAX {
                    break;
                }
            }
            self.socket.flush().await
        };
        if !matches!(with_timeout(ticks(DRAIN_LIMIT), drain).await, Ok(Ok(()))) {
            self.socket.abort();
            let _ = with_timeout(ticks(DRAIN_LIMIT), self.socket.flush()).await;
        }
    }
}

fn understand(head: &httparse::Request<'_, '_>) -> Result<Head, End> {
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else { return Err(BAD_HEAD) };
    let values = |name: &'static str| head.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let header = |name: &'static str| {
        let mut values = values(name);
        let first = values.next()?;
        // Two values, or one that is no text, are there and malformed: an empty text says that.
        let text = core::str::from_utf8(first).ok().filter(|_| values.next().is_none());
        Some(String::from(text.unwrap_or_default()))
    };
    let says = |name: &'static str, word: &str| {
        values(name)
            .filter_map(|v| core::str::from_utf8(v).ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    let chunked = values("transfer-encoding").next().is_some();
    // What is encoded in any other way has no end that could be found (RFC 9112 section 6.3).
    if chunked
        && (version == 0 || !values("transfer-encoding").next_back().is_some_and(|v| v.to_ascii_lowercase().ends_with(b"chunked")))
    {
        return Err(BAD_HEAD);
    }
    let mut length = None;
    for value in values("content-length") {
        let text = core::str::from_utf8(value).ok().map(str::trim).filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
        let n: u64 = text.and_then(|v| v.parse().ok()).ok_or(BAD_HEAD)?;
        if length.replace(n).is_some_and(|other| other != n) {
            return Err(BAD_HEAD);
        }
    }
    let path = match target.split_once("://") {
        // The absolute form (RFC 9112 section 3.2.2).
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    Ok(Head {
        request: OwnedRequest {
            method: method.into(),
            path: path.split(['?', '#']).next().unwrap_or_default().into(),
            authorization: header("authorization"),
            content_type: header("content-type"),
            body: Vec::new(),
        },
        body: if chunked { Body::Chunks } else { Body::Bytes(length.unwrap_or(0)) },
        persists: if version == 0 { says("connection", "keep-alive") } else { !says("connection", "close") },
        expects_continue: version > 0 && says("expect", "100-continue"),
    })
}

/// The reason phrase of a status that the API uses.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cable;
    use core::net::Ipv4Addr;
    use embassy_futures::select::{Either, select};
    use embassy_net::{Ipv4Cidr, StaticConfigV4};

    fn head(text: &str) -> Result<Head, u16> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        assert!(head.parse(text.as_bytes()).is_ok_and(|s| s.is_complete()), "{text}");
        understand(&head).map_err(|end| match end {
            End::Refused(status, _) => status,
            End::Silent => 0,
        })
    }

    #[test]
    fn the_target_is_a_path_whatever_its_form() {
        for (target, path) in [
            ("/status", "/status"),
            ("/status?x=/y#z", "/status"),
            ("http://device/scan?x", "/scan"),
            ("http://device", "/"),
            ("*", "*"),
            ("/a://b/c", "/a://b/c"),
        ] {
            let head = head(&format!("GET {target} HTTP/1.1\r\n\r\n")).unwrap_or_else(|status| panic!("{target}: {status}"));
            assert_eq!(head.request.path, path, "{target}");
        }
    }

    #[test]
    fn a_body_whose_end_is_not_sure_is_refused() {
        for (headers, length) in [
            ("", Ok(0)),
            ("content-length: 7\r\n", Ok(7)),
            ("content-length: 7\r\nContent-Length: 7\r\n", Ok(7)),
            ("content-length: 7\r\ncontent-length: 8\r\n", Err(400)),
            ("content-length: +7\r\n", Err(400)),
            ("content-length: 7, 7\r\n", Err(400)),
            ("content-length: 99999999999999999999999\r\n", Err(400)),
            ("transfer-encoding: gzip\r\n", Err(400)),
        ] {
            let read = head(&format!("POST /provision HTTP/1.1\r\n{headers}\r\n")).map(|head| match head.body {
                Body::Bytes(n) => n,
                Body::Chunks => u64::MAX,
            });
            assert_eq!(read, length, "{headers}");
        }
        let chunked = head("POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\ncontent-length: 3\r\n\r\n");
        assert!(chunked.is_ok_and(|head| matches!(head.body, Body::Chunks)));
        assert_eq!(head("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").err(), Some(400));
    }

    #[test]
    fn a_header_that_comes_twice_is_there_and_empty() {
        let head = head("GET / HTTP/1.1\r\nauthorization: a\r\nAuthorization: b\r\ncontent-type: application/json\r\n\r\n");
        let request = head.map(|head| head.request).unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(request.authorization.as_deref(), Some(""));
        assert_eq!(request.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn connections_persist_as_the_version_says() {
        for (text, persists) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(head(text).map(|head| head.persists), Ok(persists), "{text}");
        }
    }

    #[test]
    fn an_answer_is_under_way_until_it_is_acknowledged() {
        let address = |last| {
            let address = Ipv4Cidr::new(Ipv4Addr::new(192, 168, 4, last), 24);
            embassy_net::Config::ipv4_static(StaticConfigV4 { address, gateway: None, dns_servers: Default::default() })
        };
        cable::connect(address(1), address(2), |device, guest, arrives| async move {
            let desk = Rc::new(Desk::new());
            let (mut receive, mut send) = ([0; 512], [0; 512]);
            let mut client = TcpSocket::new(guest, &mut receive, &mut send);
            let test = async {
                client.connect((Ipv4Addr::new(192, 168, 4, 1), PORT)).await.unwrap();
                client.write_all(b"GET /status HTTP/1.1\r\nhost: device\r\n\r\n").await.unwrap();
                let (id, request) = desk.ask().await;
                assert_eq!(request.path, "/status");
                desk.answered().await;
                arrives.set(false);
                desk.respond(id, Response { status: 200, body: "{}".into(), allow: None });
                let early = select(desk.answered(), Timer::after_millis(200)).await;
                assert!(matches!(early, Either::Second(())), "nobody has it yet");
                arrives.set(true);
                desk.answered().await;
                let mut answer = [0; 256];
                let n = client.read(&mut answer).await.unwrap();
                assert!(answer[..n].starts_with(b"HTTP/1.1 200 OK\r\n"));
            };
            match select(serve(device, desk.clone(), 0), test).await {
                Either::Second(()) => {}
            }
        });
    }
}
