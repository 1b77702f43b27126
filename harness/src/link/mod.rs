//! Links: what stands on the wire between the device and a server.

pub mod hello;
pub mod proxy;

pub use proxy::Link;
