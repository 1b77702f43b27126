//! Fakes of Wokwi's command line and server that work: either takes the other's real twin in its place.
//!
//! wokwi-cli is on no package registry, and its server is somebody else's. So tests of what talks to them talk to `fake-wokwi-cli` and
//! `fake-wokwi-server`, with real firmware in QEMU behind. Both were made from the behaviour of wokwi-cli 0.26.1 and its client library;
//! the unmodified command line and Wokwi's Python client 0.5.1 run against the fake server, and `harness/tests/fakes` asks the same of the real
//! command line, where it is in PATH, as of the fake. What the real server does beyond that is inferred, and marked so here.
//!
//! # The server, and what differs
//! - It runs one kind of firmware: an ELF file for QEMU's machine virt, alone or as the flash section at 0x0, beside the sections 0x9000 (what
//!   the board is told of its surroundings) and 0x210000 (its storage). Other firmware is refused by a fatal `error` message.
//! - Simulated time is the wall clock while the simulation runs, and stands still in its pauses, as the machine does (QEMU's `stop`). A pause
//!   comes a moment after the byte or the time that it waits for; what the board says in that time is sent after the next resume.
//!   The real one's clock is its simulator's, exact, and slower than the wall clock under load.
//! - Wires are read as far as the serial monitor's: without them nothing is heard, and nothing is told. There are no other parts: a control,
//!   a pin, a screen or a touch of a part in the diagram is answered with an error (501), of any other part with 404; chips are refused.
//! - The serial line is as fast as QEMU takes bytes, and loses none.
//! - The board's network leads nowhere. A firmware that ends its board leaves a simulation that runs on and says nothing.
//! - A restart is a power cut to the board: what its firmware keeps in memory is gone, what is in its storage stays.
//! - Inferred: the codes and words of errors; that a restart begins the clock again and keeps pause points; that of two pause points met by one
//!   byte the second is reached at the next resume; that a write is answered at once up to 16 KiB ahead of a running board.
//!
//! # The command line, and what differs
//! - It only simulates: no `init`, `lint`, `chip`, `mcp`, no diagram rules, no files written into an ESP-IDF project, no RFC 2217 server, no
//!   screenshots and no logic analyzer; an option or a step for those is refused.
//! - It has no TLS: servers are `ws://` only. It prints no colours, and of an error its first line without a stack.
//! - Its messages about wrong options are clap's.
//! - As the real one it has no limit on the wall clock, ends by a signal at once, stands still while nobody reads its standard output, and with
//!   `--interactive` lives on after the end until its standard input ends.

pub mod api;
pub mod cli;
#[cfg(unix)]
pub mod server;
