//! What the fake CA issues, refuses and lies about, without a socket.
//!
//! The requests in `csr/` were made with OpenSSL 3.0 for `dev-1`; their names say what is to become of them.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use harness::ca::fake::{Answer, FakeCa, LIFETIME_S};
use harness::ca::misbehaviour::Lie;
use harness::ca::pki::{BadClient, DAY_S, Pki, ServerSpec};
use harness::ca::{Today, TokenSpec};
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::{Arc, LazyLock};
use x509_parser::prelude::{FromDer, X509Certificate};

/// 2026-06-01T00:00:00Z, for the wall clock and, unless a test says otherwise, for the testbed.
const NOW: i64 = 1_780_272_000;
const TODAY: Today = Today { testbed: NOW, wall: NOW };

static PKI: LazyLock<Arc<Pki>> = LazyLock::new(|| Arc::new(Pki::with_serials(NOW, 7).unwrap()));

fn ca() -> FakeCa {
    FakeCa::new(PKI.clone(), LIFETIME_S)
}

fn lies(json: &str) -> Vec<Lie> {
    serde_json::from_str(json).unwrap()
}

fn csr(name: &str, key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn body(device_id: &str, csr: &str) -> Vec<u8> {
    serde_json::json!({"device_id": device_id, "csr": csr}).to_string().into_bytes()
}

fn token(ca: &mut FakeCa) -> String {
    token_of(ca, TokenSpec::default())
}

fn token_of(ca: &mut FakeCa, spec: TokenSpec) -> String {
    format!("Bearer {}", ca.mint_token(spec).unwrap().expose())
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.reply.status, &answer.told.outcome)
}

/// The certificates of `certificate.content`, and that of `ca_certificate.content`.
fn certificates(answer: &Answer) -> (Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>) {
    assert_eq!(answer.reply.status, 200, "{answer:?}");
    let json: serde_json::Value = serde_json::from_slice(&answer.reply.body).unwrap();
    let read = |name: &str| {
        let pem = json[name]["content"].as_str().unwrap();
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap()
    };
    (read("certificate"), read("ca_certificate"))
}

/// Whether rustls takes this chain from a client on this date, given this anchor.
fn verify(chain: &[CertificateDer<'_>], anchor: &CertificateDer<'_>, unix: i64) -> Result<(), rustls::Error> {
    let mut anchors = rustls::RootCertStore::empty();
    anchors.add(anchor.clone().into_owned()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), provider).build().unwrap();
    let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix as u64));
    verifier.verify_client_cert(&chain[0], &chain[1..], now).map(|_| ())
}

fn leaf<'a>(chain: &'a [CertificateDer<'_>]) -> X509Certificate<'a> {
    X509Certificate::from_der(&chain[0]).unwrap().1
}

#[test]
fn an_honest_certificate_is_what_the_policy_says() {
    let mut ca = ca();
    let key = KeyPair::generate().unwrap();
    let bearer = token(&mut ca);
    let answer = ca.sign_csr(TODAY, Some(&bearer), &body("dev-1", &csr("dev-1", &key)));
    assert_eq!(outcome(&answer), (200, "issued"));
    let (chain, root) = certificates(&answer);
    assert_eq!((chain.len(), root.len()), (2, 1));
    assert_eq!(root[0], CertificateDer::from_pem_slice(PKI.root_pem().as_bytes()).unwrap());
    verify(&chain, &root[0], NOW).unwrap();
    let leaf = leaf(&chain);
    assert_eq!(leaf.subject().to_string(), "CN=dev-1");
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
    assert_eq!(leaf.validity().not_before.timestamp(), NOW - DAY_S);
    assert_eq!(leaf.validity().not_after.timestamp(), NOW + LIFETIME_S);
    let (_, intermediate) = X509Certificate::from_der(&chain[1]).unwrap();
    let purposes = intermediate.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth && !purposes.any);
    assert_eq!(answer.told.issued["not_after"], "2026-08-30T00:00:00Z");
    assert_eq!(answer.told.issued["subject"], "CN=dev-1");
    let told = format!("{:?}", answer.told);
    assert!(!told.contains(bearer.strip_prefix("Bearer ").unwrap()));
}

#[test]
fn requests_of_openssl_are_taken_or_refused_and_their_wishes_are_not_copied() {
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/csr")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let pem = std::fs::read_to_string(&path).unwrap();
        // One CA each: some of the files share a key, and have other names.
        let mut ca = ca();
        let bearer = token(&mut ca);
        let answer = ca.sign_csr(TODAY, Some(&bearer), &body("dev-1", &pem));
        seen += 1;
        if name.starts_with("refused-") {
            assert_eq!(answer.reply.status, 400, "{name}: {answer:?}");
            assert!(!answer.reply.carries_certificate && answer.told.issued.is_empty(), "{name}");
            continue;
        }
        assert_eq!(outcome(&answer), (200, "issued"), "{name}");
        let (chain, root) = certificates(&answer);
        verify(&chain, &root[0], NOW).unwrap();
        let leaf = leaf(&chain);
        assert_eq!(leaf.subject().to_string(), "CN=dev-1", "{name}");
        assert!(!leaf.is_ca(), "{name}");
        assert_eq!(leaf.subject_alternative_name().unwrap(), None, "{name}");
        assert_eq!(leaf.key_usage().unwrap().unwrap().value.to_string(), "Digital Signature", "{name}");
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.client_auth && !purposes.server_auth && !purposes.any, "{name}");
        // keyUsage, extendedKeyUsage, basicConstraints, and the two key identifiers: nothing of the request.
        assert_eq!(leaf.extensions().len(), 5, "{name}");
    }
    assert_eq!(seen, 21);
}

#[test]
fn pem_is_read_strictly_apart_from_blank_space() {
    let key = KeyPair::generate().unwrap();
    let pem = csr("dev-1", &key);
    let fresh = |pem: &str| {
        let mut ca = ca();
        let bearer = token(&mut ca);
        ca.sign_csr(TODAY, Some(&bearer), &body("dev-1", pem)).reply.status
    };
    let lf = pem.replace("\r\n", "\n");
    let [first, rest] = lf.splitn(2, '\n').collect::<Vec<_>>().try_into().unwrap();
    let one_line = format!("{first}\n{}\n-----END CERTIFICATE REQUEST-----", rest.split("-----").next().unwrap().replace('\n', ""));
    for good in [lf.clone(), lf.replace('\n', "\r\n"), lf.trim_end().to_owned(), format!("\n\n  {lf}\n"), one_line] {
        assert_eq!(fresh(&good), 200, "{good:?}");
    }
    for bad in [
        String::new(),
        lf.replace("-----BEGIN", "-----BEGINN"),
        format!("{lf}{lf}"),
        format!("{lf}x"),
        format!("x{lf}"),
        lf.replace("REQUEST-----\nMI", "REQUEST-----\nProc-Type: 4,ENCRYPTED\n\nMI"),
        lf.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        lf.replacen('A', "*", 1),
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n".into(),
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".into(),
        "-----BEGIN CERTIFICATE REQUEST-----".into(),
        format!("{lf}{}", "\n".repeat(64 * 1024)),
    ] {
        assert_eq!(fresh(&bad), 400, "{bad:?}");
    }
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let (mine, yours) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let der = |pem: String| rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    let mut request = der(csr("dev-1", &mine));
    let at = request.windows(65).position(|bytes| bytes == mine.public_key_raw()).unwrap();
    request[at..at + 65].copy_from_slice(yours.public_key_raw());
    let answer = sign_der(&request);
    assert_eq!(outcome(&answer), (400, "bad-csr"));
    assert_eq!(outcome(&sign_der(&[&WISHES[..], &[0]].concat())), (400, "bad-csr"));
    assert!(String::from_utf8_lossy(&answer.reply.body).contains("signature"), "{answer:?}");
}

fn sign_der(der: &[u8]) -> Answer {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}\n-----END CERTIFICATE REQUEST-----\n");
    let mut ca = ca();
    let bearer = token(&mut ca);
    ca.sign_csr(TODAY, Some(&bearer), &body("dev-1", &pem))
}

static WISHES: LazyLock<Vec<u8>> = LazyLock::new(|| der_of("accepted-wishes"));

fn der_of(name: &str) -> Vec<u8> {
    let pem = std::fs::read_to_string(format!("{}/tests/csr/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let pem = pem.replace("NEW CERTIFICATE", "CERTIFICATE");
    rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[test]
fn no_bit_of_a_request_is_idle() {
    for name in ["accepted-new-header", "accepted-rsa-2048"] {
        let good = der_of(name);
        for bit in 0..good.len() * 8 {
            let mut der = good.clone();
            der[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sign_der(&der).reply.status, 400, "{name}: bit {} of byte {} of {}", bit % 8, bit / 8, der.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_requests_are_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut der = WISHES.clone();
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if !whole {
            der.truncate(cut.index(der.len()));
        }
        let answer = sign_der(&der);
        if der == *WISHES {
            prop_assert_eq!(answer.reply.status, 200);
        } else {
            prop_assert_eq!(answer.reply.status, 400);
        }
    }

    #[test]
    fn any_body_gets_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let mut ca = ca();
        let bearer = token(&mut ca);
        for body in [bytes.clone(), body("dev-1", &text)] {
            prop_assert_eq!(ca.sign_csr(TODAY, Some(&bearer), &body).reply.status, 400);
        }
        prop_assert_eq!(sign_der(&bytes).reply.status, 400);
    }
}

#[test]
fn nested_asn1_ends() {
    for open in [&[0x30, 0x80][..], &[0x30, 0x84, 0, 0, 0x20, 0], &[0xa0, 0x80], &[0x31, 0x82, 0x20, 0]] {
        assert_eq!(sign_der(&open.repeat(4_000)).reply.status, 400);
    }
}

#[test]
fn a_token_is_for_one_request() {
    let mut ca = ca();
    let bearer = token(&mut ca);
    let request = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    assert_eq!(outcome(&ca.sign_csr(TODAY, None, &request)), (401, "no-token"));
    for wrong in ["", "Bearer", "Bearer ", "Basic abc", &bearer.replace(' ', ""), "Bearer a b", "Bearer \u{e9}"] {
        assert_eq!(outcome(&ca.sign_csr(TODAY, Some(wrong), &request)), (401, "no-token"), "{wrong}");
    }
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some("Bearer unknown"), &request)), (401, "unknown-token"));
    let first = ca.sign_csr(TODAY, Some(&bearer), &request);
    let later = Today { testbed: NOW + 100, wall: NOW + 100 };
    let again = ca.sign_csr(later, Some(&bearer.replace("Bearer", "bearer")), &request);
    assert_eq!((outcome(&first), outcome(&again)), ((200, "issued"), (200, "issued-again")));
    assert_eq!(first.reply.body, again.reply.body);
    let other = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    for _ in 0..10 {
        assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&bearer), &other)), (403, "token-spent"));
    }
    assert_eq!(ca.sign_csr(TODAY, Some(&bearer), &request).reply.body, first.reply.body);
}

#[test]
fn a_token_expires_and_belongs_to_its_device() {
    let mut ca = ca();
    let request = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    let expiring = token_of(&mut ca, TokenSpec { expires_at: Some(NOW), bound_to: None });
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&expiring), &request)), (403, "token-expired"));
    let before = Today { testbed: NOW - 1, wall: NOW };
    let issued = ca.sign_csr(before, Some(&expiring), &request);
    assert_eq!(outcome(&issued), (200, "issued"));
    // Its own answer is still to be had after it has expired.
    assert_eq!(ca.sign_csr(TODAY, Some(&expiring), &request).reply.body, issued.reply.body);
    let bound = token_of(&mut ca, TokenSpec { bound_to: Some("dev-2".into()), expires_at: None });
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&bound), &request)), (403, "token-of-another-device"));
    let mine = body("dev-2", &csr("dev-2", &KeyPair::generate().unwrap()));
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&bound), &mine)), (200, "issued"));
}

#[test]
fn five_refusals_lock_a_token_and_no_fewer() {
    let mut ca = ca();
    let request = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    let (four, five) = (token(&mut ca), token(&mut ca));
    for (bearer, refusals) in [(&four, 4), (&five, 5)] {
        for _ in 0..refusals {
            assert_eq!(outcome(&ca.sign_csr(TODAY, Some(bearer), b"{}")), (400, "bad-request"));
        }
    }
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&four), &request)), (200, "issued"));
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&five), &request)), (403, "token-locked"));
}

#[test]
fn a_key_belongs_to_its_first_device() {
    let mut ca = ca();
    let key = KeyPair::generate().unwrap();
    let (first, second, third) = (token(&mut ca), token(&mut ca), token(&mut ca));
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&first), &body("dev-1", &csr("dev-1", &key)))), (200, "issued"));
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&second), &body("dev-2", &csr("dev-2", &key)))), (409, "key-of-another-device"));
    // A device with a key that is compiled in enrols again with the same one.
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&third), &body("dev-1", &csr("dev-1", &key)))), (200, "issued"));
}

#[test]
fn a_certificate_is_renewed_with_the_one_before() {
    let mut ca = ca();
    let bearer = token(&mut ca);
    let (first, _) = certificates(&ca.sign_csr(TODAY, Some(&bearer), &body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()))));
    let request = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    let late = Today { testbed: NOW + LIFETIME_S - 1, wall: NOW };
    let renewed = ca.renew(late, Some(&first), &request);
    assert_eq!(outcome(&renewed), (200, "issued"));
    let (second, root) = certificates(&renewed);
    verify(&second, &root[0], NOW + LIFETIME_S + 1).unwrap();
    // Mosquitto judges by the wall clock: the new certificate is good there, too.
    verify(&second, &root[0], NOW).unwrap();
    assert_eq!(ca.renew(late, Some(&first), &request).reply.body, renewed.reply.body);
    assert_eq!(outcome(&ca.renew(late, Some(&first[..1]), &request)), (200, "issued-again"));
    assert_eq!(outcome(&ca.renew(late, None, &request)), (401, "no-client-certificate"));
    let expired = Today { testbed: NOW + LIFETIME_S + 1, wall: NOW };
    assert_eq!(outcome(&ca.renew(expired, Some(&first), &request)), (403, "client-certificate-expired"));
    let early = Today { testbed: NOW - 2 * DAY_S, wall: NOW };
    assert_eq!(outcome(&ca.renew(early, Some(&first), &request)), (403, "client-certificate-not-yet-valid"));
    let other = body("dev-2", &csr("dev-2", &KeyPair::generate().unwrap()));
    assert_eq!(outcome(&ca.renew(late, Some(&first), &other)), (403, "certificate-of-another-device"));
    let stranger = Pki::with_serials(NOW, 9).unwrap().client("dev-1").unwrap();
    let server = PKI.server(&ServerSpec::new(["dev-1"])).unwrap();
    for identity in [stranger, server] {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(outcome(&ca.renew(late, Some(&chain), &request)), (403, "client-certificate-unknown"));
        assert_eq!(PKI.device_of(&chain, NOW), Err(BadClient::NotOurs));
    }
    assert_eq!(PKI.device_of(&[CertificateDer::from(vec![0x30, 0x80])], NOW), Err(BadClient::NotOurs));
}

#[test]
fn dates_beyond_reason_are_kept_in_bounds() {
    for testbed in [i64::MIN, -1, 0, 4_102_444_800, i64::MAX] {
        let mut ca = ca();
        let bearer = token(&mut ca);
        let request = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
        let answer = ca.sign_csr(Today { testbed, wall: NOW }, Some(&bearer), &request);
        assert_eq!(outcome(&answer), (200, "issued"), "{testbed}");
        leaf(&certificates(&answer).0);
    }
    for made in [i64::MIN, i64::MAX] {
        Pki::with_serials(made, u64::MAX).unwrap().server(&ServerSpec::new(["::1"])).unwrap();
    }
}

/// Enrols dev-1 with an honest request while these lies are told.
fn lied_to(json: &str) -> (Answer, KeyPair) {
    let mut ca = ca();
    ca.misbehave(lies(json));
    let bearer = token(&mut ca);
    let key = KeyPair::generate().unwrap();
    (ca.sign_csr(TODAY, Some(&bearer), &body("dev-1", &csr("dev-1", &key))), key)
}

#[test]
fn lies_about_the_certificate_are_just_those_lies() {
    for lie in ["expired", "not-yet-valid", "wrong-key", "wrong-name", "unknown-issuer", "ca-true", "chain-missing"] {
        let (answer, key) = lied_to(&format!("[\"{lie}\"]"));
        assert_eq!(answer.told.lies, [lie]);
        let (chain, root) = certificates(&answer);
        let leaf = leaf(&chain);
        let found = [
            ("expired", leaf.validity().not_after.timestamp() < NOW),
            ("not-yet-valid", leaf.validity().not_before.timestamp() > NOW),
            ("wrong-key", leaf.public_key().subject_public_key.data.as_ref() != key.public_key_raw()),
            ("wrong-name", leaf.subject().to_string() != "CN=dev-1"),
            ("ca-true", leaf.is_ca()),
            ("chain-missing", chain.len() == 1),
        ];
        for (what, is_so) in found {
            assert_eq!(is_so, what == lie, "{lie}: {what}");
        }
        assert_eq!(root[0], CertificateDer::from_pem_slice(PKI.root_pem().as_bytes()).unwrap());
        let verified = verify(&chain, &root[0], NOW);
        assert_eq!(verified.is_ok(), matches!(lie, "wrong-key" | "wrong-name"), "{lie}: {verified:?}");
    }
}

#[test]
fn lies_compose() {
    let (answer, key) = lied_to(r#"["expired", "wrong-key", {"truncate": {"at-bytes": 120}}]"#);
    assert_eq!(answer.told.lies, ["expired", "wrong-key", "truncate"]);
    assert_eq!(answer.reply.cut.map(|cut| cut.at_bytes), Some(120));
    let (chain, _) = certificates(&answer);
    assert!(leaf(&chain).validity().not_after.timestamp() < NOW);
    assert_ne!(leaf(&chain).public_key().subject_public_key.data.as_ref(), key.public_key_raw());
}

#[test]
fn a_refusal_is_counted_and_spends_nothing() {
    let mut ca = ca();
    ca.misbehave(lies(r#"[{"refuse": {"status": 503, "times": 7, "retry-after": "1.5s"}}]"#));
    let bearer = token(&mut ca);
    let request = |name| body(name, &csr(name, &KeyPair::generate().unwrap()));
    for _ in 0..6 {
        let answer = ca.sign_csr(TODAY, Some(&bearer), &request("dev-1"));
        assert_eq!(outcome(&answer), (503, "refused"));
        assert!(answer.told.lies == ["refuse"] && answer.told.issued.is_empty());
        assert_eq!(answer.reply.headers, [("retry-after", "2".to_owned())]);
    }
    // Nor does a bad request count against the token while the CA is down.
    assert_eq!(ca.sign_csr(TODAY, Some(&bearer), b"{}").reply.status, 503);
    let answer = ca.sign_csr(TODAY, Some(&bearer), &request("dev-2"));
    assert_eq!((outcome(&answer), answer.told.lies.len()), ((200, "issued"), 0));
}

#[test]
fn a_lost_answer_is_given_again_and_a_lie_is_not() {
    let mut ca = ca();
    let request = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    ca.misbehave(lies(r#"[{"truncate": {"at-bytes": 10, "times": 1}}]"#));
    let bearer = token(&mut ca);
    let cut = ca.sign_csr(TODAY, Some(&bearer), &request);
    let again = ca.sign_csr(TODAY, Some(&bearer), &request);
    assert_eq!((outcome(&again), again.reply.cut), ((200, "issued-again"), None));
    assert_eq!(again.reply.body, cut.reply.body);

    ca.misbehave(lies(r#"["expired"]"#));
    let bearer = token(&mut ca);
    assert_eq!(ca.sign_csr(TODAY, Some(&bearer), &request).told.lies, ["expired"]);
    ca.misbehave(Vec::new());
    let healed = ca.sign_csr(TODAY, Some(&bearer), &request);
    assert_eq!(outcome(&healed), (200, "issued"));
    let (chain, root) = certificates(&healed);
    verify(&chain, &root[0], NOW).unwrap();

    ca.misbehave(lies(r#"["html"]"#));
    let bearer = token(&mut ca);
    let portal = ca.sign_csr(TODAY, Some(&bearer), &request);
    assert_eq!((portal.reply.status, portal.reply.content_type), (200, "text/html; charset=utf-8"));
    assert_eq!((portal.told.outcome.as_str(), portal.told.issued.len()), ("refused", 0));
    ca.misbehave(Vec::new());
    let other = body("dev-1", &csr("dev-1", &KeyPair::generate().unwrap()));
    assert_eq!(outcome(&ca.sign_csr(TODAY, Some(&bearer), &other)), (200, "issued"));
}

#[test]
fn lies_are_read_as_scenarios_write_them() {
    let yaml = "[expired, refuse: { status: 503, times: 2 }, listener: wrong-name, truncate: { at-bytes: 120, times: 1 }]";
    let read: Vec<Lie> = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(read.iter().map(Lie::name).collect::<Vec<_>>(), ["expired", "refuse", "listener", "truncate"]);
    for bad in [
        "[refuse: { status: 200 }]",
        "[refuse: { status: 503, time: 2 }]",
        "[refuse: { status: 503, times: 0 }]",
        "[refuse: { status: 503, retry-after: 2 }]",
        "[refuse]",
        "[expired: { x: 1 }]",
        "[honest]",
        "[listener: honest]",
        "[truncate: {}]",
    ] {
        assert!(serde_saphyr::from_str::<Vec<Lie>>(bad).is_err(), "{bad}");
    }
    let schema = serde_json::to_string(&schemars::schema_for!(Lie)).unwrap();
    for name in Lie::NAMES {
        assert!(schema.contains(&format!("\"{name}\"")), "{name}");
    }
}
