//! One HTTP/1.1 answer, read within limits.

use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use embedded_io_async::Read;

/// The bytes of the largest head of an answer.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The most header lines of an answer.
const HEADERS_MAX: usize = 64;
/// The most answers that only say that another is to come (RFC 9110 section 15.2).
const INTERIM_MAX: usize = 8;
const CHUNK: usize = 512;

/// Why there is no answer.
pub(crate) enum Unreadable<E> {
    /// The stream failed.
    Stream(E),
    /// It ended before the answer did.
    Ended,
    /// It breaks HTTP's rules.
    NotHttp(String),
    /// Its body is over the limit.
    TooLarge,
}

/// Reads an answer to a request that was no `HEAD`: status and body, which may have `body_max` bytes.
///
/// # Errors
/// No whole answer within the limits.
pub(crate) async fn read<R: Read>(stream: &mut R, body_max: usize) -> Result<(u16, Vec<u8>), Unreadable<R::Error>> {
    let mut incoming = Incoming { stream, waiting: Vec::new() };
    for _ in 0..INTERIM_MAX {
        let (status, length) = incoming.head().await?;
        match (status, length) {
            (100..=199, _) => {}
            (204 | 304, _) => return Ok((status, Vec::new())),
            (_, Length::Bytes(n)) => return Ok((status, incoming.exactly(n, body_max).await?)),
            (_, Length::Chunks) => return Ok((status, incoming.chunks(body_max).await?)),
            (_, Length::UntilTheEnd) => return Ok((status, incoming.rest(body_max).await?)),
        }
    }
    Err(Unreadable::NotHttp("too many interim answers".into()))
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Length {
    Bytes(usize),
    Chunks,
    UntilTheEnd,
}

/// A stream with what was read from it and not used.
struct Incoming<'a, R> {
    stream: &'a mut R,
    waiting: Vec<u8>,
}

impl<R: Read> Incoming<'_, R> {
    /// Reads more; false at the end of the stream.
    async fn more(&mut self) -> Result<bool, Unreadable<R::Error>> {
        let mut chunk = [0; CHUNK];
        let n = self.stream.read(&mut chunk).await.map_err(Unreadable::Stream)?;
        // No more than is there: doubling would take three times as much of the heap for a moment.
        self.waiting.reserve_exact(n);
        self.waiting.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }

    async fn must_come(&mut self) -> Result<(), Unreadable<R::Error>> {
        if self.more().await? { Ok(()) } else { Err(Unreadable::Ended) }
    }

    async fn head(&mut self) -> Result<(u16, Length), Unreadable<R::Error>> {
        loop {
            let mut headers = vec![httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut head = httparse::Response::new(&mut headers);
            match head.parse(&self.waiting) {
                Ok(httparse::Status::Complete(n)) => {
                    let status = head.code.unwrap_or(0);
                    let length = length(head.headers).map_err(|why| Unreadable::NotHttp(why.into()))?;
                    self.waiting.drain(..n);
                    return Ok((status, length));
                }
                Ok(httparse::Status::Partial) if self.waiting.len() > HEAD_BYTES_MAX => {
                    return Err(Unreadable::NotHttp("its head is too long".into()));
                }
                Ok(httparse::Status::Partial) => self.must_come().await?,
                Err(e) => return Err(Unreadable::NotHttp(e.to_string())),
            }
        }
    }

    async fn exactly(&mut self, n: usize, max: usize) -> Result<Vec<u8>, Unreadable<R::Error>> {
        if n > max {
            return Err(Unreadable::TooLarge);
        }
        while self.waiting.len() < n {
            self.must_come().await?;
        }
        self.waiting.truncate(n);
        Ok(core::mem::take(&mut self.waiting))
    }

    async fn rest(&mut self, max: usize) -> Result<Vec<u8>, Unreadable<R::Error>> {
        while self.more().await? {
            if self.waiting.len() > max {
                return Err(Unreadable::TooLarge);
            }
        }
        Ok(core::mem::take(&mut self.waiting))
    }

    async fn chunks(&mut self, max: usize) -> Result<Vec<u8>, Unreadable<R::Error>> {
        let broken = |what: &str| Unreadable::NotHttp(what.into());
        let mut body = Vec::new();
        loop {
            match httparse::parse_chunk_size(&self.waiting) {
                Ok(httparse::Status::Complete((at, size))) => {
                    let size = usize::try_from(size).ok().filter(|size| body.len().saturating_add(*size) <= max);
                    let size = size.ok_or(Unreadable::TooLarge)?;
                    if size == 0 {
                        // What may follow (trailers) is of no use, and the connection ends with this answer.
                        return Ok(body);
                    }
                    self.waiting.drain(..at);
                    body.reserve_exact(size);
                    let mut left = size;
                    while left > 0 {
                        if self.waiting.is_empty() {
                            self.must_come().await?;
                        }
                        let n = left.min(self.waiting.len());
                        body.extend(self.waiting.drain(..n));
                        left -= n;
                    }
                    while self.waiting.len() < 2 {
                        self.must_come().await?;
                    }
                    if !self.waiting.starts_with(b"\r\n") {
                        return Err(broken("a chunk has no end"));
                    }
                    self.waiting.drain(..2);
                }
                Ok(httparse::Status::Partial) if self.waiting.len() > CHUNK => return Err(broken("a chunk has no size")),
                Ok(httparse::Status::Partial) => self.must_come().await?,
                Err(_) => return Err(broken("a chunk has no size")),
            }
        }
    }
}

fn length(headers: &[httparse::Header<'_>]) -> Result<Length, &'static str> {
    let mut length = Length::UntilTheEnd;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let chunked = core::str::from_utf8(header.value).is_ok_and(|v| v.trim().eq_ignore_ascii_case("chunked"));
            return if chunked { Ok(Length::Chunks) } else { Err("its transfer encoding is not known") };
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let n = core::str::from_utf8(header.value).ok().map(str::trim).filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
            let n = n.and_then(|v| v.parse().ok()).ok_or("its content length is no number")?;
            if matches!(length, Length::Bytes(other) if other != n) {
                return Err("it has two content lengths");
            }
            length = Length::Bytes(n);
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use embassy_futures::block_on;

    /// Hands out what is left, a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl embedded_io_async::ErrorType for Slow<'_> {
        type Error = core::convert::Infallible;
    }

    impl Read for Slow<'_> {
        async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Self::Error> {
            let n = bytes.len().min(self.1).min(self.0.len());
            let (now, later) = self.0.split_at(n);
            bytes[..n].copy_from_slice(now);
            self.0 = later;
            Ok(n)
        }
    }

    fn answer(text: &str) -> Result<(u16, String), &'static str> {
        let by = |step| match block_on(read(&mut Slow(text.as_bytes(), step), 16)) {
            Ok((status, body)) => Ok((status, String::from_utf8(body).unwrap())),
            Err(Unreadable::Ended) => Err("ended"),
            Err(Unreadable::TooLarge) => Err("too large"),
            Err(Unreadable::NotHttp(_)) => Err("not http"),
        };
        let whole = by(usize::MAX);
        assert_eq!((by(1), by(7)), (whole.clone(), whole.clone()), "{text}: in pieces");
        whole
    }

    #[test]
    fn bodies_end_in_any_of_the_three_ways() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellothere", Ok((200, "hello".to_string()))),
            ("HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n", Ok((503, String::new()))),
            ("HTTP/1.1 204 x\r\n\r\n", Ok((204, String::new()))),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", Ok((200, "until the end".to_string()))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok((200, "ok".to_string()))),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
                Ok((200, "hello".to_string())),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", Err("ended")),
            ("HTTP/1.1 200 OK\r\ncontent-le", Err("ended")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n", Err("too large")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n", Err("not http")),
            ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Err("not http")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", Err("not http")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", Err("not http")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffff\r\n", Err("too large")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n", Err("not http")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhello\r\n", Err("not http")),
            ("SSH-2.0-OpenSSH_9.2\r\n", Err("not http")),
        ] {
            assert_eq!(answer(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_read_without_end() {
        for text in [
            format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(2 * HEAD_BYTES_MAX)),
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{}", "y".repeat(2 * CHUNK)),
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(100),
        ] {
            let mut stream = Slow(text.as_bytes(), usize::MAX);
            assert!(matches!(block_on(read(&mut stream, 16)), Err(Unreadable::NotHttp(_))));
        }
        let endless = format!("HTTP/1.0 200 OK\r\n\r\n{}", "y".repeat(1_000_000));
        let mut stream = Slow(endless.as_bytes(), usize::MAX);
        assert!(matches!(block_on(read(&mut stream, 16)), Err(Unreadable::TooLarge)));
        assert!(stream.0.len() > 990_000, "the rest is not read");
    }

    #[test]
    fn the_largest_answer_fits_into_a_board_s_heap() {
        use device_core::enrollment::{REPLY_LIMIT, Reply, Unfit};
        // Three bytes, and eight where a text is repeated in an error.
        let blanks = "\u{200b}".repeat((REPLY_LIMIT - 64) / 3);
        for body in [
            format!(r#"{{"certificate":"{blanks}"}}"#),
            format!(r#"{{"certificate":{{"content":"{blanks}"}},"ca_certificate":7}}"#),
        ] {
            let chunks = body.split_inclusive(':').map(|c| format!("{:x}\r\n{c}\r\n", c.len())).collect::<String>();
            for answer in [
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
                format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
            ] {
                let whole = || block_on(read(&mut Slow(answer.as_bytes(), usize::MAX), REPLY_LIMIT)).ok();
                let (read, most) = crate::counted::most(whole);
                assert!(most < REPLY_LIMIT * 5 / 2, "{most} bytes to read {}", answer.len());
                let read = read.expect("an answer").1;
                let (parsed, most) = crate::counted::most(|| Reply::parse(&read));
                assert_eq!(parsed, Err(Unfit::BadReply));
                assert!(most < REPLY_LIMIT * 3 / 2, "{most} bytes to understand {}", read.len());
            }
        }
    }
}
