//! Frames and text on one line: known vectors, and everything a line can do to them.

use device_core::serial::frame::{ACCM_ALL, ADDRESS_CONTROL, Encoding, FRAME_MAX, Piece, RAW_MAX, Splitter, encode, fcs};
use proptest::prelude::*;

/// What a splitter made of a line; text is put together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    text: Vec<u8>,
    frames: Vec<Vec<u8>>,
    bad: usize,
}

impl Seen {
    fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Text(text) => self.text.extend_from_slice(text),
            Piece::Frame(body) => self.frames.push(body.to_vec()),
            Piece::Bad => self.bad += 1,
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_else(|_| panic!("no text: {self:02X?}"))
    }
}

fn split_by(mut splitter: Splitter, chunks: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    for chunk in chunks {
        splitter.feed(chunk, &mut |piece| seen.take(piece));
    }
    splitter.idle(&mut |piece| seen.take(piece));
    assert!(!splitter.undecided(), "after silence everything is decided");
    seen
}

fn split(encoding: Encoding, line: &[u8]) -> Seen {
    split_by(Splitter::new(encoding), &[line])
}

fn frame(encoding: Encoding, body: &[u8], accm: u32) -> Vec<u8> {
    let mut line = Vec::new();
    encode(encoding, body, accm, &mut line);
    line
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn body(payload: &[u8]) -> Vec<u8> {
    [&ADDRESS_CONTROL, payload].concat()
}

#[test]
fn the_check_sequence_is_rfc_1662s() {
    assert_eq!(fcs(b"123456789"), 0x906E, "the check value of CRC-16/X-25");
    let whole = [b"123456789".as_slice(), &fcs(b"123456789").to_le_bytes()].concat();
    assert_eq!(!fcs(&whole), 0xF0B8, "the good final value of RFC 1662, appendix C.1");
}

/// LCP as a Windows CE handheld and a CDMA modem said it.
#[test]
fn frames_of_others_are_read_and_ours_are_theirs() {
    let jornada =
        bytes("7e ff 7d 23 c0 21 7d 21 7d 21 7d 20 7d 2e 7d 22 7d 26 7d 20 7d 20 7d 20 7d 20 7d 27 7d 22 7d 28 7d 22 70 34 7e");
    let request = bytes("ff 03 c0 21 01 01 00 0e 02 06 00 00 00 00 07 02 08 02");
    assert_eq!(split(Encoding::Hdlc, &jornada).frames, std::slice::from_ref(&request));
    assert_eq!(frame(Encoding::Hdlc, &request, ACCM_ALL), jornada);

    let modem = bytes(
        "7E FF 7D 23 C0 21 7D 21 7D 23 7D 20 7D 39 7D 22 7D 26 7D 20 7D 2A 7D 20 7D 20 7D 23 7D 25 C2 23 80 7D 25 7D 26 51 3D EB 7D 32
         7D 27 7D 22 7D 28 7D 22 84 36 7E
         7E FF 03 C0 21 02 01 00 14 02 06 00 00 00 00 05 06 42 28 2E C7 07 02 08 02 5C 6C 7E
         7E FF 03 C2 23 01 E4 00 15 08 C9 0A 0C 2D 14 E9 88 01 4E 41 53 32 20 20 20 20 7A C4 7E",
    );
    let seen = split(Encoding::Hdlc, &modem);
    assert_eq!(
        seen.frames,
        [
            bytes("ff 03 c0 21 01 03 00 19 02 06 00 0a 00 00 03 05 c2 23 80 05 06 51 3d eb 12 07 02 08 02"),
            bytes("ff 03 c0 21 02 01 00 14 02 06 00 00 00 00 05 06 42 28 2e c7 07 02 08 02"),
            bytes("ff 03 c2 23 01 e4 00 15 08 c9 0a 0c 2d 14 e9 88 01 4e 41 53 32 20 20 20 20"),
        ]
    );
    assert_eq!((seen.text(), seen.bad), ("", 0));
}

#[test]
fn the_text_encoding_is_a_line_of_base64() {
    let request = bytes("ff 03 c0 21 01 01 00 04");
    assert_eq!(fcs(&request).to_le_bytes(), [0xD1, 0xB5]);
    let line = b"~P/wPAIQEBAATRtQ==\n";
    assert_eq!(frame(Encoding::Text, &request, ACCM_ALL), line);
    assert_eq!(split(Encoding::Text, line).frames, std::slice::from_ref(&request));
    assert_eq!(split(Encoding::Text, b"~P/wPAIQEBAATRtQ==\r\n").frames, [request]);
}

/// What lwIP does when the last frame is less than 100 ms ago, with and without text between.
#[test]
fn an_opening_flag_may_be_left_out_behind_a_frame_and_behind_text() {
    let (one, two) = (body(b"\xC0\x21one"), body(b"\xC0\x21two"));
    let first = frame(Encoding::Hdlc, &one, ACCM_ALL);
    let second = &frame(Encoding::Hdlc, &two, ACCM_ALL)[1..];
    for between in ["", "I (1) a: b\n", "> "] {
        let seen = split(Encoding::Hdlc, &[&first, between.as_bytes(), second, b"after\n"].concat());
        assert_eq!((seen.text(), seen.bad), (format!("{between}after\n").as_str(), 0));
        assert_eq!(seen.frames, [one.clone(), two.clone()]);
    }
}

#[test]
fn a_tilde_in_text_is_text() {
    let text = "~\n~~ ~~~~~~~~~~~~~~~~~~~~~~~~ ~/wait ~Please ~P ~PAs ~}x /w /wx Pa P/ ~x~P~\nI (1) at: 50~60 % done \u{f6}~";
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let seen = split(encoding, text.as_bytes());
        assert_eq!((seen.text(), seen.bad), (text, 0), "{encoding:?}");
        let packet = frame(encoding, &body(b"\x00\x21x"), 0);
        let seen = split(encoding, &[&packet, b"~ x\n".as_slice(), &packet, b"y\n", &packet].concat());
        assert_eq!((seen.text(), seen.frames.len(), seen.bad), ("~ x\ny\n", 3, 0), "{encoding:?}");
    }
}

/// Each byte of each frame is lost in turn: the text before and behind stays, and of the frame nothing is shown.
#[test]
fn a_lost_byte_costs_its_frame_and_no_text_but_what_runs_into_the_frame() {
    let packet = body(b"\x00\x21packet \x01\x02\n\x7E\x7D\xC3\x28 end");
    let lcp = body(b"\xC0\x21\x01\x01\x00\x04");
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        for (body, accm) in [(&packet, 0), (&packet, ACCM_ALL), (&lcp, ACCM_ALL)] {
            let whole = frame(encoding, body, accm);
            for lost in 0..whole.len() {
                let broken = [&whole[..lost], &whole[lost + 1..]].concat();
                let line = [b"before\n", broken.as_slice(), &whole, b"behind\n", &whole].concat();
                let seen = split(encoding, &line);
                assert_eq!(seen.text(), "before\nbehind\n", "{encoding:?}, byte {lost} of {whole:02X?} lost");
                let unharmed = seen.frames.len() == 3 && seen.bad == 0;
                assert!(unharmed || (seen.frames.len() == 2 && seen.bad == 1), "{encoding:?}, byte {lost}: {seen:?}");
                assert!(seen.frames.iter().all(|seen| seen == body));
            }
        }
    }
}

/// The text behind a frame that lost its end is lost with it up to the next frame, not shown with rubbish; the next frame is whole.
#[test]
fn text_that_runs_into_a_frame_does_not_come_out_as_rubbish() {
    let packet = body(b"\x00\x21\x80\x81\x82");
    let whole = frame(Encoding::Hdlc, &packet, 0);
    let line = [&whole[..whole.len() - 1], b"I (1) a: b\n", &whole, b"c\n"].concat();
    let seen = split(Encoding::Hdlc, &line);
    assert_eq!((seen.text(), seen.frames.len(), seen.bad), ("c\n", 1, 1));
}

/// A device that is reset in the middle of a frame begins its text at once, or after a while.
#[test]
fn silence_ends_a_frame_and_what_follows_is_text_only_if_it_can_be_printed() {
    let packet = body(b"\x00\x21\x80\x81\x82\x83\x84");
    let whole = frame(Encoding::Hdlc, &packet, 0);
    let mut splitter = Splitter::new(Encoding::Hdlc);
    let mut seen = Seen::default();
    splitter.feed(&whole[..5], &mut |piece| seen.take(piece));
    assert!(splitter.undecided());
    splitter.idle(&mut |piece| seen.take(piece));
    assert_eq!((seen.text(), seen.bad), ("", 1));
    splitter.feed(b"ESP-ROM\n> ", &mut |piece| seen.take(piece));
    assert_eq!(seen.text(), "ESP-ROM\n> ");

    // The rest of the frame comes late: it is no text.
    splitter.feed(&whole[..5], &mut |piece| seen.take(piece));
    splitter.idle(&mut |piece| seen.take(piece));
    splitter.feed(&whole[5..], &mut |piece| seen.take(piece));
    splitter.feed(b"next\n", &mut |piece| seen.take(piece));
    splitter.feed(&whole, &mut |piece| seen.take(piece));
    assert_eq!((seen.text(), seen.frames.len()), ("ESP-ROM\n> next\n", 1));
}

#[test]
fn a_stray_byte_that_could_begin_a_frame_costs_no_printable_line() {
    let seen = split(Encoding::Hdlc, b"a\n\xFFboot \x1b[0;32mI (1) x: y\x1b[0m\nb\n");
    assert_eq!((seen.text(), seen.bad), ("a\nboot \x1b[0;32mI (1) x: y\x1b[0m\nb\n", 0));
}

#[test]
fn what_is_too_long_is_no_frame_and_ends() {
    let longest = body(&[0x55; FRAME_MAX - 2]);
    let longer = body(&[0x55; FRAME_MAX - 1]);
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        assert_eq!(split(encoding, &frame(encoding, &longest, 0)).frames, std::slice::from_ref(&longest));
        assert_eq!(split(encoding, &frame(encoding, &longer, 0)).bad, 1, "{encoding:?}");
        let mut endless = frame(encoding, &longest, 0);
        endless.pop();
        endless.extend([b'U'; 3 * RAW_MAX]);
        endless.extend_from_slice(if encoding == Encoding::Hdlc { b"~x\n" } else { b"\nx\n" });
        let seen = split(encoding, &endless);
        assert!(seen.frames.is_empty() && seen.bad > 0, "{encoding:?}");
        assert!(seen.text.ends_with(b"x\n") && seen.text.len() < RAW_MAX, "{encoding:?}");
    }
    let escapes = body(&[0x7D; FRAME_MAX - 2]);
    assert_eq!(split(Encoding::Hdlc, &frame(Encoding::Hdlc, &escapes, ACCM_ALL)).frames, [escapes]);
}

#[test]
fn a_frame_that_its_sender_gives_up_is_bad() {
    assert_eq!(split(Encoding::Hdlc, b"~\xFF\x03\xC0\x21\x7D~").bad, 1);
}

/// What wokwi-cli writes for a scenario beside the device's bytes, at every place of a frame.
#[test]
fn lines_of_an_intruder_are_cut_out_of_a_frame() {
    let packet = body(b"\x00\x21packet \n[simulation] \n\x01 end");
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let whole = frame(encoding, &packet, ACCM_ALL);
        for lines in ["[demo] one\n", "[demo] one\n[demo] two\n"] {
            for at in 0..=whole.len() {
                let line = [&whole[..at], b"\n", lines.as_bytes(), &whole[at..], b"text\n", &whole].concat();
                for size in [1, 2, line.len()] {
                    let seen = split_by(Splitter::new(encoding).intruded_by("demo"), &line.chunks(size).collect::<Vec<_>>());
                    let context = format!("{encoding:?} {lines:?} at {at} of {}", whole.len());
                    assert_eq!(seen.frames, [packet.clone(), packet.clone()], "{context}: {seen:?}");
                    // The first half of the text encoding's beginning is a line of its own.
                    let text = seen.text().trim_start_matches(if encoding == Encoding::Text && at == 1 { "~\n" } else { "\n" });
                    assert_eq!(text.replace("\n\n", "\n"), format!("{lines}text\n"), "{context}");
                }
            }
        }
    }
    // Not this intruder: the frame is lost, and the next is not.
    let whole = frame(Encoding::Hdlc, &packet, ACCM_ALL);
    let line = [&whole[..9], b"\n[dem\n", &whole[9..], &whole].concat();
    let seen = split_by(Splitter::new(Encoding::Hdlc).intruded_by("demo"), &[&line]);
    assert_eq!((seen.frames.len(), seen.bad, seen.text()), (1, 1, ""));
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Hdlc), Just(Encoding::Text)]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(vec![0x0021_u16, 0x8021, 0xC021, 0x8057]), prop::collection::vec(any::<u8>(), 4..80))
        .prop_map(|(protocol, rest)| body(&[&protocol.to_be_bytes()[..], &rest].concat()))
}

/// Lines of a console, or a frame.
#[derive(Clone, Debug)]
enum Item {
    Line(String),
    Frame(Vec<u8>),
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let line = "[ -~\u{e0}-\u{ff}\u{20ac}]{0,40}".prop_map(|line| Item::Line(line + "\n"));
    // A `~` right before a frame could be its flag, and sixteen characters of base64 a frame.
    let line =
        line.prop_filter("no frame", |item| !matches!(item, Item::Line(line) if line.contains("~P/w") || line.contains("~}")));
    prop::collection::vec(prop_oneof![line, bodies().prop_map(Item::Frame)], 0..12)
}

/// The line that carries these, and what is on it.
fn written(encoding: Encoding, items: &[Item], accm: u32) -> (Vec<u8>, Seen) {
    let (mut line, mut expected) = (Vec::new(), Seen::default());
    for item in items {
        match item {
            Item::Line(text) => {
                line.extend_from_slice(text.as_bytes());
                expected.text.extend_from_slice(text.as_bytes());
            }
            Item::Frame(body) => {
                encode(encoding, body, accm, &mut line);
                expected.frames.push(body.clone());
            }
        }
    }
    (line, expected)
}

fn chunks<'a>(line: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut chunks) = (line, Vec::new());
    for size in sizes.iter().cycle() {
        let (chunk, behind) = rest.split_at(rest.len().min(*size));
        chunks.push(chunk);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_the_line_is_cut_into_chunks_it_carries_the_same(
        encoding in encodings(), items in items(), accm in any::<u32>(), sizes in prop::collection::vec(1..50_usize, 1..8), named in any::<bool>(),
    ) {
        let (line, expected) = written(encoding, &items, if named { ACCM_ALL } else { accm });
        let splitter = Splitter::new(encoding);
        let splitter = if named { splitter.intruded_by("demo") } else { splitter };
        prop_assert_eq!(split_by(splitter, &chunks(&line, &sizes)), expected);
    }

    #[test]
    fn nothing_makes_it_panic_and_a_frame_behind_anything_comes_through(
        encoding in encodings(), garbage in prop::collection::vec(any::<u8>(), 0..300), packet in bodies(),
        sizes in prop::collection::vec(1..50_usize, 1..4), named in any::<bool>(),
    ) {
        let splitter = Splitter::new(encoding);
        let splitter = if named { splitter.intruded_by("demo") } else { splitter };
        let end: &[u8] = if encoding == Encoding::Hdlc { b"~" } else { b"\n" };
        let line = [&garbage, end, &frame(encoding, &packet, ACCM_ALL), end].concat();
        let seen = split_by(splitter, &chunks(&line, &sizes));
        prop_assert_eq!(seen.frames.last(), Some(&packet));
    }

    #[test]
    fn bytes_lost_anywhere_in_frames_cost_no_text_and_show_nothing_that_is_none(
        packets in prop::collection::vec(bodies(), 1..5), lost in any::<prop::sample::Index>(), accm in prop_oneof![Just(0), Just(ACCM_ALL)],
    ) {
        let mut line = Vec::new();
        for packet in &packets {
            encode(Encoding::Hdlc, packet, accm, &mut line);
        }
        // Not the last flag: what it ends would run into the text behind.
        line.remove(lost.index(line.len() - 1));
        let seen = split(Encoding::Hdlc, &[b"before\n", line.as_slice(), b"behind\n"].concat());
        prop_assert_eq!(std::str::from_utf8(&seen.text), Ok("before\nbehind\n"));
        prop_assert!(seen.frames.len() + 2 >= packets.len());
    }
}
