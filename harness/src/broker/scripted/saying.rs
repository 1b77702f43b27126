//! A packet on its way to the device, and what a lie makes of it.

use super::Answer;
use super::wire::{self, Publish, Say};
use device_core::config::MqttVersion;

/// What is about to be sent.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) version: MqttVersion,
    /// The honest packet, unless a lie changed it.
    pub(super) packet: Say,
    /// Sent in its place; empty: nothing is.
    pub(super) instead: Option<Vec<u8>>,
    /// Sent behind it.
    pub(super) after: Vec<u8>,
    /// How the connection ends behind it, if it does.
    pub(super) end: Option<End>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client said goodbye, so that its will is void.
    Left,
    /// The client is gone, or was ended in good order.
    Closed,
    /// The broker cuts it, without a goodbye of TLS.
    Cut,
}

impl Saying {
    pub(super) fn new(version: MqttVersion, packet: Say) -> Saying {
        Saying { version, packet, instead: None, after: Vec::new(), end: None }
    }

    pub(super) fn is(&self, answer: Answer) -> bool {
        answer.is(self.packet.kind())
    }

    /// The order in it, where it is one.
    pub(super) fn order(&mut self) -> Option<&mut Publish> {
        if let Say::Publish(publish) = &mut self.packet { Some(publish) } else { None }
    }

    /// The packet's bytes as they would be sent.
    pub(super) fn packet_bytes(&self) -> Vec<u8> {
        self.instead.clone().unwrap_or_else(|| self.packet.bytes(self.version))
    }

    /// Everything that is sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.packet_bytes(), self.after.clone()].concat()
    }

    /// Whether it acknowledges this packet of the device.
    pub(super) fn acknowledges(&self, wanted: u16) -> bool {
        matches!(self.packet, Say::PubAck { id, .. } | Say::SubAck { id, .. } if id == wanted) && self.instead.is_none()
    }

    /// Says goodbye behind it, and ends the connection.
    pub(super) fn disconnect(&mut self, code: u8) {
        if self.version == MqttVersion::V5 {
            self.after.extend(wire::packet(0xe0, &[code]));
        }
        self.end = Some(End::Closed);
    }
}
