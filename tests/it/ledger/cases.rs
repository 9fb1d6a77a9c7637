//! Worlds of the ledger that are worth a test of their own.

use chrono::TimeDelta;
use impact_mirror::export::Bucket;
use impact_mirror::store::quota::Charged;
use sqlx::PgPool;

use super::{Day, Fate, Plot, World, charge, limit_of, our_limit};
use crate::support::database::migrated;

/// A world without events in which nothing was heard yet.
async fn young_world(pool: &PgPool) -> World {
    young_world_of(pool, Day::Rolling, 0).await
}

async fn young_world_of(pool: &PgPool, day: Day, begins_after: i64) -> World {
    let plot =
        Plot { day, has_dates: true, is_heard: false, begins_after, events: Vec::new(), ends_with_headers: false };
    World::begin(pool.clone(), &plot).await
}

/// How many of so many calls at once are let through; they are answered.
async fn sent(world: &mut World, calls: usize) -> usize {
    let clicks = |world: &World| world.ours.iter().filter(|(bucket, _)| *bucket == Bucket::ClickExport).count();
    let before = clicks(world);
    world.call(Bucket::ClickExport, &vec![ANSWERED; calls]).await;
    world.pass(TimeDelta::seconds(1)).await;
    clicks(world) - before
}

const LOST: (Fate, i64) = (Fate::ReplyLost, 0);
const ANSWERED: (Fate, i64) = (Fate::Answered { with_headers: false }, 0);

#[tokio::test]
async fn a_clock_set_forward_before_the_first_date_is_found_out_by_it() {
    let database = migrated().await;
    let mut world = young_world(database.pool()).await;
    world.call(Bucket::ClickExport, &[LOST, LOST]).await;
    world.pass(TimeDelta::seconds(1)).await;
    world.ahead += TimeDelta::hours(30);
    // By our clock the two are long over. The first answer tells that they are not.
    assert_eq!(sent(&mut world, 1).await, 1);
    assert_eq!(sent(&mut world, 3).await, 0, "all three of our share are used");
    assert_eq!(world.problem, None);
    assert!(world.has_room_again(false).await);
}

#[tokio::test]
async fn a_clock_set_forward_before_the_first_answer_frees_nothing() {
    let database = migrated().await;
    let mut world = young_world(database.pool()).await;
    world.call(Bucket::ClickExport, &[LOST; 3]).await;
    world.pass(TimeDelta::seconds(1)).await;
    world.ahead += TimeDelta::hours(30);
    assert_eq!(sent(&mut world, 1).await, 0, "impact.com's clock is read first");
    assert_eq!(sent(&mut world, 1).await, 0, "which tells that a second has passed");
    assert_eq!(world.problem, None);
    assert!(world.has_room_again(false).await);
}

#[tokio::test]
async fn a_clock_set_back_before_the_first_answer_shuts_a_bucket_for_two_windows_at_most() {
    let database = migrated().await;
    let mut world = young_world(database.pool()).await;
    world.call(Bucket::ClickExport, &[LOST; 3]).await;
    world.pass(TimeDelta::seconds(1)).await;
    world.ahead -= TimeDelta::days(10);
    world.call(Bucket::ClickExport, &[ANSWERED]).await; // finds the charges in the future, and no room
    assert!(world.flights.is_empty());
    world.pass(TimeDelta::hours(25)).await;
    // Ten days later by the calendar, one by the clock. impact.com's is read for the first time, and all that is known of the
    // lost calls is that they came before.
    assert!(!world.gets_through(1, false).await);
    world.pass(TimeDelta::hours(25)).await;
    assert!(world.gets_through(2, false).await);
    assert_eq!(world.problem, None);
}

/// A clock that is set again and again is no measure of how long ago a call was lost. On the day of 25 hours.
#[tokio::test]
async fn a_lost_call_is_put_no_earlier_by_a_clock_that_jumps() {
    let database = migrated().await;
    let midnight = Day::MidnightOf(chrono_tz::America::New_York);
    let mut world = young_world_of(database.pool(), midnight, 144_034).await;
    for late in [10, 20, 30, 40] {
        world.call(Bucket::Requests, &[(Fate::Answered { with_headers: false }, late)]).await;
    }
    world.call(Bucket::ClickExport, &[LOST; 3]).await;
    for _ in 0..4 {
        world.pass(TimeDelta::seconds(10)).await;
        world.ahead += TimeDelta::minutes(6);
    }
    world.call(Bucket::Requests, &[ANSWERED]).await; // dates the lost ones
    world.pass(TimeDelta::hours(24)).await;
    world.ahead += TimeDelta::hours(3);
    assert_eq!(sent(&mut world, 1).await, 0, "impact.com's clock is read");
    assert_eq!(sent(&mut world, 1).await, 0, "where it is still the day of the three");
    assert_eq!(world.problem, None);
    assert!(world.has_room_again(false).await);
}

/// Where every request of the hour is charged, none is risked because our clock says that the hour is over.
#[tokio::test]
async fn impact_coms_clock_is_read_beyond_the_limit_only_when_the_hour_is_truly_over() {
    let database = migrated().await;
    let mut world = young_world(database.pool()).await;
    let limit = usize::try_from(our_limit(limit_of(Bucket::Requests))).unwrap();
    world.call(Bucket::Requests, &[ANSWERED]).await;
    world.pass(TimeDelta::seconds(1)).await;
    world.call(Bucket::Requests, &vec![ANSWERED; limit]).await; // but one, which is kept back for the clock
    for _ in 0..3 {
        world.ahead += TimeDelta::hours(2);
        world.call(Bucket::Requests, &[ANSWERED]).await;
    }
    world.pass(TimeDelta::minutes(10)).await;
    assert_eq!(world.problem, None);
    let made = |world: &World| world.ours.len();
    assert_eq!(made(&world), limit);
    world.call(Bucket::Requests, &[ANSWERED]).await;
    world.pass(TimeDelta::minutes(55)).await;
    assert_eq!(made(&world), limit, "nothing goes out");
    world.call(Bucket::Requests, &[ANSWERED]).await;
    world.pass(TimeDelta::seconds(1)).await;
    assert_eq!(made(&world), limit + 1, "the clock is read");
    world.call(Bucket::Requests, &[ANSWERED]).await;
    world.pass(TimeDelta::seconds(1)).await;
    assert_eq!(made(&world), limit + 2);
    assert_eq!(world.problem, None);
}

/// What headers said holds until its time is over, and no longer than until a later answer says nothing.
#[tokio::test]
async fn a_report_of_little_left_is_dropped_after_its_reset() {
    let database = migrated().await;
    let mut world = young_world(database.pool()).await;
    world.others.extend([(Bucket::ClickExport, world.time - TimeDelta::hours(23)); 3]);
    world.call(Bucket::ClickExport, &[(Fate::Answered { with_headers: true }, 0)]).await;
    world.pass(TimeDelta::seconds(1)).await;
    assert_eq!(sent(&mut world, 3).await, 0, "three of theirs, one of ours: nothing is left");
    world.pass(TimeDelta::hours(2)).await;
    // Theirs are over. One asks, and as its answer has no headers, the report is gone.
    assert_eq!(sent(&mut world, 3).await, 1);
    assert_eq!(sent(&mut world, 3).await, 1, "of our three");
    world.pass(TimeDelta::hours(25)).await;
    assert!(world.gets_through(3, false).await, "impact.com's clock was read");
    assert_eq!(sent(&mut world, 5).await, 2, "the whole of our share");
    assert_eq!(world.problem, None);
}

/// While one replica charges, the next one waits, and then sees what the first has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_charge_at_once_share_what_is_left() {
    let database = migrated().await;
    for _ in 0..20 {
        let world = young_world(database.pool()).await;
        let (account, now) = (world.account.clone(), world.now());
        let charging: Vec<_> = (0..6)
            .map(|_| {
                let (pool, account) = (database.pool().clone(), account.clone());
                tokio::spawn(async move { charge(&pool, &account, Bucket::ClickExport, now).await })
            })
            .collect();
        let mut paid = 0;
        for one in charging {
            paid += u32::from(matches!(one.await.unwrap(), Charged::Yes(_)));
        }
        assert_eq!(paid, our_limit(limit_of(Bucket::ClickExport)));
    }
}
