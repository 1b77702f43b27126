//! What the shell has under way for the device, driven inside the shell's own task, so that all of it is gone when the shell is.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Looking for networks.
    Scan,
    /// Joining a network.
    Join,
    /// Asking the time server.
    SyncTime,
    /// Making a CSR.
    Csr,
    /// Asking the CA.
    Post,
    /// Finding out where the device is.
    Address,
    /// Closing the access point, once the last answers are out.
    CloseAp,
    /// The broker's stream: opening it, carrying it, handing over the last bytes.
    Connect,
    /// Serving HTTP connections.
    Http,
}

type Running<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Everything under way; each piece ends in a `T`.
pub(crate) struct Errands<'a, T>(Vec<(Errand, Running<'a, T>)>);

impl<T> Default for Errands<'_, T> {
    fn default() -> Self {
        Errands(Vec::new())
    }
}

impl<'a, T> Errands<'a, T> {
    /// Begins one more of its kind.
    pub fn start(&mut self, errand: Errand, run: impl Future<Output = T> + 'a) {
        self.0.push((errand, Box::pin(run)));
    }

    /// Begins one in place of those of its kind.
    pub fn restart(&mut self, errand: Errand, run: impl Future<Output = T> + 'a) {
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

    /// Whether the device is owed the answer of any. The broker's stream speaks for itself.
    pub fn any_owed(&self) -> bool {
        self.0.iter().any(|(e, _)| !matches!(e, Errand::Http | Errand::Connect | Errand::Address))
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
