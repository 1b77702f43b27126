//! The HTTP listener of the provisioning API: reads requests within limits, hands them to the device, writes its answers.

use crate::net::{BoxStream, Listener};
use crate::shell::Limits;
use bytes::Bytes;
use device_core::input::Request;
use device_core::output::{RequestId, Response};
use device_core::provisioning::BODY_LIMIT;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Connections served at once; more wait in the system's backlog.
pub const CONNECTIONS_MAX: usize = 8;
/// How long a request's head may take, and how long a connection may rest between requests, unless [`crate::Limits`] says otherwise.
pub const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a request's body may take as a whole, unless [`crate::Limits`] says otherwise.
pub const BODY_READ_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last, whatever is done on it.
pub const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// The bytes of the largest request head.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// What an aborted request may still send before its connection is dropped, so that its sender reads the answer.
const DRAIN_BYTES_MAX: u64 = 256 * 1024;
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request on its way to the device, with the place for its answer.
pub(crate) struct Asked {
    pub request: OwnedRequest,
    pub answer: oneshot::Sender<Response>,
}

/// A request that has been read.
pub(crate) struct OwnedRequest {
    method: Method,
    path: String,
    authorization: Option<String>,
    content_type: Option<String>,
    body: Vec<u8>,
}

impl OwnedRequest {
    /// As the device reads it.
    pub fn as_request(&self) -> Request<'_> {
        Request {
            // RFC 9110 §9.3.2: HEAD is GET whose answer has no body, which the listener sees to.
            method: if self.method == Method::HEAD { "GET" } else { self.method.as_str() },
            path: &self.path,
            authorization: self.authorization.as_deref(),
            content_type: self.content_type.as_deref(),
            body: &self.body,
        }
    }
}

/// The open listener: who comes in, and who waits for an answer of the device.
pub(crate) struct Door {
    listener: Listener,
    limits: Limits,
    asking: mpsc::Sender<Asked>,
}

/// Where requests come in and answers go out.
pub(crate) struct Desk {
    asked: mpsc::Receiver<Asked>,
    waiting: Vec<(RequestId, oneshot::Sender<Response>)>,
    next: u64,
}

/// Opens the door, with its desk behind it.
pub(crate) fn open(listener: Listener, limits: Limits) -> (Door, Desk) {
    let (asking, asked) = mpsc::channel(CONNECTIONS_MAX);
    (Door { listener, limits, asking }, Desk { asked, waiting: Vec::new(), next: 0 })
}

impl Door {
    /// Where it is.
    pub fn address(&self) -> std::net::SocketAddr {
        self.listener.address()
    }

    /// The next connection's whole life, to be driven by the caller. Safe to drop while waiting.
    ///
    /// # Errors
    /// The listener cannot accept at the moment, in one line; a pause has been made already.
    pub async fn accept(&self) -> Result<impl Future<Output = ()> + Send + use<>, String> {
        match self.listener.accept().await {
            Ok(stream) => Ok(serve(stream, self.limits, self.asking.clone())),
            Err(e) => {
                sleep(ACCEPT_PAUSE).await;
                Err(format!("could not accept an HTTP connection: {e}"))
            }
        }
    }
}

impl Desk {
    /// The next request. Safe to drop while waiting.
    pub async fn ask(&mut self) -> (RequestId, OwnedRequest) {
        loop {
            // The door holds a sender as long as the desk stands, so the channel never ends.
            let Some(Asked { request, answer }) = self.asked.recv().await else { return std::future::pending().await };
            self.waiting.retain(|(_, answer)| !answer.is_closed());
            if answer.is_closed() {
                continue;
            }
            self.next += 1;
            self.waiting.push((RequestId(self.next), answer));
            return (RequestId(self.next), request);
        }
    }

    /// Answers; somebody who has left meanwhile gets nothing.
    pub fn respond(&mut self, id: RequestId, response: Response) {
        if let Some(i) = self.waiting.iter().position(|(waiting, _)| *waiting == id) {
            let _ = self.waiting.swap_remove(i).1.send(response);
        }
    }

    /// Whether somebody waits for an answer of the device.
    pub fn is_asked(&self) -> bool {
        self.waiting.iter().any(|(_, answer)| !answer.is_closed())
    }
}

async fn serve(stream: BoxStream, limits: Limits, asking: mpsc::Sender<Asked>) {
    let mut line = Line { stream, answered: false, refused: None };
    let service = service_fn(move |request| answer(request, limits, asking.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.http_head)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(&mut line), service)
        .without_shutdown();
    let Ok(ended) = timeout(CONNECTION_LIMIT, connection).await else { return };
    let not_http = ended.is_err_and(|e| e.is_parse()) && !line.answered;
    let refused = line.refused.or(not_http.then_some(StatusCode::BAD_REQUEST));
    let mut stream = line.stream;
    let end = async {
        if let Some(status) = refused {
            stream.write_all(&refusal(status)).await?;
        }
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(DRAIN_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // A sender that has gone, or does not read, is not waited for.
    let _ = timeout(DRAIN_LIMIT, end).await;
}

/// The whole answer to a head that could not be read, in the words that every error of the API has.
fn refusal(status: StatusCode) -> Vec<u8> {
    let message = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => "the request's head is too long",
        _ => "the request's head cannot be read",
    };
    let body = error(message);
    let head = "connection: close\r\ncontent-type: application/json";
    format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A connection on which hyper's own answers, which have no body, are held back: `serve` says them in the API's words.
struct Line {
    stream: BoxStream,
    /// Whether any answer has been sent.
    answered: bool,
    /// The status of the answer that was held back; it was to be the last.
    refused: Option<StatusCode>,
}

/// The status of an answer of hyper's own: an error without a body. The device's answers all have one.
fn own_refusal(head: &[u8]) -> Option<StatusCode> {
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let empty = head.windows(EMPTY.len()).any(|w| w.eq_ignore_ascii_case(EMPTY));
    StatusCode::from_bytes(status).ok().filter(|s| s.is_client_error() && empty)
}

const EMPTY: &[u8] = b"\r\ncontent-length: 0\r\n";

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.refused = self.refused.or(own_refusal(bytes));
        if self.refused.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.answered = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    limits: Limits,
    asking: mpsc::Sender<Asked>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match timeout(limits.http_body, read_body(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Ok(refuse(StatusCode::BAD_REQUEST, "the body is broken")),
        Err(_) => return Ok(refuse(StatusCode::REQUEST_TIMEOUT, "the body takes too long")),
    };
    let too_long = body.len() > BODY_LIMIT;
    let header = |name: HeaderName| {
        let mut values = head.headers.get_all(name).iter();
        let first = values.next()?;
        // Two values, or one that is no text, are there and malformed: an empty text says that.
        Some(if values.next().is_some() { String::new() } else { first.to_str().unwrap_or_default().to_owned() })
    };
    let request = OwnedRequest {
        authorization: header(AUTHORIZATION),
        content_type: header(CONTENT_TYPE),
        path: head.uri.path().to_owned(),
        method: head.method,
        body,
    };
    let (sender, receiver) = oneshot::channel();
    if asking.send(Asked { request, answer: sender }).await.is_err() {
        return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, "the device is going down"));
    }
    let Ok(response) = receiver.await else {
        return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, "the device is going down"));
    };
    let mut reply = json(StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), response.body);
    if let Some(allow) = response.allow {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    if too_long {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply)
}

/// Reads at most `BODY_LIMIT` + 1 bytes, which is one more than the device accepts.
async fn read_body(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            let room = BODY_LIMIT + 1 - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
            if read.len() > BODY_LIMIT {
                break;
            }
        }
    }
    Ok(read)
}

fn refuse(status: StatusCode, message: &str) -> hyper::Response<Full<Bytes>> {
    let mut reply = json(status, error(message));
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

fn error(message: &str) -> String {
    format!(r#"{{"status":"error","message":"{message}"}}"#)
}

fn json(status: StatusCode, body: String) -> hyper::Response<Full<Bytes>> {
    let mut reply = hyper::Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
