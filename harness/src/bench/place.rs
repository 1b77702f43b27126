//! A thread with a runtime of its own, so that what runs on it has a CPU time of its own.

use super::load;
use std::error::Error;
use std::time::Duration;
use tokio::runtime::Handle;

/// A thread with a runtime of its own, which ends when the sender is dropped.
pub(super) struct Place {
    pub(super) handle: Handle,
    thread: Option<u32>,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Place {
    /// Starts it.
    pub(super) fn new() -> Result<Place, Box<dyn Error + Send + Sync>> {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = tell.send((runtime.handle().clone(), load::this_thread()));
                let _ = runtime.block_on(ended);
            }
        });
        let (handle, thread) = told.recv()?;
        Ok(Place { handle, thread, _end: end })
    }

    /// What the thread has cost so far; none on systems that do not say.
    pub(super) fn cost(&self) -> Option<Duration> {
        load::of_thread(self.thread?)
    }
}
