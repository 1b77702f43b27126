//! What outlives a power cut, and the points at which the power may be cut.

use alloc::vec::Vec;
use device_core::storage::Write;

/// When a power cut strikes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Just before it: nothing of it is in flash.
    Before,
    /// In the middle: of some word, only a part of the bits has been programmed.
    Torn,
    /// Just after it: all of it is in flash, and nobody has been told.
    After,
}

/// A point at which the power is cut: at the nth write of a kind, counted from when it is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The kind of write.
    pub write: Write,
    /// From 1.
    pub nth: u32,
    /// When.
    pub moment: Moment,
}

/// The armed points; they count over reboots too.
#[derive(Debug, Default)]
pub(crate) struct CutPoints(Vec<(Cut, u32)>);

impl CutPoints {
    /// Replaces what was armed for this kind of write.
    pub fn arm(&mut self, cut: Cut) {
        self.0.retain(|(armed, _)| armed.write != cut.write);
        self.0.push((cut, 0));
    }

    /// A write is about to happen: the moment at which it is cut, if it is. The point is spent by that.
    pub fn reach(&mut self, write: Write) -> Option<Moment> {
        let place = self.0.iter().position(|(armed, _)| armed.write == write)?;
        let (cut, seen) = &mut self.0[place];
        *seen += 1;
        let moment = cut.moment;
        (*seen >= cut.nth.max(1)).then(|| {
            self.0.remove(place);
            moment
        })
    }
}
