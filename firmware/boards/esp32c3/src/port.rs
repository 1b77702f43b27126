//! The network's way out: one driver for the radio's two interfaces, of which one is in use at a time, so that one network stack serves both.

use app::Role;
use core::sync::atomic::Ordering;
use core::task::Context;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;
use esp_radio::wifi::Interface;
use portable_atomic::AtomicU8;

static ROLE: AtomicU8 = AtomicU8::new(Role::None as u8);
static CHANGED: AtomicWaker = AtomicWaker::new();

/// Uses this interface from now on.
pub fn switch(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
    CHANGED.wake();
}

/// Both interfaces.
pub struct Port {
    station: Interface,
    access_point: Interface,
}

impl Port {
    /// There is one: a second one panics.
    pub fn new() -> Port {
        Port { station: Interface::station(), access_point: Interface::access_point() }
    }

    fn used(&mut self) -> Option<&mut Interface> {
        match ROLE.load(Ordering::Relaxed) {
            role if role == Role::Station as u8 => Some(&mut self.station),
            role if role == Role::AccessPoint as u8 => Some(&mut self.access_point),
            _ => None,
        }
    }
}

impl Driver for Port {
    type RxToken<'a> = <Interface as Driver>::RxToken<'a>;
    type TxToken<'a> = <Interface as Driver>::TxToken<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        CHANGED.register(context.waker());
        Driver::receive(self.used()?, context)
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        CHANGED.register(context.waker());
        Driver::transmit(self.used()?, context)
    }

    fn link_state(&mut self, context: &mut Context<'_>) -> LinkState {
        CHANGED.register(context.waker());
        self.used().map_or(LinkState::Down, |used| Driver::link_state(used, context))
    }

    fn capabilities(&self) -> Capabilities {
        self.station.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        match ROLE.load(Ordering::Relaxed) {
            role if role == Role::AccessPoint as u8 => self.access_point.hardware_address(),
            _ => self.station.hardware_address(),
        }
    }
}
