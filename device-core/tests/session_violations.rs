//! What no broker may say: each ends the connection, and a v5 broker is told why with the right reason code.

#[macro_use]
mod fake_broker;

use device_core::config::MqttVersion::{self, V5, V311};
use device_core::session::SessionEvent;
use fake_broker::*;

in_both_versions!(
    violations_before_connack,
    violations_after_connack,
    oversized_packet_is_refused_by_its_header,
    pingresp_without_pingreq_is_a_violation,
    puback_for_a_subscribe_is_a_violation,
    suback_is_matched_with_its_subscribe,
);

fn violations_before_connack(version: MqttVersion) {
    let mut cases = vec![
        (PINGRESP.to_vec(), 0x82),
        (puback(1, 0), 0x82),
        (publish(version, None, "a", b""), 0x82),
        (suback(version, 1, &[0]), 0x82),
        (vec![0x21], 0x81),
    ];
    let refusal = if version == V5 { 0x87 } else { 5 };
    cases.push((connack(version, true, refusal, &[]), 0x82));
    cases.push((connack(version, false, 6, &[]), 0x82));
    cases.push((packet(0x20, &[2, 0, 0][..if version == V5 { 3 } else { 2 }]), 0x81));
    cases.push((packet(0x20, &[0]), 0x81));
    cases.push((packet(0x20, &[0, 0, 0, 0]), 0x81));
    if version == V5 {
        cases.push((packet(0xe0, &[0x8b]), 0x82));
        for (properties, code) in [
            (&[0x21, 0, 0][..], 0x82),               // receive maximum 0
            (&[0x27, 0, 0, 0, 0], 0x82),             // maximum packet size 0
            (&[0x24, 2], 0x82),                      // maximum QoS 2
            (&[0x25, 1, 0x25, 1], 0x82),             // said twice
            (&[0x23, 0, 1], 0x94),                   // topic alias in a CONNACK
            (&[0x01, 0], 0x82),                      // payload format in a CONNACK
            (&[0x15, 0, 1, b'x'], 0x82),             // authentication method, though we named none
            (&[0x1a, 0, 1, b'x'], 0x82),             // response information, though we asked for none
            (&[0x7f, 0], 0x81),                      // no such property
            (&[0x1f, 0, 2, 0xff, 0xfe], 0x81),       // not UTF-8
            (&[0x1f, 0, 3, 0xed, 0xa0, 0x80], 0x81), // a surrogate
            (&[0x1f, 0, 1, 0], 0x81),                // NUL
            (&[0x1f, 0, 9, b'x'], 0x81),             // past the end
            (&[0x26, 0, 1, b'k'], 0x81),             // half a pair
        ] {
            cases.push((connack(version, false, 0, properties), code));
        }
    }
    for (bytes, code) in cases {
        let mut rig = Rig::new(version);
        rig.connect();
        let out = rig.receive(&bytes);
        assert!(!out.told.contains(&SessionEvent::Up { session_present: false }), "{bytes:02x?}");
        assert_violation(&out, version, code);
    }
}

fn violations_after_connack(version: MqttVersion) {
    let p = |first, body: &[u8]| packet(first, body);
    let mut cases = vec![
        (connack(version, false, 0, &[]), 0x82),
        (vec![0x00], 0x81),
        (vec![0x10], 0x82), // CONNECT
        (vec![0x82], 0x82), // SUBSCRIBE
        (vec![0xa2], 0x82), // UNSUBSCRIBE
        (vec![0xc0], 0x82), // PINGREQ
        (vec![0x50], 0x82), // PUBREC
        (vec![0x62], 0x82), // PUBREL
        (vec![0x70], 0x82), // PUBCOMP
        (vec![0xb0], 0x82), // UNSUBACK
        (vec![0x34], 0x82), // QoS 2
        (vec![0x36], 0x81), // QoS 3
        (vec![0x38], 0x81), // DUP at QoS 0
        (vec![0x41], 0x81), // reserved flags
        (vec![0x92], 0x81),
        (vec![0xd1], 0x81),
        (vec![0xd0, 0x80, 0x00], 0x81),             // not minimal
        (vec![0xd0, 0xff, 0xff, 0xff, 0xff], 0x81), // five bytes
        (p(0xd0, &[0]), 0x81),
        (puback(0, 0), 0x82),
        (p(0x40, &[1]), 0x81),
        (suback(version, 0, &[1]), 0x82),
        (suback(version, 1, &[2]), 0x82),
        (suback(version, 1, &[3]), 0x82),
        (suback(version, 1, &[]), 0x81),
        (publish(version, Some(0), "a", b""), 0x82),
        (publish(version, None, "", b""), 0x82),
        (publish(version, None, "a/+", b""), 0x90),
        (publish(version, None, "#", b""), 0x90),
        (publish(version, None, "a\0", b""), 0x81),
        (p(0x30, &[0, 1, 0xff, 0]), 0x81),             // not UTF-8
        (p(0x30, &[0, 3, 0xed, 0xa0, 0x80, 0]), 0x81), // a surrogate
        (p(0x30, &[0, 9, b'a']), 0x81),
        (p(0x32, &[0, 1, b'a', 0]), 0x81),
    ];
    match version {
        V311 => {
            cases.extend([(p(0x40, &[0, 1, 0]), 0x81), (vec![0xe0], 0x82), (vec![0xf0], 0x81), (suback(version, 1, &[0x87]), 0x82)])
        }
        V5 => cases.extend([
            (vec![0xf0], 0x82),                                  // AUTH
            (p(0x40, &[0, 1, 1]), 0x82),                         // no such reason
            (p(0x40, &[0, 1, 0, 2]), 0x81),                      // property length past the end
            (p(0x40, &[0, 1, 0, 2, 0x01, 0]), 0x82),             // property of another packet
            (p(0x40, &[0, 1, 0, 0, 0]), 0x81),                   // bytes after the end
            (p(0xe0, &[0x04]), 0x82),                            // only clients say this
            (p(0xe0, &[0, 5, 0x11, 0, 0, 0, 1]), 0x82),          // session expiry from a broker
            (p(0x30, &[0, 1, b'a', 3, 0x23, 0, 1]), 0x94),       // topic alias
            (p(0x30, &[0, 0, 3, 0x23, 0, 1]), 0x94),             // topic alias alone
            (p(0x30, &[0, 1, b'a', 2, 0x01, 2]), 0x82),          // payload format 2
            (p(0x30, &[0, 1, b'a', 4, 0x01, 0, 0x01, 0]), 0x82), // said twice
            (p(0x30, &[0, 1, b'a', 2, 0x0b, 0]), 0x82),          // subscription identifier 0
            (p(0x30, &[0, 1, b'a', 4, 0x08, 0, 1, b'#']), 0x82), // wildcard in the response topic
            (p(0x30, &[0, 1, b'a', 0x80, 0]), 0x81),             // property length not minimal
            (p(0x30, &[0, 1, b'a']), 0x81),                      // no property length
        ]),
    }
    for (bytes, code) in cases {
        let mut rig = Rig::up(version);
        let out = rig.receive(&bytes);
        assert!(out.closed().is_some(), "{bytes:02x?}: {out:?}");
        assert_violation(&out, version, code);
    }
}

fn oversized_packet_is_refused_by_its_header(version: MqttVersion) {
    let mut rig = Rig::up(version);
    let largest = publish(version, None, "t", &vec![0; 1024 - if version == V5 { 7 } else { 6 }]);
    assert_eq!(largest.len(), 1024);
    assert_eq!(rig.receive(&largest).told.len(), 1);
    assert_eq!(rig.receive(&[0x30, 0xfe]), Out::default());
    assert_violation(&rig.receive(&[0x07]), version, 0x95);
}

fn pingresp_without_pingreq_is_a_violation(version: MqttVersion) {
    let mut rig = Rig::up(version);
    assert_violation(&rig.receive(&PINGRESP), version, 0x82);
}

fn puback_for_a_subscribe_is_a_violation(version: MqttVersion) {
    let mut rig = Rig::new(version);
    rig.connect();
    rig.receive(&connack(version, false, 0, &[]));
    assert_violation(&rig.receive(&puback(1, 0)), version, 0x82);
}

fn suback_is_matched_with_its_subscribe(version: MqttVersion) {
    for wrong in [suback(version, 2, &[1]), suback(version, 1, &[1, 1])] {
        let mut rig = Rig::new(version);
        rig.connect();
        rig.receive(&connack(version, false, 0, &[]));
        assert_violation(&rig.receive(&wrong), version, 0x82);
    }
    let mut rig = Rig::up(version);
    assert_violation(&rig.receive(&suback(version, 1, &[1])), version, 0x82);
}
