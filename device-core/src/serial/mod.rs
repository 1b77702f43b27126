//! What a serial console carries besides lines of text: PPP frames, so that a device without radio or network card has a network, and numbers
//! that tell when a line was lost.

pub mod frame;
pub mod numbered;
