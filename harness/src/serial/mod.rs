//! What a serial console carries.

pub mod lines;
