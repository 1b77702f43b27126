//! Flash whose power goes at a chosen write: the board's file behind the NBD protocol, served to QEMU in place of the file itself.
//!
//! The firmware waits for each write, so a write that is never answered is where the device stops, however far QEMU is from being killed.
//! The protocol is as much of NBD (github.com/NetworkBlockDevice/nbd, doc/proto.md) as QEMU needs: one export, simple replies.

use device_core::storage::Moment;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HELLO: &[u8; 16] = b"NBDMAGICIHAVEOPT";
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Fixed newstyle, and no zeroes after the export.
const FLAGS: u16 = 0b11;
/// The export has flags, and knows FLUSH.
const EXPORT_FLAGS: u16 = 0b101;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_UNSUPPORTED: u32 = (1 << 31) + 1;
const EINVAL: u32 = 22;
/// Bytes of an option or a request's data at most; the flash is smaller.
const DATA_MAX: usize = 1 << 20;
/// Options before the export is chosen.
const OPTIONS_MAX: usize = 32;

/// Where the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// At which write that changes anything, from 1, since power-on.
    pub nth: u32,
    /// How much of it is done.
    pub moment: Moment,
}

/// The board's flash.
#[derive(Debug)]
struct Flash {
    file: File,
    bytes: Vec<u8>,
    cut: Cut,
    writes: u32,
}

impl Flash {
    /// Writes; false: the power goes here.
    fn write(&mut self, at: usize, new: &[u8]) -> io::Result<bool> {
        let old = &self.bytes[at..at + new.len()];
        let differs: Vec<usize> = (0..new.len()).filter(|i| old[*i] != new[*i]).collect();
        // What is written as it was is no change, and a cut there none either.
        let Some(half) = differs.get(differs.len() / 2).copied() else { return Ok(true) };
        self.writes += 1;
        let struck = self.writes == self.cut.nth;
        let done = match self.cut.moment {
            _ if !struck => new.len(),
            Moment::Before => 0,
            Moment::Torn => half,
            Moment::After => new.len(),
        };
        self.bytes[at..at + done].copy_from_slice(&new[..done]);
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.write_all(&new[..done])?;
        Ok(!struck)
    }
}

/// Serves the file as the one export until the power goes (true) or QEMU has ended (false).
///
/// # Errors
/// When the file cannot be used, or QEMU does not keep to the protocol.
pub async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, file: &Path, cut: Cut) -> io::Result<bool> {
    let mut file = OpenOptions::new().read(true).write(true).open(file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut flash = Flash { file, bytes, cut, writes: 0 };
    let ended = match agree(&mut stream, flash.bytes.len() as u64).await {
        Ok(()) => transmit(&mut stream, &mut flash).await,
        Err(error) => Err(error),
    };
    match ended {
        // A killed QEMU takes no leave.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            Ok(false)
        }
        ended => ended,
    }
}

/// The handshake: whichever name is asked for, it is this export.
async fn agree(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: u64) -> io::Result<()> {
    stream.write_all(HELLO).await?;
    stream.write_u16(FLAGS).await?;
    stream.read_u32().await?;
    for _ in 0..OPTIONS_MAX {
        if stream.read_u64().await? != OPTION {
            return Err(wrong("an option without its mark"));
        }
        let option = stream.read_u32().await?;
        let mut data = vec![0; length(stream.read_u32().await?)?];
        stream.read_exact(&mut data).await?;
        let mut reply = async |kind: u32, data: &[u8]| {
            let mut whole = OPTION_REPLY.to_be_bytes().to_vec();
            whole.extend(option.to_be_bytes());
            whole.extend(kind.to_be_bytes());
            whole.extend(u32::try_from(data.len()).unwrap_or_default().to_be_bytes());
            whole.extend(data);
            stream.write_all(&whole).await
        };
        if option != OPT_GO {
            reply(REP_UNSUPPORTED, &[]).await?;
            continue;
        }
        // What an export is: information number 0, its size, its flags.
        let mut export = 0_u16.to_be_bytes().to_vec();
        export.extend(bytes.to_be_bytes());
        export.extend(EXPORT_FLAGS.to_be_bytes());
        reply(REP_INFO, &export).await?;
        return reply(REP_ACK, &[]).await;
    }
    Err(wrong("options without end"))
}

async fn transmit(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), flash: &mut Flash) -> io::Result<bool> {
    const READ: u16 = 0;
    const WRITE: u16 = 1;
    const LEAVE: u16 = 2;
    const FLUSH: u16 = 3;
    loop {
        if stream.read_u32().await? != REQUEST {
            return Err(wrong("a request without its mark"));
        }
        let (_flags, kind) = (stream.read_u16().await?, stream.read_u16().await?);
        let (cookie, offset) = (stream.read_u64().await?, stream.read_u64().await?);
        let count = length(stream.read_u32().await?)?;
        let mut data = vec![0; if kind == WRITE { count } else { 0 }];
        stream.read_exact(&mut data).await?;
        let at = usize::try_from(offset).ok().filter(|at| at.checked_add(count).is_some_and(|end| end <= flash.bytes.len()));
        let (error, answer): (u32, &[u8]) = match (kind, at) {
            (LEAVE, _) => return Ok(false),
            (FLUSH, _) => (0, &[]),
            (READ, Some(at)) => (0, &flash.bytes[at..at + count]),
            (WRITE, Some(at)) => {
                if !flash.write(at, &data)? {
                    return Ok(true);
                }
                (0, &[])
            }
            _ => (EINVAL, &[]),
        };
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        reply.extend(answer);
        stream.write_all(&reply).await?;
    }
}

fn length(bytes: u32) -> io::Result<usize> {
    usize::try_from(bytes).ok().filter(|bytes| *bytes <= DATA_MAX).ok_or_else(|| wrong("more data than the flash has"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("QEMU sent {what} over NBD"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file of eight 0xff holds after these writes, one byte a bit cleared each, and how it ended.
    async fn after(cut: Cut, writes: &[(u64, &[u8])]) -> (Vec<u8>, bool) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("flash");
        std::fs::write(&path, [0xff; 8]).unwrap();
        let (mut qemu, ours) = tokio::io::duplex(4096);
        let client = async {
            let mut hello = [0; 18];
            qemu.read_exact(&mut hello).await.unwrap();
            qemu.write_u32(3).await.unwrap();
            for option in [8, OPT_GO] {
                qemu.write_u64(OPTION).await.unwrap();
                qemu.write_u32(option).await.unwrap();
                qemu.write_u32(2).await.unwrap();
                qemu.write_all(b"xx").await.unwrap();
            }
            let mut replies = [0; 20 + 20 + 12 + 20];
            qemu.read_exact(&mut replies).await.unwrap();
            assert_eq!(&replies[42..50], 8_u64.to_be_bytes(), "the size");
            for (offset, data) in writes {
                qemu.write_u32(REQUEST).await.unwrap();
                qemu.write_u32(1).await.unwrap();
                qemu.write_u64(7).await.unwrap();
                qemu.write_u64(*offset).await.unwrap();
                qemu.write_u32(data.len() as u32).await.unwrap();
                qemu.write_all(data).await.unwrap();
                let mut reply = [0; 16];
                if qemu.read_exact(&mut reply).await.is_err() {
                    return;
                }
                assert_eq!((&reply[..4], &reply[8..]), (&REPLY.to_be_bytes()[..], &7_u64.to_be_bytes()[..]));
            }
            drop(qemu);
        };
        let (struck, ()) = tokio::join!(serve(ours, &path, cut), client);
        (std::fs::read(&path).unwrap(), struck.unwrap())
    }

    #[tokio::test]
    async fn the_power_goes_at_the_write_and_no_sooner() {
        let writes: &[(u64, &[u8])] = &[(0, &[1, 2]), (0, &[1, 2]), (4, &[3, 0xff, 4, 5])];
        for (moment, left) in
            [(Moment::Before, [0xff, 0xff, 0xff, 0xff]), (Moment::Torn, [3, 0xff, 0xff, 0xff]), (Moment::After, [3, 0xff, 4, 5])]
        {
            let (bytes, struck) = after(Cut { nth: 2, moment }, writes).await;
            assert!(struck, "the second write changes nothing and does not count");
            assert_eq!(bytes, [&[1, 2, 0xff, 0xff][..], &left].concat(), "{moment:?}");
        }
        let (bytes, struck) = after(Cut { nth: 3, moment: Moment::Before }, writes).await;
        assert_eq!((bytes[7], struck), (5, false), "QEMU ended first");
    }
}
