//! The tape: where every source says what it saw.

pub mod tape;
