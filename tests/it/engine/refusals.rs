//! 401, 403, 404 and 429: what stops, what goes on, and in whose words.

use impact_mirror::account::AccountName;
use impact_mirror::app::SyncEnd;
use impact_mirror::sandbox::{Fault, FaultKind, Point};
use impact_mirror::store::account;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago};

fn agency_listing() -> String {
    format!(
        "[exports.listing]\naccounts = [\"agency\"]\nreport = \"agency_action_listing\"\nsince = \"{}\"\n\
         key = [\"ActionId\"]\ndate_column = \"ActionDate\"\n",
        days_ago(2)
    )
}

#[tokio::test]
async fn a_refused_credential_pauses_its_account_and_no_other() {
    let world = World::new().await;
    let mut settings = world.settings(&(actions(2) + &clicks(2) + &agency_listing()));
    let brand = AccountName::new("brand");
    let right = settings.accounts[&brand].auth_token.clone();
    settings.accounts.get_mut(&brand).unwrap().auth_token = "wrong".into();
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!(world.value("select string_agg(distinct export, ',') from impact_mirror.load").await, "listing");
    let calls = world.calls("unauthorised");
    assert!(calls <= 2, "no hammering: {calls} calls");
    let said = "select paused_kind || ': ' || paused_reason from impact_mirror.account where name = 'brand'";
    let words = world.value(said).await;
    assert!(words.starts_with("credentials: ") && words.contains("Authentication failed"), "{words}");

    // It is tried once at the next start, with the cheapest call.
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!(world.calls("unauthorised"), calls + 1);

    settings.accounts.get_mut(&brand).unwrap().auth_token = right;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.value(said.replace("paused_kind || ': ' || paused_reason", "paused_since::text")).await, "NULL");
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn a_resumed_account_goes_on_without_a_new_start() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    world.inject(Point::Submit, FaultKind::Http401);
    let engine = world.start(&settings).await;
    engine.keep_going();
    world
        .eventually("select (paused_since is not null)::text from impact_mirror.account where name = 'brand'", "true")
        .await;
    let mut conn = world.pool().acquire().await.unwrap();
    assert!(account::resume(&mut conn, &AccountName::new("brand")).await.unwrap());
    impact_mirror::store::wake::notify(&mut conn).await.unwrap();
    drop(conn);
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_mirrored(&world, &settings).await;
    assert_eq!(world.orders(), 2, "the refused one and the one that was taken");
}

#[tokio::test]
async fn a_missing_scope_pauses_that_export_on_that_account() {
    let world = World::new().await;
    let only_actions = world.settings(&actions(2));
    world.inject(Point::Submit, FaultKind::Http403);
    assert_eq!(world.sync(&only_actions).await.end, SyncEnd::Failed);
    let said = "select paused_reason from impact_mirror.export_account where export = 'actions'";
    assert!(world.value(said).await.contains("Access Denied"));
    assert_eq!(world.orders(), 1, "no hammering");
    assert_eq!(world.count_jobs("failed").await, 0, "the job waits");

    // Others go on; at a start the paused one is tried again.
    let settings = world.settings(&(actions(2) + &clicks(2)));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn a_forbidden_look_at_a_job_is_no_reason_to_hammer_or_to_order_again() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    world.sandbox.inject(Fault { times: 100, ..Fault::next(Point::Poll, FaultKind::Http403) });
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!((world.orders(), world.calls("poll")), (1, 1), "{:#?}", world.jobs().await);
}

#[tokio::test]
async fn an_unknown_report_fails_at_once_in_the_words_of_impact_com() {
    let world = World::new().await;
    for (name, account) in [("none_of_a_brand", "brand"), ("none_of_an_agency", "agency")] {
        let export =
            format!("[exports.{name}]\naccounts = [\"{account}\"]\nreport = \"{name}\"\nsince = \"{}\"\n", days_ago(1));
        assert_eq!(world.sync(&world.settings(&export)).await.end, SyncEnd::Failed);
        let job = world.jobs().await.pop().unwrap();
        assert!(job.contains("failed permanent") && job.contains("Not permitted to run report none_of"), "{job}");
        assert_eq!(world.cell_states(name).await, ["failed"]);
    }
    assert_eq!(world.orders(), 2);
}

#[tokio::test]
async fn a_throttled_bucket_sleeps_until_its_reset_while_others_go_on() {
    let world = World::new().await;
    let settings = world.settings(&(actions(2) + &clicks(1)));
    // Actions are more urgent than clicks.
    world.inject(Point::Submit, FaultKind::Throttle429);
    let report = world.sync(&settings).await;
    let closed = "select bucket from impact_mirror.bucket where closed_until is not null and account = 'brand'";
    let loaded = world.value("select count(*)::text from impact_mirror.load").await;
    match report.end {
        SyncEnd::WaitsForQuota => {
            assert_eq!(world.query(closed).await.len(), 1, "one bucket alone is closed");
            assert_eq!(loaded, "1", "the other bucket's order went on");
        }
        SyncEnd::Done => assert_eq!(loaded, "2", "it opened before the sync was over"),
        end => panic!("{end:?}: {:#?}", world.jobs().await),
    }
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await; // the reset that impact.com gave
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.throttled(), world.count_jobs("loaded").await), (1, 2));
}

#[tokio::test]
async fn a_throttled_call_of_any_kind_is_made_again_after_the_reset() {
    for point in [Point::Poll, Point::Download, Point::Storage] {
        let world = World::new().await;
        let settings = world.settings(&actions(2));
        world.inject(point, FaultKind::Throttle429);
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{point:?}");
        assert_mirrored(&world, &settings).await;
        assert_eq!(world.throttled(), 1, "{point:?}: the bucket slept");
    }
}

#[tokio::test]
async fn being_throttled_again_and_again_never_fails_a_job() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    world.sandbox.inject(Fault { times: 15, ..Fault::next(Point::Poll, FaultKind::Throttle429) });
    let engine = world.start(&settings).await;
    let (pool, wakes) = (world.pool().clone(), std::sync::Arc::clone(&engine.context().wakes));
    let open = async {
        loop {
            // In the engine's order, which takes the account first.
            let statement = "select from impact_mirror.account for no key update; \
                             update impact_mirror.bucket set closed_until = now(), throttles = 0 where closed_until > now(); \
                             update impact_mirror.job set run_at = now() where finished_at is null and lease_token is null";
            sqlx::raw_sql(statement).execute(&pool).await.unwrap();
            wakes.all();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let report = tokio::select! {
        report = world.finish(engine) => report,
        () = open => unreachable!("it goes on for ever"),
    };
    assert_eq!(report.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_eq!(world.throttled(), 15);
}
