//! The board's randomness, for everything that needs it at once: keys, TLS, nonces.

use alloc::boxed::Box;
use core::cell::RefCell;
use core::convert::Infallible;
use critical_section::Mutex;
use rand_core::{CryptoRng, TryCryptoRng, TryRng};

/// The board's generator, shared.
#[derive(Clone, Copy)]
pub(crate) struct BoardRng(&'static Mutex<RefCell<Box<dyn CryptoRng + Send>>>);

impl BoardRng {
    /// Takes the board's generator for as long as the board runs.
    pub fn new(rng: impl CryptoRng + Send + 'static) -> BoardRng {
        let rng: Box<dyn CryptoRng + Send> = Box::new(rng);
        BoardRng(Box::leak(Box::new(Mutex::new(RefCell::new(rng)))))
    }

    fn with<T>(self, draw: impl FnOnce(&mut dyn CryptoRng) -> T) -> T {
        critical_section::with(|cs| draw(&mut **self.0.borrow(cs).borrow_mut()))
    }
}

impl TryRng for BoardRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.with(|rng| rng.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.with(|rng| rng.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.with(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}

impl TryCryptoRng for BoardRng {}
