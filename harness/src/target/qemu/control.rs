//! QEMU's control channel (QMP): which QEMU it is, and which port of this machine leads to the device's HTTP API.

use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// Bytes of one answer that are read.
const ANSWER_MAX: u64 = 64 * 1024;
/// Events that may come before an answer.
const EVENTS_MAX: usize = 64;

/// What QEMU says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its version, as `7.2.22`.
    pub version: String,
    /// Where the device's HTTP API answers, if that was asked.
    pub door: Option<SocketAddr>,
}

/// Hears which QEMU it is, and, if it `forwards`, asks which port of this machine it forwards to the device: it was told to take a free one, so that no
/// other program can have taken it meanwhile.
///
/// # Errors
/// When QEMU does not speak QMP, or forwards no port. Every read is bounded in bytes; the caller bounds the time.
pub async fn greet(stream: impl AsyncRead + AsyncWrite + Unpin, forwards: bool) -> io::Result<Greeting> {
    let (says, mut hears) = tokio::io::split(stream);
    let mut says = BufReader::new(tokio::io::AsyncReadExt::take(says, ANSWER_MAX));
    let hello = next(&mut says, "QMP").await?;
    let number = |part: &str| hello["version"]["qemu"][part].as_u64().unwrap_or_default();
    let version = format!("{}.{}.{}", number("major"), number("minor"), number("micro"));
    ask(&mut hears, json!({"execute": "qmp_capabilities"})).await?;
    next(&mut says, "return").await?;
    if !forwards {
        return Ok(Greeting { version, door: None });
    }
    let command = json!({"execute": "human-monitor-command", "arguments": {"command-line": "info usernet"}});
    ask(&mut hears, command).await?;
    let answer = next(&mut says, "return").await?;
    let port = answer.as_str().and_then(port_in).ok_or_else(|| io::Error::other("QEMU forwards no port to the device"))?;
    Ok(Greeting { version, door: Some((Ipv4Addr::LOCALHOST, port).into()) })
}

async fn ask(hears: &mut (impl AsyncWrite + Unpin), command: Value) -> io::Result<()> {
    hears.write_all(format!("{command}\n").as_bytes()).await?;
    hears.flush().await
}

/// The value under `key` of the next message that has one; events between are passed over.
async fn next(says: &mut (impl tokio::io::AsyncBufRead + Unpin), key: &str) -> io::Result<Value> {
    for _ in 0..EVENTS_MAX {
        let mut line = String::new();
        if says.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut message: Value = serde_json::from_str(&line)?;
        if let Some(error) = message.get("error") {
            return Err(io::Error::other(format!("QEMU refused a command: {error}")));
        }
        if let Some(value) = message.get_mut(key) {
            return Ok(value.take());
        }
    }
    Err(io::Error::other("QEMU says too much and answers nothing"))
}

/// The port of this machine in QEMU's table of forwarded ports.
fn port_in(table: &str) -> Option<u16> {
    let row = table.lines().find(|row| row.contains("HOST_FORWARD"))?;
    row.split_whitespace().nth(3)?.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Hub -1 (n0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
        TCP[HOST_FORWARD]   9       127.0.0.1 43069       10.0.2.15    80     0     0\r\n";

    #[test]
    fn the_port_is_in_the_table() {
        assert_eq!(port_in(TABLE), Some(43069));
        assert_eq!(port_in("Hub -1 (n0):\r\n"), None);
        assert_eq!(port_in("TCP[HOST_FORWARD] 9 127.0.0.1"), None);
    }

    /// Answers as QEMU does, with `answers` in turn.
    async fn qemu(answers: Vec<String>) -> io::Result<Greeting> {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (said, mut told) = tokio::io::split(theirs);
        let serve = async move {
            let mut said = BufReader::new(said).lines();
            told.write_all(b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}}}\r\n").await?;
            for answer in answers {
                let _ = said.next_line().await?;
                told.write_all(format!("{{\"event\": \"RESUME\"}}\r\n{answer}\r\n").as_bytes()).await?;
            }
            io::Result::Ok(())
        };
        let (greeting, _) = tokio::join!(greet(ours, true), serve);
        greeting
    }

    #[tokio::test]
    async fn qemu_is_asked_in_its_own_words() {
        let table = json!({"return": TABLE}).to_string();
        let greeting = Greeting { version: "7.2.22".into(), door: Some("127.0.0.1:43069".parse().unwrap()) };
        assert_eq!(qemu(vec!["{\"return\": {}}".into(), table]).await.unwrap(), greeting);
        let refused = qemu(vec!["{\"error\": {\"desc\": \"no\"}}".into()]).await.unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        assert!(qemu(vec!["{\"return\": {}}".into(), "{\"return\": \"\"}".into()]).await.is_err());
        assert!(qemu(vec!["rubbish".into()]).await.is_err());
        assert!(qemu(vec![]).await.is_err());
    }
}
