//! The packet codec against an independent one, in both directions, and against bytes that nobody should send.

mod fake_broker;

use device_core::config::MqttVersion::{self, V5, V311};
use device_core::packet::encode::{self, Will};
use device_core::packet::{Connect as Connecting, Packet, Violation, decode, length};
use device_core::session::{Message, Session, SessionEvent};
use device_core::time::Instant;
use fake_broker::{Connect, Said, config, hear};
use mqtt_protocol_core::mqtt::packet::*;
use mqtt_protocol_core::mqtt::result_code::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn version() -> impl Strategy<Value = MqttVersion> {
    prop_oneof![Just(V5), Just(V311)]
}

fn text() -> impl Strategy<Value = String> {
    // Long enough, now and then, for lengths of two and three bytes.
    prop_oneof![8 => "[^\0]{0,20}", 1 => "[a-z]{100,300}", 1 => "[a-z]{16380,16400}"]
}

fn topic() -> impl Strategy<Value = String> {
    text().prop_map(|t| format!("t{}", t.replace(['#', '+'], "_")))
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 100..300)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_oracle_reads_our_connect(
        version in version(),
        client_id in text(),
        keepalive_s in any::<u16>(),
        username in proptest::option::of(text()),
        password in proptest::option::of(text()),
        will in proptest::option::of((topic(), payload(), any::<bool>())),
        (session_expiry_s, receive_maximum, packet_limit) in (any::<u32>(), 1u16.., 1u32..),
    ) {
        let bytes = encode::connect(&Connecting {
            version,
            client_id: &client_id,
            keepalive_s,
            username: username.as_deref(),
            password: password.as_deref(),
            will: will.as_ref().map(|(topic, payload, retain)| Will { topic, payload, retain: *retain }),
            session_expiry_s,
            receive_maximum,
            packet_limit,
        }).expect("sayable");
        let properties = match version {
            V5 => vec![(0x11, session_expiry_s), (0x21, u32::from(receive_maximum)), (0x27, packet_limit)],
            V311 => vec![],
        };
        prop_assert_eq!(hear(version, &bytes), Said::Connect(Box::new(Connect {
            client_id,
            clean: false,
            keepalive_s,
            username: username.or(password.as_ref().map(|_| String::new())),
            password: password.map(String::into_bytes),
            will,
            properties,
        })));
    }

    #[test]
    fn the_oracle_reads_our_publish(
        version in version(), id in proptest::option::of(1u16..), dup: bool, retain: bool, topic in topic(), payload in payload(),
    ) {
        let bytes = encode::publish(version, id, dup, retain, &topic, &payload).expect("sayable");
        prop_assert_eq!(hear(version, &bytes), Said::Publish { id, dup: dup && id.is_some(), retain, topic, payload });
    }

    #[test]
    fn the_oracle_reads_the_rest_of_ours(version in version(), id in 1u16.., filters in vec(topic(), 1..4)) {
        prop_assert_eq!(hear(version, &encode::puback(id)), Said::PubAck { id });
        let bytes = encode::subscribe(version, id, &filters).expect("sayable");
        prop_assert_eq!(hear(version, &bytes), Said::Subscribe { id, filters: filters.into_iter().map(|f| (f, 1)).collect() });
        prop_assert_eq!(hear(version, &encode::pingreq()), Said::PingReq);
        for code in [0, 0x80, 0x81, 0x82, 0x93, 0x95] {
            let heard = if version == V5 { code } else { 0 };
            prop_assert_eq!(hear(version, &encode::disconnect(version, code)), Said::Disconnect { code: heard });
        }
    }

    /// What the oracle says we read as it was meant; it encodes what `expected` shows.
    #[test]
    fn we_read_what_the_oracle_says((version, bytes, expected) in broker_packet()) {
        prop_assert_eq!(length(version, &bytes, u32::MAX), Ok(Some(bytes.len())));
        prop_assert_eq!(length(version, &bytes, bytes.len() as u32 - 1).map_err(|v| v.code), Err(0x95));
        for cut in 0..bytes.len().min(5) {
            prop_assert!(length(version, &bytes[..cut], u32::MAX).expect("a beginning").is_none_or(|whole| whole == bytes.len()));
        }
        let packet = decode(version, &bytes).expect("a packet");
        prop_assert_eq!(format!("{packet:?}"), expected);
    }

    /// Whatever the bytes: no panic, and the oracle takes what we take.
    #[test]
    fn what_we_take_the_oracle_takes((version, bytes, _) in broker_packet(), blows in vec(blow(), 0..4)) {
        let bytes = batter(bytes, &blows);
        if decode(version, &bytes).is_ok() {
            prop_assert!(oracle_takes(version, &bytes), "{version:?} {bytes:02x?}");
        }
    }

    /// Whatever the bytes and however they are sliced: no panic, the same events, at most the limit kept, one `Close`.
    #[test]
    fn slicing_changes_nothing((version, bytes) in battered_stream(), slices in vec(1usize..40, 1..20)) {
        let whole = run(version, [&bytes[..]].into_iter());
        let mut rest = &bytes[..];
        let pieces = slices.iter().cycle().map_while(|&n| {
            let (piece, left) = rest.split_at(n.min(rest.len()));
            rest = left;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(&run(version, pieces), &whole);
        prop_assert_eq!(&run(version, bytes.chunks(1)), &whole);
        let closes = whole.iter().filter(|e| matches!(e, SessionEvent::Close(_))).count();
        prop_assert!(closes <= 1, "{whole:?}");
    }
}

/// A session that is connecting, with a publish of an earlier connection in flight, and all it says about these bytes.
fn run<'a>(version: MqttVersion, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<SessionEvent> {
    let mut session = Session::new(config(version));
    session.connect(Instant(0));
    session.received(Instant(0), &fake_broker::connack(version, false, 0, &[]));
    session.publish(Instant(0), 1, Message { topic: "t".into(), payload: vec![], retain: false }).expect("room");
    session.connect(Instant(1));
    for piece in pieces {
        session.received(Instant(2), piece);
        session.tick(Instant(2));
    }
    std::iter::from_fn(|| session.poll()).collect()
}

/// Damage done to a packet.
#[derive(Clone, Debug)]
enum Blow {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Truncate(usize),
    /// Sets the one-byte remaining length to what it should be, so that damage further in is reached.
    Mend,
}

fn blow() -> impl Strategy<Value = Blow> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f), Just(0x80)];
    // Most damage near the beginning, where the structure is.
    let place = prop_oneof![3 => 0usize..12, 1 => any::<usize>()];
    prop_oneof![
        (place.clone(), byte.clone()).prop_map(|(at, b)| Blow::Set(at, b)),
        (place.clone(), 0u8..8).prop_map(|(at, bit)| Blow::Flip(at, bit)),
        (place.clone(), byte).prop_map(|(at, b)| Blow::Insert(at, b)),
        place.clone().prop_map(Blow::Remove),
        place.prop_map(Blow::Truncate),
        Just(Blow::Mend),
    ]
}

fn batter(mut bytes: Vec<u8>, blows: &[Blow]) -> Vec<u8> {
    for blow in blows {
        let len = bytes.len();
        match *blow {
            _ if len < 2 => {}
            Blow::Set(at, byte) => bytes[at % len] = byte,
            Blow::Flip(at, bit) => bytes[at % len] ^= 1 << bit,
            Blow::Insert(at, byte) => bytes.insert(at % len, byte),
            Blow::Remove(at) => {
                bytes.remove(at % len);
            }
            Blow::Truncate(at) => bytes.truncate(at % len),
            Blow::Mend if len < 130 => bytes[1] = (len - 2) as u8,
            Blow::Mend => {}
        }
    }
    bytes
}

fn battered_stream() -> impl Strategy<Value = (MqttVersion, Vec<u8>)> {
    let packets = vec((broker_packet(), vec(blow(), 0..2)), 1..6);
    let noise = vec(any::<u8>(), 0..60);
    (version(), any::<bool>(), packets, noise).prop_map(|(version, welcome, packets, noise)| {
        let mut bytes = if welcome { fake_broker::connack(version, true, 0, &[]) } else { vec![] };
        // Packets of the other version stay in: they are one more way to be wrong.
        packets.into_iter().for_each(|((_, packet, _), blows)| bytes.extend(batter(packet, &blows)));
        bytes.extend(noise);
        (version, bytes)
    })
}

fn oracle_takes(version: MqttVersion, packet: &[u8]) -> bool {
    let digits = packet[1..].iter().position(|b| b & 0x80 == 0).expect("a remaining length") + 1;
    let (first, body) = (packet[0], &packet[1 + digits..]);
    let used = match (version, first >> 4) {
        (V5, 2) => v5_0::Connack::parse(body).map(|p| p.1),
        (V5, 3) => v5_0::Publish::parse(first & 0x0f, body.into()).map(|p| p.1),
        (V5, 4) => v5_0::Puback::parse(body).map(|p| p.1),
        (V5, 9) => v5_0::Suback::parse(body).map(|p| p.1),
        (V5, 13) => v5_0::Pingresp::parse(body).map(|p| p.1),
        // 0x8c is in the specification's list of reason codes (2.4) for DISCONNECT, and not in the oracle's.
        (V5, 14) if body.first() == Some(&0x8c) => Ok(body.len()),
        (V5, 14) => v5_0::Disconnect::parse(body).map(|p| p.1),
        (V311, 2) => v3_1_1::Connack::parse(body).map(|p| p.1),
        (V311, 3) => v3_1_1::Publish::parse(first & 0x0f, body.into()).map(|p| p.1),
        (V311, 4) => v3_1_1::Puback::parse(body).map(|p| p.1),
        (V311, 9) => v3_1_1::Suback::parse(body).map(|p| p.1),
        (V311, 13) => v3_1_1::Pingresp::parse(body).map(|p| p.1),
        _ => return false,
    };
    used == Ok(body.len())
}

/// A packet of a broker as the oracle encodes it, with the `Debug` text of the `Packet` it is.
fn broker_packet() -> impl Strategy<Value = (MqttVersion, Vec<u8>, String)> {
    prop_oneof![connack(), publish(), ack(), suback(), disconnect(), pingresp()]
}

fn word() -> impl Strategy<Value = String> {
    "[^\0]{0,8}"
}

/// Properties that any answer may hold.
fn said_properties() -> impl Strategy<Value = Properties> {
    (proptest::option::of(word()), vec((word(), word()), 0..3)).prop_map(|(reason, pairs)| {
        let reason = reason.map(|r| ReasonString::new(r).expect("text").into());
        let pairs = pairs.into_iter().map(|(k, v)| UserProperty::new(k, v).expect("text").into());
        reason.into_iter().chain(pairs).collect()
    })
}

fn connack() -> BoxedStrategy<(MqttVersion, Vec<u8>, String)> {
    let limits = (
        proptest::option::of(1u16..),
        proptest::option::of(1u32..),
        proptest::option::of(0u8..2),
        proptest::option::of(0u8..2),
        proptest::option::of(any::<u16>()),
        proptest::option::of(any::<u32>()),
        proptest::option::of(any::<u16>()),
    );
    let extra = (said_properties(), any::<bool>(), proptest::option::of(word()));
    let v5 = (any::<bool>(), limits, extra).prop_map(
        |(present, (receive, size, qos, retain, keepalive, expiry, aliases), (mut props, flags, reference))| {
            props.extend(receive.map(|v| Property::from(ReceiveMaximum::new(v).expect("legal"))));
            props.extend(size.map(|v| Property::from(MaximumPacketSize::new(v).expect("legal"))));
            props.extend(qos.map(|v| Property::from(MaximumQos::new(v).expect("legal"))));
            props.extend(retain.map(|v| Property::from(RetainAvailable::new(v).expect("legal"))));
            props.extend(keepalive.map(|v| Property::from(ServerKeepAlive::new(v).expect("legal"))));
            props.extend(expiry.map(|v| Property::from(SessionExpiryInterval::new(v).expect("legal"))));
            props.extend(aliases.map(|v| Property::from(TopicAliasMaximum::new(v).expect("legal"))));
            props.extend(reference.map(|v| Property::from(ServerReference::new(v).expect("legal"))));
            if flags {
                props.push(WildcardSubscriptionAvailable::new(1).expect("legal").into());
                props.push(SubscriptionIdentifierAvailable::new(0).expect("legal").into());
                props.push(SharedSubscriptionAvailable::new(1).expect("legal").into());
                props.push(AssignedClientIdentifier::new("a").expect("legal").into());
            }
            let ack = device_core::packet::ConnAck {
                session_present: present,
                code: 0,
                receive_maximum: receive.unwrap_or(u16::MAX),
                packet_max: size.unwrap_or(u32::MAX),
                qos1: qos != Some(0),
                retain: retain != Some(0),
                keepalive_s: keepalive,
                session_expiry_s: expiry,
            };
            let bytes = v5_0::Connack::builder()
                .session_present(present)
                .reason_code(ConnectReasonCode::Success)
                .props(props)
                .build()
                .expect("legal")
                .to_continuous_buffer();
            (V5, bytes, format!("{:?}", Packet::ConnAck(ack)))
        },
    );
    let v311 = (any::<bool>(), 0u8..6).prop_map(|(present, code)| {
        let ack = device_core::packet::ConnAck {
            session_present: present && code == 0,
            code,
            receive_maximum: u16::MAX,
            packet_max: u32::MAX,
            qos1: true,
            retain: true,
            keepalive_s: None,
            session_expiry_s: None,
        };
        let bytes = v3_1_1::Connack::builder()
            .session_present(ack.session_present)
            .return_code(ConnectReturnCode::try_from(code).expect("a code"))
            .build()
            .expect("legal")
            .to_continuous_buffer();
        (V311, bytes, format!("{:?}", Packet::ConnAck(ack)))
    });
    prop_oneof![v5, v311].boxed()
}

fn publish() -> BoxedStrategy<(MqttVersion, Vec<u8>, String)> {
    let more = (proptest::option::of(any::<u32>()), proptest::option::of(payload()), vec(1u32..268_435_455, 0..3), any::<bool>());
    (version(), proptest::option::of(1u16..), any::<(bool, bool)>(), topic(), payload(), said_properties(), more)
        .prop_map(|(version, id, (dup, retain), topic, payload, props, (expiry, correlation, subscriptions, hints))| {
            let dup = dup && id.is_some();
            let qos = if id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            let bytes = match version {
                V5 => {
                    let mut props: Properties = props.into_iter().filter(|p| matches!(p, Property::UserProperty(_))).collect();
                    props.extend(expiry.map(|v| Property::from(MessageExpiryInterval::new(v).expect("legal"))));
                    props.extend(correlation.map(|v| Property::from(CorrelationData::new(v).expect("legal"))));
                    props.extend(subscriptions.into_iter().map(|v| Property::from(SubscriptionIdentifier::new(v).expect("legal"))));
                    if hints {
                        props.push(PayloadFormatIndicator::new(PayloadFormat::Binary).expect("legal").into());
                        props.push(ContentType::new("x/y").expect("legal").into());
                        props.push(ResponseTopic::new("answers/here").expect("legal").into());
                    }
                    let b = v5_0::Publish::builder().topic_name(topic.clone()).expect("topic").qos(qos).dup(dup).retain(retain);
                    let b = if let Some(id) = id { b.packet_id(id) } else { b };
                    b.payload(payload.clone()).props(props).build().expect("legal").to_continuous_buffer()
                }
                V311 => {
                    let b = v3_1_1::Publish::builder().topic_name(topic.clone()).expect("topic").qos(qos).dup(dup).retain(retain);
                    let b = if let Some(id) = id { b.packet_id(id) } else { b };
                    b.payload(payload.clone()).build().expect("legal").to_continuous_buffer()
                }
            };
            let expected = device_core::packet::Publish { id, dup, retain, topic: &topic, payload: &payload };
            (version, bytes, format!("{:?}", Packet::Publish(expected)))
        })
        .boxed()
}

const PUBACK_CODES: [u8; 9] = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

fn ack() -> BoxedStrategy<(MqttVersion, Vec<u8>, String)> {
    (version(), 1u16.., proptest::option::of(proptest::sample::select(&PUBACK_CODES[..])), proptest::option::of(said_properties()))
        .prop_map(|(version, id, code, props)| match version {
            V5 => {
                let b = v5_0::Puback::builder().packet_id(id);
                let b = match code {
                    Some(code) => b.reason_code(PubackReasonCode::try_from(code).expect("a code")),
                    None => b,
                };
                let b = match props {
                    Some(props) if code.is_some() => b.props(props),
                    _ => b,
                };
                let bytes = b.build().expect("legal").to_continuous_buffer();
                (version, bytes, format!("{:?}", Packet::PubAck { id, code: code.unwrap_or(0) }))
            }
            V311 => {
                let bytes = v3_1_1::Puback::builder().packet_id(id).build().expect("legal").to_continuous_buffer();
                (version, bytes, format!("{:?}", Packet::PubAck { id, code: 0 }))
            }
        })
        .boxed()
}

fn suback() -> BoxedStrategy<(MqttVersion, Vec<u8>, String)> {
    let codes = vec(proptest::sample::select(&[0u8, 1, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2][..]), 1..5);
    (version(), 1u16.., codes, said_properties())
        .prop_map(|(version, id, codes, props)| match version {
            V5 => {
                let reasons = codes.iter().map(|&c| SubackReasonCode::try_from(c).expect("a code")).collect();
                let p = v5_0::Suback::builder().packet_id(id).reason_codes(reasons).props(props).build().expect("legal");
                (version, p.to_continuous_buffer(), format!("{:?}", Packet::SubAck { id, codes: &codes }))
            }
            V311 => {
                let codes: Vec<u8> = codes.into_iter().map(|c| c.min(0x80)).collect();
                let reasons = codes.iter().map(|&c| SubackReturnCode::try_from(c).expect("a code")).collect();
                let p = v3_1_1::Suback::builder().packet_id(id).return_codes(reasons).build().expect("legal");
                (version, p.to_continuous_buffer(), format!("{:?}", Packet::SubAck { id, codes: &codes }))
            }
        })
        .boxed()
}

fn disconnect() -> BoxedStrategy<(MqttVersion, Vec<u8>, String)> {
    let codes = proptest::sample::select(&[0u8, 0x80, 0x81, 0x82, 0x83, 0x87, 0x8b, 0x8e, 0x93, 0x95, 0x9d, 0xa2][..]);
    (codes, said_properties())
        .prop_map(|(code, props)| {
            let reason = DisconnectReasonCode::try_from(code).expect("a code");
            let p = v5_0::Disconnect::builder().reason_code(reason).props(props).build().expect("legal");
            (V5, p.to_continuous_buffer(), format!("{:?}", Packet::Disconnect { code }))
        })
        .boxed()
}

fn pingresp() -> BoxedStrategy<(MqttVersion, Vec<u8>, String)> {
    version().prop_map(|version| (version, v5_0::Pingresp::new().to_continuous_buffer(), format!("{:?}", Packet::PingResp))).boxed()
}

#[test]
fn each_reason_code_is_legal_where_the_oracle_knows_it() {
    for code in 0..=255u8 {
        let takes = |packet: &[u8]| decode(V5, packet).is_ok();
        assert_eq!(takes(&[0x20, 3, 0, code, 0]), ConnectReasonCode::try_from(code).is_ok(), "CONNACK {code:#x}");
        assert_eq!(takes(&[0x40, 3, 0, 1, code]), PubackReasonCode::try_from(code).is_ok(), "PUBACK {code:#x}");
        // QoS 2 was never asked for.
        let suback = code != 2 && SubackReasonCode::try_from(code).is_ok();
        assert_eq!(takes(&[0x90, 4, 0, 1, 0, code]), suback, "SUBACK {code:#x}");
        // 0x04 is a client's; 0x8c is in the specification's list (2.4), not in the oracle's.
        let disconnect = code != 4 && (code == 0x8c || DisconnectReasonCode::try_from(code).is_ok());
        assert_eq!(takes(&[0xe0, 1, code]), disconnect, "DISCONNECT {code:#x}");
    }
}

#[test]
fn length_is_known_from_the_header_alone() {
    assert_eq!(length(V5, &[], 100), Ok(None));
    assert_eq!(length(V5, &[0x30], 100), Ok(None));
    assert_eq!(length(V5, &[0x30, 98], 100), Ok(Some(100)));
    assert_eq!(length(V5, &[0x30, 0xff, 0xff, 0xff], u32::MAX), Ok(None));
    assert_eq!(length(V5, &[0x30, 0xff, 0xff, 0xff, 0x7f], u32::MAX), Ok(Some(5 + 268_435_455)));
    assert_eq!(length(V5, &[0x30, 0xff, 0xff, 0xff, 0x7f], 16 * 1024).map_err(|v| v.code), Err(0x95));
    assert_eq!(length(V5, &[0x30, 0xff, 0xff, 0xff, 0xff], u32::MAX).map_err(|v| v.code), Err(0x81));
    assert_eq!(length(V311, &[0x30, 0x80, 0x00], 100), Err(Violation::malformed("length not in its shortest form")));
}

#[test]
fn decode_takes_any_bytes_without_a_panic() {
    assert!(decode(V5, &[]).is_err());
    for first in 0..=255u8 {
        for rest in [&[][..], &[0], &[1], &[0x80], &[0xff; 4], &[2, 0, 0], &[3, 0, 0, 0], &[4, 0, 1, 0, 1]] {
            let bytes = [&[first], rest].concat();
            let (_, _) = (decode(V5, &bytes), decode(V311, &bytes));
        }
    }
}
