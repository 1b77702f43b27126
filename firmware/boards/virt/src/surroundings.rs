//! The text that whoever starts QEMU may leave in memory, `-device loader,file=FILE,addr=0x80800000,force-raw=on`: what is around the
//! device before it begins ([`device_core::surroundings`]). QEMU puts it there again at each reset. One that was kept from the console
//! lies in memory of its own and counts instead, for as long as there is power.

use crate::{machine, power};
use alloc::string::String;
use device_core::surroundings::{Surroundings, TEXT_MAX};

/// What says that a text was kept; memory that nobody wrote is zero.
const MARK: u32 = u32::from_le_bytes(*b"kept");
/// Where its length is, and where it begins, after the mark.
const LENGTH: usize = machine::KEPT + 4;
const TEXT: usize = machine::KEPT + 8;

/// Keeps a text for the next start, over a reset and no longer; none: the host's counts again.
///
/// # Errors
/// A text over [`TEXT_MAX`].
pub fn keep(text: Option<&str>) -> Result<(), String> {
    // While it is written there is none.
    machine::write(machine::KEPT, 0);
    let Some(text) = text else { return Ok(()) };
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= TEXT_MAX).ok_or("too long")?;
    machine::write(LENGTH, length);
    text.bytes().enumerate().for_each(|(at, byte)| machine::write_byte(TEXT + at, byte));
    machine::write(machine::KEPT, MARK);
    Ok(())
}

/// What is around the device; one that cannot be used ends QEMU, since it is its starter's fault.
pub fn read() -> Surroundings {
    let kept = machine::read(machine::KEPT) == MARK;
    let (at, length) = if kept { (TEXT, machine::read(LENGTH) as usize) } else { (machine::SURROUNDINGS, TEXT_MAX) };
    // SAFETY: memory of the machine, which no Rust object lives in and nobody writes to meanwhile.
    let text = unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(at), length.min(TEXT_MAX)) };
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    match core::str::from_utf8(&text[..end]).map(Surroundings::parse) {
        Ok(Ok(surroundings)) => surroundings,
        Ok(Err(error)) => power::refuse(format_args!("the surroundings at {at:#x}: {error}")),
        Err(_) => power::refuse(format_args!("the surroundings at {at:#x} are not UTF-8")),
    }
}
