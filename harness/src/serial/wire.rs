//! The line itself, made worse on purpose: as slow as a baud rate, and losing bytes.

use device_core::rng::Rng;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes that are read at once.
const READ_MAX: usize = 4096;
/// Bytes at once on a line with a baud rate: what the receiver of a small chip holds is 128.
const PACED_MAX: usize = 64;
/// Bits on the line for a byte: start, eight, stop.
const BITS: u32 = 10;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// It carries so many bits a second each way; unset: as many as come.
    pub baud: Option<u32>,
    /// One byte of so many is lost, each way; unset: none.
    pub loses_one_in: Option<u32>,
    /// Where the chance comes from.
    pub seed: u64,
}

/// One direction.
struct Direction {
    faults: Faults,
    rng: Rng,
    /// When the line has carried what it was given.
    free_at: Instant,
}

impl Direction {
    fn new(faults: Faults, way: u64) -> Direction {
        Direction { faults, rng: Rng::new(faults.seed ^ way), free_at: Instant::now() }
    }

    fn at_once(&self) -> usize {
        if self.faults.baud.is_some() { PACED_MAX } else { READ_MAX }
    }

    /// Waits until the line has carried these, and loses some.
    async fn carry(&mut self, bytes: &[u8]) -> Vec<u8> {
        if let Some(baud) = self.faults.baud {
            let took = Duration::from_secs(1) * BITS * u32::try_from(bytes.len()).unwrap_or(u32::MAX) / baud.max(1);
            self.free_at = self.free_at.max(Instant::now()) + took;
            tokio::time::sleep_until(self.free_at).await;
        }
        let mut kept = bytes.to_vec();
        if let Some(one_in) = self.faults.loses_one_in {
            kept.retain(|_| self.rng.up_to(u64::from(one_in.max(1)) - 1) != 0);
        }
        kept
    }
}

/// Reads what the device says, until it says no more or nobody listens.
pub async fn read(mut says: impl AsyncRead + Unpin, heard: mpsc::Sender<Vec<u8>>, faults: Faults) {
    let mut line = Direction::new(faults, 0);
    let mut bytes = vec![0; line.at_once()];
    while let Ok(count) = says.read(&mut bytes).await {
        if count == 0 || heard.send(line.carry(&bytes[..count]).await).await.is_err() {
            break;
        }
    }
}

/// Writes what the device is to hear, until there is no more or it hears nothing.
pub async fn write(mut hears: impl AsyncWrite + Unpin, mut said: mpsc::Receiver<Vec<u8>>, faults: Faults) {
    let mut line = Direction::new(faults, 1);
    while let Some(chunk) = said.recv().await {
        for bytes in chunk.chunks(line.at_once()) {
            let kept = line.carry(bytes).await;
            if hears.write_all(&kept).await.is_err() || hears.flush().await.is_err() {
                return;
            }
        }
    }
}
