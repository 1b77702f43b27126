//! UART0, which is the console: 115,200 baud, bytes arrive by interrupt and wait in a ring, whatever the executor is busy with.

use core::convert::Infallible;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_sync::waitqueue::AtomicWaker;
use embedded_io_async::{ErrorType, Read, Write};
use esp_hal::interrupt::Priority;
use esp_hal::peripherals::{GPIO20, GPIO21, UART0};
use esp_hal::uart::{Config, ConfigError, Uart};
use esp_hal::{Blocking, handler};
use static_cell::StaticCell;

/// Bits a second.
const BAUD: u32 = 115_200;
/// What may wait to be read: more than all that the device's TCP connections may have under way to it together, so that a link over this
/// port loses nothing while a signature is computed.
const RING: usize = 8 * 1024;
/// The bytes that the port itself holds, each way.
const FIFO_BYTES: usize = 128;
/// So many bytes interrupt: what is left of the port's own queue lasts for 5 ms.
const INTERRUPT_AT: u16 = 64;
/// So many are left to send when more are asked for: 2 ms' worth.
const REFILL_AT: u16 = 24;
/// How often last words look whether the port takes the next byte: some tenths of a second, and then nobody listens.
const LOOKS_MAX: usize = 2_000_000;

static RECEIVED: Pipe<CriticalSectionRawMutex, RING> = Pipe::new();
static SENT: AtomicWaker = AtomicWaker::new();

/// Starts the port.
///
/// # Errors
/// The port's own.
pub fn start(uart: UART0<'static>, receive: GPIO20<'static>, send: GPIO21<'static>) -> Result<(Receiver, Sender), ConfigError> {
    static PORT: StaticCell<Uart<'static, Blocking>> = StaticCell::new();
    let port = PORT.init(Uart::new(uart, Config::default().with_baudrate(BAUD))?.with_rx(receive).with_tx(send));
    UART0::regs().conf1().modify(|_, w| {
        // SAFETY: both are thresholds within the port's queues.
        unsafe { w.rxfifo_full_thrhd().bits(INTERRUPT_AT).txfifo_empty_thrhd().bits(REFILL_AT) }
    });
    port.set_interrupt_handler(on_interrupt);
    listen();
    Ok((Receiver(()), Sender(())))
}

/// An interrupt for `INTERRUPT_AT` bytes together, or after a short silence.
fn listen() {
    critical_section::with(|_| {
        UART0::regs().int_ena().modify(|_, w| w.rxfifo_full().set_bit().rxfifo_tout().set_bit());
    });
}

/// Before the executor's and the radio's: what is not taken within 11 ms is lost.
#[handler(priority = Priority::Priority3)]
fn on_interrupt() {
    let port = UART0::regs();
    let raised = port.int_st().read();
    receive();
    port.int_clr().write(|w| w.rxfifo_full().clear_bit_by_one().rxfifo_tout().clear_bit_by_one());
    if raised.txfifo_empty().bit_is_set() {
        port.int_ena().modify(|_, w| w.txfifo_empty().clear_bit());
        port.int_clr().write(|w| w.txfifo_empty().clear_bit_by_one());
        SENT.wake();
    }
}

/// Takes what the port has, as far as there is room for it. Without room the port's own queue fills.
fn receive() {
    let port = UART0::regs();
    loop {
        let waiting = usize::from(port.status().read().rxfifo_cnt().bits());
        if waiting == 0 {
            return;
        }
        let room = RECEIVED.free_capacity();
        if room == 0 {
            port.int_ena().modify(|_, w| w.rxfifo_full().clear_bit().rxfifo_tout().clear_bit());
            return;
        }
        let mut bytes = [0; FIFO_BYTES];
        let bytes = &mut bytes[..waiting.min(room).min(FIFO_BYTES)];
        bytes.fill_with(|| port.fifo().read().rxfifo_rd_byte().bits());
        // The ring may end in the middle.
        let mut rest = &*bytes;
        while let Ok(n) = RECEIVED.try_write(rest) {
            rest = &rest[n..];
            if rest.is_empty() {
                break;
            }
        }
    }
}

fn room() -> usize {
    FIFO_BYTES.saturating_sub(usize::from(UART0::regs().status().read().txfifo_cnt().bits()))
}

fn send(byte: u8) {
    // SAFETY: any byte may be sent.
    UART0::regs().fifo().write(|w| unsafe { w.rxfifo_rd_byte().bits(byte) });
}

/// The receiving half of the console.
pub struct Receiver(());

impl ErrorType for Receiver {
    type Error = Infallible;
}

impl Read for Receiver {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let count = RECEIVED.read(into).await;
        listen();
        Ok(count)
    }
}

/// The sending half of the console.
pub struct Sender(());

impl ErrorType for Sender {
    type Error = Infallible;
}

impl Write for Sender {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = poll_fn(|context| {
            SENT.register(context.waker());
            match room() {
                0 => {
                    critical_section::with(|_| UART0::regs().int_ena().modify(|_, w| w.txfifo_empty().set_bit()));
                    Poll::Pending
                }
                room => Poll::Ready(room),
            }
        })
        .await;
        let count = bytes.len().min(room);
        bytes[..count].iter().for_each(|byte| send(*byte));
        Ok(count)
    }

    /// Nothing to do: what the port has taken, it sends.
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Waits until the port has sent what it took, for some tenths of a second at most.
pub fn drain() {
    let _ = (0..LOOKS_MAX).any(|_| room() == FIFO_BYTES && UART0::regs().fsm_status().read().st_utx_out().bits() == 0);
}

/// The port as the last words of a dying device use it: no interrupts, no waiting for anybody else.
pub struct LastWords;

impl fmt::Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if !(0..LOOKS_MAX).any(|_| room() > 0) {
                return Err(fmt::Error);
            }
            send(byte);
        }
        Ok(())
    }
}
