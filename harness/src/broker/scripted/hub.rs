//! The honest part of the scripted broker: sessions, subscriptions, retained messages, what waits for whom.

use super::saying::End;
use super::wire::{Connect, Filter, Publish};
use crate::pattern::TopicFilter;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Messages that wait for one client; of more the oldest are dropped.
const WAITING_MAX: usize = 1000;
/// A client's packets remembered because nobody acknowledged them.
const OWED_MAX: usize = 64;

/// All that the broker knows.
#[derive(Debug, Default)]
pub(super) struct Hub {
    sessions: HashMap<String, Session>,
    retained: BTreeMap<String, Publish>,
}

/// One client's session.
#[derive(Debug, Default)]
struct Session {
    /// The connection that it has now; 0: none.
    connection: u32,
    /// Whether it outlives its connection.
    lasts: bool,
    subscriptions: Vec<Filter>,
    waiting: VecDeque<Publish>,
    in_flight: VecDeque<InFlight>,
    last_id: u16,
    owed: VecDeque<Owed>,
    /// What is published when its connection ends without a goodbye.
    will: Option<Publish>,
    /// Something waits, or the connection was taken over.
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct InFlight {
    message: Publish,
    /// The connection it was sent on.
    sent_on: u32,
}

/// A packet of the client that it has no acknowledgement for.
#[derive(Debug)]
struct Owed {
    id: u16,
    content: Vec<u8>,
    connection: u32,
}

/// Whether a client's packet was sent before, and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// On this connection.
    Live,
    /// On an earlier connection of this session.
    AfterReconnect,
}

impl Hub {
    /// Begins a connection of this client, in place of the one it may have; whether its session was there, and what wakes it.
    pub(super) fn attach(&mut self, connect: &Connect, connection: u32) -> (bool, Arc<Notify>) {
        let client = &connect.client_id;
        let old = self.sessions.get(client).map_or(0, |session| session.connection);
        if let Some(session) = self.sessions.get(client).filter(|_| old != 0) {
            session.wake.notify_one();
        }
        self.detach(client, old, End::Closed);
        if connect.clean {
            self.sessions.remove(client);
        }
        let present = self.sessions.contains_key(client);
        let session = self.sessions.entry(client.clone()).or_default();
        session.connection = connection;
        session.lasts = connect.expiry_s > 0;
        session.will.clone_from(&connect.will);
        session.wake = Arc::default();
        (present, session.wake.clone())
    }

    /// Whether the client is still on this connection.
    pub(super) fn is_on(&self, client: &str, connection: u32) -> bool {
        self.sessions.get(client).is_some_and(|session| session.connection == connection)
    }

    /// Ends a connection, unless the client has another by now.
    pub(super) fn detach(&mut self, client: &str, connection: u32, end: End) {
        let Some(session) = self.sessions.get_mut(client).filter(|session| connection != 0 && session.connection == connection)
        else {
            return;
        };
        session.connection = 0;
        let will = session.will.take().filter(|_| end != End::Left);
        if !session.lasts {
            self.sessions.remove(client);
        }
        if let Some(will) = will {
            self.publish(&will);
        }
    }

    /// Gives a message to everybody who wants it.
    pub(super) fn publish(&mut self, message: &Publish) {
        if message.retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained.insert(message.topic.clone(), message.clone());
        }
        for session in self.sessions.values_mut() {
            let wanted = session.subscriptions.iter().find(|filter| meets(&filter.path, &message.topic)).cloned();
            if let Some(filter) = wanted {
                session.give(message, &filter, message.retain && filter.as_published);
            }
        }
    }

    /// Subscribes; what is granted to each filter.
    pub(super) fn subscribe(&mut self, client: &str, filters: &[Filter]) -> Vec<u8> {
        let Some(session) = self.sessions.get_mut(client) else { return vec![0x80; filters.len()] };
        let mut codes = Vec::new();
        for filter in filters {
            if TopicFilter::try_from(filter.path.clone()).is_err() {
                codes.push(0x80);
                continue;
            }
            let known = session.subscriptions.iter().position(|known| known.path == filter.path);
            if let Some(at) = known {
                session.subscriptions.remove(at);
            }
            session.subscriptions.push(filter.clone());
            codes.push(filter.qos.min(1));
            if filter.retain_handling == 0 || (filter.retain_handling == 1 && known.is_none()) {
                for message in self.retained.values().filter(|message| meets(&filter.path, &message.topic)) {
                    session.give(message, filter, true);
                }
            }
        }
        codes
    }

    /// Forgets subscriptions.
    pub(super) fn unsubscribe(&mut self, client: &str, filters: &[String]) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.subscriptions.retain(|known| !filters.contains(&known.path));
        }
    }

    /// The next message for this client: first, with DUP, what an earlier connection was not answered for, then what waits, as long as no
    /// more than `at_once` are unanswered.
    pub(super) fn next(&mut self, client: &str, connection: u32, at_once: u16) -> Option<Publish> {
        let session = self.sessions.get_mut(client).filter(|session| session.connection == connection)?;
        if let Some(again) = session.in_flight.iter_mut().find(|sent| sent.sent_on != connection) {
            again.sent_on = connection;
            return Some(Publish { dup: true, ..again.message.clone() });
        }
        if session.waiting.front()?.id.is_some() && session.in_flight.len() >= usize::from(at_once) {
            return None;
        }
        let mut message = session.waiting.pop_front()?;
        if message.id.is_some() {
            // Never given out twice at a time: fewer than WAITING_MAX are in flight.
            session.last_id = session.last_id.checked_add(1).unwrap_or(1);
            message.id = Some(session.last_id);
            session.in_flight.push_back(InFlight { message: message.clone(), sent_on: connection });
        }
        Some(message)
    }

    /// Takes a client's PUBACK.
    pub(super) fn acknowledged(&mut self, client: &str, id: u16) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.in_flight.retain(|sent| sent.message.id != Some(id));
        }
    }

    /// Remembers a packet until it is acknowledged; whether it came before.
    pub(super) fn owe(&mut self, client: &str, id: u16, content: Vec<u8>, connection: u32) -> Option<Again> {
        let owed = &mut self.sessions.get_mut(client)?.owed;
        if let Some(known) = owed.iter_mut().find(|known| known.id == id && known.content == content) {
            let again = if known.connection == connection { Again::Live } else { Again::AfterReconnect };
            known.connection = connection;
            return Some(again);
        }
        if owed.len() == OWED_MAX {
            owed.pop_front();
        }
        owed.push_back(Owed { id, content, connection });
        None
    }

    /// The client got its acknowledgement.
    pub(super) fn settle(&mut self, client: &str, id: u16) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.owed.retain(|known| known.id != id);
        }
    }

    /// How many packets of this connection wait for an acknowledgement.
    pub(super) fn owed(&self, client: &str, connection: u32) -> usize {
        let session = self.sessions.get(client);
        session.map_or(0, |session| session.owed.iter().filter(|owed| owed.connection == connection).count())
    }
}

impl Session {
    fn give(&mut self, message: &Publish, filter: &Filter, retain: bool) {
        let id = message.id.filter(|_| filter.qos > 0);
        if self.connection == 0 && id.is_none() {
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Publish { id, dup: false, retain, ..message.clone() });
        self.wake.notify_one();
    }
}

fn meets(filter: &str, topic: &str) -> bool {
    TopicFilter::try_from(filter.to_owned()).is_ok_and(|filter| filter.matches(topic))
}
