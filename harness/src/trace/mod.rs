//! The tape: where every source says what it saw, and the trace that is left of it.

pub mod format;
pub mod log;
pub mod read;
pub mod redact;
pub mod replay;
pub mod tape;
pub mod write;
