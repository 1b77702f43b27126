//! The fake CA.

pub mod misbehaviour;
