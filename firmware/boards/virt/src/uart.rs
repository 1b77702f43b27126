//! The serial port, which is the console: bytes arrive by interrupt, and none is lost however many come.

use crate::machine::{UART0, UART0_LINE, read_byte, write_byte};
use crate::plic;
use core::convert::Infallible;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_sync::waitqueue::AtomicWaker;
use embedded_io_async::{ErrorType, Read, Write};

const DATA: usize = UART0;
const INTERRUPTS: usize = UART0 + 1;
const FIFO_CONTROL: usize = UART0 + 2;
const LINE_CONTROL: usize = UART0 + 3;
const LINE_STATUS: usize = UART0 + 5;

const ON_RECEIVED: u8 = 1;
const ON_SENT: u8 = 1 << 1;
const RECEIVED_SOME: u8 = 1;
const SENT_ALL: u8 = 1 << 5;
const FIFO_BYTES: usize = 16;
/// How often last words look whether the host takes the next byte: some tenths of a second, and then nobody listens.
const LOOKS_MAX: usize = 2_000_000;

/// What has arrived and was not read. When it is full the port is left alone: its own queue fills, and QEMU waits.
static RECEIVED: Pipe<CriticalSectionRawMutex, 2048> = Pipe::new();
static SENT: AtomicWaker = AtomicWaker::new();

/// Starts the port. There is one: whoever calls this a second time shares it.
pub fn start() -> (Receiver, Sender) {
    write_byte(LINE_CONTROL, 1 << 7);
    // The divisor: as fast as it goes. QEMU derives from it how long it gathers bytes before it interrupts.
    write_byte(DATA, 1);
    write_byte(INTERRUPTS, 0);
    write_byte(LINE_CONTROL, 3);
    // Queues on and empty; an interrupt for 14 bytes together, or after a short silence.
    write_byte(FIFO_CONTROL, 0b1100_0111);
    write_byte(INTERRUPTS, ON_RECEIVED);
    plic::enable(UART0_LINE);
    (Receiver, Sender)
}

/// Called on the port's interrupt.
pub fn on_interrupt() {
    receive();
    if read_byte(LINE_STATUS) & SENT_ALL != 0 {
        write_byte(INTERRUPTS, read_byte(INTERRUPTS) & !ON_SENT);
        SENT.wake();
    }
}

/// Takes what the port has, as far as there is room for it.
fn receive() {
    while read_byte(LINE_STATUS) & RECEIVED_SOME != 0 {
        if RECEIVED.is_full() {
            write_byte(INTERRUPTS, read_byte(INTERRUPTS) & !ON_RECEIVED);
            return;
        }
        let _ = RECEIVED.try_write(&[read_byte(DATA)]);
    }
}

/// The receiving half of the console.
pub struct Receiver;

impl ErrorType for Receiver {
    type Error = Infallible;
}

impl Read for Receiver {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let count = RECEIVED.read(into).await;
        critical_section::with(|_| write_byte(INTERRUPTS, read_byte(INTERRUPTS) | ON_RECEIVED));
        Ok(count)
    }
}

/// The sending half of the console.
pub struct Sender;

impl ErrorType for Sender {
    type Error = Infallible;
}

impl Write for Sender {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.flush().await?;
        let count = bytes.len().min(FIFO_BYTES);
        for byte in &bytes[..count] {
            write_byte(DATA, *byte);
        }
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        poll_fn(|context| {
            if read_byte(LINE_STATUS) & SENT_ALL != 0 {
                return Poll::Ready(Ok(()));
            }
            SENT.register(context.waker());
            critical_section::with(|_| write_byte(INTERRUPTS, read_byte(INTERRUPTS) | ON_SENT));
            Poll::Pending
        })
        .await
    }
}

/// The port as the last words of a dying device use it: no interrupts, no waiting for anybody else.
pub struct LastWords;

impl fmt::Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if !(0..LOOKS_MAX).any(|_| read_byte(LINE_STATUS) & SENT_ALL != 0) {
                return Err(fmt::Error);
            }
            write_byte(DATA, byte);
        }
        Ok(())
    }
}
