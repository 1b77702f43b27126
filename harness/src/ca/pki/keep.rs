//! An authority that is kept: its root and its intermediates with their keys, in one file that only its owner can read.

use super::{Authority, Pki, PkiError, Serials, VALID_S, fill_random, verifier};
use crate::files;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

/// The file, in the folder that is named.
pub const FILE: &str = "authority.pem";
/// The longest file that is read, bytes; it has about 4 KiB.
const FILE_MAX: u64 = 64 * 1024;

/// The authority could not be kept, or what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The folder or file cannot be made, read or written.
    #[error("could not keep the authority in {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can get at the keys.
    #[error("{} can be read or written by others; it holds keys: chmod {} {}", path.display(), if path.is_dir() { "700" } else { "600" }, path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// It is not what this program wrote.
    #[error("{} is not what this program keeps there: {why}; move it away, and a new one is made", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A new one could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl Pki {
    /// The authority that is kept in this folder; a new one, made at this date of the wall clock (seconds since 1970), when there is
    /// none. The folder is made with mode 0700, the file in it with 0600.
    ///
    /// # Errors
    /// When the folder or the file cannot be used, holds something else, or others can get at it.
    pub fn kept(folder: &Path, now: i64) -> Result<Pki, KeepError> {
        let cannot = |path: &Path| {
            let path = path.to_owned();
            move |source| KeepError::File { path, source }
        };
        files::private_folder(folder).map_err(cannot(folder))?;
        check_private(folder)?;
        let path = folder.join(FILE);
        if !path.try_exists().map_err(cannot(&path))? {
            let pki = Pki::new(now)?;
            // Whole or not at all, and never over one that somebody else kept meanwhile.
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot(&path))?;
            file.write_all(pki.to_pem().as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot(&path))?;
            match file.persist_noclobber(&path) {
                Ok(_) => return Ok(pki),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot(&path)(error.error)),
            }
        }
        check_private(&path)?;
        let text = read(&path, FILE_MAX).map_err(cannot(&path))?;
        Pki::from_pem(&text).map_err(|why| KeepError::Wrong { path, why })
    }

    /// Root, devices, servers: of each the certificate and the key.
    fn to_pem(&self) -> String {
        [&self.root, &self.devices, &self.servers].map(|a| format!("{}{}", a.pem, a.issuer.key().serialize_pem())).concat()
    }

    fn from_pem(text: &str) -> Result<Pki, String> {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let keys: Vec<PrivatePkcs8KeyDer<'static>> =
            PrivatePkcs8KeyDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let mut authorities = certificates
            .into_iter()
            .zip(keys)
            .map(|(der, key)| authority(der, &key))
            .collect::<Result<Vec<_>, String>>()?
            .into_iter();
        let (Some(root), Some(devices), Some(servers), None) =
            (authorities.next(), authorities.next(), authorities.next(), authorities.next())
        else {
            return Err("it does not hold three certificates, each with its key".into());
        };
        let not_after = parsed(&root.der)?.validity().not_after.timestamp();
        for authority in [&devices, &servers] {
            let issued = parsed(&root.der).and_then(|root| {
                let subordinate = parsed(&authority.der)?;
                subordinate.verify_signature(Some(root.public_key())).map_err(|e| e.to_string())
            });
            issued.map_err(|_| "an intermediate is not the root's".to_owned())?;
        }
        let device_verifier = verifier(&root.der).map_err(|e| e.to_string())?;
        let mut prefix = [0; 8];
        fill_random(&mut prefix).map_err(|e| e.to_string())?;
        // A prefix of its own for each start: no serial number comes twice.
        let serials = Serials { prefix: u64::from_be_bytes(prefix) >> 2 | 1 << 62, used: AtomicU64::new(0) };
        Ok(Pki { made_at: not_after.saturating_sub(VALID_S), serials, root, devices, servers, device_verifier })
    }
}

fn authority(der: CertificateDer<'static>, key: &PrivatePkcs8KeyDer<'_>) -> Result<Authority, String> {
    let key = KeyPair::try_from(key).map_err(|e| e.to_string())?;
    if parsed(&der)?.public_key().raw != key.subject_public_key_info() {
        return Err("a key is not its certificate's".into());
    }
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| e.to_string())?;
    Ok(Authority { pem: pem(&der), der, issuer })
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<x509_parser::certificate::X509Certificate<'a>, String> {
    x509_parser::parse_x509_certificate(der).map(|(_, certificate)| certificate).map_err(|e| e.to_string())
}

/// RFC 7468, with 64 characters a line.
fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// Reads a file up to a limit in bytes.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(std::fs::File::open(path)?, bytes_max), &mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn check_private(path: &Path) -> Result<(), KeepError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|source| KeepError::File { path: path.to_owned(), source })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeepError::Open { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_path: &Path) -> Result<(), KeepError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ServerSpec;
    use super::*;

    const NOW: i64 = 1_750_000_000;

    #[test]
    fn the_same_authority_comes_back_and_signs() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/ca");
        let first = Pki::kept(&folder, NOW).unwrap();
        let device = first.client("d1").unwrap();
        let again = Pki::kept(&folder, NOW + 1_000_000).unwrap();
        assert_eq!((again.root_pem(), again.made_at()), (first.root_pem(), NOW));
        assert_eq!(again.device_ca_pem(), first.device_ca_pem());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(device.chain_pem.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(again.device_of(&chain, NOW).as_deref(), Ok("d1"));
        // What the one that came back signs, the first one takes; and no serial number comes twice.
        let second = again.client("d2").unwrap();
        let chain2: Vec<_> = CertificateDer::pem_slice_iter(second.chain_pem.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(first.device_of(&chain2, NOW).as_deref(), Ok("d2"));
        assert_ne!(parsed(&chain[0]).unwrap().raw_serial(), parsed(&chain2[0]).unwrap().raw_serial());
        assert!(again.server(&ServerSpec::new(["localhost"])).is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        }
    }

    #[test]
    fn what_is_not_an_authority_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("ca");
        files::private_folder(&folder).unwrap();
        let (one, other) = (Pki::new(NOW).unwrap().to_pem(), Pki::new(NOW).unwrap().to_pem());
        let half = &one[..one.len() / 2];
        let mixed = format!("{}{}", &one[..one.len() / 3], &other[one.len() / 3..]);
        let path = folder.join(FILE);
        for text in ["", half, &mixed, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &one.repeat(2)] {
            std::fs::write(&path, text).unwrap();
            #[cfg(unix)]
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let error = Pki::kept(&folder, NOW).unwrap_err();
            assert!(matches!(error, KeepError::Wrong { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn keys_that_others_can_read_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("ca");
        files::private_folder(&folder).unwrap();
        Pki::kept(&folder, NOW).unwrap();
        for (path, mode) in [(folder.clone(), 0o755), (folder.join(FILE), 0o644)] {
            let before = std::fs::metadata(&path).unwrap().permissions();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = Pki::kept(&folder, NOW).unwrap_err().to_string();
            assert!(error.contains("chmod"), "{error}");
            std::fs::set_permissions(&path, before).unwrap();
        }
    }
}
