//! What the fake CA answers: pure, fed requests and the date, changed by the lies it is told.

use super::Today;
use super::csr::{Csr, DeviceKey, sha256};
use super::enrolment::Enrolment;
use super::misbehaviour::{Lie, Lies};
use super::pki::{CRL_VALID_S, DAY_S, Draft, Pki, PkiError, Revoked, Role, ServerSpec, Signed, date};
use super::token::{Spent, TokenSpec, Tokens};
use crate::event::CaRequest;
use device_core::secret::Secret;
use rcgen::{ExtendedKeyUsagePurpose, PublicKeyData};
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// How long a device's certificate is valid when nothing else is asked for, seconds.
pub const LIFETIME_S: i64 = 90 * DAY_S;

/// A certificate about to be signed.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// What it says.
    pub draft: Draft,
    /// The key it certifies.
    pub key: CertifiedKey,
    /// Who signs it.
    pub issued_by: IssuedBy,
}

/// The key a certificate certifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertifiedKey {
    /// The one that was asked for.
    Requested(DeviceKey),
    /// A new one, whose private half nobody holds.
    Another,
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuedBy {
    /// This testbed's PKI.
    Us,
    /// A PKI of the same shape that nobody trusts.
    Stranger,
}

/// The certificates of an answer, each PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The device's.
    pub leaf: String,
    /// Those that follow it in `certificate.content`.
    pub intermediates: Vec<String>,
    /// `ca_certificate.content`.
    pub root: String,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Where it ends, if it is not sent whole.
    pub cut: Option<Cut>,
    /// How fast it is sent.
    pub pace: Pace,
    /// Whether a certificate is in it. Nothing is issued, and no token spent, by an answer that carries none.
    pub carries_certificate: bool,
}

/// Where an answer ends before its time, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// After so many bytes of the body.
    pub at_bytes: usize,
    /// What becomes of the connection.
    pub end: CutEnd,
}

/// How a connection ends whose answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutEnd {
    /// It is closed.
    Closed,
    /// It is reset.
    Reset,
}

/// How fast an answer is sent: at once by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// How long nothing at all is sent.
    pub before: Duration,
    /// The pieces in which the body is sent; whole when none.
    pub pieces: Option<Pieces>,
}

/// A body in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of each, the last one apart.
    pub bytes: NonZeroUsize,
    /// How long is waited before each.
    pub every: Duration,
}

impl Reply {
    /// An error, as JSON.
    pub fn error(status: u16, message: &str) -> Reply {
        Reply::json(status, &serde_json::json!({"status": "error", "message": message}))
    }

    fn json(status: u16, body: &serde_json::Value) -> Reply {
        let body = body.to_string().into_bytes();
        Reply {
            status,
            content_type: "application/json",
            headers: Vec::new(),
            body,
            cut: None,
            pace: Pace::default(),
            carries_certificate: false,
        }
    }

    /// A certificate, for whoever asks.
    pub fn pem(pem: &str) -> Reply {
        let json = Reply::json(200, &serde_json::Value::Null);
        Reply { content_type: "application/x-pem-file", body: pem.as_bytes().to_vec(), ..json }
    }

    fn certificate(chain: &Chain) -> Reply {
        let content = chain.intermediates.iter().fold(chain.leaf.clone(), |all, next| all + next);
        let body = serde_json::json!({"certificate": {"content": content}, "ca_certificate": {"content": chain.root}});
        Reply { carries_certificate: true, ..Reply::json(200, &body) }
    }
}

/// As whom the CA's HTTPS listener presents itself.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What its certificate says.
    pub server: ServerSpec,
    /// Who signs it.
    pub issued_by: IssuedBy,
}

/// An answer, and what the tape is told about it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What is sent.
    pub reply: Reply,
    /// What is told: never a secret.
    pub told: CaRequest,
}

/// Why nothing is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The reason in a word, for the tape.
    pub outcome: &'static str,
    /// The reason in a sentence, for the requester. Holds nothing of the request.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, outcome: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, outcome, message: message.into() }
    }
}

impl From<PkiError> for Refusal {
    fn from(error: PkiError) -> Self {
        Refusal::new(500, "testbed", error.to_string())
    }
}

/// How far a CA is on the way to the one that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollOver {
    /// The next one issues; devices are told to trust both.
    Both,
    /// The next one issues; devices are told to trust that one alone.
    Next,
}

/// The CA of one trial.
#[derive(Debug)]
pub struct FakeCa {
    pki: Arc<Pki>,
    next: Option<(Arc<Pki>, RollOver)>,
    revoked: Revoked,
    /// The serial numbers of what each device was issued.
    issued: HashMap<String, Vec<Vec<u8>>>,
    stranger: Option<Arc<Pki>>,
    lifetime_s: i64,
    tokens: Tokens,
    /// Which device enrolled with a key (SHA-256 of its bits).
    owners: HashMap<[u8; 32], String>,
    /// What was issued for a renewal, by the CSR's fingerprint: the answer may be lost there, too.
    renewed: HashMap<[u8; 32], (Chain, Signed)>,
    lies: Lies,
}

/// What is decided about a request that is not refused.
struct Issue {
    outcome: &'static str,
    chain: Chain,
    signed: Signed,
    /// Whether it may be sent again for the same request.
    honest: bool,
    csr: Csr,
}

impl FakeCa {
    /// An honest CA. Its certificates are valid for `lifetime_s` seconds from the testbed's date on.
    pub fn new(pki: Arc<Pki>, lifetime_s: i64) -> Self {
        FakeCa {
            pki,
            next: None,
            revoked: Revoked::default(),
            issued: HashMap::new(),
            stranger: None,
            lifetime_s,
            tokens: Tokens::default(),
            owners: HashMap::new(),
            renewed: HashMap::new(),
            lies: Lies::default(),
        }
    }

    /// A new token that nobody can guess.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn mint_token(&mut self, spec: TokenSpec) -> Result<Secret, PkiError> {
        self.tokens.mint(spec)
    }

    /// Makes a token of the caller's choice known.
    pub fn accept_token(&mut self, token: &Secret, spec: TokenSpec) {
        self.tokens.accept(token, spec);
    }

    /// Tells these lies from now on, in place of those before. None: honest.
    pub fn misbehave(&mut self, lies: Vec<Lie>) {
        self.lies = Lies::new(lies);
    }

    /// Is followed by another CA from now on, as far as this. What was issued until now can be renewed.
    pub fn roll_over(&mut self, next: Arc<Pki>, phase: RollOver) {
        self.next = Some((next, phase));
    }

    /// Goes by this list of revoked certificates, as by one that was kept.
    pub fn take_up(&mut self, revoked: Revoked) {
        self.revoked = revoked;
    }

    /// Revokes all that this device was issued; how many of them were good until now.
    pub fn revoke(&mut self, device_id: &str, today: Today) -> usize {
        let serials = self.issued.get(device_id).map(Vec::as_slice).unwrap_or_default();
        serials.iter().filter(|serial| self.revoked.add(serial, today.wall)).count()
    }

    /// The revocation list, PEM. It is dated by the wall clock, since real brokers judge by it.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn crl(&self, today: Today) -> Result<String, PkiError> {
        self.pki.crl(&self.revoked, today.wall, CRL_VALID_S)
    }

    /// As whom the listener is to present itself, and the lies that had part in that.
    ///
    /// # Errors
    /// When the PKI fails.
    pub fn listener(&mut self, today: Today, names: &[String]) -> Result<(Listener, Arc<Pki>, Vec<String>), PkiError> {
        let mut listener = Listener { server: ServerSpec::new(names), issued_by: IssuedBy::Us };
        self.lies.each(|lie| lie.listener(&mut listener, today));
        let lies = self.lies.end_request();
        let pki = self.signer(listener.issued_by)?;
        Ok((listener, pki, lies))
    }

    /// Answers `POST /sign-csr`, given its `Authorization` header.
    pub fn sign_csr(&mut self, today: Today, authorization: Option<&str>, body: &[u8]) -> Answer {
        let enrolment = Enrolment::from_json(body);
        let device_id = enrolment.as_ref().ok().map(|e| e.device_id.clone());
        let decided = self.decide_enrolment(today, authorization, enrolment);
        let issued = decided.as_ref().ok().map(|issue| (issue.csr.clone(), self.remembered(issue), unhex(&issue.signed.serial)));
        let refused = decided.is_err();
        let answer = self.answer("sign-csr", device_id, decided);
        // The token is known when anything was issued; a request refused before its token was found counts for no token.
        if let Ok(token) = self.tokens.by_header(authorization) {
            match issued {
                Some((csr, remembered, serial)) if answer.reply.carries_certificate => {
                    self.issued.entry(csr.common_name.clone()).or_default().extend(serial);
                    token.spent = Some(Spent { csr: csr.fingerprint, issued: remembered });
                    self.owners.insert(sha256(csr.key.der_bytes()), csr.common_name);
                }
                None if refused => token.count_refusal(),
                _ => {}
            }
        }
        answer
    }

    /// Answers `POST /renew`, given the certificates the client proved to hold the key of.
    pub fn renew(&mut self, today: Today, client: Option<&[CertificateDer<'_>]>, body: &[u8]) -> Answer {
        let enrolment = Enrolment::from_json(body);
        let device_id = enrolment.as_ref().ok().map(|e| e.device_id.clone());
        let decided = self.decide_renewal(today, client, enrolment);
        let issued = decided.as_ref().ok().map(|issue| (issue.csr.clone(), self.remembered(issue), unhex(&issue.signed.serial)));
        let answer = self.answer("renew", device_id, decided);
        if let Some((csr, remembered, serial)) = issued.filter(|_| answer.reply.carries_certificate) {
            self.issued.entry(csr.common_name.clone()).or_default().extend(serial);
            self.owners.insert(sha256(csr.key.der_bytes()), csr.common_name);
            if let Some(remembered) = remembered {
                self.renewed.insert(csr.fingerprint, remembered);
            }
        }
        answer
    }

    /// Answers what is neither: an error or a page. Lies have no part in it.
    pub fn answer_other(what: String, answer: Result<Reply, Refusal>) -> Answer {
        let (reply, outcome) = match answer {
            Ok(reply) => (reply, "served"),
            Err(refusal) => (Reply::error(refusal.status, &refusal.message), refusal.outcome),
        };
        let told = CaRequest {
            what,
            device_id: None,
            status: Some(reply.status),
            outcome: outcome.to_owned(),
            lies: Vec::new(),
            issued: BTreeMap::new(),
        };
        Answer { reply, told }
    }

    fn decide_enrolment(
        &mut self,
        today: Today,
        authorization: Option<&str>,
        enrolment: Result<Enrolment, super::enrolment::BadEnrolment>,
    ) -> Result<Issue, Refusal> {
        let token = self.tokens.by_header(authorization)?;
        token.check_unlocked()?;
        let enrolment = enrolment.map_err(|error| Refusal::new(400, "bad-request", error.to_string()))?;
        token.check_for(&enrolment.device_id, today.testbed)?;
        let csr = read_csr(&enrolment)?;
        let spent = token.spent.clone();
        if spent.as_ref().is_some_and(|spent| spent.csr != csr.fingerprint) {
            return Err(Refusal::new(403, "token-spent", "the provisioning token has been used"));
        }
        self.check_owner(&csr)?;
        match spent.and_then(|spent| spent.issued) {
            Some((_, signed)) if unhex(&signed.serial).is_some_and(|serial| self.revoked.contains(&serial)) => {
                Err(Refusal::new(403, "token-spent", "what was issued for the provisioning token has been revoked"))
            }
            Some((chain, signed)) => Ok(Issue { outcome: "issued-again", chain, signed, honest: true, csr }),
            None => self.issue(today, csr),
        }
    }

    fn decide_renewal(
        &mut self,
        today: Today,
        client: Option<&[CertificateDer<'_>]>,
        enrolment: Result<Enrolment, super::enrolment::BadEnrolment>,
    ) -> Result<Issue, Refusal> {
        let needed = || Refusal::new(401, "no-client-certificate", "renewal needs the device's certificate on the TLS connection");
        let client = client.ok_or_else(needed)?;
        let known = self.pki.device_of(client, today.testbed);
        let known = known.or_else(|why| self.next.as_ref().map_or(Err(why), |(next, _)| next.device_of(client, today.testbed)));
        let name = known.map_err(|why| Refusal::new(403, why.outcome(), why.to_string()))?;
        let serial = client.first().and_then(serial_of);
        if serial.is_none_or(|serial| self.revoked.contains(&serial)) {
            return Err(Refusal::new(403, "client-certificate-revoked", "the client certificate has been revoked"));
        }
        let enrolment = enrolment.map_err(|error| Refusal::new(400, "bad-request", error.to_string()))?;
        if enrolment.device_id != name {
            return Err(Refusal::new(403, "certificate-of-another-device", "the client certificate is another device's"));
        }
        let csr = read_csr(&enrolment)?;
        self.check_owner(&csr)?;
        match self.renewed.get(&csr.fingerprint).cloned() {
            Some((chain, signed)) => Ok(Issue { outcome: "issued-again", chain, signed, honest: true, csr }),
            None => self.issue(today, csr),
        }
    }

    fn check_owner(&self, csr: &Csr) -> Result<(), Refusal> {
        match self.owners.get(&sha256(csr.key.der_bytes())) {
            Some(owner) if *owner != csr.common_name => {
                Err(Refusal::new(409, "key-of-another-device", "another device has enrolled with this key"))
            }
            _ => Ok(()),
        }
    }

    /// Issues by policy. Of the request, only the key and the name that was checked go in.
    fn issue(&mut self, today: Today, csr: Csr) -> Result<Issue, Refusal> {
        // Back-dated to before the wall clock, which a real broker judges by; by a tenth of a short lifetime at most, since
        // devices renew at a fraction of it.
        let not_before = today.testbed.min(today.wall).saturating_sub(DAY_S.min(self.lifetime_s / 10));
        let mut unsigned = Unsigned {
            draft: Draft {
                common_name: csr.common_name.clone(),
                names: Vec::new(),
                not_before,
                not_after: today.testbed.saturating_add(self.lifetime_s),
                purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
                role: Role::EndEntity,
            },
            key: CertifiedKey::Requested(csr.key.clone()),
            issued_by: IssuedBy::Us,
        };
        let honest = !self.lies.each(|lie| lie.certificate(&mut unsigned, today));
        let signer = match (unsigned.issued_by, &self.next) {
            (IssuedBy::Us, Some((next, _))) => next.clone(),
            (issued_by, _) => self.signer(issued_by)?,
        };
        let signed = match &unsigned.key {
            CertifiedKey::Requested(key) => signer.sign_device(&unsigned.draft, key)?,
            CertifiedKey::Another => signer.sign_device(&unsigned.draft, &rcgen::KeyPair::generate().map_err(PkiError::from)?)?,
        };
        let chain = Chain {
            leaf: signed.pem.clone(),
            intermediates: vec![signer.device_intermediate_pem().to_owned()],
            root: match &self.next {
                None => self.pki.root_pem().to_owned(),
                Some((next, RollOver::Both)) => format!("{}{}", self.pki.root_pem(), next.root_pem()),
                Some((next, RollOver::Next)) => next.root_pem().to_owned(),
            },
        };
        let facts = Signed { draft: unsigned.draft, ..signed };
        Ok(Issue { outcome: "issued", chain, signed: facts, honest, csr })
    }

    fn signer(&mut self, issued_by: IssuedBy) -> Result<Arc<Pki>, PkiError> {
        match (issued_by, &self.stranger) {
            (IssuedBy::Us, _) => Ok(self.pki.clone()),
            (IssuedBy::Stranger, Some(stranger)) => Ok(stranger.clone()),
            (IssuedBy::Stranger, None) => {
                let stranger = Arc::new(Pki::new(self.pki.made_at())?);
                self.stranger = Some(stranger.clone());
                Ok(stranger)
            }
        }
    }

    fn remembered(&self, issue: &Issue) -> Option<(Chain, Signed)> {
        issue.honest.then(|| (issue.chain.clone(), issue.signed.clone()))
    }

    fn answer(&mut self, what: &str, device_id: Option<String>, decided: Result<Issue, Refusal>) -> Answer {
        let (mut reply, outcome, facts) = match decided {
            Ok(Issue { outcome, mut chain, signed, .. }) => {
                self.lies.each(|lie| lie.chain(&mut chain));
                (Reply::certificate(&chain), outcome, facts(&signed))
            }
            Err(refusal) => {
                let mut reply = Reply::error(refusal.status, &refusal.message);
                if refusal.status == 401 && what == "sign-csr" {
                    reply.headers.push(("www-authenticate", "Bearer".to_owned()));
                }
                (reply, refusal.outcome, BTreeMap::new())
            }
        };
        let issued = reply.carries_certificate;
        self.lies.each(|lie| lie.reply(&mut reply));
        let withheld = issued && !reply.carries_certificate;
        let told = CaRequest {
            what: what.to_owned(),
            device_id,
            status: Some(reply.status),
            outcome: if withheld { "refused" } else { outcome }.to_owned(),
            lies: self.lies.end_request(),
            issued: if withheld { BTreeMap::new() } else { facts },
        };
        Answer { reply, told }
    }
}

fn serial_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    x509_parser::parse_x509_certificate(certificate).ok().map(|(_, certificate)| certificate.raw_serial().to_vec())
}

/// A serial number as it stands on the tape; none when it is no number.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len().is_multiple_of(2) && !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| (0..text.len()).step_by(2).filter_map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect())
}

fn read_csr(enrolment: &Enrolment) -> Result<Csr, Refusal> {
    let csr = Csr::from_pem(&enrolment.csr).map_err(|error| Refusal::new(400, "bad-csr", error.to_string()))?;
    if csr.common_name != enrolment.device_id {
        return Err(Refusal::new(400, "wrong-name", "the CSR's common name is not the device_id"));
    }
    Ok(csr)
}

fn facts(signed: &Signed) -> BTreeMap<String, String> {
    let day = |unix| {
        let date = date(unix);
        let (hour, minute, second) = date.to_hms();
        format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", date.year(), u8::from(date.month()), date.day())
    };
    BTreeMap::from([
        ("subject".to_owned(), format!("CN={}", signed.draft.common_name)),
        ("serial".to_owned(), signed.serial.clone()),
        ("not_before".to_owned(), day(signed.draft.not_before)),
        ("not_after".to_owned(), day(signed.draft.not_after)),
    ])
}
