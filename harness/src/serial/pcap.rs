//! What went over a link, in a file that Wireshark and tcpdump read (pcap, link type 204: PPP with direction).
//!
//! It holds the packets as they were: what TLS does not hide can be read in it, passwords on their way to the device's HTTP API too.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a file, at most; what comes later is not in it.
const FILE_MAX: u64 = 64 << 20;
/// LINKTYPE_PPP_WITH_DIR.
const LINK_TYPE: u32 = 204;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// The device sent it.
    FromDevice = 0,
    /// It was sent to the device.
    ToDevice = 1,
}

/// A file that frames are written to.
#[derive(Debug)]
pub struct Capture {
    file: BufWriter<File>,
    written: u64,
}

impl Capture {
    /// Makes the file, which only its owner may read.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut capture = Capture { file: BufWriter::new(options.open(path)?), written: 0 };
        // Magic number, version 2.4, time zone and accuracy, bytes of a packet at most, link type.
        let words = [0xA1B2_C3D4, 0x0004_0002, 0, 0, 65535, LINK_TYPE];
        capture.put(&words.map(u32::to_le_bytes).concat())?;
        capture.file.flush()?;
        Ok(capture)
    }

    /// Writes a frame's body. A full disk loses it, and nothing else.
    pub fn frame(&mut self, direction: Direction, body: &[u8]) {
        if self.written < FILE_MAX {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
            let words = [u32::try_from(now.as_secs()).unwrap_or(u32::MAX), now.subsec_micros(), length, length];
            let record = [&words.map(u32::to_le_bytes).concat()[..], &[direction as u8], body].concat();
            let _ = self.put(&record);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_record_with_its_direction() {
        let folder = crate::child::PrivateDir::new("pcap").unwrap();
        let path = folder.path().join("link.pcap");
        let mut capture = Capture::create(&path).unwrap();
        capture.frame(Direction::ToDevice, b"\xFF\x03\xC0\x21");
        drop(capture);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..8], [0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0]);
        assert_eq!((bytes.len(), bytes[20]), (24 + 16 + 5, 204));
        assert_eq!(bytes[32..], [5, 0, 0, 0, 5, 0, 0, 0, 1, 0xFF, 0x03, 0xC0, 0x21]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
