//! A device and its host at the two ends of a bad line.

use super::*;
use crate::target::rig::noise::{Badness, Noise};
use device_core::serial::numbered::{Boot, DeviceEnd, Heard};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader, split};

/// How long whatever a test waits for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a test's device does.
#[derive(Clone, Copy)]
enum Does {
    /// Numbers its lines.
    Numbers,
    /// The same, and starts again when it is told `reboot`.
    Restarts,
}

/// A device that says `said N` for each command `say N`, and nothing else.
async fn device(line: DuplexStream, does: Does, badness: Badness, heard: Arc<Mutex<Vec<String>>>) {
    let (input, mut output) = split(line);
    let (mut up, mut down) = (Noise::new(badness, 1), Noise::new(badness, 2));
    let mut end = DeviceEnd::new(Boot(1));
    let mut out = up.pass(format!("ROM: hello\n{}\n{}\n", end.say("I (0) boot: one").to_owned(), end.say("ready")).as_bytes());
    let mut input = BufReader::new(input);
    loop {
        if output.write_all(&std::mem::take(&mut out)).await.is_err() {
            return;
        }
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
        let line = down.pass(&line);
        for line in line.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut answers = Vec::new();
            let command = end.hear(line, &mut |answer: &str| answers.push(answer.to_owned()));
            if let Heard::Command(command) = command {
                heard.lock().unwrap().push(command.clone());
                if let Some(n) = command.strip_prefix("say ") {
                    answers.push(end.say(&format!("said {n}")).to_owned());
                }
                if command == "reboot" && matches!(does, Does::Restarts) {
                    end = DeviceEnd::new(Boot(2));
                    answers = vec!["ROM: hello".into(), end.say("I (0) boot: two").to_owned()];
                }
            }
            answers.iter().for_each(|answer| out.extend(up.pass(format!("{answer}\n").as_bytes())));
        }
    }
}

struct Bench {
    says: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    hears: Box<dyn AsyncWrite + Send + Unpin>,
    said: Arc<Mutex<Vec<What>>>,
    heard: Arc<Mutex<Vec<String>>>,
}

fn bench(does: Does, badness: Badness) -> Bench {
    let (host, line) = duplex(4096);
    let heard = Arc::new(Mutex::default());
    tokio::spawn(device(line, does, badness, Arc::clone(&heard)));
    let (says, hears) = split(host);
    let said: Arc<Mutex<Vec<What>>> = Arc::default();
    let say = Arc::clone(&said);
    let console = Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None };
    let Numbered { console, .. } = numbered(console, move |what| say.lock().unwrap().push(what));
    Bench { says: BufReader::new(console.says), hears: console.hears, said, heard }
}

impl Bench {
    async fn tell(&mut self, line: &str) {
        self.hears.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        timeout(PATIENCE, self.says.read_until(b'\n', &mut line))
            .await
            .unwrap_or_else(|_| panic!("in time; so far {:?} {:?}", self.heard, self.said))
            .unwrap();
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// The next line of the device's own: no boot loader's, nor garbage from before it was known that lines are numbered.
    async fn own(&mut self) -> String {
        loop {
            let line = self.line().await;
            if ["I (", "ready", "said "].iter().any(|own| line.starts_with(own)) && !line.contains('*') {
                return line;
            }
        }
    }

    fn gaps(&self) -> usize {
        self.said.lock().unwrap().iter().filter(|what| matches!(what, What::Gap { .. })).count()
    }
}

const GOOD: Badness = Badness { lose_one_in: None, garbage_one_in: None };

#[tokio::test]
async fn what_a_good_line_carries_loses_only_its_numbers() {
    let mut bench = bench(Does::Numbers, GOOD);
    for line in ["ROM: hello", "I (0) boot: one", "ready"] {
        assert_eq!(bench.line().await, line);
    }
    bench.tell("say 1\r").await;
    assert_eq!(bench.line().await, "said 1");
    assert_eq!(bench.gaps(), 0);
}

#[tokio::test]
async fn what_is_lost_or_dirty_comes_all_the_same_in_order_and_once() {
    for badness in [
        Badness { lose_one_in: Some(150), ..GOOD },
        Badness { garbage_one_in: Some(3), ..GOOD },
        Badness { lose_one_in: Some(300), garbage_one_in: Some(10) },
    ] {
        let mut bench = bench(Does::Numbers, badness);
        for line in ["I (0) boot: one", "ready"] {
            assert_eq!(bench.own().await, line, "{badness:?}");
        }
        for n in 0..40 {
            bench.tell(&format!("say {n}")).await;
        }
        for n in 0..40 {
            assert_eq!(bench.own().await, format!("said {n}"), "{badness:?}");
        }
        let heard = bench.heard.lock().unwrap().clone();
        assert_eq!(heard, (0..40).map(|n| format!("say {n}")).collect::<Vec<_>>(), "{badness:?}");
        assert_eq!(bench.gaps(), 0);
    }
}

#[tokio::test]
async fn a_device_that_starts_again_is_heard_from_its_first_line() {
    let mut bench = bench(Does::Restarts, GOOD);
    for line in ["ROM: hello", "I (0) boot: one", "ready"] {
        assert_eq!(bench.line().await, line);
    }
    bench.tell("reboot").await;
    for line in ["ROM: hello", "I (0) boot: two"] {
        assert_eq!(bench.line().await, line);
    }
    bench.tell("say 7").await;
    assert_eq!(bench.line().await, "said 7");
    assert_eq!(bench.gaps(), 0, "{:?}", bench.said);
}

#[tokio::test]
async fn a_device_that_does_not_number_is_passed_through() {
    let (host, line) = duplex(4096);
    let (says, hears) = split(host);
    let Numbered { mut console, is } =
        numbered(Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None }, |_| ());
    let (mut input, mut output) = split(line);
    let mut bytes = [0; 64];
    // Not even a prompt waits for its line's end, and nothing is said that nobody said.
    for said in [&b"one\r\ntwo ^ * *2e\r\n> "[..], b"\xff\x00\n"] {
        output.write_all(said).await.unwrap();
        timeout(PATIENCE, console.says.read_exact(&mut bytes[..said.len()])).await.unwrap().unwrap();
        assert_eq!(&bytes[..said.len()], said);
    }
    for told in [&b"half"[..], b" a line\r\n\x03\xff"] {
        console.hears.write_all(told).await.unwrap();
        timeout(PATIENCE, input.read_exact(&mut bytes[..told.len()])).await.unwrap().unwrap();
        assert_eq!(&bytes[..told.len()], told);
    }
    assert!(!*is.borrow());
    drop((input, output));
    assert_eq!(timeout(PATIENCE, console.says.read(&mut bytes)).await.unwrap().unwrap(), 0, "it ends with the line");
}

#[tokio::test]
async fn what_stays_lost_is_a_gap() {
    let (host, line) = duplex(4096);
    let (says, hears) = split(host);
    let said = Arc::new(Mutex::new(Vec::new()));
    let say = Arc::clone(&said);
    let console = Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None };
    let Numbered { mut console, .. } = numbered(console, move |what| say.lock().unwrap().push(what));
    let mut end = DeviceEnd::new(Boot(1));
    let lines: Vec<String> = (1..=3).map(|n| end.say(&format!("line {n}")).to_owned()).collect();
    let (_input, mut output) = split(line);
    output.write_all(format!("{}\n{}\n", lines[0], lines[2]).as_bytes()).await.unwrap();
    let mut all = String::new();
    let read = async {
        let mut bytes = [0; 64];
        while !all.contains("line 1") {
            let read = console.says.read(&mut bytes).await.unwrap();
            all += std::str::from_utf8(&bytes[..read]).unwrap();
        }
        // The cable is gone: nobody will say the second line again.
        drop((_input, output));
        console.says.read_to_string(&mut all).await.unwrap();
    };
    timeout(PATIENCE, read).await.unwrap();
    assert_eq!(all, "line 1\nline 3\n");
    let said = said.lock().unwrap();
    assert!(matches!(&said[..], [What::Gap { why }] if why == "line 2 of the device was lost on the way"), "{said:?}");
}

#[tokio::test]
async fn a_console_that_nobody_reads_ends() {
    let (host, mut line) = duplex(64);
    let (says, hears) = split(host);
    drop(numbered(Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None }, |_| ()));
    timeout(PATIENCE, async { while line.write_all(b"is anybody there?\n").await.is_ok() {} }).await.unwrap();
}
