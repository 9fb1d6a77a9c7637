//! Two processes claim, write, hand back and lose one job in any order: only who holds the lease can write, every move is
//! one of the table, and every order is charged once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::export::{Bucket, ExportName, ExportRequest, Program, Reason, ResultFormat, Source, Window};
use impact_mirror::job::{Job, JobState};
use impact_mirror::plan::Wanted;
use impact_mirror::retry::ErrorKind;
use impact_mirror::store::claim::{self, Turns};
use impact_mirror::store::job::{self, Step, Worker};
use impact_mirror::store::transition::{self, Move, TryAgain};
use impact_mirror::store::{self, load};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::support::database::migrated;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A process looks for work.
    Claim(usize),
    /// A process writes what its step came to, whether or not it still holds the job.
    Write(usize, Outcome),
    /// Time passes until the lease has run out.
    LeaseRunsOut,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Forward,
    BackToPlanned,
    TryAgain,
    HandBack,
    Heartbeat,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Forward),
        1 => Just(Outcome::BackToPlanned),
        1 => Just(Outcome::TryAgain),
        1 => Just(Outcome::HandBack),
        1 => Just(Outcome::Heartbeat),
    ];
    let event = prop_oneof![
        4 => (0..2_usize).prop_map(Event::Claim),
        4 => (0..2_usize, outcome).prop_map(|(who, outcome)| Event::Write(who, outcome)),
        2 => Just(Event::LeaseRunsOut),
    ];
    proptest::collection::vec(event, 1..40)
}

/// The job as the database has it.
struct Stored {
    state: JobState,
    lease: Option<Uuid>,
    is_free: bool,
}

async fn read(conn: &mut PgConnection) -> Stored {
    let row = sqlx::query(
        "select state, lease_token, lease_expires_at is null or lease_expires_at <= now() as is_free
         from impact_mirror.job",
    )
    .fetch_one(conn)
    .await
    .unwrap();
    Stored { state: row.get("state"), lease: row.get("lease_token"), is_free: row.get("is_free") }
}

/// One job, planned, and two processes that remember what they claimed last.
struct World {
    workers: [Worker; 2],
    claimed: [Option<Job>; 2],
    orders: i64,
}

impl World {
    async fn begin(conn: &mut PgConnection) -> Self {
        sqlx::raw_sql(
            "truncate impact_mirror.account, impact_mirror.export cascade;
             insert into impact_mirror.account (name, persona, time_zone) values ('acme', 'brand', 'UTC');
             insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
                 values ('clicks', 'click_export', 'clicks', '1 day', '[]');
             insert into impact_mirror.export_account (export, account) values ('clicks', 'acme');
             insert into impact_mirror.bucket (account, bucket, \"limit\", window_length)
                 values ('acme', 'click_export', 1000, '1 day')",
        )
        .execute(&mut *conn)
        .await
        .unwrap();
        job::insert_planned(conn, &[wanted()], "planner").await.unwrap();
        let worker = |name: &str| Worker {
            holder: name.to_owned(),
            lease: Duration::from_mins(10),
            accounts: vec!["acme".to_owned()],
            exports: vec!["clicks".to_owned()],
            followed: vec!["clicks".to_owned()],
            turns: Turns::default(),
        };
        Self { workers: [worker("first"), worker("second")], claimed: [None, None], orders: 0 }
    }

    async fn happen(&mut self, conn: &mut PgConnection, event: Event) {
        let before = read(conn).await;
        match event {
            Event::Claim(who) => self.claim(conn, who, &before).await,
            Event::Write(who, outcome) => self.write(conn, who, outcome, &before).await,
            Event::LeaseRunsOut => {
                let lapse = "update impact_mirror.job set lease_expires_at = now() where lease_token is not null";
                sqlx::query(lapse).execute(&mut *conn).await.unwrap();
            }
        }
        let after = read(conn).await;
        let is_claimed_as_ready = before.state == JobState::Ready && after.state == JobState::Loading;
        assert!(
            before.state == after.state || after.state.sources().contains(&before.state) || is_claimed_as_ready,
            "{} to {}",
            before.state,
            after.state
        );
        let charges: i64 =
            sqlx::query_scalar("select count(*) from impact_mirror.charge").fetch_one(conn).await.unwrap();
        assert_eq!(charges, self.orders);
    }

    async fn claim(&mut self, conn: &mut PgConnection, who: usize, before: &Stored) {
        let worker = &self.workers[who];
        let mut claimed = claim::order(conn, worker, Utc::now()).await.unwrap();
        self.orders += i64::from(claimed.is_some());
        for step in [Step::Recover, Step::Poll, Step::Load] {
            if claimed.is_none() {
                claimed = job::claim(conn, step, worker).await.unwrap();
            }
        }
        assert_eq!(claimed.is_some(), before.is_free && !before.state.is_final(), "{}", before.state);
        if let Some(job) = claimed {
            assert_eq!(read(conn).await.lease, Some(job.lease));
            self.claimed[who] = Some(job);
        }
    }

    async fn write(&mut self, conn: &mut PgConnection, who: usize, outcome: Outcome, before: &Stored) {
        let Some(job) = &self.claimed[who] else { return };
        let written = write(conn, job, outcome, &self.workers[who].holder).await;
        let holds = before.lease == Some(job.lease);
        match written {
            Ok(()) => assert!(holds, "{outcome:?} was written without the lease"),
            Err(store::Error::LeaseLost { .. }) => {
                assert!(!holds, "{outcome:?} was refused although the lease is held");
                let after = read(conn).await;
                assert_eq!((after.state, after.lease), (before.state, before.lease), "a refused write leaves no trace");
            }
            Err(other) => panic!("{}", impact_mirror::error_chain::Chain(&other)),
        }
    }
}

async fn write(conn: &mut PgConnection, job: &Job, outcome: Outcome, holder: &str) -> Result<(), store::Error> {
    let now = Utc::now() - Duration::from_secs(1);
    match outcome {
        Outcome::Forward => forward(conn, job, now, holder).await,
        Outcome::BackToPlanned if job.state != JobState::Waiting => {
            let back = Move::Planned { order: None, run_at: now, kind: None, why: "a test".to_owned() };
            transition::advance(conn, job, back, holder).await
        }
        Outcome::BackToPlanned | Outcome::TryAgain => {
            let again = TryAgain { run_at: now, kind: ErrorKind::Transient, message: "a test".to_owned() };
            transition::try_again(conn, job, again, holder).await
        }
        Outcome::HandBack => {
            transition::hand_back(conn, job, holder).await?;
            // An order is looked for a moment later.
            sqlx::query("update impact_mirror.job set run_at = now()").execute(conn).await.unwrap();
            Ok(())
        }
        Outcome::Heartbeat => {
            // Renewing nothing is no error: the step finds out when it writes.
            let renewed = transition::heartbeat(conn, &[job.lease], Duration::from_mins(10)).await?;
            assert!(renewed.len() <= 1);
            keep(conn, job).await
        }
    }
}

/// A write in the middle of a step.
async fn keep(conn: &mut PgConnection, job: &Job) -> Result<(), store::Error> {
    let polled =
        transition::Polled { remote_status: "RUNNING".to_owned(), remote_percent: None, records_processed: None };
    transition::keep_poll(conn, job, &polled).await
}

async fn forward(conn: &mut PgConnection, job: &Job, now: DateTime<Utc>, holder: &str) -> Result<(), store::Error> {
    let mut tx = conn.begin().await.unwrap();
    let step = match job.state {
        JobState::Submitting => Move::Waiting {
            remote_job_id: "remote".to_owned(),
            submitted_remote_at: None,
            adopted: false,
            as_of: None,
            run_at: now,
            note: "",
        },
        JobState::Waiting => Move::Ready { as_of: now, completed_at: None },
        JobState::Loading => {
            load::enter(&mut tx, job).await?;
            let file = load::File { sha256: [0; 32], bytes: 0, target_hash: Uuid::nil(), started_at: now };
            Move::Loaded { load_id: load::insert(&mut tx, job, &file).await? }
        }
        other => panic!("nobody claims a job as {other}"),
    };
    transition::advance(&mut tx, job, step, holder).await?;
    tx.commit().await.unwrap();
    Ok(())
}

fn wanted() -> Wanted {
    let window = Window::day("2026-05-01".parse().unwrap());
    let program = Program::new("1000");
    Wanted {
        export: ExportName::new("clicks"),
        account: AccountName::new("acme"),
        window,
        reason: Reason::Fresh,
        priority: 0,
        bucket: Bucket::ClickExport,
        request: ExportRequest {
            source: Source::Clicks,
            program,
            window,
            params: [].into(),
            format: ResultFormat::Csv,
        },
        replay_of: None,
        cost: 1,
        wanted_after: Utc::now(),
        expected_at: None,
        because: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_who_holds_the_lease_can_write_whatever_happens() {
    let database = migrated().await;
    let conn = Mutex::new(database.pool().acquire().await.unwrap().detach());
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(&events(), |events| {
                runtime.block_on(async {
                    let mut conn = conn.lock().await;
                    let mut world = World::begin(&mut conn).await;
                    for event in events {
                        world.happen(&mut conn, event).await;
                    }
                });
                Ok(())
            })
            .unwrap();
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}
