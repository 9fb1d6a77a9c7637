//! The ledger against a model of impact.com's counting, in random worlds: replicas that charge at once, calls that arrive
//! late, replies that are lost, processes that die, other tools that spend, and clocks that jump.
//!
//! Never does one of our calls exceed our limit in any window that impact.com may count by, and after a window of quiet there
//! is room again. A failure prints its seed; `LEDGER_SEED=…` runs the same worlds again.

mod cases;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use impact_mirror::account::AccountName;
use impact_mirror::export::Bucket;
use impact_mirror::store::heard::{Ending, Heard, Paid, Report, hear};
use impact_mirror::store::quiet::{self, Quiet};
use impact_mirror::store::quota::{self, Charge, ChargeId, Charged, Purpose};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::{Connection, PgPool};

use crate::support::database::migrated;

/// Worlds in all.
const WORLDS: u32 = 280;
/// Worlds at a time.
const AT_ONCE: u32 = 4;
/// What impact.com grants, and what is ours of it.
const LIMITS: [(Bucket, u32); 2] = [(Bucket::ClickExport, 4), (Bucket::Requests, 16)];
const SHARE: f64 = 0.75;

/// How impact.com counts a day (impact-api §9, 14).
#[derive(Debug, Clone, Copy)]
enum Day {
    Rolling,
    MidnightOf(Tz),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered {
        with_headers: bool,
    },
    ReplyLost,
    /// The process dies between the charge and the call.
    NeverSent,
    /// The connection fails, and the charge is given back.
    Refunded,
    /// The process is frozen between the charge and the call, and charges anew when it wakes after so many seconds.
    Frozen(i64),
}

#[derive(Debug, Clone)]
enum Event {
    /// So many replicas want to call at the same moment; how each call ends, and how late it arrives.
    Call(Bucket, Vec<(Fate, i64)>),
    Pass(i64),
    Jump(i64),
    OthersCall(Bucket),
}

#[derive(Debug, Clone)]
struct Plot {
    day: Day,
    has_dates: bool,
    /// Whether a call is answered before all else.
    is_heard: bool,
    begins_after: i64,
    events: Vec<Event>,
    /// Whether headers go on to the end.
    ends_with_headers: bool,
}

fn plots() -> impl Strategy<Value = Plot> {
    let fate = prop_oneof![
        6 => any::<bool>().prop_map(|with_headers| Fate::Answered { with_headers }),
        2 => Just(Fate::ReplyLost),
        1 => Just(Fate::NeverSent),
        1 => Just(Fate::Refunded),
        1 => prop_oneof![60..90_i64, 3_600..3_700_i64, 86_390..86_470_i64].prop_map(Fate::Frozen),
    ];
    let bucket = prop_oneof![3 => Just(Bucket::ClickExport), 1 => Just(Bucket::Requests)];
    let span = prop_oneof![
        3 => 1..120_i64,
        1 => 120..3_700_i64,
        1 => 3_600..40_000_i64,
        2 => 3_600..3_670_i64,
        4 => 86_390..86_470_i64,
        2 => 86_400..90_200_i64,
    ];
    // The day of 25 hours begins 40 hours on.
    let begins_after = prop_oneof![2 => 0..90_000_i64, 1 => 144_000..144_100_i64];
    let jump = prop_oneof![60..7_200_i64, 80_000..300_000_i64];
    let event = prop_oneof![
        8 => (bucket.clone(), proptest::collection::vec((fate, 0..60_i64), 1..6)).prop_map(|(b, f)| Event::Call(b, f)),
        5 => span.prop_map(Event::Pass),
        2 => (jump, any::<bool>()).prop_map(|(by, back)| Event::Jump(if back { -by } else { by })),
        1 => bucket.prop_map(Event::OthersCall),
    ];
    let day = prop_oneof![
        2 => Just(Day::Rolling),
        1 => Just(Day::MidnightOf(Tz::UTC)),
        2 => Just(Day::MidnightOf(chrono_tz::America::New_York)),
    ];
    (day, any::<bool>(), any::<bool>(), begins_after, proptest::collection::vec(event, 4..40), any::<bool>()).prop_map(
        |(day, has_dates, is_heard, begins_after, events, ends_with_headers)| Plot {
            day,
            has_dates,
            is_heard,
            begins_after,
            events,
            ends_with_headers,
        },
    )
}

/// A call that is under way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    bucket: Bucket,
    charge: ChargeId,
    fate: Fate,
}

struct World {
    pool: PgPool,
    account: AccountName,
    day: Day,
    has_dates: bool,
    /// The true time, which is impact.com's.
    time: DateTime<Utc>,
    /// How far our clock is ahead of it.
    ahead: TimeDelta,
    /// By arrival.
    flights: BTreeMap<(DateTime<Utc>, i64), Flight>,
    ours: Vec<(Bucket, DateTime<Utc>)>,
    others: Vec<(Bucket, DateTime<Utc>)>,
    problem: Option<String>,
    /// What our process, which runs for as long as the world, knows by its own clock.
    quiet: Quiet,
    began: (Instant, DateTime<Utc>),
    /// Whether a charge waits for a later answer to date it, which by itself takes a window to end.
    has_lost: bool,
    was_set_back: bool,
}

impl World {
    async fn begin(pool: PgPool, plot: &Plot) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let account = AccountName::new(format!("w{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        sqlx::query(
            "insert into impact_mirror.account (name, persona, time_zone) values ($1, 'brand', 'America/New_York')",
        )
        .bind(account.as_str())
        .execute(&pool)
        .await
        .unwrap();
        for (bucket, limit) in LIMITS {
            sqlx::query(
                "insert into impact_mirror.bucket (account, bucket, \"limit\", window_length, share) \
                 values ($1, $2, $3, make_interval(hours => $4), $5)",
            )
            .bind(account.as_str())
            .bind(bucket.as_str())
            .bind(i32::try_from(our_limit(limit)).unwrap())
            .bind(i32::try_from(bucket.window().num_hours()).unwrap())
            .bind(SHARE)
            .execute(&pool)
            .await
            .unwrap();
        }
        // The day of 25 hours in New York is near: the 1st of November.
        let time = "2026-10-30T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(plot.begins_after);
        let mut world = Self {
            pool,
            account,
            day: plot.day,
            has_dates: plot.has_dates,
            time,
            ahead: TimeDelta::zero(),
            flights: BTreeMap::new(),
            ours: Vec::new(),
            others: Vec::new(),
            problem: None,
            quiet: Quiet::default(),
            began: (Instant::now(), time),
            has_lost: false,
            was_set_back: false,
        };
        if plot.is_heard {
            world.call(Bucket::Requests, &[(Fate::Answered { with_headers: false }, 0)]).await;
            world.pass(TimeDelta::seconds(5)).await;
        }
        world
    }

    fn now(&self) -> DateTime<Utc> {
        self.time + self.ahead
    }

    /// The clock that nobody sets.
    fn steady(&self) -> Instant {
        let (instant, time) = self.began;
        instant + (self.time - time).to_std().unwrap()
    }

    async fn happen(&mut self, event: &Event) {
        match event {
            Event::Call(bucket, fates) => self.call(*bucket, fates).await,
            Event::Pass(seconds) => self.pass(TimeDelta::seconds(*seconds)).await,
            // Without a date in answers there is only our clock to go by.
            Event::Jump(seconds) if self.has_dates => {
                self.ahead += TimeDelta::seconds(*seconds);
                self.was_set_back |= *seconds < 0;
            }
            Event::Jump(_) => {}
            Event::OthersCall(bucket) => {
                if self.left(*bucket) > 0 {
                    self.others.push((*bucket, self.time));
                }
            }
        }
    }

    /// Replicas charge at once, each by its own connection.
    async fn call(&mut self, bucket: Bucket, fates: &[(Fate, i64)]) {
        let charging = fates.iter().map(|_| charge(&self.pool, &self.account, bucket, self.now()));
        let charged = futures_util::future::join_all(charging).await;
        let mut asks = false;
        for ((fate, late), charged) in fates.iter().zip(charged) {
            match charged {
                Charged::Yes(charge) => {
                    if bucket == Bucket::Requests {
                        self.quiet.note(&self.account, charge, self.steady());
                    }
                    self.send(Flight { bucket, charge, fate: *fate }, *late).await;
                }
                Charged::No { clock_may_tell, .. } => asks |= clock_may_tell,
            }
        }
        if asks {
            let mut conn = self.pool.acquire().await.unwrap();
            let asked = quiet::ask_clock(&mut conn, &self.account, self.now(), Some(&self.quiet), || self.steady());
            if let Some(charge) = asked.await.unwrap() {
                let (fate, late) = fates[0];
                let flight = Flight { bucket: Bucket::Requests, charge, fate };
                self.send(flight, late).await;
            }
        }
    }

    async fn send(&mut self, flight: Flight, late: i64) {
        match flight.fate {
            Fate::NeverSent => self.has_lost = true,
            Fate::Refunded => {
                sqlx::query("delete from impact_mirror.charge where id = $1")
                    .bind(flight.charge.0)
                    .execute(&self.pool)
                    .await
                    .unwrap();
            }
            Fate::Frozen(seconds) => {
                self.flights.insert((self.time + TimeDelta::seconds(seconds), flight.charge.0), flight);
            }
            Fate::Answered { .. } | Fate::ReplyLost => {
                self.has_lost |= matches!(flight.fate, Fate::ReplyLost);
                self.flights.insert((self.time + TimeDelta::seconds(late), flight.charge.0), flight);
            }
        }
    }

    async fn pass(&mut self, by: TimeDelta) {
        let until = self.time + by;
        while let Some(((at, id), flight)) = self.flights.pop_first() {
            if at > until {
                self.flights.insert((at, id), flight);
                break;
            }
            self.time = self.time.max(at);
            self.arrive(flight).await;
        }
        self.time = until;
    }

    async fn arrive(&mut self, mut flight: Flight) {
        if matches!(flight.fate, Fate::Frozen(_)) {
            let mut conn = self.pool.acquire().await.unwrap();
            quota::release(&mut conn, &self.account, flight.charge).await.unwrap();
            drop(conn);
            match charge(&self.pool, &self.account, flight.bucket, self.now()).await {
                Charged::Yes(charge) => {
                    flight = Flight { charge, fate: Fate::Answered { with_headers: true }, ..flight }
                }
                Charged::No { .. } => return,
            }
        }
        let is_throttled = self.left(flight.bucket) == 0;
        if !is_throttled {
            self.ours.push((flight.bucket, self.time));
        }
        let used = count(&self.ours, flight.bucket, self.day, self.time);
        let limit = our_limit(limit_of(flight.bucket));
        if used > limit {
            let problem = format!("call {used} of {limit} to {} at {}", flight.bucket, self.time);
            self.problem = Some(format!("{problem}; {}", self.how_it_stands(flight.bucket).await));
        }
        let Fate::Answered { with_headers } = flight.fate else { return };
        let mut conn = self.pool.acquire().await.unwrap();
        let report = (with_headers && !is_throttled).then(|| Report {
            limit: limit_of(flight.bucket),
            remaining: self.left(flight.bucket),
            reset_after: None,
            is_of_requests: flight.bucket == Bucket::Requests,
        });
        let heard = Heard {
            paid: Paid::Charge(&self.account, flight.charge),
            date: self.has_dates.then_some(self.time),
            report,
            is_nonsense: false,
            ending: if is_throttled {
                Ending::Throttled { bucket: flight.bucket, or: None, reset_after: None }
            } else {
                Ending::Good
            },
        };
        hear(&mut conn, &heard, Some(self.now())).await.unwrap();
    }

    /// What a failure is understood by: when calls truly arrived, and what the ledger says of them.
    async fn how_it_stands(&self, bucket: Bucket) -> String {
        let ours: Vec<_> = self.ours.iter().filter(|(of, _)| *of == bucket).map(|(_, at)| at.to_string()).collect();
        let ledger: String = sqlx::query_scalar(
            "select jsonb_pretty(jsonb_build_object(
                 'account', (select to_jsonb(a) from impact_mirror.account a where a.name = $1),
                 'bucket', (select to_jsonb(b) from impact_mirror.bucket b where b.account = $1 and b.bucket = $2),
                 'charges', (select jsonb_agg(to_jsonb(c) order by c.id) from impact_mirror.charge c
                             where c.account = $1 and c.bucket = $2)))",
        )
        .bind(self.account.as_str())
        .bind(bucket.as_str())
        .fetch_one(&self.pool)
        .await
        .unwrap();
        format!("our clock is at {}, calls arrived at {}; ledger: {ledger}", self.now(), ours.join(", "))
    }

    /// What impact.com has left of a bucket, for all who use the account.
    fn left(&self, bucket: Bucket) -> u32 {
        let used = count(&self.ours, bucket, self.day, self.time) + count(&self.others, bucket, self.day, self.time);
        limit_of(bucket).saturating_sub(used)
    }

    /// Whether a call goes through after quiet, with a few tries as a worker makes them, and after more quiet all that the
    /// bucket allows.
    async fn has_room_again(&mut self, with_headers: bool) -> bool {
        // Charges that a clock set back left in the future count anew from the next call on; only when they are over by ours
        // is impact.com's clock read, which dates those whose answer was lost.
        let windows = 1 + u32::from(self.has_lost) + u32::from(self.was_set_back);
        for _ in 0..windows {
            self.pass(TimeDelta::hours(26)).await;
            if self.gets_through(3, with_headers).await {
                self.pass(TimeDelta::hours(26)).await;
                if !self.gets_through(3, with_headers).await {
                    return false;
                }
                for _ in 1..our_limit(limit_of(Bucket::ClickExport)) {
                    if !self.gets_through(1, with_headers).await {
                        return false;
                    }
                }
                return true;
            }
        }
        false
    }

    /// Whether an answered call goes through within so many tries.
    async fn gets_through(&mut self, tries: u32, with_headers: bool) -> bool {
        for _ in 0..tries {
            self.call(Bucket::ClickExport, &[(Fate::Answered { with_headers }, 0)]).await;
            let is_through = self.flights.values().any(|flight| flight.bucket == Bucket::ClickExport);
            self.pass(TimeDelta::seconds(1)).await;
            if is_through {
                return true;
            }
            self.pass(TimeDelta::minutes(6)).await;
        }
        false
    }
}

async fn charge(pool: &PgPool, account: &AccountName, bucket: Bucket, now: DateTime<Utc>) -> Charged {
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let charge = Charge { account, bucket, call: "test", job: None, purpose: Purpose::Call };
    let charged = quota::charge(&mut tx, charge, Some(now)).await.unwrap();
    tx.commit().await.unwrap();
    charged
}

fn limit_of(bucket: Bucket) -> u32 {
    LIMITS.iter().find(|(known, _)| *known == bucket).unwrap().1
}

fn our_limit(limit: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a small count")]
    let ours = (f64::from(limit) * SHARE).floor() as u32;
    ours
}

/// The calls of the window that `at` lies in, by impact.com's way to count.
fn count(calls: &[(Bucket, DateTime<Utc>)], bucket: Bucket, day: Day, at: DateTime<Utc>) -> u32 {
    let is_counted = |call: &DateTime<Utc>| match day {
        Day::MidnightOf(zone) if bucket != Bucket::Requests => {
            call.with_timezone(&zone).date_naive() == at.with_timezone(&zone).date_naive()
        }
        Day::Rolling | Day::MidnightOf(_) => *call > at - bucket.window(),
    };
    let counted = calls.iter().filter(|(of, call)| *of == bucket && is_counted(call)).count();
    u32::try_from(counted).unwrap()
}

async fn live(pool: PgPool, plot: Plot) -> Result<(), TestCaseError> {
    let mut world = World::begin(pool, &plot).await;
    for event in &plot.events {
        world.happen(event).await;
        prop_assert!(world.problem.is_none(), "{}", world.problem.unwrap());
    }
    prop_assert!(world.has_room_again(plot.ends_with_headers).await, "shut after a window of quiet");
    prop_assert!(world.problem.is_none(), "{}", world.problem.unwrap());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_one_call_over_the_limit_whatever_happens() {
    let database = migrated().await;
    let seed: u64 = std::env::var("LEDGER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    eprintln!("LEDGER_SEED={seed}");
    let runtime = tokio::runtime::Handle::current();
    let runs: Vec<_> = (0..AT_ONCE)
        .map(|part| {
            let (pool, runtime) = (database.pool().clone(), runtime.clone());
            tokio::task::spawn_blocking(move || {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                bytes[8..12].copy_from_slice(&part.to_le_bytes());
                let config = Config {
                    cases: WORLDS / AT_ONCE,
                    failure_persistence: None,
                    max_shrink_iters: 300,
                    ..Config::default()
                };
                TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
                    .run(&plots(), |plot| runtime.block_on(live(pool.clone(), plot)))
                    .unwrap_or_else(|failure| panic!("LEDGER_SEED={seed}: {failure}"));
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
}
