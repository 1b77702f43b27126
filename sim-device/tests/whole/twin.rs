//! A twin on a test's bench: what it says is read line by line, and waited for.

use device_core::secret::Secret;
use sim_device::{End, Parts, run};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split,
};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No wait of a test is longer; a busy machine needs a fraction of it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A date at which the certificates of these tests are valid.
pub const TODAY: i64 = 1_790_000_000;

pub struct Twin {
    pub run: JoinHandle<End>,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    tell: WriteHalf<DuplexStream>,
    pub said: Vec<String>,
}

/// Parts with these settings.
pub fn parts(settings: &[(&str, &str)]) -> Parts {
    let environment = settings.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
    Parts { environment, ..Parts::default() }
}

impl Twin {
    pub fn on(parts: Parts) -> Twin {
        let (host, device) = duplex(4096);
        let (console_in, console_out) = split(device);
        let (said, tell) = split(host);
        Twin { run: tokio::spawn(run(parts, console_in, console_out)), lines: BufReader::new(said).lines(), tell, said: Vec::new() }
    }

    /// The next line that contains this.
    pub async fn hears(&mut self, text: &str) -> String {
        let waited = timeout(PATIENCE, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said.push(line.clone());
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        });
        match waited.await {
            Ok(Some(line)) => line,
            end => panic!(
                "{text:?} was not said ({}); but:\n{}",
                if end.is_ok() { "ended" } else { "time is up" },
                self.said.join("\n")
            ),
        }
    }

    pub async fn told(&mut self, line: &str) {
        self.tell.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Tells the date and the credentials, and waits until they are stored.
    pub async fn provisioned(&mut self) {
        self.hears("http: Listening").await;
        self.told(&format!("time {TODAY}")).await;
        self.told(r#"provision {"ssid":"lab","password":"correct-horse","device_id":"device_0070","provisioning_token":"TOKEN-OF-THIS-TEST"}"#).await;
        self.hears("Credentials saved").await;
    }

    /// Where its provisioning API is.
    pub async fn http(&mut self) -> SocketAddr {
        let line = self.hears("http: Listening on ").await;
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// How it ended.
    pub async fn end(self) -> End {
        timeout(PATIENCE, self.run).await.unwrap().unwrap()
    }
}

/// Says these bytes to an HTTP listener and returns everything that comes back until it closes.
pub async fn says(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A listener that has answered already need not take the rest.
    let _ = stream.write_all(bytes).await;
    answer(stream).await
}

/// Everything that comes until the other side closes.
pub async fn answer(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the answer is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap();
    String::from_utf8(all).unwrap()
}
