//! What a session costs in heap while it idles, and at most while a hostile broker feeds it.
#![expect(unsafe_code, reason = "counting an allocator's bytes means being one")]

mod fake_broker;

use device_core::config::MqttVersion::{V5, V311};
use device_core::session::{IN_FLIGHT_MAX, Session, SessionConfig};
use device_core::time::Instant;
use fake_broker::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

/// Adds to what this thread holds; a thread that is ending no longer counts.
fn count(bytes: isize) {
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: each call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn held() -> isize {
    HELD.get()
}

#[test]
fn an_idle_session_holds_less_than_a_kibibyte() {
    for version in [V5, V311] {
        let before = held();
        let mut session = Session::new(full_config(version));
        session.connect(Instant(0));
        session.received(Instant(0), &connack(version, false, 0, &[]));
        session.received(Instant(0), &suback(version, 1, &[1]));
        for token in 0..u64::from(IN_FLIGHT_MAX) {
            session.publish(Instant(0), token, message("t", &[0; 500], false)).expect("room");
        }
        for id in 2..2 + IN_FLIGHT_MAX {
            session.received(Instant(0), &publish(version, Some(9), FILTER, &[0; 500]));
            session.received(Instant(0), &puback(id, 0));
        }
        session.tick(Instant(60_000));
        session.received(Instant(60_000), &PINGRESP);
        while session.poll().is_some() {}
        let idle = held() - before;
        drop(session);
        assert_eq!(held(), before);
        // Printed last: a captured line is held too.
        println!("{version:?}: {idle} bytes of heap and {} of its own", size_of::<Session>());
        assert!(idle < 1024, "{version:?}: {idle} bytes");
    }
}

#[test]
fn a_packet_that_never_ends_costs_what_has_come_of_it() {
    for version in [V5, V311] {
        let mut session = Session::new(SessionConfig { packet_limit: 16 * 1024, ..config(version) });
        session.connect(Instant(0));
        session.received(Instant(0), &connack(version, false, 0, &[]));
        while session.poll().is_some() {}
        let before = held();
        session.received(Instant(0), &[0x30, 0xfd, 0x7f]);
        assert!(held() - before < 64, "a header reserves nothing");
        for came in 1..=16_380 {
            session.received(Instant(0), &[0]);
            assert!(held() - before < 2 * came + 64, "{came} bytes came");
        }
        assert!(session.poll().is_none());
        session.transport_closed();
        assert!(held() - before < 64);
    }
}
