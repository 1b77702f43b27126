//! Serial logs of plain ESP-IDF firmware, written as its components say them: what is likely wrong is told, and nothing breaks it.

use device_core::state::State;
use harness::diagnose::{Diagnosis, diagnose};
use harness::trace::log;
use harness::vocabulary::{self, built_in};
use proptest::prelude::*;
use std::path::Path;

fn look(text: &str) -> Diagnosis {
    diagnose(&log::read(text.as_bytes(), built_in("esp-idf").expect("it is built in")))
}

const ROM: &str = "ets Jul 29 2019 12:21:46\n\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\nconfigsip: 0, SPIWP:0xee\n\
    load:0x3fff0030,len:7084\nentry 0x400806d4\nI (29) boot: ESP-IDF v5.2.1 2nd stage bootloader\nI (310) app_init: Project name:     mqtt_ssl\n\
    I (315) app_init: App version:      1.4.0\nI (420) main_task: Calling app_main()\n";
const WIFI: &str = "I (620) wifi:wifi driver task: 3ffc0d5c, prio:23, stack:6656, core=0\nI (700) wifi:mode : sta (24:6f:28:aa:bb:cc)\n\
    I (830) wifi:new:<6,0>, old:<1,0>, ap:<255,255>, sta:<6,0>, prof:1\nI (831) wifi:state: init -> auth (b0)\nI (840) wifi:state: auth -> assoc (0)\n\
    I (850) wifi:state: assoc -> run (10)\nI (880) wifi:connected with home-net, aid = 3, channel 6, BW20, bssid = 11:22:33:44:55:66\n\
    I (1890) esp_netif_handlers: sta ip: 192.168.1.34, mask: 255.255.255.0, gw: 192.168.1.1\nI (1900) MQTT_EXAMPLE: Other event id:7\n";
const NOT_CONNECTED: &str = "E (2510) esp-tls: Failed to open new connection\nE (2510) transport_base: Failed to open a new connection\n\
    E (2520) mqtt_client: Error transport connect\nI (2520) MQTT_EXAMPLE: MQTT_EVENT_ERROR\nI (2530) MQTT_EXAMPLE: MQTT_EVENT_DISCONNECTED\n";

/// A broker that refuses a client ends the connection, and the client says that too.
#[test]
fn what_follows_a_refusal_is_no_other_trouble() {
    let refused = "W (2600) mqtt_client: Connection refused, bad username or password\n";
    for then in [
        "E (2601) mqtt_client: mqtt_message_receive: transport_read() error: errno=128\n",
        "I (2601) MQTT_CLIENT: Error MQTT Connected\n",
        "I (2601) mqtt_client: Error MQTT Connected\nI (2602) MQTT_EXAMPLE: MQTT_EVENT_DISCONNECTED\n",
    ] {
        let told = look(&format!("{ROM}{WIFI}{refused}{then}"));
        assert_eq!(told.reached, Some(State::MqttConnecting), "{told}");
        assert!(told.trouble.as_ref().is_some_and(|trouble| trouble.likely.contains("user or password")), "{told}");
    }
}

/// What it says after it joined the network, the stage reached, a part of what is likely, and of the scenario.
#[test]
fn what_goes_wrong_on_the_way_to_a_broker_is_told() {
    for (said, likely, scenario) in [
        (
            "E (2500) esp-tls-mbedtls: mbedtls_ssl_handshake returned -0x2700\n",
            "does not trust the broker's",
            "tls/broker-certificate",
        ),
        ("E (2500) esp-tls-mbedtls: mbedtls_ssl_handshake returned -0x7780\n", "ended the TLS handshake", "tls/version-mismatch"),
        (
            "E (2500) esp-tls-mbedtls: mbedtls_ssl_handshake returned -0x0050\n",
            "cannot be reached, or hangs up",
            "broker/away-at-first",
        ),
        ("E (2500) esp-tls-mbedtls: mbedtls_ssl_handshake returned -0x7200\n", "does not speak TLS", "tls/version-mismatch"),
        (
            "E (2500) esp-tls: couldn't get hostname for :mqtt.example.com: getaddrinfo() returns 202, addrinfo=0x0\n",
            "name cannot be looked up",
            "broker/away-at-first",
        ),
        (
            "E (2500) esp-tls: [sock=54] delayed connect error: Connection reset by peer\n",
            "nothing listens",
            "broker/away-at-first",
        ),
        ("E (2500) esp-tls: [sock=54] connect() error: Connection refused\n", "nothing listens", "broker/away-at-first"),
        ("E (2500) esp-tls: [sock=54] select() timeout\n", "no way to the broker", "broker/away-at-first"),
        ("E (2500) esp-tls: [sock=54] connect() error: Host is unreachable\n", "no way to the broker", "broker/away-at-first"),
    ] {
        let told = look(&format!("{ROM}{WIFI}{said}{NOT_CONNECTED}"));
        assert_eq!(told.reached, Some(State::MqttConnecting), "{told}");
        let trouble = told.trouble.as_ref().unwrap_or_else(|| panic!("{said}: {told}"));
        assert!(trouble.likely.contains(likely), "{said}: {told}");
        assert_eq!(trouble.scenario, Some(scenario), "{said}: {told}");
        // Without the lines that follow, as when the log was cut there.
        let cut = look(&format!("{ROM}{WIFI}{said}"));
        assert_eq!(cut.trouble.as_ref().map(|trouble| trouble.likely), Some(trouble.likely), "{cut}");
    }
}

#[test]
fn the_verify_flags_say_which_certificate_trouble_it_is() {
    for (flag, likely) in [
        ("! The certificate Common Name (CN) does not match with the expected CN", "does not trust"),
        ("! The certificate validity has expired", "does not trust"),
        ("! The certificate validity starts in the future", "does not know the time"),
    ] {
        let text = format!(
            "{ROM}{WIFI}E (2500) esp-tls-mbedtls: mbedtls_ssl_handshake returned -0x2700\nI (2500) esp-tls-mbedtls: Failed to verify peer certificate!\n\
             I (2501) esp-tls-mbedtls: verification info:   {flag}\n{NOT_CONNECTED}"
        );
        assert!(look(&text).trouble.is_some_and(|trouble| trouble.likely.contains(likely)), "{flag}: {}", look(&text));
    }
}

#[test]
fn a_connack_that_says_no_is_told() {
    for (said, likely) in [
        ("W (2600) mqtt_client: Connection refused, bad username or password\n", "user or password"),
        ("W (2600) mqtt_client: Connection refused, not authorized\n", "user, password or certificate"),
        ("I (2600) MQTT_EXAMPLE: Connection refused error: 0x5\n", "user, password or certificate"),
        (
            "I (2600) MQTT5_EXAMPLE: MQTT5 return code is 0x87\nE (2600) mqtt5_client: reason code 0x87\n",
            "user, password or certificate",
        ),
    ] {
        let told = look(&format!(
            "{ROM}{WIFI}{said}I (2610) MQTT_EXAMPLE: MQTT_EVENT_ERROR\nI (2610) MQTT_EXAMPLE: MQTT_EVENT_DISCONNECTED\n"
        ));
        let trouble = told.trouble.as_ref().unwrap_or_else(|| panic!("{said}: {told}"));
        assert!(trouble.likely.contains(likely) && trouble.scenario == Some("broker/refused-login"), "{said}: {told}");
    }
}

#[test]
fn wifi_trouble_is_told() {
    let start =
        "I (831) wifi:state: init -> auth (b0)\nI (840) wifi:state: auth -> assoc (0)\nI (850) wifi:state: assoc -> run (10)\n";
    let retry = "I (4900) wifi station: retry to connect to the AP\nI (4900) wifi station: connect to the AP fail\n\
        I (9000) wifi station: Failed to connect to SSID:home-net, password:open-sesame\n";
    for (said, likely) in [
        ("I (4870) wifi:state: run -> init (f00)\nI (4880) wifi:new:<6,0>, old:<6,0>\n", "password is wrong"),
        ("I (4870) example: WIFI_EVENT_STA_DISCONNECTED reason: 15\n", "password is wrong"),
        ("[  4870][W][WiFiGeneric.cpp:1062] _eventCallback(): Reason: 202 - AUTH_FAIL\n", "password is wrong"),
        ("W (4870) app: disconnected, reason 201\n", "access point is not there"),
        ("", "cannot be joined"),
    ] {
        let told = look(&format!("{ROM}{start}{said}{retry}"));
        assert!(told.trouble.as_ref().is_some_and(|trouble| trouble.likely.contains(likely)), "{said}: {told}");
        assert_eq!(told.reached, Some(State::WifiConnecting), "{told}");
        assert!(told.says_password && !format!("{told:?}").contains("open-sesame"), "{told}");
    }
}

#[test]
fn a_firmware_that_dies_is_told_before_all_else() {
    for (said, likely) in [
        (
            "\nBrownout detector was triggered\n\nets Jul 29 2019 12:21:46\n\nrst:0xc (SW_CPU_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\n",
            "brownout",
        ),
        (
            "E (5013) task_wdt: Task watchdog got triggered. The following tasks/users did not reset the watchdog in time:\nE (5013) task_wdt:  - IDLE0 (CPU 0)\n",
            "task watchdog",
        ),
        (
            "***ERROR*** A stack overflow in task mqtt_task has been detected.\n\nBacktrace: 0x40081d6e:0x3ffb5e50\n",
            "overran its stack",
        ),
        (
            "Guru Meditation Error: Core  0 panic'ed (Unhandled debug exception). \nDebug exception reason: Stack canary watchpoint triggered (main) \n",
            "overran its stack",
        ),
        (
            "Guru Meditation Error: Core  1 panic'ed (LoadProhibited). Exception was unhandled.\n\nCore  1 register dump:\nPC      : 0x400d1c2f\n",
            "pointer that leads nowhere",
        ),
        (
            "E (3000) esp-tls-mbedtls: mbedtls_ssl_setup returned -0x7F00\nESP_ERROR_CHECK failed: esp_err_t 0x101 (ESP_ERR_NO_MEM) at 0x400d4a2b\nabort() was called at PC 0x40085b7f on core 0\n",
            "heap is used up",
        ),
        (
            "CORRUPT HEAP: Bad head at 0x3ffb8e34. Expected 0xabba1234 got 0x00000000\nassert failed: multi_heap_free multi_heap_poisoning.c:259 (head != NULL)\n",
            "past the end of its memory",
        ),
        ("assert failed: xQueueSemaphoreTake queue.c:1713 (( pxQueue ))\n", "takes to be impossible"),
    ] {
        let told = look(&format!("{ROM}{WIFI}{said}Rebooting...\n{ROM}"));
        assert!(told.trouble.as_ref().is_some_and(|trouble| trouble.likely.contains(likely)), "{said}: {told}");
        assert!(!told.is_well());
        assert_eq!(told.boots, if said.contains("rst:") { 3 } else { 2 }, "{told}");
    }
}

#[test]
fn what_is_well_is_well_however_the_monitor_shows_it() {
    let text = format!(
        "{ROM}{WIFI}I (2500) MQTT_EXAMPLE: MQTT_EVENT_CONNECTED\nI (2510) MQTT_EXAMPLE: sent subscribe successful, msg_id=1\n"
    );
    let told = look(&text);
    assert!(told.is_well() && told.boots == 1, "{told}");
    type Dress = fn(&str) -> String;
    let dressed: [(&str, Dress); 5] = [
        ("idf.py monitor --timestamps", |line| format!("2026-11-22 02:10:00 {line}\n")),
        ("ts", |line| format!("Nov 22 02:10:00 {line}\n")),
        ("picocom, colours", |line| format!("\x1b[0;32m{line}\x1b[0m\r\n")),
        ("brackets", |line| format!("[02:10:00.123] {line}\r\n")),
        ("garbage", |line| format!("{line}\n\u{fffd}\u{0}\u{7}~~\n")),
    ];
    for (name, dress) in dressed {
        let told = look(&text.lines().map(dress).collect::<String>());
        assert!(told.is_well() && told.boots == 1, "{name}: {told}");
    }
    // A disconnection, as idf shows it, is trouble; a session after it is the end of it.
    let lost = "E (9000) transport_base: poll_read select error 104, errno = Connection reset by peer, fd = 54\n\
        E (9000) mqtt_client: Poll read error: 119, aborting connection\nI (9001) MQTT_EXAMPLE: MQTT_EVENT_DISCONNECTED\n";
    assert_eq!(look(&format!("{text}{lost}")).trouble.and_then(|trouble| trouble.scenario), Some("broker/killed"));
    assert!(look(&format!("{text}{lost}I (12000) MQTT_EXAMPLE: MQTT_EVENT_CONNECTED\n")).is_well());
}

#[test]
fn the_backend_is_told_from_the_broker() {
    let text = format!(
        "{ROM}{WIFI}E (2500) esp-tls: couldn't get hostname for :api.example.com: getaddrinfo() returns 202, addrinfo=0x0\n\
         E (2500) esp-tls: Failed to open new connection\nE (2510) transport_base: Failed to open a new connection\n\
         E (2510) HTTP_CLIENT: Connection failed, sock < 0\n"
    );
    assert!(look(&text).trouble.is_some_and(|trouble| trouble.likely.contains("backend's name")), "{}", look(&text));
    let told = look(&format!("{ROM}{WIFI}I (2500) ENROLL: HTTP POST Status = 401, content_length = 27\n"));
    assert_eq!(told.trouble.and_then(|trouble| trouble.scenario), Some("enrollment/token-refused"));
}

#[test]
fn a_vocabulary_of_ones_own_is_used_and_checked() {
    let text = "vocabulary: 1\nlines:\n  - match: 'cloud: up (?<session_present>[01])'\n    says: mqtt-connected\n";
    let own = vocabulary::read(Path::new("v.yaml"), text.as_bytes()).expect("it is in order");
    assert!(diagnose(&log::read(b"I (5) cloud: up 0\n", &own)).is_well());
    assert!(!diagnose(&log::read(b"I (5) cloud: up 2\n", &own)).is_understood());
    for (entry, met, help) in [
        ("match: 'x'\n    says: mqtt-conected", "unknown report `mqtt-conected`", "did you mean `mqtt-connected`"),
        ("match: 'x'\n    says: mqtt-connected", "without its field `session_present`", "(?<session_present>"),
        ("match: 'x'\n    says: mqtt-refused\n    with: { code: many }", "`code: many`, which it cannot be", "an example"),
        ("match: 'x'\n    says: mqtt-refused\n    with: { code: '5', kode: '5' }", "no field `kode`", "did you mean `code`"),
        ("match: 'x('\n    says: mqtt-connected", "the pattern", ""),
        ("match: 'x'\n    says: wifi-failed\n    with: { reason: '${y}' }", "`${y}`, which is no group", "(?<y>"),
        ("match: 'x'", "neither `says` nor `notes`", "says:"),
        ("says: mqtt-connected", "no `match`", "match:"),
        ("mach: 'x'", "mach", "match"),
    ] {
        let text = format!("vocabulary: 1\nlines:\n  - {entry}\n");
        let wrong = vocabulary::read(Path::new("v.yaml"), text.as_bytes()).expect_err(entry);
        let told = wrong.render(false);
        assert!(told.contains(met) && told.contains(help) && told.contains("v.yaml:"), "{entry}: {told}");
    }
    for (text, met) in
        [("vocabulary: 2\nlines: []\n", "write `vocabulary: 1`"), ("vocabulary: 1\nextends: [esp]\n", "unknown vocabulary `esp`")]
    {
        assert!(vocabulary::read(Path::new("v.yaml"), text.as_bytes()).expect_err(met).render(false).contains(met));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Bytes changed, lost and added at any place, and pieces of logs in any order: it is looked at, and reproduced or not, without a panic.
    #[test]
    fn a_mutated_log_is_looked_at(
        pieces in prop::collection::vec(0..4usize, 1..6),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..20),
    ) {
        let mut bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| [ROM, WIFI, NOT_CONNECTED, "\x1b[31mE (1) \u{fffd}password:x (((\n"][piece].bytes()).collect();
        for (at, byte, kind) in cuts {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let log = log::read(&bytes, built_in("esp-idf").expect("it is built in"));
        prop_assert_eq!(log.events.len(), log.meant.len());
        let told = diagnose(&log);
        let _ = (told.to_string(), told.json());
        if let Ok(text) = harness::reproduce::scenario(&told, &log, "a log") {
            prop_assert!(harness::scenario::read(Path::new("x.yaml"), text.as_bytes()).is_ok(), "{}", text);
        }
    }
}
