//! A tar archive of a few small files, as engines take files for a container (POSIX.1-1988 ustar).

/// Bytes of a header, and what each file is filled up to.
const BLOCK: usize = 512;

/// An archive of these files: names of up to 100 bytes, root's, with this mode.
pub(super) fn archive(files: &[(&str, String)], mode: u32) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        archive.extend(header(name, content.len(), mode));
        archive.extend(content.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are the end.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(name: &str, size: usize, mode: u32) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name.get(..100).unwrap_or(name));
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    // The sum is taken with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_by_tar() {
        let home = tempfile::tempdir().unwrap();
        let long = "x".repeat(BLOCK);
        let files = [("mosquitto.conf", "listener 1883\n".to_owned()), ("empty", String::new()), ("block", long.clone())];
        std::fs::write(home.path().join("a.tar"), archive(&files, 0o644)).unwrap();
        let tar = std::process::Command::new("tar").args(["-xf", "a.tar"]).current_dir(home.path()).status().unwrap();
        assert!(tar.success());
        for (name, content) in files {
            assert_eq!(std::fs::read_to_string(home.path().join(name)).unwrap(), content);
        }
    }
}
