//! The TLS alert that was heard last. Mbed TLS says which one it was in its log, and nowhere else.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::cell::Cell;
use critical_section::Mutex;
use log::{LevelFilter, Log, Metadata, Record};

static HEARD: Mutex<Cell<Option<u8>>> = Mutex::new(Cell::new(None));
/// What Mbed TLS says in front of an alert's number, at its first level of detail.
const SAID: &str = "is a fatal alert message (msg ";
/// `protocol_version` (RFC 8446 section 6).
pub const PROTOCOL_VERSION: u8 = 70;

struct Listener;

impl Log for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(number) = number(&record.args().to_string()) {
            critical_section::with(|cs| HEARD.borrow(cs).set(Some(number)));
        }
    }

    fn flush(&self) {}
}

/// Begins to listen to Mbed TLS's log; it must be told to have one (`Tls::set_debug(1)`).
#[expect(unsafe_code, reason = "this processor has no atomic exchange, which the safe way takes")]
pub fn listen() {
    // SAFETY: called once, before Mbed TLS starts and anybody logs.
    unsafe {
        if log::set_logger_racy(&Listener).is_ok() {
            log::set_max_level_racy(LevelFilter::Info);
        }
    }
}

/// The alert that was heard since this was last asked.
pub fn take() -> Option<u8> {
    critical_section::with(|cs| HEARD.borrow(cs).take())
}

fn number(said: &str) -> Option<u8> {
    let (_, rest) = said.split_once(SAID)?;
    rest.split_once(')')?.0.parse().ok()
}

/// The alert's name, or its number.
pub fn name(alert: u8) -> String {
    device_core::alert::name(alert).map_or_else(|| format!("number {alert}"), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_in_what_mbed_tls_says() {
        assert_eq!(number("(MbedTLS) is a fatal alert message (msg 45) (at ssl_msg.c:5226)"), Some(45));
        assert_eq!(number("(MbedTLS) mbedtls_ssl_handshake() returned -30592"), None);
        assert_eq!((name(116).as_str(), name(99).as_str()), ("certificate_required", "number 99"));
    }
}
