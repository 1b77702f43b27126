//! One connection of the scripted broker, from CONNECT to its end.

use super::hub::Again;
use super::saying::{End, Saying};
use super::server::{Face, HELLO_MAX, Shared, WRITE_MAX, event, lock};
use super::wire::{self, Connect, Heard, MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, RECEIVE_MAXIMUM, RETAIN_AVAILABLE, Say, Wrong};
use crate::event::MqttPacket;
use device_core::config::MqttVersion;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes that are read at once, at least.
const CHUNK: usize = 4096;
/// How long a client that was told goodbye is listened to, so that it reads what was said before its connection breaks.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Reads what still comes, and forgets it, until the other side closes.
pub(super) async fn drain<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut chunk = [0; 4096];
    let _ = timeout(DRAIN_MAX, async { while matches!(stream.read(&mut chunk).await, Ok(1..)) {} }).await;
}

/// What the broker takes from a client, as its CONNACK said.
#[derive(Clone, Copy, Debug)]
struct Terms {
    at_once: usize,
    packet_max: usize,
    qos1: bool,
    retain: bool,
    /// How many messages it may send unanswered, as the client said.
    receive_maximum: u16,
    /// The longest packet the client takes.
    client_packet_max: u32,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            at_once: usize::MAX,
            packet_max: usize::MAX,
            qos1: true,
            retain: true,
            receive_maximum: u16::MAX,
            client_packet_max: u32::MAX,
        }
    }
}

/// One connection, from CONNECT to its end.
pub(super) struct Talk<'a, S> {
    shared: &'a Shared,
    face: Face,
    number: u32,
    pub(super) stream: S,
    /// Bytes that are no whole packet yet; bounded by the longest packet.
    buffer: Vec<u8>,
    version: Option<MqttVersion>,
    client: String,
    terms: Terms,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Talk<'a, S> {
    /// A connection on which nothing was said.
    pub(super) fn new(shared: &'a Shared, stream: S, face: Face, number: u32) -> Talk<'a, S> {
        let (buffer, client) = (Vec::new(), String::new());
        Talk { shared, face, number, stream, buffer, version: None, client, terms: Terms::default() }
    }

    /// All of it; how it ended.
    pub(super) async fn whole(&mut self) -> End {
        let connect = match timeout(HELLO_MAX, self.connect()).await {
            Ok(Ok(connect)) => connect,
            Ok(Err(end)) => return end,
            Err(_) => return End::Closed,
        };
        let end = self.admitted(&connect).await.err().unwrap_or(End::Closed);
        lock(&self.shared.hub).detach(&self.client, self.number, end);
        end
    }

    async fn connect(&mut self) -> Result<Box<Connect>, End> {
        loop {
            match self.next_packet().await? {
                Some((Heard::Connect(connect), bytes)) => {
                    self.version = Some(connect.version);
                    self.heard(MqttPacket { bytes, ..event(self.number, "device", "connect") });
                    return Ok(connect);
                }
                Some(_) => return Err(End::Closed),
                None => self.read().await?,
            }
        }
    }

    async fn admitted(&mut self, connect: &Connect) -> Result<(), End> {
        let code = self.shared.admit(connect, self.face);
        let honest = vec![(MAXIMUM_QOS, 1)];
        if code != 0 {
            self.say(Say::ConnAck { present: false, code, properties: Vec::new() }).await?;
            return Ok(());
        }
        let (present, wake) = lock(&self.shared.hub).attach(connect, self.number);
        self.client.clone_from(&connect.client_id);
        let said = self.say(Say::ConnAck { present, code: 0, properties: honest }).await?;
        self.terms.receive_maximum = connect.receive_maximum;
        self.terms.client_packet_max = connect.packet_max;
        let mut keepalive_s = connect.keepalive_s;
        if let (Say::ConnAck { properties, .. }, MqttVersion::V5) = (&said.packet, connect.version) {
            for (id, value) in properties {
                match *id {
                    RECEIVE_MAXIMUM => self.terms.at_once = *value as usize,
                    MAXIMUM_PACKET_SIZE => self.terms.packet_max = *value as usize,
                    MAXIMUM_QOS => self.terms.qos1 = *value > 0,
                    RETAIN_AVAILABLE => self.terms.retain = *value > 0,
                    wire::SERVER_KEEP_ALIVE => keepalive_s = *value as u16,
                    _ => {}
                }
            }
        }
        // MQTT 5.0, 3.1.2.10: one and a half times the keepalive.
        let patience = (keepalive_s > 0).then(|| Duration::from_millis(u64::from(keepalive_s) * 1500));
        let mut heard_at = Instant::now();
        loop {
            while let Some((heard, bytes)) = self.next_packet().await? {
                self.answer(heard, bytes).await?;
            }
            self.deliver().await?;
            let deadline = patience.map(|patience| heard_at + patience);
            tokio::select! {
                read = self.read() => {
                    read?;
                    heard_at = Instant::now();
                }
                () = wake.notified() => {
                    if !lock(&self.shared.hub).is_on(&self.client, self.number) {
                        return self.goodbye(0x8e).await;
                    }
                }
                () = async { match deadline { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {
                    return self.goodbye(0x8d).await;
                }
            }
        }
    }

    /// Reads some bytes. Safe to drop while waiting.
    async fn read(&mut self) -> Result<(), End> {
        self.buffer.reserve(CHUNK);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(1..) => Ok(()),
            _ => Err(End::Closed),
        }
    }

    /// The next packet that is whole, and how many bytes it had. One that is wrong ends the connection.
    async fn next_packet(&mut self) -> Result<Option<(Heard, u32)>, End> {
        let wrong = match wire::frame(&self.buffer) {
            Ok(Some(length)) if length <= self.buffer.len() => {
                let packet: Vec<u8> = self.buffer.drain(..length).collect();
                match wire::read(self.version, &packet) {
                    Ok(heard) => return Ok(Some((heard, u32::try_from(length).unwrap_or(u32::MAX)))),
                    Err(wrong) => wrong,
                }
            }
            Ok(_) => return Ok(None),
            Err(wrong) => wrong,
        };
        self.wrong(wrong).await
    }

    async fn wrong<T>(&mut self, wrong: Wrong) -> Result<T, End> {
        self.heard(MqttPacket { code: Some(wrong.code), why: Some(wrong.what.into()), ..event(self.number, "device", "wrong") });
        self.goodbye(wrong.code).await?;
        Err(End::Closed)
    }

    async fn goodbye(&mut self, code: u8) -> Result<(), End> {
        if self.version == Some(MqttVersion::V5) {
            self.say(Say::Disconnect { code }).await?;
        }
        Err(End::Closed)
    }

    async fn answer(&mut self, heard: Heard, bytes: u32) -> Result<(), End> {
        let said = |kind: &str| MqttPacket { bytes, ..event(self.number, "device", kind) };
        match heard {
            Heard::Publish(publish) => {
                let content = [publish.topic.as_bytes(), &[0], &publish.payload].concat();
                let hub = &self.shared.hub;
                let again = publish.id.and_then(|id| lock(hub).owe(&self.client, id, content, self.number));
                self.heard(MqttPacket {
                    id: publish.id,
                    dup: publish.dup,
                    qos: Some(u8::from(publish.id.is_some())),
                    retained: publish.retain,
                    topic: Some(publish.topic.clone()),
                    again: again.map(|again| again.name().into()),
                    ..said("publish")
                });
                let (over, terms) = (lock(hub).owed(&self.client, self.number) > self.terms.at_once, self.terms);
                let refused = match () {
                    () if over => Some((0x93, "more at once than the Receive Maximum")),
                    () if bytes as usize > terms.packet_max => Some((0x95, "larger than the Maximum Packet Size")),
                    () if publish.id.is_some() && !terms.qos1 => Some((0x9b, "over the Maximum QoS")),
                    () if publish.retain && !terms.retain => Some((0x9a, "retained, though Retain Available is 0")),
                    () => None,
                };
                if let Some((code, what)) = refused {
                    return self.wrong(Wrong { code, what }).await;
                }
                lock(hub).publish(&publish);
                if let Some(id) = publish.id {
                    self.acknowledge(id, Say::PubAck { id, code: 0 }).await?;
                }
            }
            Heard::Subscribe { id, filters } => {
                let topics: Vec<&str> = filters.iter().map(|filter| filter.path.as_str()).collect();
                let topic = topics.join(", ");
                let again = lock(&self.shared.hub).owe(&self.client, id, topic.clone().into_bytes(), self.number);
                let qos = filters.iter().map(|filter| filter.qos).max();
                let again = again.map(|again| again.name().into());
                self.heard(MqttPacket { id: Some(id), qos, topic: Some(topic), again, ..said("subscribe") });
                let codes = lock(&self.shared.hub).subscribe(&self.client, &filters);
                self.acknowledge(id, Say::SubAck { id, codes }).await?;
            }
            Heard::Unsubscribe { id, filters } => {
                self.heard(MqttPacket { id: Some(id), topic: Some(filters.join(", ")), ..said("unsubscribe") });
                lock(&self.shared.hub).unsubscribe(&self.client, &filters);
                self.say(Say::UnsubAck { id, count: filters.len() }).await?;
            }
            Heard::PubAck { id, code } => {
                self.heard(MqttPacket { id: Some(id), code: Some(code), ..said("puback") });
                lock(&self.shared.hub).acknowledged(&self.client, id);
            }
            Heard::PingReq => {
                self.heard(said("pingreq"));
                self.say(Say::PingResp).await?;
            }
            Heard::Disconnect { code } => {
                self.heard(MqttPacket { code: Some(code), ..said("disconnect") });
                return Err(if code == 0 { End::Left } else { End::Closed });
            }
            Heard::Connect(_) => return Err(End::Closed),
        }
        Ok(())
    }

    /// Acknowledges the device's packet; it is settled when the device hears so.
    async fn acknowledge(&mut self, id: u16, say: Say) -> Result<(), End> {
        let said = self.say(say).await;
        if said.as_ref().is_ok_and(|said| said.acknowledges(id)) {
            lock(&self.shared.hub).settle(&self.client, id);
        }
        said.map(drop)
    }

    /// Sends what waits for the client.
    async fn deliver(&mut self) -> Result<(), End> {
        loop {
            let next = lock(&self.shared.hub).next(&self.client, self.number, self.terms.receive_maximum);
            let Some(message) = next else { return Ok(()) };
            let (id, say) = (message.id, Say::Publish(message));
            let fits = self.version.is_none_or(|version| say.bytes(version).len() <= self.terms.client_packet_max as usize);
            match (fits, id) {
                (true, _) => drop(self.say(say).await?),
                // MQTT 5.0, 3.1.2.11.4: as if it had been delivered.
                (false, Some(id)) => lock(&self.shared.hub).acknowledged(&self.client, id),
                (false, None) => {}
            }
        }
    }

    /// Sends a packet to the client, or what the lies make of it.
    async fn say(&mut self, packet: Say) -> Result<Saying, End> {
        let version = self.version.unwrap_or(MqttVersion::V311);
        let refused = matches!(packet, Say::ConnAck { code: 1.., .. });
        let mut saying = Saying::new(version, packet);
        if self.face == Face::Device {
            let lies = lock(&self.shared.lies).tell(|lie| lie.saying(&mut saying));
            let bytes = saying.bytes();
            let mut said = MqttPacket { lies, ..event(self.number, "broker", saying.packet.kind()) };
            said.bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            match &saying.packet {
                Say::ConnAck { code, .. } | Say::Disconnect { code } => said.code = Some(*code),
                Say::PubAck { id, code } => (said.id, said.code) = (Some(*id), Some(*code)),
                Say::SubAck { id, codes } => (said.id, said.code) = (Some(*id), codes.first().copied()),
                Say::UnsubAck { id, .. } => said.id = Some(*id),
                Say::Publish(publish) => {
                    (said.id, said.dup, said.retained) = (publish.id, publish.dup, publish.retain);
                    (said.qos, said.topic) = (Some(u8::from(publish.id.is_some())), Some(publish.topic.clone()));
                }
                Say::PingResp => {}
            }
            self.shared.tell(said);
        }
        let bytes = saying.bytes();
        let sent = timeout(WRITE_MAX, async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        });
        match (sent.await, saying.end) {
            (Ok(Ok(())), None) if refused => Err(End::Closed),
            (Ok(Ok(())), None) => Ok(saying),
            (Ok(Ok(())), Some(end)) => Err(end),
            _ => Err(End::Closed),
        }
    }

    fn heard(&self, packet: MqttPacket) {
        if self.face == Face::Device {
            self.shared.tell(packet);
        }
    }
}

impl Again {
    /// As scenarios have it.
    fn name(self) -> &'static str {
        match self {
            Again::Live => "live",
            Again::AfterReconnect => "after-reconnect",
        }
    }
}
