//! A broker that somebody else runs: nothing of it is started, stopped or configured.

use super::{Backend, Broker, BrokerError, Endpoint, Log};
use async_trait::async_trait;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// How long a connection to it may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A broker that runs already.
#[derive(Debug)]
pub struct External {
    backend: Backend,
    endpoint: Endpoint,
    log: Log,
}

impl External {
    /// Looks for a broker at `HOST:PORT`; the first of the host's addresses that takes a connection is used from then on.
    ///
    /// # Errors
    /// When the name is unknown or nothing listens there.
    pub async fn find(host_and_port: &str) -> Result<Self, BrokerError> {
        let no =
            |why: String| BrokerError::new(format!("no broker at {host_and_port}: {why}"), "check the address, and that it runs");
        let connected = tokio::time::timeout(CONNECT_WITHIN, async {
            let mut last = "the name has no address".to_owned();
            for address in lookup_host(host_and_port).await.map_err(|e| no(e.to_string()))? {
                match TcpStream::connect(address).await {
                    Ok(_) => return Ok(address),
                    Err(e) => last = e.to_string(),
                }
            }
            Err(no(last))
        });
        let address = connected.await.map_err(|_| no(format!("no answer within {} s", CONNECT_WITHIN.as_secs())))??;
        let host = host_and_port.rsplit_once(':').map_or(host_and_port, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let backend = Backend { name: "external", version: "unknown".into(), place: host_and_port.to_owned() };
        Ok(External { backend, endpoint: Endpoint { host, address }, log: Log::new() })
    }

    fn not_ours(&self, act: &str) -> BrokerError {
        let what = format!("the broker at {} is not ours to {act}", self.backend.place);
        BrokerError::new(what, "run this scenario with the broker process or bundled")
    }
}

#[async_trait]
impl Broker for External {
    fn backend(&self) -> &Backend {
        &self.backend
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn start(&mut self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        Err(self.not_ours("stop"))
    }

    async fn kill(&mut self) -> Result<(), BrokerError> {
        Err(self.not_ours("kill"))
    }
}
