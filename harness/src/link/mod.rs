//! Links: what stands on the wire between the device and a server.

pub mod hello;
pub mod proxy;

pub(crate) use hello::alert_name;
pub use proxy::Link;
