//! The board's flash as the NVS driver sees it.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use esp_nvs::platform::{Crc, software_crc32};

/// The board's flash, with ESP-IDF's checksum.
pub(crate) struct Flash<F>(pub F);

impl<F> Crc for Flash<F> {
    fn crc32(init: u32, data: &[u8]) -> u32 {
        software_crc32(init, data)
    }
}

impl<F: ErrorType> ErrorType for Flash<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Flash<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Flash<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.0.write(offset, bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::rc::Rc;
    use alloc::vec::Vec;
    use core::cell::RefCell;
    use embedded_storage::nor_flash::NorFlashErrorKind;

    const SECTOR: usize = 4096;

    /// How much of the operation that the power goes in is done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Moment {
        Before,
        Torn,
        After,
    }

    impl Moment {
        pub const ALL: [Moment; 3] = [Moment::Before, Moment::Torn, Moment::After];
    }

    /// NOR flash in memory whose power goes at one of its writes and erases; clones are the same chip.
    #[derive(Clone)]
    pub struct Chip(Rc<RefCell<State>>);

    struct State {
        bytes: Vec<u8>,
        /// Writes and erases until the power goes, and how far that one comes.
        cut: Option<(usize, Moment)>,
        off: bool,
        operations: usize,
    }

    impl Chip {
        pub fn blank(sectors: usize) -> Chip {
            Chip::holding(alloc::vec![0xff; sectors * SECTOR])
        }

        pub fn holding(bytes: Vec<u8>) -> Chip {
            Chip(Rc::new(RefCell::new(State { bytes, cut: None, off: false, operations: 0 })))
        }

        pub fn bytes(&self) -> Vec<u8> {
            self.0.borrow().bytes.clone()
        }

        /// Lets the power go at the operation after so many more.
        pub fn cut_after(&self, operations: usize, moment: Moment) {
            self.0.borrow_mut().cut = Some((operations, moment));
        }

        pub fn is_off(&self) -> bool {
            self.0.borrow().off
        }

        /// The power is back, and stays.
        pub fn power_on(&self) {
            let mut state = self.0.borrow_mut();
            (state.off, state.cut) = (false, None);
        }

        fn operate(&self, change: impl FnOnce(&mut [u8], bool)) -> Result<(), NorFlashErrorKind> {
            let state = &mut *self.0.borrow_mut();
            if state.off {
                return Err(NorFlashErrorKind::Other);
            }
            state.operations += 1;
            let moment = match &mut state.cut {
                Some((0, moment)) => Some(*moment),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            match moment {
                None => change(&mut state.bytes, true),
                Some(Moment::Before) => {}
                Some(Moment::Torn) => change(&mut state.bytes, false),
                Some(Moment::After) => change(&mut state.bytes, true),
            }
            state.off = moment.is_some();
            if state.off { Err(NorFlashErrorKind::Other) } else { Ok(()) }
        }
    }

    impl ErrorType for Chip {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Chip {
        const READ_SIZE: usize = 4;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            let state = self.0.borrow();
            let at = offset as usize;
            bytes.copy_from_slice(&state.bytes[at..at + bytes.len()]);
            if state.off { Err(NorFlashErrorKind::Other) } else { Ok(()) }
        }

        fn capacity(&self) -> usize {
            self.0.borrow().bytes.len()
        }
    }

    impl NorFlash for Chip {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = SECTOR;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            let (from, to) = (from as usize, to as usize);
            self.operate(|bytes, whole| bytes[from..if whole { to } else { from.midpoint(to) }].fill(0xff))
        }

        fn write(&mut self, offset: u32, new: &[u8]) -> Result<(), NorFlashErrorKind> {
            let at = offset as usize;
            self.operate(|bytes, whole| {
                let n = if whole { new.len() } else { new.len() / 2 };
                bytes[at..at + n].iter_mut().zip(new).for_each(|(old, new)| *old &= new);
                if let (false, Some(new)) = (whole, new.get(n)) {
                    // Of one byte, some bits.
                    bytes[at + n] &= new | 0b0101_0101;
                }
            })
        }
    }
}
