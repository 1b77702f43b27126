//! Breaks the device on purpose when the host asks for it, so that what happens then can be tested on the image that is shipped.
//!
//! `-device loader,addr=0x80900000,data=N,data-len=4` asks: 1 panic, 2 trap, 3 stack overflow, 4 hang; half a second after the start.

use crate::machine;
use embassy_time::{Duration, Timer};

const AFTER: Duration = Duration::from_millis(500);

/// Does what the host asked for, if it asked.
#[embassy_executor::task]
pub async fn as_told() {
    let what = machine::read(machine::PROVOKE);
    if what == 0 {
        return;
    }
    Timer::after(AFTER).await;
    match what {
        1 => panic!("provoked"),
        2 => {
            machine::read(machine::NOTHING);
        }
        3 => {
            overflow(0);
        }
        4 => loop {
            core::hint::spin_loop();
        },
        _ => {}
    }
}

#[inline(never)]
fn overflow(depth: usize) -> usize {
    let mut room = [depth; 256];
    core::hint::black_box(&mut room);
    // Always true, and the compiler does not know it.
    if room[depth % 256] == depth { overflow(depth + 1) + room[0] } else { depth }
}
