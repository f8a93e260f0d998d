//! Raw cost of the queue: frames published to an own quorum queue, confirmed, consumed and acknowledged.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use platform::amqp;
use platform::config::Config;

use super::{LimitsError, Step, client_and};
use crate::cpu::Place;

const FRAME_RECORDS: u16 = 100;
const RECORD_BYTES: usize = 400;
const IN_FLIGHT: usize = 4;

pub async fn measure(config: &Config, name: &str, length: Duration) -> Result<Step, LimitsError> {
    let publishing = amqp::connect(&config.rabbitmq, "tollgate loadtest: publish").await?;
    let consuming = amqp::connect(&config.rabbitmq, "tollgate loadtest: consume").await?;
    let channel = publishing.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(config.rabbitmq.group_size.into()));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    let meter = client_and("rabbitmq", Place::rabbitmq(config));
    let outcome = transfer(&channel, &consuming, name, length).await;
    let frames = *outcome.as_ref().unwrap_or(&0);
    let step = Step::of("queued: frames of 100, quorum queue, confirmed", 2, frames * u64::from(FRAME_RECORDS), meter);
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    publishing.close(200, "done".into()).await?;
    consuming.close(200, "done".into()).await?;
    outcome?;
    Ok(step)
}

/// Publishes for `length` and consumes what was published; returns the number of frames.
async fn transfer(channel: &Channel, consuming: &Connection, name: &str, length: Duration) -> lapin::Result<u64> {
    let receiving = consuming.create_channel().await?;
    receiving.basic_qos(64, BasicQosOptions::default()).await?;
    let mut consumer = receiving
        .basic_consume(name.into(), name.into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    let frame = vec![b'x'; usize::from(FRAME_RECORDS) * RECORD_BYTES];
    let publish = || async {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        channel.basic_publish("".into(), name.into(), options, &frame, properties).await?.await
    };
    let end = Instant::now() + length;
    let (mut published, mut consumed) = (0, 0);
    let mut confirms: FuturesUnordered<_> = (0..IN_FLIGHT).map(|_| publish()).collect();
    while !confirms.is_empty() || consumed < published {
        tokio::select! {
            Some(confirmed) = confirms.next() => {
                confirmed?;
                published += 1;
                if Instant::now() < end {
                    confirms.push(publish());
                }
            }
            Some(delivery) = consumer.next() => {
                delivery?.ack(BasicAckOptions::default()).await?;
                consumed += 1;
            }
            else => break,
        }
    }
    Ok(published)
}
