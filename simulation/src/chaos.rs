//! Crashes and outages, one after another, at times that the seed decides.

use std::sync::Arc;
use std::time::Duration;

use crate::programs::Programs;
use crate::world::{World, locked};

/// The time in which they happen, milliseconds.
const WITHIN_MS: u32 = 8000;

/// Makes them happen; then everything runs again, and nothing goes wrong any more.
pub async fn rage(world: &Arc<World>, programs: &Programs) {
    let mut times: Vec<u32> = (0..world.faults().chaos).map(|_| world.seeded().within(0, WITHIN_MS)).collect();
    times.sort_unstable();
    let mut now_ms = 0;
    for at_ms in times {
        tokio::time::sleep(Duration::from_millis(u64::from(at_ms - now_ms))).await;
        now_ms = at_ms;
        strike(world, programs);
        let starts = world.seeded().per_mille(600);
        if starts {
            programs.replace_stopped();
            programs.start_all();
        }
    }
    tokio::time::sleep(Duration::from_millis(u64::from(WITHIN_MS - now_ms))).await;
    mend(world);
    world.calm_down();
    // Those that were told to stop and have not ended give up by themselves; a new start is like a crash to them.
    (0..programs.count()).for_each(|number| {
        if world.seeded().per_mille(300) {
            programs.crash(number);
        }
    });
    programs.replace_stopped();
    programs.start_all();
}

fn strike(world: &Arc<World>, programs: &Programs) {
    let number = world.seeded().index(programs.count());
    let kind = world.seeded().within(0, 12);
    match kind {
        0..=3 => programs.crash(number),
        4 => programs.stop(number),
        5 => programs.lose_links(),
        6..=7 => {
            world.note(|| "consumers lose their connections".to_owned());
            locked(&world.broker).close_some(&mut world.seeded());
            world.delivered.notify_waiters();
        }
        8 => outage(world, "cassandra is down", |world| locked(&world.cassandra).down = true),
        9 => outage(world, "postgres is down", |world| locked(&world.postgres).down = true),
        10 => outage(world, "the queues are full", |world| locked(&world.broker).full = true),
        11 => outage(world, "the queues are gone", |world| locked(&world.broker).unroutable = true),
        _ => (1..programs.count()).for_each(|number| programs.crash(number)),
    }
}

/// Something is away for a while.
fn outage(world: &Arc<World>, what: &'static str, begin: fn(&World)) {
    world.note(|| what.to_owned());
    begin(world);
    let world = Arc::clone(world);
    tokio::spawn(async move {
        let pause = world.seeded().millis(20, 3000);
        tokio::time::sleep(pause).await;
        mend(&world);
    });
}

/// All services are there again.
fn mend(world: &World) {
    world.note(|| "services are there".to_owned());
    locked(&world.cassandra).down = false;
    locked(&world.postgres).down = false;
    let mut broker = locked(&world.broker);
    broker.full = false;
    broker.unroutable = false;
}
