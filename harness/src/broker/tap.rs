//! The operator's client: it puts what is published on the tape, and publishes orders.
//!
//! An independent client (rumqttc, MQTT v5), so that the device's own MQTT is judged by somebody else's. It reconnects by itself. Its
//! session is persistent: over a restart of a broker that stores, nothing is missed; after one that does not, what is published
//! before it has subscribed again is missed ([`Tap::ready`] tells when). Its client id begins with [`TAP`].

use super::{BrokerError, Endpoint};
use crate::ca::pki::Identity;
use crate::event::{MqttMessage, Source, What};
use crate::trace::tape::Tape;
use device_core::secret::Secret;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a tap's client id begins. The broker's log lines about taps are not forwarded to tapes.
pub const TAP: &str = "harness-tap-";
/// How long connecting and subscribing may take, and an order to be handed over.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest packet taken, in bytes; the broker does not send a longer one.
const PACKET_MAX: u32 = 1 << 20;
/// Longest payload put on the tape, in bytes; of a longer one the beginning.
const PAYLOAD_MAX: usize = 16 * 1024;
/// Orders on their way that the broker has not been sent yet.
const ORDERS_AHEAD_MAX: usize = 64;
/// Messages remembered, to know one that is delivered twice over a reconnection.
const SEEN_MAX: usize = 128;
/// How long the broker keeps the session of a tap that is gone, in seconds.
const SESSION_EXPIRY_S: u32 = 60;
/// Between two attempts to reconnect: the first, doubled up to the last.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// How a tap makes itself known.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// User name and password.
    pub user: Option<(String, Secret)>,
    /// TLS; none: plain.
    pub tls: Option<Tls>,
}

/// How a tap speaks TLS. Always with the ring provider; the process needs no default one.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    /// Whether the server's name is checked, so that the connection must go by name.
    by_name: bool,
    /// The certificates that are taken, where it goes by them alone.
    pins: Pins,
}

/// Server certificates that are taken, whatever is wrong with them.
type Pins = Arc<RwLock<Vec<CertificateDer<'static>>>>;

impl Tls {
    /// Takes exactly this server certificate (the first of the chain) for good, whatever is wrong with it: a broker that we
    /// configured may be meant to have an expired or misnamed one.
    ///
    /// # Errors
    /// When a PEM text does not hold what it should.
    pub fn pinned(server_chain_pem: &str, identity: Option<&Identity>) -> Result<Tls, BrokerError> {
        let leaf = CertificateDer::from_pem_slice(server_chain_pem.as_bytes()).map_err(unusable("the broker's certificate"))?;
        let provider = Arc::new(ring::default_provider());
        let pins: Pins = Arc::new(RwLock::new(vec![leaf]));
        let verifier = Arc::new(Pinned { pins: pins.clone(), provider: provider.clone() });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(unusable("the TLS versions"))?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Tls { config: with_identity(builder, identity)?, by_name: false, pins })
    }

    /// Takes this server certificate too from now on, for one that goes by certificates alone: the broker is about to change.
    ///
    /// # Errors
    /// When the PEM text holds none.
    pub fn also_pin(&self, server_chain_pem: &str) -> Result<(), BrokerError> {
        let leaf = CertificateDer::from_pem_slice(server_chain_pem.as_bytes()).map_err(unusable("the broker's certificate"))?;
        self.pins.write().unwrap_or_else(PoisonError::into_inner).push(leaf);
        Ok(())
    }

    /// Takes a server certificate of this authority with the server's name in it.
    ///
    /// # Errors
    /// When a PEM text does not hold what it should.
    pub fn trusting(ca_pem: &str, identity: Option<&Identity>) -> Result<Tls, BrokerError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            let certificate = certificate.map_err(unusable("the authority's certificate"))?;
            roots.add(certificate).map_err(unusable("the authority's certificate"))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let builder = builder.map_err(unusable("the TLS versions"))?.with_root_certificates(roots);
        Ok(Tls { config: with_identity(builder, identity)?, by_name: true, pins: Pins::default() })
    }
}

fn with_identity(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, BrokerError> {
    let Some(identity) = identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect();
    let chain = chain.map_err(unusable("the operator's certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes()).map_err(unusable("the operator's key"))?;
    let config = builder.with_client_auth_cert(chain, key).map_err(unusable("the operator's certificate and key"))?;
    Ok(Arc::new(config))
}

fn unusable<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> BrokerError {
    move |e| BrokerError::new(format!("{what} cannot be used: {e}"), "give it as PEM")
}

/// Verifies that the server is the one we started: it has a certificate that we gave it, and its key.
#[derive(Debug)]
struct Pinned {
    pins: Pins,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.read().unwrap_or_else(PoisonError::into_inner).iter().any(|pin| pin.as_ref() == leaf.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How a client of ours with this id reaches the broker.
pub(super) fn transport(endpoint: &Endpoint, login: Login, client_id: String) -> MqttOptions {
    let by_name = login.tls.as_ref().is_some_and(|tls| tls.by_name);
    let host = if by_name { endpoint.host.clone() } else { endpoint.address.ip().to_string() };
    let mut options = MqttOptions::new(client_id, host, endpoint.address.port());
    options.set_connection_timeout(CONNECT_WITHIN.as_secs()).set_keep_alive(Duration::from_secs(30));
    let mut network = options.network_options();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some((name, password)) = &login.user {
        options.set_credentials(name, password.expose());
    }
    if let Some(tls) = login.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config)));
    }
    options
}

/// How a tap stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Subscribed,
    Down(String),
}

/// A connected tap. Ends when dropped.
#[derive(Debug)]
pub struct Tap {
    client: AsyncClient,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Tap {
    /// Connects, subscribes to these filters at QoS 1 and puts each message on the tape from then on, retained ones first.
    ///
    /// # Errors
    /// When the broker refuses, or it takes longer than [`CONNECT_WITHIN`].
    pub async fn connect(endpoint: &Endpoint, login: Login, filters: &[String], tape: &Tape) -> Result<Tap, BrokerError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = format!("{TAP}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut options = transport(endpoint, login, id);
        options.set_clean_start(false).set_session_expiry_interval(Some(SESSION_EXPIRY_S));
        options.set_max_packet_size(Some(PACKET_MAX));
        let (client, events) = AsyncClient::new(options, ORDERS_AHEAD_MAX);
        let (say, mut state) = watch::channel(State::Connecting);
        let filters = filters.iter().map(|path| {
            // As published: a message that was published as retained says so, also when it comes live.
            // Retained messages come once, and not again when it subscribes again to a session that still has the subscription.
            let (preserve_retain, retain_forward_rule) = (true, RetainForwardRule::OnNewSubscribe);
            Filter { preserve_retain, retain_forward_rule, ..Filter::new(path, QoS::AtLeastOnce) }
        });
        let ear = Ear { client: client.clone(), filters: filters.collect(), tape: tape.clone(), state: say, seen: VecDeque::new() };
        let tap = Tap { client, state: state.clone(), task: tokio::spawn(ear.listen(events)) };
        let settled = tokio::time::timeout(CONNECT_WITHIN, state.wait_for(|s| *s != State::Connecting)).await;
        let why = match settled {
            Ok(Ok(state)) => match &*state {
                State::Down(why) => why.clone(),
                _ => String::new(),
            },
            Ok(Err(_)) => "the tap ended".to_owned(),
            Err(_) => format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
        };
        if why.is_empty() {
            return Ok(tap);
        }
        let what = format!("the tap cannot connect to the broker at {}: {why}", endpoint.address);
        Err(BrokerError::new(what, "see the broker's log for its side of it"))
    }

    /// Waits until it is connected and subscribed (again, after the broker was away).
    ///
    /// # Errors
    /// When it is not `within` this time.
    pub async fn ready(&self, within: Duration) -> Result<(), BrokerError> {
        let mut state = self.state.clone();
        let subscribed = tokio::time::timeout(within, state.wait_for(|s| *s == State::Subscribed)).await;
        if matches!(subscribed, Ok(Ok(_))) {
            return Ok(());
        }
        let why = match &*self.state.borrow() {
            State::Down(why) => why.clone(),
            _ => "no answer".to_owned(),
        };
        Err(BrokerError::new(format!("the tap is not connected: {why}"), "start the broker again first"))
    }

    /// Publishes an order. It is on its way when this returns, and is sent after a reconnection when the broker is away.
    ///
    /// # Errors
    /// When the topic holds a wildcard, the QoS is over 2, or too many orders wait for longer than [`CONNECT_WITHIN`].
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, qos: u8, retain: bool) -> Result<(), BrokerError> {
        let no = |why: String| BrokerError::new(format!("cannot publish on {topic:?}: {why}"), "check topic and QoS (0, 1, 2)");
        let qos = match qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            more => return Err(no(format!("there is no QoS {more}"))),
        };
        let order = self.client.publish(topic, qos, retain, payload.into());
        match tokio::time::timeout(CONNECT_WITHIN, order).await {
            Ok(sent) => sent.map_err(|e| no(e.to_string())),
            Err(_) => Err(no("the broker takes no more orders".into())),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tap's own task.
struct Ear {
    client: AsyncClient,
    filters: Vec<Filter>,
    tape: Tape,
    state: watch::Sender<State>,
    seen: VecDeque<Publish>,
}

impl Ear {
    async fn listen(mut self, mut events: EventLoop) {
        let mut retry_after = RETRY_AFTER.0;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    retry_after = RETRY_AFTER.0;
                    // Also in a session that is still there: a broker killed while it stored may have lost its subscriptions.
                    if let Err(e) = self.client.try_subscribe_many(self.filters.clone()) {
                        self.stand(State::Down(e.to_string()));
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(answer))) => {
                    let refused = answer.return_codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
                    self.stand(match refused {
                        Some(code) => State::Down(format!("the broker refuses the subscription: {code:?}")),
                        None => State::Subscribed,
                    });
                }
                Ok(Event::Incoming(Packet::Publish(message))) => self.hear(message),
                Ok(Event::Incoming(Packet::Disconnect(goodbye))) => {
                    self.stand(State::Down(format!("the broker ended the connection: {:?}", goodbye.reason_code)));
                }
                Ok(_) => {}
                Err(e) => {
                    self.stand(State::Down(e.to_string()));
                    tokio::time::sleep(retry_after).await;
                    retry_after = RETRY_AFTER.1.min(retry_after * 2);
                }
            }
        }
    }

    fn stand(&self, state: State) {
        self.state.send_replace(state);
    }

    fn hear(&mut self, message: Publish) {
        // What was on the tape already comes again when its acknowledgement got lost with the connection.
        let again = |seen: &Publish| seen.pkid == message.pkid && seen.topic == message.topic && seen.payload == message.payload;
        if message.dup && self.seen.iter().any(again) {
            return;
        }
        let mut payload = String::from_utf8_lossy(&message.payload[..message.payload.len().min(PAYLOAD_MAX)]).into_owned();
        if message.payload.len() > PAYLOAD_MAX {
            payload.push_str(&format!("… ({} bytes)", message.payload.len()));
        }
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        let said = MqttMessage { topic, payload, qos: message.qos as u8, retained: message.retain };
        self.tape.say(Source::Mqtt, What::Message(said));
        if message.qos != QoS::AtMostOnce {
            if self.seen.len() == SEEN_MAX {
                self.seen.pop_front();
            }
            self.seen.push_back(message);
        }
    }
}
