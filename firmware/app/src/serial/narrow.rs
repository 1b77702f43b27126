//! Packets of at most 576 bytes: on a slow line that may lose a byte, a large one keeps everybody waiting and is often lost as a whole.

use core::task::Context;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};

/// The largest packet, in bytes: what every host takes (RFC 1122 section 3.3.2), so that segments hold 536 bytes, TCP's own default.
pub const PACKET_MAX: usize = 576;

/// A driver whose packets are small.
pub struct Narrow<D>(pub D);

impl<D: Driver> Driver for Narrow<D> {
    type RxToken<'a>
        = D::RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = D::TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.0.receive(context)
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        self.0.transmit(context)
    }

    fn link_state(&mut self, context: &mut Context<'_>) -> LinkState {
        self.0.link_state(context)
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.0.capabilities();
        capabilities.max_transmission_unit = capabilities.max_transmission_unit.min(PACKET_MAX);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.0.hardware_address()
    }
}
