//! What the shell has under way for the device, driven inside the shell's own task, so that all of it is gone when the shell is.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Closed connections that may hand over their last bytes at once; one more drops the oldest.
pub const LINGERING_MAX: usize = 4;

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Joining a network.
    Join,
    /// Asking the time server.
    SyncTime,
    /// Making a CSR.
    Csr,
    /// Asking the CA.
    Post,
    /// Opening the broker's stream.
    Connect,
    /// Serving an HTTP connection.
    Http,
    /// Handing over the last bytes of a closed connection.
    Linger,
}

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Everything under way; each piece ends in a `T`.
pub(crate) struct Errands<T>(Vec<(Errand, Running<T>)>);

impl<T> Default for Errands<T> {
    fn default() -> Self {
        Errands(Vec::new())
    }
}

impl<T> Errands<T> {
    /// Begins one more of its kind.
    pub fn start(&mut self, errand: Errand, run: impl Future<Output = T> + Send + 'static) {
        let oldest = self.0.iter().position(|(e, _)| *e == Errand::Linger);
        if let (Errand::Linger, Some(oldest)) = (errand, oldest.filter(|_| self.count(errand) >= LINGERING_MAX)) {
            drop(self.0.remove(oldest));
        }
        self.0.push((errand, Box::pin(run)));
    }

    /// Begins one in place of those of its kind.
    pub fn restart(&mut self, errand: Errand, run: impl Future<Output = T> + Send + 'static) {
        self.stop(errand);
        self.start(errand, run);
    }

    /// Gives up all of this kind.
    pub fn stop(&mut self, errand: Errand) {
        self.0.retain(|(e, _)| *e != errand);
    }

    /// How many of this kind are under way.
    pub fn count(&self, errand: Errand) -> usize {
        self.0.iter().filter(|(e, _)| *e == errand).count()
    }

    /// Whether the device is owed the answer of any.
    pub fn any_owed(&self) -> bool {
        self.0.iter().any(|(e, _)| !matches!(e, Errand::Http | Errand::Linger))
    }

    /// What the next one to end ends in. Safe to drop while waiting.
    pub async fn next(&mut self) -> T {
        poll_fn(|cx| {
            for i in 0..self.0.len() {
                if let Poll::Ready(done) = self.0[i].1.as_mut().poll(cx) {
                    drop(self.0.remove(i));
                    return Poll::Ready(done);
                }
            }
            Poll::Pending
        })
        .await
    }
}
