//! The parts of C's library that Mbed TLS calls.
//!
//! Variadic functions cannot be written in stable Rust. But this processor passes a variadic function's arguments, words all, where it
//! passes any function's: `snprintf` here takes the five that fit into registers, and `vsnprintf` a pointer to as many as there are.

use crate::uart::LastWords;
use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt::{self, Write as _};
use core::ptr;

/// In front of each block, for `free`: its size. As large as the alignment that C expects.
const HEADER: usize = 8;

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(HEADER)?, HEADER).ok()
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some((bytes, layout)) = count.checked_mul(size).and_then(|bytes| Some((bytes, layout(bytes)?))) else {
        return ptr::null_mut();
    };
    // SAFETY: the layout is not empty, and the header fits in front of the block.
    unsafe {
        let header = alloc_zeroed(layout).cast::<usize>();
        if header.is_null() {
            return ptr::null_mut();
        }
        header.write(bytes);
        header.byte_add(HEADER).cast()
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: the block came from `calloc`, which wrote its size in front of it.
    unsafe {
        let header = block.byte_sub(HEADER).cast::<usize>();
        if let Some(layout) = layout(header.read()) {
            dealloc(header.cast(), layout);
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memchr(bytes: *const c_void, byte: c_int, count: usize) -> *const c_void {
    if count == 0 {
        return ptr::null();
    }
    // SAFETY: the caller promises `count` bytes.
    let found = unsafe { core::slice::from_raw_parts(bytes.cast::<u8>(), count) }.iter().position(|b| *b == byte as u8);
    found.map_or(ptr::null(), |at| bytes.wrapping_byte_add(at))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strchr(text: *const c_char, byte: c_int) -> *const c_char {
    // SAFETY: the caller promises a text that ends; its end can be looked for too.
    let found = unsafe { CStr::from_ptr(text) }.to_bytes_with_nul().iter().position(|b| *b == byte as u8);
    found.map_or(ptr::null(), |at| text.wrapping_add(at))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strcmp(one: *const c_char, other: *const c_char) -> c_int {
    // SAFETY: the caller's promises, passed on.
    unsafe { strncmp(one, other, usize::MAX) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(one: *const c_char, other: *const c_char, count: usize) -> c_int {
    for at in 0..count {
        // SAFETY: the caller promises texts that end or have `count` bytes, and neither has ended before `at`.
        let (a, b) = unsafe { (*one.add(at), *other.add(at)) };
        if a != b || a == 0 {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strncpy(to: *mut c_char, from: *const c_char, count: usize) -> *mut c_char {
    let mut ended = false;
    for at in 0..count {
        // SAFETY: the caller promises room for `count` bytes, and a text that ends or has as many.
        unsafe {
            let byte = if ended { 0 } else { *from.add(at) };
            ended |= byte == 0;
            to.add(at).write(byte);
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strstr(text: *const c_char, part: *const c_char) -> *const c_char {
    // SAFETY: the caller promises texts that end.
    let (bytes, part) = unsafe { (CStr::from_ptr(text).to_bytes(), CStr::from_ptr(part).to_bytes()) };
    let found = (0..=bytes.len()).find(|at| bytes[*at..].starts_with(part));
    found.map_or(ptr::null(), |at| text.wrapping_add(at))
}

/// Called, as `printf`, only when Mbed TLS finds its own tables wrong.
#[unsafe(no_mangle)]
unsafe extern "C" fn puts(text: *const c_char) -> c_int {
    // SAFETY: the caller promises a text that ends.
    let text = unsafe { CStr::from_ptr(text) };
    writeln!(LastWords, "{}", text.to_str().unwrap_or_default()).map_or(-1, |()| 0)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn printf(format: *const c_char, a: usize, b: usize, c: usize, d: usize, e: usize) -> c_int {
    let mut line = [0; 128];
    // SAFETY: the line has room for as many bytes as is said, and its last is zero in any case.
    unsafe {
        let length = snprintf(line.as_mut_ptr(), line.len(), format, a, b, c, d, e);
        let text = CStr::from_ptr(line.as_ptr());
        LastWords.write_str(text.to_str().unwrap_or_default()).map_or(-1, |()| length)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn snprintf(
    to: *mut c_char,
    room: usize,
    format: *const c_char,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> c_int {
    let mut arguments = [a, b, c, d, e].into_iter();
    // SAFETY: the caller's promises, passed on.
    unsafe { print(to, room, format, || arguments.next()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn vsnprintf(to: *mut c_char, room: usize, format: *const c_char, mut arguments: *const usize) -> c_int {
    let next = || {
        // SAFETY: the caller promises as many arguments as the format asks for.
        let argument = unsafe { arguments.read() };
        arguments = arguments.wrapping_add(1);
        Some(argument)
    };
    // SAFETY: the caller's promises, passed on.
    unsafe { print(to, room, format, next) }
}

/// Prints what Mbed TLS prints: `%s`, `%c`, `%d`, `%i`, `%u`, `%x`, `%X`, `%%`, with a width and zeros before, of a word's size.
///
/// Returns the length that the whole text has, or −1 for any other conversion.
///
/// # Safety
///
/// `to` has `room` bytes, `format` ends, and each `%s` has a text that ends.
unsafe fn print(to: *mut c_char, room: usize, format: *const c_char, mut next: impl FnMut() -> Option<usize>) -> c_int {
    // SAFETY: the caller's promise.
    let mut rest = unsafe { CStr::from_ptr(format) }.to_bytes().iter().copied().peekable();
    let mut out = Bounded { to, room, length: 0 };
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.put(byte);
            continue;
        }
        let zeros = rest.next_if_eq(&b'0').is_some();
        let mut width = 0;
        while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
            width = width * 10 + usize::from(digit - b'0');
        }
        let _ = rest.next_if(|size| matches!(size, b'l' | b'z'));
        let conversion = rest.next();
        if conversion == Some(b'%') {
            out.put(b'%');
            continue;
        }
        let Some(value) = next() else { return -1 };
        let printed = match (conversion, zeros) {
            (Some(b'c'), _) => {
                out.put(value as u8);
                Ok(())
            }
            (Some(b's'), _) => {
                // SAFETY: the caller's promise.
                unsafe { CStr::from_ptr(ptr::with_exposed_provenance(value)) }.to_bytes().iter().for_each(|byte| out.put(*byte));
                Ok(())
            }
            (Some(b'd' | b'i'), true) => write!(out, "{:0width$}", value.cast_signed()),
            (Some(b'd' | b'i'), false) => write!(out, "{:width$}", value.cast_signed()),
            (Some(b'u'), true) => write!(out, "{value:0width$}"),
            (Some(b'u'), false) => write!(out, "{value:width$}"),
            (Some(b'x'), true) => write!(out, "{value:0width$x}"),
            (Some(b'x'), false) => write!(out, "{value:width$x}"),
            (Some(b'X'), true) => write!(out, "{value:0width$X}"),
            (Some(b'X'), false) => write!(out, "{value:width$X}"),
            _ => Err(fmt::Error),
        };
        if printed.is_err() {
            return -1;
        }
    }
    out.end()
}

/// Room for a text, which counts what did not fit.
struct Bounded {
    to: *mut c_char,
    room: usize,
    length: usize,
}

impl Bounded {
    fn put(&mut self, byte: u8) {
        if self.length + 1 < self.room {
            // SAFETY: inside the room, with one byte left for the end.
            unsafe { self.to.add(self.length).write(byte as c_char) };
        }
        self.length += 1;
    }

    fn end(self) -> c_int {
        if self.room > 0 {
            // SAFETY: inside the room.
            unsafe { self.to.add(self.length.min(self.room - 1)).write(0) };
        }
        c_int::try_from(self.length).unwrap_or(-1)
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}
