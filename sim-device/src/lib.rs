//! The software twin of an ESP32-class device: `device_core` with the operating system's sockets, files and clock around it.
//!
//! [`run`] is a whole device: it boots, says its log lines on the console it is given and obeys the commands it is told there, until the
//! console closes or a [`CutPoints`] cuts its power. Dropping the future is pulling the plug: every connection and listener is gone at once, and the
//! [`Store`] and [`Queue`] keep what they had. It spawns nothing, so any number of twins fit into one runtime; durable stores block
//! it for the length of an fsync, as flash does. A twin connected by mutual TLS takes some 32 KiB (`examples/fleet.rs` measures it).
//!
//! | file | idea |
//! |---|---|
//! | `shell` | the loop that drives the device |
//! | `net` | the one place where streams come from |
//! | `http`, `enroll`, `mqtt`, `sntp` | the provisioning API's listener; CSR and CA; the broker's stream; the time server |
//! | `tls` | whom the device trusts, and why a handshake failed |
//! | `store`, `queue` | what outlives a power cut, and where it may be cut |
//! | `air`, `clock`, `console` | simulated Wi-Fi; a clock that can jump; lines in and out |
//! | `environment` | settings from environment variables, files read |
//!
//! ```
//! use sim_device::{End, Parts, run};
//! use tokio::io::{AsyncBufReadExt as _, BufReader, duplex, split};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (host, device) = duplex(4096);
//! let (console_in, console_out) = split(device);
//! let twin = tokio::spawn(run(Parts::default(), console_in, console_out));
//!
//! let (said, told) = split(host);
//! let mut lines = BufReader::new(said).lines();
//! loop {
//!     let line = lines.next_line().await.unwrap().unwrap();
//!     // Where the provisioning API answers: `I (3) http: Listening on 127.0.0.1:40123`.
//!     if line.contains("http:") {
//!         break;
//!     }
//! }
//! drop((lines, told));
//! assert_eq!(twin.await.unwrap(), End::ConsoleClosed);
//! # }
//! ```

mod air;
mod clock;
mod console;
mod enroll;
pub mod environment;
mod errands;
mod http;
mod mqtt;
mod net;
mod queue;
mod shell;
mod sntp;
mod store;
mod tls;

pub use air::AirNetwork;
pub use net::Net;
pub use queue::{MemoryQueue, Queue, SqliteQueue};
pub use shell::{End, Limits, Parts, run};
pub use store::{CutPoints, FileStore, Loaded, MemoryStore, OpenError, SaveError, Store};
pub use tls::{LastClient, Terms};

/// Every limit of the twin, by name.
pub mod limits {
    pub use crate::air::NETWORKS_MAX;
    pub use crate::clock::{JUMPED_MAX, QUIET, QUIET_ANSWER, QUIET_BACKOFF};
    pub use crate::console::{LINE_LIMIT, UNREAD_LIMIT};
    pub use crate::enroll::HEAD_BYTES_MAX as REPLY_HEAD_BYTES_MAX;
    pub use crate::errands::LINGERING_MAX;
    pub use crate::http::{BODY_READ_LIMIT, CONNECTION_LIMIT, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_LIMIT};
    pub use crate::mqtt::{LAST_WORDS_LIMIT, LINGER_LIMIT, UNSENT_LIMIT};
    pub use crate::net::ADDRESSES_MAX;
    pub use crate::queue::READINGS_MAX;
    pub use crate::shell::LAST_LINES_LIMIT;
    pub use crate::sntp::{SYNC_LIMIT, TRY_EVERY};
    pub use crate::store::FILE_LIMIT;
    pub use crate::tls::ALERT_LIMIT;
}
