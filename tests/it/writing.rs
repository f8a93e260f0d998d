//! What becomes of frames in the writer.

use anyhow::{Result, ensure};
use domain::PaymentEvent;
use domain::frame::{Frame, Record};
use domain::providers::{self, Delivery, Item, Source};
use domain::quarantine::Quarantined;
use http::HeaderMap;
use it::{Running, event_body, eventually, own_config, services_up};
use uuid::Uuid;

use crate::support::{World, ready};

/// The record of one of Tollgate's own events, as the gateway makes it.
pub fn record(id: &str, kind: &str, payment: &str, order: Option<&str>, amount: i64, transaction: &str) -> Vec<u8> {
    let body = event_body(kind, payment, order, amount, transaction);
    let headers = HeaderMap::from_iter([("webhook-id".parse().unwrap(), id.parse().unwrap())]);
    let source = Source { name: "shop".into(), region: "eu".into(), ..Source::default() };
    let delivery = Delivery { headers: &headers, body: &body };
    let now_ms = platform::clock::now_ms();
    match (providers::find("tollgate").unwrap().normalise)(&delivery, &source, now_ms).remove(0) {
        Item::Event(event) => Record::event(&event).to_vec(),
        other => panic!("{other:?}"),
    }
}

/// An event without a region, which is a part of its key.
fn nowhere() -> Vec<u8> {
    let good = record("nowhere", "payment.captured", "p", Some("A"), 1999, "c");
    let Record::Event(event) = Record::decode(&good).unwrap() else { panic!("not an event") };
    Record::event(&PaymentEvent { region: "".into(), ..event }).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_stored_and_handed_on_and_a_poisoned_record_goes_alone() -> Result<()> {
    let _services = services_up().await;
    let config = own_config("writer", "")?;
    let running = Running::writer(config.clone());
    ready(config.writer.internal_listen).await?;
    let world = World::new(config).await?;

    let good: Vec<Vec<u8>> =
        (0..50).map(|i| record(&format!("m{i}"), "payment.captured", &format!("p{i}"), Some("A"), 1999, "c")).collect();
    let mut poison = good[0].clone();
    poison[5 + 48] = 200;
    let nowhere = nowhere();
    let quarantined = Quarantined {
        source: "shop".into(),
        region: "eu".into(),
        provider: "tollgate".into(),
        reason: "unknown payment type".into(),
        received_at_ms: 1,
        body: b"{\"what\":1}".into(),
        headers: vec![("webhook-id".into(), "m1".into())],
    };
    let quarantined = Record::quarantined(&quarantined);
    let mut records: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    records.insert(7, &poison);
    records.insert(20, &quarantined);
    records.insert(30, &nowhere);
    // Twice, as after a crash: the same rows.
    world.publish("write.0", &records).await?;
    world.publish("write.0", &records).await?;
    world.publish_bytes("write.0", b"not a frame at all").await?;

    eventually("stored and handed on", async || {
        ensure!(world.depth("reconcile.0").await? >= 1 && world.depth("write.0").await? == 0);
        let dead: Vec<(String, Vec<u8>)> = world.rows("SELECT reason, record FROM {ks}.dead_letters").await?;
        ensure!(dead.len() == 3, "dead letters: {dead:?}");
        Ok(())
    })
    .await?;
    let events: Vec<(Uuid, String, String)> =
        world.rows("SELECT event_id, order_ref, currency FROM {ks}.payment_events").await?;
    assert_eq!(events.len(), 50);
    let dead: Vec<(Vec<u8>,)> = world.rows("SELECT record FROM {ks}.dead_letters").await?;
    assert!(dead.contains(&(poison.clone(),)) && dead.contains(&(b"not a frame at all".to_vec(),)));
    let bodies: Vec<(Vec<u8>,)> = world.rows("SELECT body FROM {ks}.quarantine").await?;
    assert_eq!(bodies, [(b"{\"what\":1}".to_vec(),)]);
    running.stop().await?;

    let mut forwarded: Vec<Vec<u8>> = Vec::new();
    for frame in world.take("reconcile.0").await? {
        forwarded.extend(Frame::parse(&frame)?.records().map(<[u8]>::to_vec));
    }
    forwarded.sort();
    forwarded.dedup();
    let mut expected = good;
    expected.sort();
    assert_eq!(forwarded, expected);
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layout_of_a_day_is_pinned_by_its_first_write() -> Result<()> {
    let _services = services_up().await;
    let mut config = own_config("pinned", "")?;
    let world = World::new(config.clone()).await?;
    for (lanes, id) in [(8, "m1"), (3, "m2")] {
        config.cassandra.lanes = lanes;
        let running = Running::writer(config.clone());
        ready(config.writer.internal_listen).await?;
        let record = record(id, "payment.captured", id, Some("A"), 1, "c");
        world.publish("write.0", &[&record]).await?;
        eventually("stored", async || {
            let rows: Vec<(String,)> = world.rows("SELECT provider_event_id FROM {ks}.payment_events").await?;
            ensure!(rows.contains(&(id.to_owned(),)), "{rows:?}");
            Ok(())
        })
        .await?;
        running.stop().await?;
    }
    let days: Vec<(i32,)> = world.rows("SELECT lanes FROM {ks}.days").await?;
    assert!(days.iter().all(|(lanes,)| *lanes == 8), "{days:?}");
    world.clean().await
}
