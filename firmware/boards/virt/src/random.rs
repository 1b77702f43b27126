//! Randomness from the host, by virtio-rng.

use crate::virtio::{Memory, Window};
use core::convert::Infallible;
use rand_core::{TryCryptoRng, TryRng};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::mmio::MmioTransport;

/// How often the host may answer with nothing before the device gives up.
const EMPTY_ANSWERS_MAX: usize = 100;

/// The host's randomness.
pub struct Random(VirtIORng<Memory, MmioTransport<'static>>);

impl Random {
    /// Starts the device in `window`.
    ///
    /// # Errors
    ///
    /// The device's own, when it does not do what virtio says.
    pub fn start(window: Window) -> Result<Self, virtio_drivers::Error> {
        VirtIORng::new(window.transport).map(Self)
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    /// # Panics
    ///
    /// When the host has none: keys made without would be worse than no device.
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        let (mut filled, mut empty) = (0, 0);
        while filled < into.len() {
            match self.0.request_entropy(&mut into[filled..]) {
                Ok(count) if count > 0 => filled += count,
                _ => empty += 1,
            }
            assert!(empty < EMPTY_ANSWERS_MAX, "the host gives no randomness");
        }
        Ok(())
    }
}

impl TryCryptoRng for Random {}
