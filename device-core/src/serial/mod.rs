//! What a serial console carries besides lines of text: PPP frames, so that a device without radio or network card has a network.

pub mod frame;
