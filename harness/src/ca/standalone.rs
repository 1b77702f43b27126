//! The fake CA on its own, for devices and people outside a trial.

use super::misbehaviour::Lie;
use super::pki::Pki;
use super::server::{CaError, CaParts, CaServer, wall_clock};
use super::token::TokenSpec;
use crate::event::What;
use crate::trace::redact::Redactor;
use crate::trace::tape::Tape;
use device_core::secret::Secret;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

/// How a CA on its own is to be.
#[derive(Clone, Debug)]
pub struct Standalone {
    /// Where to listen.
    pub listen: SocketAddr,
    /// DNS names and IP addresses it is reached by, for its server certificate.
    pub names: Vec<String>,
    /// How long devices' certificates are valid, seconds.
    pub lifetime_s: i64,
    /// The lies it tells.
    pub lies: Vec<Lie>,
    /// Tokens to accept, each once.
    pub tokens: Vec<Secret>,
    /// How many tokens to make up besides, and print.
    pub mint: u32,
}

/// Could not run, or not say so.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The output was closed.
    #[error("could not write what the CA says: {0}")]
    Output(#[from] std::io::Error),
}

/// Runs a CA of its own, by the wall clock, until `until` is over. Writes its root certificate in PEM, its address and its tokens,
/// then one line of JSON for each request.
///
/// # Errors
/// When it cannot listen, or the output is closed.
pub async fn run(alone: Standalone, mut out: impl Write, until: impl Future<Output = ()>) -> Result<(), StandaloneError> {
    let pki = Arc::new(Pki::new(wall_clock()).map_err(CaError::from)?);
    let (tape, mut events) = Tape::new(Redactor::new());
    let parts = CaParts {
        listen: alone.listen,
        names: alone.names,
        lifetime_s: alone.lifetime_s,
        ..CaParts::new(pki.clone(), tape, Arc::new(wall_clock))
    };
    let server = CaServer::start(parts).await?;
    server.misbehave(alone.lies)?;
    write!(out, "{}", pki.root_pem())?;
    writeln!(out, "listening on https://{}", server.address())?;
    for token in &alone.tokens {
        server.accept_token(token, TokenSpec::default());
    }
    for _ in 0..alone.mint {
        let token = server.mint_token(TokenSpec::default()).map_err(CaError::from)?;
        writeln!(out, "token {}", token.expose())?;
    }
    out.flush()?;
    tokio::pin!(until);
    loop {
        let event = tokio::select! {
            () = &mut until => break,
            event = events.recv() => event,
        };
        if let Some(What::Request(request)) = event.map(|event| event.what) {
            writeln!(out, "{}", serde_json::to_string(&request).unwrap_or_default())?;
            out.flush()?;
        }
    }
    server.stop().await;
    Ok(())
}
