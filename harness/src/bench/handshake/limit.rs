//! What rustls itself costs: the same handshake between two ends in memory, without sockets, broker or runtime.

use super::authority::Authority;
use super::case::Case;
use super::{client, expected};
use crate::bench::load;
use device_core::config::Security;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// CPU time of the client's side of one handshake, tickets read, µs; the first one does not count.
pub(super) fn client_cpu_us(case: &Case, authority: &Authority, rounds: u32) -> Result<f64, Box<dyn Error + Send + Sync>> {
    let client = Arc::new(client::raw(case, authority)?);
    let server = Arc::new(server(case, authority)?);
    let mut sum = Duration::ZERO;
    for round in 0..=rounds {
        let mut spent = Duration::ZERO;
        let before = load::own();
        let mut ours = ClientConnection::new(client.clone(), ServerName::try_from("localhost")?)?;
        spent += load::own() - before;
        let mut theirs = ServerConnection::new(server.clone())?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while ours.wants_write() || theirs.wants_write() {
            let before = load::own();
            while ours.wants_write() {
                ours.write_tls(&mut up)?;
            }
            spent += load::own() - before;
            let mut rest = up.as_slice();
            while !rest.is_empty() {
                theirs.read_tls(&mut rest)?;
                theirs.process_new_packets()?;
            }
            up.clear();
            while theirs.wants_write() {
                theirs.write_tls(&mut down)?;
            }
            let before = load::own();
            let mut rest = down.as_slice();
            while !rest.is_empty() {
                ours.read_tls(&mut rest)?;
                ours.process_new_packets()?;
            }
            spent += load::own() - before;
            down.clear();
        }
        // A session that carries nothing would be no session.
        ours.writer().write_all(b"x")?;
        ours.write_tls(&mut up)?;
        theirs.read_tls(&mut up.as_slice())?;
        theirs.process_new_packets()?;
        theirs.reader().read_exact(&mut [0])?;
        if round > 0 {
            expected(case, ours.handshake_kind())?;
            sum += spent;
        }
    }
    Ok(sum.as_secs_f64() * 1e6 / f64::from(rounds.max(1)))
}

fn server(case: &Case, authority: &Authority) -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(super::versions(case))?;
    let chain = vec![CertificateDer::from_pem_slice(authority.server.chain_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(authority.server.key_pem.expose().as_bytes())?;
    let builder = if case.security == Security::MutualTls {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.root_pem.as_bytes())?)?;
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
    } else {
        builder.with_no_client_auth()
    };
    Ok(builder.with_single_cert(chain, key)?)
}
