//! The console in passing: what the device said last is kept, and that it will say no more.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

/// Bytes that are kept: a device's last words, backtrace included, and some lines before them.
const KEPT: usize = 8 * 1024;

/// What a device said last.
#[derive(Clone, Debug)]
pub struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    ended: watch::Receiver<bool>,
}

/// A stream that keeps its tail.
pub struct Tailed<R> {
    inner: R,
    kept: Arc<Mutex<VecDeque<u8>>>,
    ended: watch::Sender<bool>,
}

/// Keeps the tail of this stream.
pub fn keep<R>(inner: R) -> (Tailed<R>, Tail) {
    let kept = Arc::new(Mutex::new(VecDeque::new()));
    let (tell, ended) = watch::channel(false);
    (Tailed { inner, kept: kept.clone(), ended: tell }, Tail { kept, ended })
}

impl Tail {
    /// Waits until everything that was said has been read. The caller bounds the time.
    pub async fn is_read(&mut self) {
        // A reader that was dropped reads no more either.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// What was said last, as text.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = lock(&self.kept).iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Tailed<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, into));
        let new = &into.filled()[before..];
        if new.is_empty() {
            self.ended.send_replace(true);
        }
        let mut kept = lock(&self.kept);
        kept.extend(new);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
        drop(kept);
        Poll::Ready(read)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn the_tail_is_kept_and_the_end_is_told() {
        let said = [vec![b'x'; KEPT], b"last words \xff".to_vec()].concat();
        let (mut stream, mut tail) = keep(&said[..]);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, said, "nothing is lost in passing");
        tail.is_read().await;
        let text = tail.text();
        assert!(text.ends_with("xlast words \u{fffd}") && text.len() < KEPT + 10, "{}", text.len());
    }
}
