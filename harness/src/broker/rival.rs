//! A second client with a device's client id: each of the two throws the other out (MQTT 5.0, 3.1.4-3).

use super::tap::transport;
use super::{BrokerError, Endpoint, Login};
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long it may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long one that insists waits before it connects again.
const AGAIN_AFTER: Duration = Duration::from_millis(5);
/// How long the broker keeps what it leaves behind, in seconds: as long as a device asks it to.
const SESSION_EXPIRY_S: u32 = 24 * 3600;

/// A second client with a device's client id. Gone when dropped; the session stays.
#[derive(Debug)]
pub struct Rival(JoinHandle<()>);

impl Rival {
    /// Connects with this client id, to the session that is there. One that `insists` connects again whenever it is thrown out.
    ///
    /// # Errors
    /// When the broker refuses, or it takes longer than 5 s.
    pub async fn connect(endpoint: &Endpoint, login: Login, client_id: &str, insists: bool) -> Result<Rival, BrokerError> {
        let mut options = transport(endpoint, login, client_id.to_owned());
        options.set_clean_start(false).set_session_expiry_interval(Some(SESSION_EXPIRY_S));
        let (client, mut events) = AsyncClient::new(options, 1);
        let connected = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(e) => return Err(e.to_string()),
                }
            }
        };
        let why = match tokio::time::timeout(CONNECT_WITHIN, connected).await {
            Ok(Ok(())) => return Ok(Rival(tokio::spawn(stay(client, events, insists)))),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
        };
        let what = format!("a second client called {client_id} cannot connect to the broker at {}: {why}", endpoint.address);
        Err(BrokerError::new(what, "see the broker's log for its side of it"))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers what the broker sends. The client is held, since its event loop ends without one.
async fn stay(_client: AsyncClient, mut events: EventLoop, insists: bool) {
    loop {
        if events.poll().await.is_err() {
            if !insists {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}
