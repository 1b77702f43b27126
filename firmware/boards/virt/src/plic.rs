//! The interrupt controller: which lines are heard, and who hears them.

use crate::machine::{PLIC, UART0_LINE, VIRTIO_WINDOWS, read, write};
use crate::{uart, virtio};

const ENABLE: usize = PLIC + 0x2000;
const THRESHOLD: usize = PLIC + 0x20_0000;
const CLAIM: usize = PLIC + 0x20_0004;

/// Lets the interrupt of `line` (1–31) through.
pub fn enable(line: u32) {
    critical_section::with(|_| {
        write(PLIC + 4 * line as usize, 1);
        write(ENABLE, read(ENABLE) | 1 << line);
        write(THRESHOLD, 0);
    });
}

/// Serves every line that has something to say.
pub fn on_interrupt() {
    loop {
        let line = read(CLAIM);
        match line {
            0 => return,
            UART0_LINE => uart::on_interrupt(),
            1.. if line as usize <= VIRTIO_WINDOWS => virtio::on_interrupt(line as usize - 1),
            _ => {}
        }
        write(CLAIM, line);
    }
}
