//! The loop that drives a device: one task, one wait; after each fact every wish is carried out, in order.

use crate::air::AirNetwork;
use crate::net::Net;
use crate::queue::{MemoryQueue, Queue};
use crate::store::{CutPoints, MemoryStore, Store};
use device_core::secret::Secret;
use device_core::storage::Write;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a twin is made of. `Parts::default()` is a new device that forgets everything with the process, near the network `lab`.
#[derive(Clone)]
pub struct Parts {
    /// Settings by canonical name, PEM files already read ([`crate::environment::settings`]).
    pub environment: BTreeMap<String, Secret>,
    /// Where credentials and certificates are kept.
    pub store: Arc<dyn Store>,
    /// Where readings wait.
    pub queue: Arc<dyn Queue>,
    /// Of the device's randomness (jitter, its readings); keys are made from the system's.
    pub seed: u64,
    /// Where the provisioning API listens; port 0 takes a free one, and keeps it over reboots. The console says which.
    pub http: SocketAddr,
    /// The simulated Wi-Fi surroundings.
    pub networks: Vec<AirNetwork>,
    /// Where the power is cut.
    pub cuts: CutPoints,
    /// Where streams come from.
    pub net: Net,
}

impl Default for Parts {
    fn default() -> Self {
        Parts {
            environment: BTreeMap::new(),
            store: Arc::new(MemoryStore::default()),
            queue: Arc::new(MemoryQueue::default()),
            seed: 0,
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            networks: vec![AirNetwork::new("lab", "correct-horse")],
            cuts: CutPoints::new(),
            net: Net::tcp(),
        }
    }
}

/// How a twin's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody will say anything on the console any more.
    ConsoleClosed,
    /// The power was cut, just before this write.
    PowerCut {
        /// The kind of write.
        write: Write,
        /// The how-manieth of its kind since the point was armed.
        nth: u32,
    },
}

/// Runs a twin until its console closes or its power is cut; a reboot happens inside. Dropping the future pulls the plug.
pub async fn run(parts: Parts, console_in: impl AsyncRead, console_out: impl AsyncWrite) -> End {
    let console_in = std::pin::pin!(console_in);
    let console_out = std::pin::pin!(console_out);
    let mut console = crate::console::Console::new(console_in, console_out);
    let _ = parts;
    while console.hear().await != crate::console::Heard::Closed {}
    End::ConsoleClosed
}
