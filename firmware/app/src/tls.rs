//! TLS towards the CA and the broker, by Mbed TLS: whom the device trusts, judged by the device's own clock, and why a handshake failed.
//!
//! A server's certificate is judged as ESP-IDF's Mbed TLS judges it; README.md names where that differs from the twin. There are no system
//! roots in this firmware: without anchors of its own it trusts nobody.

use crate::alert;
use crate::net::{Stream, failure};
use crate::rng::BoardRng;
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::format;
use core::time::Duration;
use device_core::config::TlsVersions;
use device_core::input::{NetFailure, NetFailureKind};
use device_core::output::{ClientIdentity, Trust};
use device_core::time::UnixTime;
use embassy_time::{Instant, with_deadline};
use mbedtls_rs::sys::{
    MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE, MBEDTLS_ERR_PK_UNKNOWN_PK_ALG, MBEDTLS_ERR_SSL_BAD_CERTIFICATE,
    MBEDTLS_ERR_SSL_BAD_INPUT_DATA, MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION, MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL,
    MBEDTLS_ERR_SSL_CONN_EOF, MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE, MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE,
    MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, MBEDTLS_ERR_X509_FATAL_ERROR,
    MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE, MBEDTLS_ERR_X509_FILE_IO_ERROR, MBEDTLS_X509_BADCERT_BAD_KEY,
    MBEDTLS_X509_BADCERT_BAD_MD, MBEDTLS_X509_BADCERT_BAD_PK, MBEDTLS_X509_BADCERT_CN_MISMATCH, MBEDTLS_X509_BADCERT_EXPIRED,
    MBEDTLS_X509_BADCERT_EXT_KEY_USAGE, MBEDTLS_X509_BADCERT_FUTURE, MBEDTLS_X509_BADCERT_KEY_USAGE, MBEDTLS_X509_BADCERT_MISSING,
    MBEDTLS_X509_BADCERT_NOT_TRUSTED, MBEDTLS_X509_BADCERT_NS_CERT_TYPE,
};
use mbedtls_rs::{
    AuthMode, Certificate, ClientSessionConfig, Credentials, PrivateKey, Session, SessionConfig, SessionError, Tls, TlsReference,
    TlsVersion, X509,
};

/// How long a server that was refused may take to hear why (wall clock).
pub const ALERT_LIMIT: Duration = Duration::from_millis(200);

/// The board's one Mbed TLS.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    tls: TlsReference<'static>,
    /// How many times as long its arithmetic takes as on a chip.
    slowness: u32,
}

impl Library {
    /// Starts Mbed TLS with the board's randomness and the device's clock; `None`: it runs already.
    pub fn start(rng: BoardRng, slowness: u32) -> Option<Library> {
        #[cfg(feature = "cert-dates")]
        wall_clock::install();
        alert::listen();
        let mut tls = Tls::new(Box::leak(Box::new(rng))).ok()?;
        tls.set_debug(1);
        Some(Library { tls: Box::leak(Box::new(tls)).reference(), slowness: slowness.max(1) })
    }

    /// How long something may take (wall clock) that is mostly this library's arithmetic, and may take `limit` on a chip.
    pub fn limit(self, limit: Duration) -> Duration {
        limit.saturating_mul(self.slowness)
    }
}

/// What one TLS connection is to be.
pub(crate) struct Terms<'a> {
    /// Whom to trust.
    pub trust: &'a Trust,
    /// What to show.
    pub identity: Option<&'a ClientIdentity>,
    /// What to offer.
    pub versions: TlsVersions,
    /// The date by the device's clock; `None`: nobody has told it, and certificates are judged as of 1970.
    #[cfg_attr(not(feature = "cert-dates"), expect(dead_code, reason = "Mbed TLS does not ask for it then"))]
    pub date: Option<UnixTime>,
}

/// What was made of the terms: parsed certificates and keys, no PEM.
pub(crate) struct Client {
    config: SessionConfig<'static>,
}

impl Terms<'_> {
    /// The client these terms make. Nothing is sent.
    ///
    /// # Errors
    /// `BadIdentity`: the certificate or key shown cannot be used. `UnknownIssuer`: there is no anchor to trust.
    pub fn client(&self) -> Result<Client, NetFailure> {
        let mut config = ClientSessionConfig::new();
        match self.trust {
            Trust::Anybody => config.auth_mode = AuthMode::None,
            Trust::System => {
                return Err(failure(NetFailureKind::UnknownIssuer, "this firmware has no system roots: set the anchors"));
            }
            Trust::Anchors(pem) => config.ca_chain = Some(anchors(pem)?),
        }
        config.creds = self.identity.map(credentials).transpose()?;
        (config.min_version, config.max_version) = match self.versions {
            TlsVersions::Both => (TlsVersion::Tls1_2, Some(TlsVersion::Tls1_3)),
            TlsVersions::Only12 => (TlsVersion::Tls1_2, Some(TlsVersion::Tls1_2)),
            TlsVersions::Only13 => (TlsVersion::Tls1_3, Some(TlsVersion::Tls1_3)),
        };
        #[cfg(feature = "cert-dates")]
        wall_clock::set(self.date);
        Ok(Client { config: SessionConfig::Client(config) })
    }
}

fn anchors(pem: &str) -> Result<Certificate<'static>, NetFailure> {
    let none = || failure(NetFailureKind::UnknownIssuer, "no usable certificate among the trust anchors");
    Certificate::new(X509::PEM(&c_string(pem).ok_or_else(none)?)).map_err(|_| none())
}

fn credentials(identity: &ClientIdentity) -> Result<Credentials<'static>, NetFailure> {
    let bad = |what: &str| failure(NetFailureKind::BadIdentity, format!("own {what}"));
    let certificate = c_string(&identity.certificate).ok_or_else(|| bad("certificate: no PEM certificate in it"))?;
    let certificate = Certificate::new(X509::PEM(&certificate)).map_err(|e| bad(&format!("certificate: {e}")))?;
    let key = c_string(identity.key.expose()).ok_or_else(|| bad("key: no PEM private key in it"))?;
    let private_key = PrivateKey::new(X509::PEM(&key), None).map_err(|e| bad(&format!("key: {e}")))?;
    if !crate::enroll::belong_together(&identity.certificate, identity.key.expose()) {
        return Err(bad("certificate or key: they do not belong together"));
    }
    Ok(Credentials { certificate, private_key })
}

/// Mbed TLS wants its PEM with a NUL behind it, and none in it.
fn c_string(text: &str) -> Option<CString> {
    CString::new(text).ok()
}

/// Does the handshake with `host` over this stream, before `by`.
///
/// # Errors
/// The certificate's fault, the peer's alert, the stream's failure, or the time limit. A TLS 1.3 server judges the client's certificate
/// later: that refusal comes from the first read, and [`session_failure`] names it.
pub(crate) async fn handshake<'s, 'b>(
    library: Library,
    stream: &'s mut Stream<'b>,
    host: &str,
    client: Client,
    by: Instant,
) -> Result<Session<'static, &'s mut Stream<'b>>, NetFailure> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = c_string(host).ok_or_else(|| failure(NetFailureKind::WrongName, "the host's name is none"))?;
    let broken = |e: SessionError| session_failure(&e, 0, "TLS handshake");
    let mut session = Session::new(library.tls, stream, &client.config).map_err(broken)?;
    session.set_server_name(&name).map_err(broken)?;
    match with_deadline(by, session.connect()).await {
        Ok(Ok(())) => Ok(session),
        Ok(Err(e)) => {
            let flags = session.tls_verification_details();
            Err(session_failure(&e, flags, "TLS handshake"))
        }
        Err(_) => Err(failure(NetFailureKind::TimedOut, "TLS handshake: no answer in time")),
    }
}

/// The failure that an error of a TLS stream stands for; `what` was being done. `flags`: what was wrong with the server's certificate.
pub(crate) fn session_failure(e: &SessionError, flags: u32, what: &str) -> NetFailure {
    let code = match e {
        SessionError::Io(_) => return failure(NetFailureKind::Reset, format!("{what}: the connection was reset")),
        SessionError::MbedTls(e) => e.code(),
    };
    match code {
        MBEDTLS_ERR_X509_CERT_VERIFY_FAILED => certificate_failure(flags),
        // What a certificate may be used for is judged behind its verification.
        MBEDTLS_ERR_SSL_BAD_CERTIFICATE if flags != 0 => certificate_failure(flags),
        MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE => match alert::take() {
            Some(alert::PROTOCOL_VERSION) => failure(NetFailureKind::Tls, "no common TLS version (alert protocol_version)"),
            Some(alert) => failure(NetFailureKind::Alert, format!("the server sent alert {}", alert::name(alert))),
            None => failure(NetFailureKind::Alert, "the server sent an alert"),
        },
        MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION => failure(NetFailureKind::Tls, "no common TLS version"),
        MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE => failure(NetFailureKind::Tls, "no common TLS algorithm"),
        MBEDTLS_ERR_SSL_BAD_CERTIFICATE => failure(NetFailureKind::BadCertificate, "the server's certificate is malformed"),
        MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL | MBEDTLS_ERR_SSL_BAD_INPUT_DATA => {
            failure(NetFailureKind::TooLarge, "the server's certificates are too large")
        }
        MBEDTLS_ERR_SSL_CONN_EOF => failure(NetFailureKind::Reset, format!("{what}: ended in the middle")),
        MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY => failure(NetFailureKind::Ended, format!("{what}: the server ended it")),
        code if is_unreadable(code) => {
            let code = code.unsigned_abs();
            failure(NetFailureKind::BadCertificate, format!("the server's certificate cannot be used: Mbed TLS says -0x{code:04x}"))
        }
        code => failure(NetFailureKind::Tls, format!("{what}: Mbed TLS says -0x{:04x}", code.unsigned_abs())),
    }
}

/// Whether this is what Mbed TLS says of a certificate or public key that it cannot read, or of a chain that is too long; what its lower
/// layers said is in the last seven bits.
fn is_unreadable(code: i32) -> bool {
    const FIRST: u32 = MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE.unsigned_abs();
    const LAST: u32 = MBEDTLS_ERR_X509_FILE_IO_ERROR.unsigned_abs();
    const FIRST_KEY: u32 = MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE.unsigned_abs();
    const LAST_KEY: u32 = MBEDTLS_ERR_PK_UNKNOWN_PK_ALG.unsigned_abs();
    let said = code.unsigned_abs() & !0x7f;
    matches!(said, FIRST..=LAST | FIRST_KEY..=LAST_KEY) || code == MBEDTLS_ERR_X509_FATAL_ERROR
}

/// The gravest of what was found, as the twin ranks it.
fn certificate_failure(flags: u32) -> NetFailure {
    let has = |flag: u32| flags & flag != 0;
    let (kind, text) = if has(MBEDTLS_X509_BADCERT_MISSING) {
        (NetFailureKind::BadCertificate, "the server shows no certificate")
    } else if has(MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY) {
        (NetFailureKind::BadCertificate, "the server's certificate is signed with an algorithm that is not accepted")
    } else if has(MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
        (NetFailureKind::UnknownIssuer, "no path from the server's certificate to a trust anchor")
    } else if has(MBEDTLS_X509_BADCERT_EXPIRED) {
        (NetFailureKind::CertificateExpired, "the server's certificate has expired")
    } else if has(MBEDTLS_X509_BADCERT_FUTURE) {
        (NetFailureKind::CertificateNotYetValid, "the server's certificate is not valid yet")
    } else if has(MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE | MBEDTLS_X509_BADCERT_NS_CERT_TYPE) {
        (NetFailureKind::WrongUsage, "the server's certificate may not be used for this")
    } else if has(MBEDTLS_X509_BADCERT_CN_MISMATCH) {
        (NetFailureKind::WrongName, "the server's certificate is for another name")
    } else {
        (NetFailureKind::BadCertificate, "the server's certificate is malformed")
    };
    failure(kind, text)
}

#[cfg(feature = "cert-dates")]
mod wall_clock {
    //! The date that Mbed TLS judges certificates by: the device's, going on from when a connection was begun.

    use core::cell::Cell;
    use critical_section::Mutex;
    use device_core::time::UnixTime;
    use embassy_time::Instant;
    use mbedtls_rs::sys::hook::timer::{MbedtlsTimer, hook_timer};
    use mbedtls_rs::sys::hook::wall_clock::{MbedtlsWallClock, hook_wall_clock};
    use mbedtls_rs::sys::tm;

    static DATE: Mutex<Cell<(Instant, i64)>> = Mutex::new(Cell::new((Instant::MIN, 0)));

    struct BoardClock;

    #[expect(unsafe_code, reason = "both hooks want to be set before Mbed TLS is used, which is when this is called")]
    pub fn install() {
        // SAFETY: called once before Mbed TLS starts; the clock is a constant.
        unsafe {
            hook_timer(Some(&BoardClock));
            hook_wall_clock(Some(&BoardClock));
        }
    }

    /// The date is this now; 1970 when nobody has told it.
    pub fn set(date: Option<UnixTime>) {
        let date = date.map_or(0, |d| d.0.max(0));
        critical_section::with(|cs| DATE.borrow(cs).set((Instant::now(), date)));
    }

    impl MbedtlsTimer for BoardClock {
        fn now(&self) -> i64 {
            i64::try_from(Instant::now().as_millis()).unwrap_or(i64::MAX)
        }
    }

    impl MbedtlsWallClock for BoardClock {
        fn instant(&self) -> Option<tm> {
            let (since, date) = critical_section::with(|cs| DATE.borrow(cs).get());
            broken_down(date.saturating_add(i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX)))
        }
    }

    /// `None` beyond the year 9999: Mbed TLS takes no clock for a certificate that is not valid.
    fn broken_down(unix: i64) -> Option<tm> {
        let text = format_args!("{}", UnixTime(unix)).to_string();
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i32>().ok();
        Some(tm {
            tm_year: number(0, 4)? - 1900,
            tm_mon: number(5, 7)? - 1,
            tm_mday: number(8, 10)?,
            tm_hour: number(11, 13)?,
            tm_min: number(14, 16)?,
            tm_sec: number(17, 19)?,
            tm_wday: 0,
            tm_yday: 0,
            tm_isdst: 0,
        })
    }

    use alloc::string::ToString as _;
}

#[cfg(test)]
mod tests {
    use super::*;
    use mbedtls_rs::sys::MBEDTLS_ERR_ASN1_LENGTH_MISMATCH;
    use mbedtls_rs::sys::MbedtlsError;

    #[test]
    fn a_certificate_s_fault_is_named() {
        let named = |code, flags| session_failure(&SessionError::MbedTls(MbedtlsError::new(code)), flags, "TLS handshake").kind;
        for (code, flags, kind) in [
            (MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, MBEDTLS_X509_BADCERT_EXPIRED, NetFailureKind::CertificateExpired),
            // TLS 1.3 judges the usage when the rest is verified, and says it in another way.
            (MBEDTLS_ERR_SSL_BAD_CERTIFICATE, MBEDTLS_X509_BADCERT_EXT_KEY_USAGE, NetFailureKind::WrongUsage),
            (MBEDTLS_ERR_SSL_BAD_CERTIFICATE, 0, NetFailureKind::BadCertificate),
            (-0x2562, 0, NetFailureKind::BadCertificate),
            (MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE + MBEDTLS_ERR_ASN1_LENGTH_MISMATCH, 0, NetFailureKind::BadCertificate),
            (MBEDTLS_ERR_PK_UNKNOWN_PK_ALG, 0, NetFailureKind::BadCertificate),
            (MBEDTLS_ERR_X509_FATAL_ERROR, 0, NetFailureKind::BadCertificate),
            (-0x7200, 0, NetFailureKind::Tls),
            (-0x3d00, 0, NetFailureKind::Tls),
        ] {
            assert_eq!(named(code, flags), kind, "-0x{:04x}", code.unsigned_abs());
        }
    }
}
