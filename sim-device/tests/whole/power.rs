//! Power cuts at every write of a whole enrolment: the device comes up again each time, and ends where it was going.

use crate::fake::{Authority, broker, ca, honest};
use crate::twin::{Twin, parts};
use device_core::storage::Write;
use sim_device::{CutPoints, End, FileStore, MemoryQueue, MemoryStore, Queue, SqliteQueue, Store};
use std::sync::Arc;

#[tokio::test]
async fn every_write_survives_a_cut_before_it() {
    let authority = Arc::new(Authority::new("Good"));
    let issuer = authority.clone();
    let (address, _) = ca(authority.server("localhost", |_| {}), move |body| honest(&issuer, body)).await;
    let mut server = authority.server("localhost", |_| {});
    server.clients = Some(authority.root.der().clone());
    let port = broker(server).await.port().to_string();
    let url = format!("https://localhost:{}", address.port());
    let settings = [
        ("BACKEND_URL", url.as_str()),
        ("BACKEND_CA", &authority.pem()),
        ("MQTT_HOST", "localhost"),
        ("MQTT_PORT", &port),
        ("TELEMETRY_PERIOD_MS", "10"),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (write, nth) in [
        (Write::Credentials, 1),
        (Write::Key, 1),
        (Write::Certificate, 1),
        (Write::QueuePush, 1),
        (Write::QueuePop, 1),
        (Write::QueuePop, 3),
    ] {
        for durable in [false, true] {
            let at = directory.path().join(format!("{}-{nth}", write.name()));
            let memory: (Arc<dyn Store>, Arc<dyn Queue>) = (Arc::new(MemoryStore::default()), Arc::new(MemoryQueue::default()));
            let open = || -> (Arc<dyn Store>, Arc<dyn Queue>) {
                if !durable {
                    return memory.clone();
                }
                let store = FileStore::open(&at).unwrap();
                (Arc::new(store), Arc::new(SqliteQueue::open(at.join("queue.sqlite")).unwrap()))
            };
            let cuts = CutPoints::new();
            cuts.arm(write, nth);
            let mut made = parts(&settings);
            (made.store, made.queue) = open();
            made.cuts = cuts.clone();
            let mut twin = Twin::on(made);
            twin.hears("http: Listening").await;
            twin.told(&format!("time {}", crate::twin::TODAY)).await;
            let order = r#"provision {"ssid":"lab","password":"correct-horse","device_id":"d","provisioning_token":"t"}"#;
            twin.told(order).await;
            assert_eq!(twin.end().await, End::PowerCut { write, nth });

            let mut made = parts(&settings);
            (made.store, made.queue) = open();
            let stored = made.store.load();
            assert_eq!(stored.trouble, None, "{write:?}");
            assert_eq!(stored.stored.credentials.is_some(), write != Write::Credentials, "{write:?}");
            let key = stored.stored.identity.map(|i| i.key);
            assert_eq!(key.is_some(), !matches!(write, Write::Credentials | Write::Key), "{write:?}");
            let store = made.store.clone();
            let mut twin = Twin::on(made);
            // Before it is ready: a device that learns the date after its first try fails that and backs off.
            twin.told(&format!("time {}", crate::twin::TODAY)).await;
            twin.hears("Ready").await;
            if write == Write::Credentials {
                twin.told(order).await;
            }
            twin.hears("Connected to broker").await;
            twin.hears(" delivered").await;
            if let Some(key) = key {
                assert_eq!(store.load().stored.identity.unwrap().key, key, "{write:?}: the key was replaced");
            }
            twin.run.abort();
            let _ = twin.run.await;
        }
    }
}

#[tokio::test]
async fn the_console_arms_a_cut() {
    let mut twin = Twin::on(parts(&[]));
    twin.told("cut before settings 2").await;
    twin.hears("cut").await;
    for word in ["one", "two"] {
        twin.told(&format!("set MQTT_USER {word}")).await;
        twin.told("save").await;
        if word == "one" {
            twin.hears("Saved").await;
        }
    }
    assert_eq!(twin.end().await, End::PowerCut { write: Write::Settings, nth: 2 });
}
