//! What reaches the ledger: every answer of impact.com and no other, every 429, and charges that grew old.

use std::time::Duration;

use chrono::TimeDelta;
use impact_mirror::account::AccountName;
use impact_mirror::app::{self, SyncEnd};
use impact_mirror::config::Programs;
use impact_mirror::export::Bucket;
use impact_mirror::sandbox::{Fault, FaultKind, Point};
use impact_mirror::store;
use impact_mirror::store::heard::{Ending, Heard, Paid};
use impact_mirror::store::quota::ChargeId;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago, options};
use crate::support::daemon::{Scene, still};

/// The accounts and buckets that are closed.
const CLOSED: &str = "select account || ' ' || bucket from impact_mirror.bucket where closed_until > now() order by 1";

/// What the call was that the headers of a bucket were last heard with.
const REPORTED: &str = "select c.call from impact_mirror.bucket b join impact_mirror.charge c on c.id = b.seen_charge_id \
                        where b.account = 'brand' and b.bucket = 'requests'";

/// When calls reached impact.com, whose clock stands still. One whose own answer was not heard is dated later, by that of
/// another call.
fn dated(call: &str) -> String {
    format!("select distinct remote_at::text from impact_mirror.charge where call = '{call}'")
}

#[tokio::test]
async fn a_429_closes_the_hourly_bucket_whatever_it_was_for() {
    // What `check` asks first: CompanyInformation.
    let world = World::new().await;
    let mut settings = world.settings(&actions(2));
    settings.accounts.retain(|name, _| name.as_str() == "brand");
    world.inject(Point::Any, FaultKind::Throttle429);
    app::check::check(&settings).await;
    assert_eq!((world.query(CLOSED).await, world.throttled()), (vec!["brand requests".to_owned()], 1));

    // The list of programs, at a start.
    let world = World::new().await;
    let mut settings = world.settings(&actions(2));
    settings.accounts.values_mut().for_each(|account| account.programs = Programs::All);
    world.inject(Point::Any, FaultKind::Throttle429);
    let engine = world.start(&settings).await;
    assert_eq!((world.query(CLOSED).await, world.throttled()), (vec!["brand requests".to_owned()], 1));
    engine.stop(Duration::from_secs(5)).await;

    // The look at a paused account, at a start.
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    world.sync(&settings).await;
    world
        .execute(
            "update impact_mirror.account set paused_since = now(), paused_kind = 'credentials', paused_reason = 'x' \
             where name = 'brand'",
        )
        .await;
    world.inject(Point::Any, FaultKind::Throttle429);
    let engine = world.start(&settings).await;
    assert_eq!((world.query(CLOSED).await, world.throttled()), (vec!["brand requests".to_owned()], 1));
    engine.stop(Duration::from_secs(5)).await;
}

/// A Replay is an order, and one of the hourly requests besides.
#[tokio::test]
async fn a_429_to_a_replay_closes_the_bucket_it_is_about_or_both_where_nobody_knows() {
    let by_program = "[exports.performance]\naccounts = [\"partner\"]\nreport = \"mp_action_listing_fast\"\n";
    let partner = format!("{by_program}since = \"{}\"\n", days_ago(2));
    for (export, headers, closed) in [
        (actions(2), "hourly", ["brand report_export", "brand requests"].as_slice()),
        (partner.clone(), "hourly", &["partner requests"]),
        (partner, "none", &["partner report_export", "partner requests"]),
    ] {
        let world = World::new().await;
        let settings = world.settings(&export);
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        for setting in ["header_lies=reset_past", "retry_after=never"] {
            world.sandbox.set_behaviour(setting).unwrap(); // an hour and five minutes then
        }
        world.sandbox.set_behaviour(&format!("quota_headers={headers}")).unwrap();
        world.request_refresh_of_all(&settings).await;
        world.inject(Point::Replay, FaultKind::Throttle429);
        assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
        assert_eq!(world.query(CLOSED).await, closed, "{headers}");
        assert_eq!((world.calls("replay"), world.throttled()), (1, 1));
    }
}

#[tokio::test]
async fn a_reset_is_believed_for_as_long_as_the_bucket_counts() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let mut conn = world.pool().acquire().await.unwrap();
    let now = store::coverage::database_now(&mut conn).await.unwrap();
    let account = AccountName::new("brand");
    let charge = world.value("select max(id)::text from impact_mirror.charge").await.parse().unwrap();
    let reset_after = Some(Duration::from_secs(2_000_000));
    for (bucket, hours) in [(Bucket::Requests, 1), (Bucket::ReportExport, 24)] {
        let heard = Heard {
            paid: Paid::Charge(&account, ChargeId(charge)),
            date: None,
            report: None,
            is_nonsense: false,
            ending: Ending::Throttled { bucket, or: None, reset_after },
        };
        let told = store::heard::hear(&mut conn, &heard, Some(now)).await.unwrap();
        assert_eq!(told.closed, [(bucket, now + TimeDelta::hours(hours))]);
    }
}

#[tokio::test]
async fn a_download_corrects_the_ledger() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    // The table is there now, so that nothing is asked after the download.
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.value(REPORTED).await, "download");

    // impact.com answers well, storage does not.
    world.request_refresh_of_all(&settings).await;
    world.sandbox.inject(Fault { times: 2, ..Fault::next(Point::Storage, FaultKind::Http500) });
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.query(dated("download")).await.len(), 1, "each by its own answer");
    assert_eq!(world.value(REPORTED).await, "download");
}

#[tokio::test]
async fn every_page_of_a_list_corrects_the_ledger() {
    let mut options = options();
    options.behaviours.set("job_list=pages_of_two").unwrap();
    options.job_duration = Duration::from_secs(2);
    let world = World::with(options).await;
    let settings = world.settings(&(actions(2) + &clicks(4)));
    world.inject(Point::Submit, FaultKind::ReplyLost);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    let lists = world.calls("list");
    assert!(lists > 1);
    assert_eq!(world.query(dated("jobs")).await.len(), 1, "each by its own answer");
    assert_mirrored(&world, &settings).await;
}

/// The hourly requests are spent at the moment in which a Replay is about to go out.
#[tokio::test]
async fn a_refused_replay_waits_until_it_can_be_asked_whether_the_job_runs() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    world
        .execute(
            "create function spend() returns trigger language plpgsql as $$ begin
                 update impact_mirror.bucket set closed_until = now() + interval '1 hour'
                 where account = new.account and bucket = 'requests';
                 return null;
             end $$;
             create trigger spend after update on impact_mirror.job for each row
                 when (new.state = 'submitting' and old.remote_job_id is null and new.remote_job_id is not null)
                 execute function spend()",
        )
        .await;
    world.request_refresh_of_all(&settings).await;
    world.inject(Point::Replay, FaultKind::Http403);
    let engine = world.start(&settings).await;
    engine.keep_going();
    world
        .eventually("select state from impact_mirror.job where error_message like '%cannot be looked at%'", "planned")
        .await;
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (1, 1));
    world.execute("drop trigger spend on impact_mirror.job").await;
    world
        .execute(
            "update impact_mirror.bucket set closed_until = null; \
             update impact_mirror.job set run_at = now() where state = 'planned'",
        )
        .await;
    engine.context().wakes.all();
    world.eventually("select count(*)::text from impact_mirror.load", "2").await;
    engine.stop(Duration::from_secs(5)).await;
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (1, 2), "nothing was submitted anew");
}

#[tokio::test]
async fn an_order_that_takes_long_to_go_out_is_charged_anew() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    world.request_refresh_of_all(&settings).await;
    // A Replay reads its job first.
    world.inject(Point::Poll, FaultKind::Stall(5.2));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let ages = "select bool_and(c.at - e.at > interval '5 seconds')::text || ' ' || count(*) \
                from impact_mirror.charge c \
                join impact_mirror.job_event e on e.job_id = c.job_id and e.to_state = 'submitting' \
                where c.call = 'replay'";
    assert_eq!(world.value(ages).await, "true 2", "the day's charge and the hour's");
    let dated = "select bool_and(c.ordered_at = j.submitted_at)::text from impact_mirror.charge c \
                 join impact_mirror.job j on j.id = c.job_id where c.call = 'replay'";
    assert_eq!(world.value(dated).await, "true");
    assert_eq!((world.calls("replay"), world.throttled()), (1, 0));
}

#[tokio::test]
async fn an_order_is_charged_anew_only_under_its_lease_and_while_there_is_room() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    let engine = world.start(&settings).await;
    let worker = engine.context().worker.clone();
    engine.stop(Duration::ZERO).await;
    world.request_refresh_of_all(&settings).await;
    app::planner(world.pool(), &settings, app::Scope::All).pass().await.unwrap();
    let mut conn = world.pool().acquire().await.unwrap();
    let now = store::coverage::database_now(&mut conn).await.unwrap();
    let job = store::claim::order(&mut conn, &worker, now).await.unwrap().unwrap();
    let charge = "select string_agg(concat_ws(' ', c.bucket, c.cost, c.ordered_at = j.submitted_at), ', ') \
                  from impact_mirror.charge c join impact_mirror.job j on j.id = c.job_id";
    let first = world.value("select max(id)::text from impact_mirror.charge").await;

    let later = now + TimeDelta::seconds(70);
    let renewed = store::order::renew(&mut conn, &job, later).await.unwrap().unwrap();
    assert_eq!(renewed.submitted_at, Some(later));
    assert_eq!(world.value(charge).await, "report_export 1 t");
    let second = world.value("select max(id)::text from impact_mirror.charge").await;
    assert_ne!(first, second, "a later charge, for it is a later call");

    world.execute("update impact_mirror.bucket set closed_until = now() + interval '1 hour'").await;
    assert!(store::order::renew(&mut conn, &renewed, later).await.unwrap().is_none());
    assert_eq!(world.value(charge).await, "report_export 1 t", "nothing was changed");

    world.execute("update impact_mirror.bucket set closed_until = null").await;
    world.execute("update impact_mirror.job set lease_token = gen_random_uuid() where state = 'submitting'").await;
    let lost = store::order::renew(&mut conn, &renewed, later).await.unwrap_err();
    assert!(lost.is_lease_lost());
    assert_eq!(world.value("select max(id)::text from impact_mirror.charge").await, second);
}

#[tokio::test]
async fn a_429_with_a_page_for_a_body_is_a_429() {
    for (point, body) in
        [(Point::Submit, "html"), (Point::Poll, "html"), (Point::Download, "html"), (Point::Submit, "empty")]
    {
        let mut options = options();
        options.behaviours.set(&format!("failure_body={body}")).unwrap();
        let world = World::with(options).await;
        let settings = world.settings(&actions(2));
        world.inject(point, FaultKind::Throttle429);
        // On a slow machine the bucket may open while the first one ends, so that its last job goes on.
        let first = world.sync(&settings).await.end;
        assert!(matches!(first, SyncEnd::Done | SyncEnd::WaitsForQuota), "{point:?} {body}: {first:?}");
        let told = "select count(*)::text from impact_mirror.job_event where note like '%impact.com throttles%'";
        assert_eq!(world.value(told).await, "1", "{point:?} {body}");
        world.eventually("select count(*)::text from impact_mirror.bucket where closed_until > now()", "0").await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{point:?} {body}");
        assert_mirrored(&world, &settings).await;
        assert_eq!((world.throttled(), world.count_jobs("failed").await), (1, 0), "{point:?} {body}");
    }
}

/// The reset of a 429 that lies years away, or long ago, is none: a daily bucket then sleeps an hour.
#[tokio::test]
async fn a_429_whose_reset_is_nonsense_closes_its_bucket_for_an_hour() {
    for lie in ["reset_past", "reset_2099"] {
        let mut options = options();
        options.behaviours.set(&format!("header_lies={lie}")).unwrap();
        let world = World::with(options).await;
        let settings = world.settings(&(actions(2) + &clicks(1)));
        world.inject(Point::Submit, FaultKind::Throttle429);
        assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota, "{lie}");
        let closed = "select (closed_until - now() between interval '50 minutes' and interval '1 hour')::text \
                      from impact_mirror.bucket where closed_until is not null";
        assert_eq!(world.query(closed).await, ["true"], "{lie}: one bucket alone");
        assert_eq!(world.value("select count(*)::text from impact_mirror.load").await, "1", "{lie}: the other goes on");
    }
}

#[tokio::test]
async fn what_is_wrong_with_answers_is_said_once() {
    for lie in ["negative", "contradiction", "reset_2099"] {
        let scene = Scene::new(still(Duration::from_millis(40))).await;
        scene.sandbox.set_behaviour(&format!("header_lies={lie}")).unwrap();
        scene.inject(Point::Download, FaultKind::Throttle429);
        let daemon = scene.run();
        daemon.until_says("impact.com throttles").await;
        // With such headers nobody knows until when: an hourly bucket sleeps five minutes.
        let minutes = async {
            loop {
                for statement in [
                    "select from impact_mirror.account for no key update; \
                     update impact_mirror.bucket set closed_until = now() where closed_until > now()",
                    "update impact_mirror.job set run_at = now() where finished_at is null and lease_token is null",
                    "select pg_notify('impact_mirror_wake', '')",
                ] {
                    scene.execute(statement).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _ = scene.until_mirrored() => {}
            () = minutes => unreachable!("it goes on for ever"),
        }
        scene.assert_mirrored().await;
        let log = daemon.log();
        let said = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        assert!(scene.calls(&["submit_report", "poll", "download"]) > 3);
        assert_eq!((said("make no sense"), said("the bucket sleeps")), (1, 1), "{lie}:\n{log}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_is_told_of_once() {
    let scene = Scene::new(still(Duration::from_millis(40))).await;
    let daemon = scene.run();
    scene.until_mirrored().await;
    scene.execute("update impact_mirror.charge set at = at + interval '3 hours'").await;
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    daemon.until_says("clock was set back").await;
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    let log = daemon.log();
    assert_eq!(log.lines().filter(|line| line.contains("clock was set back")).count(), 1, "{log}");
}
