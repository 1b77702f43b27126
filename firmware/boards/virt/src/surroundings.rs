//! The text that whoever starts QEMU may leave in memory, `-device loader,file=FILE,addr=0x80800000,force-raw=on`: what is around the
//! device before it begins ([`device_core::surroundings`]). QEMU puts it there again at each reset.

use crate::{machine, power};
use alloc::string::String;
use device_core::surroundings::{Surroundings, TEXT_MAX};

/// Says that the text is the host's: QEMU puts it there again before the next start.
///
/// # Errors
/// Always.
pub fn keep(_: Option<&str>) -> Result<(), String> {
    Err("this board is told them by whoever starts QEMU (-device loader,file=FILE,addr=0x80800000,force-raw=on)".into())
}

/// Reads the text; memory that nobody wrote is zero, and an empty text. One that cannot be used ends QEMU, since it is its starter's fault.
pub fn read() -> Surroundings {
    // SAFETY: memory of the machine, which no Rust object lives in and nobody writes to after the start.
    let text = unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(machine::SURROUNDINGS), TEXT_MAX) };
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    match core::str::from_utf8(&text[..end]).map(Surroundings::parse) {
        Ok(Ok(surroundings)) => surroundings,
        Ok(Err(error)) => power::refuse(format_args!("the surroundings at {:#x}: {error}", machine::SURROUNDINGS)),
        Err(_) => power::refuse(format_args!("the surroundings at {:#x} are not UTF-8", machine::SURROUNDINGS)),
    }
}
