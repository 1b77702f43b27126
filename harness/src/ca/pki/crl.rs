//! Revocation lists: which of the devices' certificates are no longer good (RFC 5280, section 5).

use super::{DAY_S, KeepError, Pki, PkiError, date};
use crate::files::{self, Existing, Readers};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// The file that a list is kept in, in the folder that is named.
pub const LIST: &str = "revoked.crl";
/// The longest list that is read, bytes: [`REVOKED_MAX`] entries in base64.
const LIST_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long a list that is made on demand is good, seconds. Mosquitto refuses every client while its list is older.
pub const CRL_VALID_S: i64 = 30 * DAY_S;
/// How long before it is made a list is good, seconds: clocks differ.
const BACK_DATED_S: i64 = 3600;
/// Revoked certificates at most, so that a list can be read again.
pub const REVOKED_MAX: usize = 100_000;

/// The serial number of the first certificate of a PEM text.
///
/// # Errors
/// In words, when there is none.
pub fn serial_in(certificate_pem: &str) -> Result<Vec<u8>, String> {
    let no = |_| "it holds no certificate".to_owned();
    let der = rustls::pki_types::CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| no(()))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|_| no(()))?;
    Ok(certificate.raw_serial().to_vec())
}

/// Certificates that are no longer good, by their serial numbers. The default is an empty list that has never been made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// How many times the list was changed; lists are numbered by it.
    changes: u64,
    /// Serial number, and when it was revoked, seconds since 1970.
    serials: Vec<(Vec<u8>, i64)>,
}

impl Revoked {
    /// Revokes the certificate with this serial number; whether it was good until now.
    pub fn add(&mut self, serial: &[u8], now: i64) -> bool {
        let new = !self.contains(serial) && self.serials.len() < REVOKED_MAX;
        if new {
            self.serials.push((serial.to_vec(), now));
            self.changes += 1;
        }
        new
    }

    /// Whether the certificate with this serial number is revoked.
    pub fn contains(&self, serial: &[u8]) -> bool {
        self.serials.iter().any(|(revoked, _)| revoked == serial)
    }

    /// How many are.
    pub fn count(&self) -> usize {
        self.serials.len()
    }
}

impl Pki {
    /// The revocation list of the devices' certificates, PEM, good from an hour before `now` (seconds since 1970, by the clock of whoever
    /// will judge by it) for `valid_s` seconds.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn crl(&self, revoked: &Revoked, now: i64, valid_s: i64) -> Result<String, PkiError> {
        let entry = |(serial, at): &(Vec<u8>, i64)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date(*at),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date(now.saturating_sub(BACK_DATED_S)),
            next_update: date(now.saturating_add(valid_s)),
            crl_number: SerialNumber::from_slice(&(revoked.changes + 1).to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.devices.issuer)?.pem()?)
    }

    /// The list that is kept in this folder; an empty one when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is not one of this PKI.
    pub fn kept_list(&self, folder: &Path) -> Result<Revoked, KeepError> {
        let path = folder.join(LIST);
        let text = match super::keep::read(&path, LIST_BYTES_MAX) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Revoked::default()),
            Err(source) => return Err(KeepError::File { path, source }),
        };
        self.revoked_in(&text).map_err(|why| KeepError::Wrong { path, why })
    }

    /// Keeps this list in the folder, signed at `now`, good for `valid_s` seconds.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn keep_list(&self, folder: &Path, revoked: &Revoked, now: i64, valid_s: i64) -> Result<(), KeepError> {
        let path = folder.join(LIST);
        let text = self.crl(revoked, now, valid_s)?;
        files::write(&path, &text, Readers::All, Existing::Replaced).map_err(|source| KeepError::File { path, source })
    }

    /// What a list of this PKI says, whatever its dates.
    ///
    /// # Errors
    /// In words, when it is no list, or not one of this PKI.
    pub fn revoked_in(&self, crl_pem: &str) -> Result<Revoked, String> {
        let der = CertificateRevocationListDer::from_pem_slice(crl_pem.as_bytes()).map_err(|_| "it is no revocation list")?;
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| "it is no revocation list")?;
        let (_, issuer) = x509_parser::parse_x509_certificate(&self.devices.der).map_err(|e| e.to_string())?;
        list.verify_signature(issuer.public_key()).map_err(|_| "it is of another authority")?;
        let number = list.crl_number().and_then(|n| n.to_u64_digits().first().copied()).unwrap_or(1);
        let serials: Vec<_> = list
            .iter_revoked_certificates()
            .map(|entry| (entry.raw_serial().to_vec(), entry.revocation_date.timestamp()))
            .collect();
        if serials.len() > REVOKED_MAX {
            return Err(format!("it has more than {REVOKED_MAX} certificates"));
        }
        Ok(Revoked { changes: number.saturating_sub(1), serials })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_750_000_000;

    #[test]
    fn a_list_is_read_as_it_was_made() {
        let pki = Pki::new(NOW).unwrap();
        let mut revoked = Revoked::default();
        assert_eq!(pki.revoked_in(&pki.crl(&revoked, NOW, CRL_VALID_S).unwrap()), Ok(revoked.clone()));
        for serial in [[0x40; 16], [0x7f; 16]] {
            assert!(revoked.add(&serial, NOW - 7) && !revoked.add(&serial, NOW));
        }
        let pem = pki.crl(&revoked, NOW, CRL_VALID_S).unwrap();
        assert!(pem.starts_with("-----BEGIN X509 CRL-----"), "{pem}");
        let read = pki.revoked_in(&pem).unwrap();
        assert_eq!(read, revoked);
        assert!(read.count() == 2 && read.contains(&[0x7f; 16]) && !read.contains(&[0x41; 16]));
    }

    #[test]
    fn a_list_of_somebody_else_is_refused() {
        let (ours, theirs) = (Pki::new(NOW).unwrap(), Pki::new(NOW).unwrap());
        let crl = theirs.crl(&Revoked::default(), NOW, CRL_VALID_S).unwrap();
        assert_eq!(ours.revoked_in(&crl), Err("it is of another authority".into()));
        for text in ["", "no list", ours.root_pem()] {
            assert_eq!(ours.revoked_in(text), Err("it is no revocation list".into()), "{text}");
        }
    }

    #[test]
    fn a_list_is_dated_by_who_judges_and_says_so() {
        let pki = Pki::new(NOW).unwrap();
        let pem = pki.crl(&Revoked::default(), NOW, CRL_VALID_S).unwrap();
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
        assert_eq!(list.last_update().timestamp(), NOW - BACK_DATED_S);
        assert_eq!(list.next_update().unwrap().timestamp(), NOW + CRL_VALID_S);
    }
}
