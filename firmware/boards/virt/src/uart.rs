//! The serial port, which is the console.

use crate::machine::{UART0, read_byte, write_byte};
use core::fmt;

const DATA: usize = UART0;
const LINE_STATUS: usize = UART0 + 5;
const SENDER_EMPTY: u8 = 1 << 5;

/// The port as the last words of a dying device use it: no interrupts, no waiting for anybody else.
pub struct LastWords;

impl fmt::Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while read_byte(LINE_STATUS) & SENDER_EMPTY == 0 {}
            write_byte(DATA, byte);
        }
        Ok(())
    }
}
