//! What a device refuses to store, and what it stores.

#[path = "world/pki.rs"]
mod pki;

use device_core::enrollment::{CHAIN_MAX, Reply, Unfit, Validity, check};
use device_core::time::UnixTime;
use pki::{Authority, BEGIN, LIFE_S, Ring, ca_params, csr, date, device_params};
use proptest::prelude::*;
use rcgen::CertificateParams as Params;
use rcgen::{
    BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
    SanType,
};
use std::sync::LazyLock;

const ID: &str = "device_0070";
const NOW: UnixTime = UnixTime(BEGIN.0 + 3600);

struct Bench {
    root: Authority,
    key: KeyPair,
    csr: String,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let (key, csr) = csr(ID, None);
    Bench { root: Authority::root("Test Root"), key, csr }
});

fn judge(certificate: String, ca_certificate: &str) -> Result<Validity, Unfit> {
    check(&Reply { certificate, ca_certificate: ca_certificate.into() }, ID, &BENCH.csr, NOW, &Ring)
}

/// A leaf by the root with something changed.
fn leaf(change: impl Fn(&mut Params)) -> Result<Validity, Unfit> {
    let mut params = device_params(ID, BEGIN);
    change(&mut params);
    judge(BENCH.root.issue(&params, &BENCH.key), &BENCH.root.pem)
}

/// A good leaf by an intermediate with something changed.
fn below(change: impl Fn(&mut Params)) -> Result<Validity, Unfit> {
    let mut params = ca_params("Test Intermediate");
    change(&mut params);
    let intermediate = BENCH.root.below(params);
    judge(intermediate.issue(&device_params(ID, BEGIN), &BENCH.key), &BENCH.root.pem)
}

/// A good leaf by a root with something changed.
fn under(change: impl Fn(&mut Params)) -> Result<Validity, Unfit> {
    let mut params = ca_params("Another Root");
    change(&mut params);
    let root = Authority::root_of(params);
    judge(root.issue(&device_params(ID, BEGIN), &BENCH.key), &root.pem)
}

#[test]
fn an_honest_certificate_is_stored() {
    let whole = Validity { not_before: BEGIN, not_after: UnixTime(BEGIN.0 + LIFE_S) };
    assert_eq!(leaf(|_| ()), Ok(whole));
    assert_eq!(leaf(|p| p.subject_alt_names = vec![SanType::DnsName(ID.try_into().expect("name"))]), Ok(whole));
    assert_eq!(leaf(|p| p.extended_key_usages.clear()), Ok(whole));
    assert_eq!(below(|_| ()), Ok(whole));
    assert_eq!(below(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), Ok(whole));
    let intermediate = BENCH.root.below(ca_params("Test Intermediate"));
    let chain = intermediate.issue(&device_params(ID, BEGIN), &BENCH.key);
    assert_eq!(judge(format!("{chain}{}", BENCH.root.pem), &BENCH.root.pem), Ok(whole), "the root may come along");
    assert_eq!(judge(chain.clone(), &format!("{}\n\n{}", Authority::root("Other").pem, BENCH.root.pem)), Ok(whole), "two anchors");
    assert_eq!(judge(chain.clone(), &intermediate.chain), Ok(whole), "an intermediate may be the anchor");
    assert_eq!(judge(chain.replace('\n', "\r\n"), &BENCH.root.pem), Ok(whole));
}

#[test]
fn another_curve_may_sign() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("key");
    let params = ca_params("P-384");
    let pem = params.self_signed(&key).expect("root").pem();
    let root = Authority { issuer: rcgen::Issuer::new(params, key), pem, chain: String::new() };
    assert!(judge(root.issue(&device_params(ID, BEGIN), &BENCH.key), &root.pem).is_ok());
}

#[test]
fn a_certificate_that_is_not_ours_is_refused() {
    let other = KeyPair::generate().expect("key");
    assert_eq!(judge(BENCH.root.issue(&device_params(ID, BEGIN), &other), &BENCH.root.pem), Err(Unfit::AnotherKey));
    assert_eq!(leaf(|p| p.distinguished_name.push(DnType::CommonName, "device_0071")), Err(Unfit::AnotherName));
    assert_eq!(leaf(|p| p.distinguished_name.push(DnType::CommonName, "DEVICE_0070")), Err(Unfit::AnotherName));
    assert_eq!(leaf(|p| p.distinguished_name.remove(DnType::CommonName).then_some(()).expect("had one")), Err(Unfit::AnotherName));
    let names = |names: &[&str]| names.iter().map(|n| SanType::DnsName((*n).try_into().expect("name"))).collect::<Vec<_>>();
    assert_eq!(leaf(|p| p.subject_alt_names = names(&["broker"])), Err(Unfit::AnotherName));
    assert_eq!(leaf(|p| p.subject_alt_names = names(&[ID, "broker"])), Err(Unfit::AnotherName));
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    assert_eq!(leaf(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Err(Unfit::IsACa));
    assert_eq!(leaf(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), Err(Unfit::WrongUsage));
    assert_eq!(leaf(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]), Err(Unfit::WrongUsage));
    let unknown = |p: &mut Params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    };
    assert_eq!(leaf(unknown), Err(Unfit::CriticalExtension));
    assert_eq!(below(unknown), Err(Unfit::CriticalExtension));
}

#[test]
fn dates_are_judged_at_both_ends() {
    assert_eq!(leaf(|p| p.not_before = date(NOW)).map(|v| v.not_before), Ok(NOW));
    assert_eq!(leaf(|p| p.not_before = date(UnixTime(NOW.0 + 1))), Err(Unfit::NotYetValid));
    assert_eq!(leaf(|p| p.not_after = date(NOW)).map(|v| v.not_after), Ok(NOW));
    assert_eq!(leaf(|p| p.not_after = date(UnixTime(NOW.0 - 1))), Err(Unfit::Expired));
    for change in
        [|p: &mut Params| p.not_after = date(UnixTime(NOW.0 - 1)), |p: &mut Params| p.not_before = date(UnixTime(NOW.0 + 1))]
    {
        assert_eq!(below(change), Err(Unfit::IssuerExpired));
        assert_eq!(under(change), Err(Unfit::IssuerExpired));
    }
    let reply =
        Reply { certificate: BENCH.root.issue(&device_params(ID, BEGIN), &BENCH.key), ca_certificate: BENCH.root.pem.clone() };
    assert_eq!(check(&reply, ID, &BENCH.csr, UnixTime(0), &Ring), Err(Unfit::NotYetValid), "no date is 1970");
}

#[test]
fn the_issuers_must_be_issuers() {
    assert_eq!(
        judge(BENCH.root.issue(&device_params(ID, BEGIN), &BENCH.key), &Authority::root("Other").pem),
        Err(Unfit::UnknownIssuer)
    );
    assert_eq!(
        judge(BENCH.root.issue(&device_params(ID, BEGIN), &BENCH.key), &Authority::root("Test Root").pem),
        Err(Unfit::BadSignature)
    );
    for change in [
        |p: &mut Params| p.is_ca = IsCa::ExplicitNoCa,
        |p: &mut Params| p.is_ca = IsCa::NoCa,
        |p: &mut Params| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        |p: &mut Params| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
    ] {
        assert_eq!(below(change), Err(Unfit::IssuerNotACa));
        assert_eq!(under(change), Err(Unfit::IssuerNotACa));
    }
    let short = Authority::root_of({
        let mut params = ca_params("Short Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params
    });
    let intermediate = short.below(ca_params("Test Intermediate"));
    assert_eq!(judge(intermediate.issue(&device_params(ID, BEGIN), &BENCH.key), &short.pem), Err(Unfit::PathTooLong));
}

#[test]
fn the_chain_must_be_one() {
    let intermediate = BENCH.root.below(ca_params("Test Intermediate"));
    let chain = intermediate.issue(&device_params(ID, BEGIN), &BENCH.key);
    let alone = chain.strip_suffix(&intermediate.chain).expect("the leaf");
    assert_eq!(judge(alone.into(), &BENCH.root.pem), Err(Unfit::UnknownIssuer), "the intermediate is missing");
    assert_eq!(judge(format!("{}{alone}", intermediate.chain), &BENCH.root.pem), Err(Unfit::AnotherKey), "backwards");
    assert_eq!(judge(format!("{alone}{alone}"), &BENCH.root.pem), Err(Unfit::BrokenChain), "two certificates");
    assert_eq!(judge(format!("{chain}{}", Authority::root("Other").pem), &BENCH.root.pem), Err(Unfit::BrokenChain), "a stray one");
    assert_eq!(judge(alone.repeat(CHAIN_MAX + 1), &BENCH.root.pem), Err(Unfit::TooMany));
    assert_eq!(judge(chain.clone(), ""), Err(Unfit::UnknownIssuer));
    for bad in [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &format!("x{chain}"),
        &BENCH.csr,
        &BENCH.key.serialize_pem(),
    ] {
        assert_eq!(judge(bad.into(), &BENCH.root.pem), Err(Unfit::Malformed), "{bad}");
        if !bad.is_empty() {
            assert_eq!(judge(chain.clone(), bad), Err(Unfit::Malformed), "{bad}");
        }
    }
}

#[test]
fn the_reply_is_read_strictly_where_it_counts() {
    let good = r#"{"certificate":{"content":"a","x":1},"ca_certificate":{"content":"b"},"y":[{}]}"#;
    assert_eq!(Reply::parse(good.as_bytes()), Ok(Reply { certificate: "a".into(), ca_certificate: "b".into() }));
    for bad in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"certificate":"a","ca_certificate":"b"}"#,
        r#"{"certificate":{"content":1},"ca_certificate":{"content":"b"}}"#,
        r#"{"certificate":{"content":"a"},"certificate":{"content":"a"},"ca_certificate":{"content":"b"}}"#,
        r#"{"certificate":{"content":"a"},"ca_certificate":{"content":"b"}"#,
        &"[".repeat(60_000),
        &format!(r#"{{"x":{}"#, "[".repeat(60_000)),
    ] {
        assert_eq!(Reply::parse(bad.as_bytes()), Err(Unfit::BadReply), "{:.60}", bad);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// No battered certificate is taken, unless nothing that counts was touched, and none panics.
    #[test]
    fn battered_certificates_are_refused(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        static DER: LazyLock<Vec<u8>> = LazyLock::new(|| {
            device_params(ID, BEGIN).signed_by(&BENCH.key, &BENCH.root.issuer).expect("certificate").der().to_vec()
        });
        let mut der = DER.clone();
        for (at, byte) in flips {
            *at.get_mut(&mut der) = byte;
        }
        let same = der == *DER;
        let outcome = judge(pem(&der), &BENCH.root.pem);
        prop_assert_eq!(outcome.is_ok(), same);
    }

    #[test]
    fn battered_text_never_panics(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = BENCH.root.issue(&device_params(ID, BEGIN), &BENCH.key).into_bytes();
        *at.get_mut(&mut bytes) = byte;
        bytes.truncate(cut.index(bytes.len()));
        let _ = judge(String::from_utf8_lossy(&bytes).into_owned(), &BENCH.root.pem);
    }
}

fn pem(der: &[u8]) -> String {
    x509_cert::der::pem::encode_string("CERTIFICATE", x509_cert::der::pem::LineEnding::LF, der).expect("pem")
}
