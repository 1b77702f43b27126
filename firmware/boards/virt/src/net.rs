//! The network card: virtio-net as embassy-net's driver, with buffers of its own and no waiting.

use crate::virtio::{self, Memory, Window};
use core::task::Context;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::mmio::MmioTransport;

/// The largest frame, in bytes: what Ethernet carries, and its header.
const FRAME_BYTES: usize = 1514;
/// What virtio puts before each frame, in bytes.
const HEADER_BYTES: usize = 12;
/// How many frames may be on their way, each way.
const SLOTS: usize = 16;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

type Buffer = [u8; HEADER_BYTES + FRAME_BYTES];
type Raw = VirtIONetRaw<Memory, MmioTransport<'static>, SLOTS>;

/// Where frames lie.
struct Buffers {
    /// The queue's slot `i` always has buffer `i`.
    receiving: [Buffer; SLOTS],
    sending: [Buffer; SLOTS],
    received: Buffer,
}

static BUFFERS: ConstStaticCell<Buffers> =
    ConstStaticCell::new(Buffers { receiving: [[0; _]; SLOTS], sending: [[0; _]; SLOTS], received: [0; _] });

/// The network card.
pub struct Card {
    raw: Raw,
    index: usize,
    interrupt: &'static AtomicWaker,
    buffers: &'static mut Buffers,
    /// Which of the sending buffers the card still reads, by the queue's slot.
    busy: [Option<u16>; SLOTS],
}

impl Card {
    /// Starts the card in `window`.
    ///
    /// # Errors
    ///
    /// The card's own, when it does not do what virtio says.
    pub fn start(window: Window) -> Result<Self, virtio_drivers::Error> {
        let mut raw = Raw::new(window.transport)?;
        let buffers = BUFFERS.take();
        for (slot, buffer) in buffers.receiving.iter_mut().enumerate() {
            // SAFETY: the buffer is not touched before the card has filled it.
            let token = unsafe { raw.receive_begin(buffer) }?;
            if usize::from(token) != slot {
                return Err(virtio_drivers::Error::WrongToken);
            }
        }
        virtio::notify(window.index, RECEIVE);
        Ok(Self { raw, index: window.index, interrupt: virtio::listen(window.index), buffers, busy: [None; SLOTS] })
    }

    /// Takes a frame out of the queue, if one has come, and gives its buffer back at once. Says how long it is.
    fn take(&mut self) -> Option<usize> {
        let token = self.raw.poll_receive()?;
        let buffer = &mut self.buffers.receiving[usize::from(token) % SLOTS];
        // SAFETY: the same buffer as for this slot before, and again not touched until the card has filled it.
        let length = unsafe {
            let (_, length) = self.raw.receive_complete(token, buffer).ok()?;
            self.buffers.received = *buffer;
            // The slot that was freed last is used first, so it is the same again.
            let again = self.raw.receive_begin(buffer).ok()?;
            assert_eq!(again, token, "the card's queue mixes up its buffers");
            length
        };
        virtio::notify(self.index, RECEIVE);
        Some(length.min(FRAME_BYTES))
    }

    /// A buffer to send from, if the card does not read them all.
    fn free(&mut self) -> Option<usize> {
        while let Some(token) = self.raw.poll_transmit() {
            let slot = self.busy.iter().position(|busy| *busy == Some(token))?;
            // SAFETY: the buffer that was sent under this token.
            unsafe { self.raw.transmit_complete(token, &self.buffers.sending[slot]) }.ok()?;
            self.busy[slot] = None;
        }
        self.busy.iter().position(Option::is_none)
    }
}

impl Driver for Card {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Sending<'_>)> {
        self.interrupt.register(context.waker());
        let slot = self.free()?;
        let length = self.take()?;
        let Buffers { received, sending, .. } = &mut *self.buffers;
        let frame = &mut received[HEADER_BYTES..HEADER_BYTES + length];
        let sending = Sending { raw: &mut self.raw, index: self.index, buffer: &mut sending[slot], busy: &mut self.busy[slot] };
        Some((Received { frame }, sending))
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Sending<'_>> {
        self.interrupt.register(context.waker());
        let slot = self.free()?;
        Some(Sending { raw: &mut self.raw, index: self.index, buffer: &mut self.buffers.sending[slot], busy: &mut self.busy[slot] })
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities.max_burst_size = Some(SLOTS);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.raw.mac_address())
    }
}

/// A frame that has come.
pub struct Received<'a> {
    frame: &'a mut [u8],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, read: F) -> R {
        read(self.frame)
    }
}

/// Room for a frame to send.
pub struct Sending<'a> {
    raw: &'a mut Raw,
    index: usize,
    buffer: &'a mut Buffer,
    busy: &'a mut Option<u16>,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        // Longer frames are not made: the largest is among the capabilities.
        let end = HEADER_BYTES + length.min(FRAME_BYTES);
        self.buffer[..HEADER_BYTES].fill(0);
        let result = write(&mut self.buffer[HEADER_BYTES..end]);
        // SAFETY: the buffer is not touched before the card has read it: until then `busy` says so.
        *self.busy = unsafe { self.raw.transmit_begin(&self.buffer[..end]) }.ok();
        virtio::notify(self.index, TRANSMIT);
        result
    }
}
