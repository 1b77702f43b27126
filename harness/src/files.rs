//! Files that commands leave in a person's folders: written whole, keys readable by their owner alone, nothing lost by surprise.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody, as the umask has it.
    All,
    /// Its owner (mode 0600): keys, passwords.
    Owner,
}

/// Whether a file that is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the write is an error of the kind `AlreadyExists`.
    Kept,
    /// It is replaced.
    Replaced,
}

/// Makes a folder and those above it; what is made new has mode 0700.
///
/// # Errors
/// When it cannot be made, or is something else than a folder.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file whole: with its mode from its creation on, and in the place of the old one only when it is complete.
///
/// # Errors
/// When it cannot be written, or is there already and is to be kept.
pub fn write(path: &Path, text: &str, readers: Readers, existing: Existing) -> io::Result<()> {
    if existing == Existing::Kept && path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if readers == Readers::All {
        let mut options = OpenOptions::new();
        options.write(true);
        let options = if existing == Existing::Kept { options.create_new(true) } else { options.create(true).truncate(true) };
        return options.open(path)?.write_all(text.as_bytes());
    }
    // A temporary file is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    let done = if existing == Existing::Kept { file.persist_noclobber(path) } else { file.persist(path) };
    done.map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_unless_told_and_secrets_are_their_owners() {
        let home = tempfile::tempdir().unwrap();
        for (name, readers) in [("open", Readers::All), ("secret", Readers::Owner)] {
            let path = home.path().join(name);
            write(&path, "one", readers, Existing::Kept).unwrap();
            let again = write(&path, "two", readers, Existing::Kept).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
            write(&path, "2", readers, Existing::Replaced).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o077;
                assert_eq!(mode == 0, readers == Readers::Owner, "{name}: {mode:o}");
            }
        }
    }
}
