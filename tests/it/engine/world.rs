//! A sandbox whose clock stands still, a database, and a configuration read by the real loader.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::{Days, NaiveDate, TimeDelta, Utc};
use impact_mirror::app::{self, Database, Engine, Patience, Scope, SyncReport};
use impact_mirror::clock::day_in;
use impact_mirror::config::{self, Environment, Settings};
use impact_mirror::export::{ExportName, Window};
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point, Sandbox};
use impact_mirror::store::coverage::{self, NewRequest};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::cluster;
use crate::support::database::{TestDatabase, database};
use crate::support::state_dir::StateDir;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The day so many days ago, where the sandbox's accounts live.
pub fn days_ago(days: u64) -> NaiveDate {
    day_in(chrono_tz::America::New_York, Utc::now()) - Days::new(days)
}

/// Little data, fast jobs and a clock that stands still until it is pushed.
pub fn options() -> Options {
    Options {
        clock_speed: 0.0,
        job_duration: Duration::from_millis(20),
        actions_per_day: 5,
        clicks_per_day: 6,
        ..Options::default()
    }
}

/// The brand's actions of program 1000, from so many days ago on.
pub fn actions(since_days_ago: u64) -> String {
    format!(
        "[exports.actions]\naccounts = [\"brand\"]\nreport = \"adv_action_listing_pm_only\"\nsince = \"{}\"\n",
        days_ago(since_days_ago)
    )
}

/// The brand's clicks of program 1000, from so many days ago up to yesterday.
pub fn clicks(since_days_ago: u64) -> String {
    format!("[exports.clicks]\naccounts = [\"brand\"]\nclicks = true\nsince = \"{}\"\n", days_ago(since_days_ago))
}

/// All that one test needs.
pub struct World {
    pub sandbox: Sandbox,
    mirror: Database,
    url: String,
    state: StateDir,
    _database: TestDatabase,
}

impl World {
    pub async fn new() -> Self {
        Self::with(options()).await
    }

    pub async fn with(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let (database, state) = (database().await, StateDir::new());
        let url = database.url().to_owned();
        let settings = settings(&sandbox, &url, state.path(), &actions(0));
        let mirror = Database::open(&settings, Patience::COMMAND).await.unwrap().unwrap();
        Self { sandbox, mirror, url, state, _database: database }
    }

    pub fn pool(&self) -> &PgPool {
        self.mirror.pool()
    }

    pub fn database(&self) -> &Database {
        &self.mirror
    }

    /// The address of its database.
    pub fn database_url(&self) -> &str {
        &self.url
    }

    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// The settings with these exports; all three accounts are there, the brand with program 1000 alone.
    pub fn settings(&self, exports: &str) -> Settings {
        settings(&self.sandbox, &self.url, self.state.path(), exports)
    }

    pub async fn start(&self, settings: &Settings) -> Engine {
        Engine::start(settings.clone(), &self.mirror, Scope::All).await.unwrap()
    }

    pub async fn try_start(&self, settings: &Settings) -> anyhow::Result<Engine> {
        Engine::start(settings.clone(), &self.mirror, Scope::All).await
    }

    /// Brings the views for analysts up to date, as a running daemon does from time to time.
    pub async fn keep_views(&self) {
        let mut conn = self.pool().acquire().await.unwrap();
        impact_mirror::mirror::views::keep(&mut conn, "impact", &BTreeMap::new()).await.unwrap();
    }

    /// `sync`, to its end.
    pub async fn sync(&self, settings: &Settings) -> SyncReport {
        let engine = self.start(settings).await;
        self.finish(engine).await
    }

    /// `sync` with an engine that was started before.
    pub async fn finish(&self, engine: Engine) -> SyncReport {
        let syncing = app::sync(engine, &self.mirror, CancellationToken::new(), |_| {});
        let Ok(report) = tokio::time::timeout(PATIENCE, syncing).await else {
            panic!("the sync does not end; its jobs:\n{}", self.jobs().await.join("\n"));
        };
        report.unwrap()
    }

    /// `sync` where every pause of a job is cut short.
    pub async fn sync_in_a_hurry(&self, settings: &Settings) -> SyncReport {
        let engine = self.start(settings).await;
        let (pool, wakes) = (self.pool().clone(), std::sync::Arc::clone(&engine.context().wakes));
        let hurry = async {
            loop {
                let statement = "update impact_mirror.job set run_at = now() where finished_at is null \
                                 and lease_token is null and run_at > now()";
                sqlx::raw_sql(statement).execute(&pool).await.unwrap();
                wakes.all();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            report = self.finish(engine) => report,
            () = hurry => unreachable!("it goes on for ever"),
        }
    }

    /// Asks for days to be read again, loaded or not.
    pub async fn request_refresh(&self, export: &str, from: NaiveDate, to: NaiveDate) {
        let mut conn = self.pool().acquire().await.unwrap();
        let name = ExportName::new(export);
        let window = Window::new(from, to).unwrap();
        coverage::request(&mut conn, &NewRequest { export: &name, window, rereads: true }).await.unwrap();
    }

    /// Asks for all days of all exports to be read again.
    pub async fn request_refresh_of_all(&self, settings: &Settings) {
        for (name, export) in &settings.exports {
            let last = u64::from(!export.include_today);
            self.request_refresh(name.as_str(), export.since, days_ago(last)).await;
        }
    }

    /// Lets days pass at impact.com, so that its data restates itself.
    pub fn pass_days(&self, days: i64) {
        self.sandbox.advance(TimeDelta::days(days));
    }

    /// Lets time pass at impact.com, and for our ledger too: all that it remembers is so much older.
    // The account before its charges, as the engine takes its locks.
    pub async fn pass_quota_time(&self, by: TimeDelta) {
        self.sandbox.advance(by);
        let by = format!("interval '{} seconds'", by.num_seconds());
        self.execute(&format!(
            "update impact_mirror.account set ticked_at = ticked_at - {by}, clock_asked_at = clock_asked_at - {by}, \
                 doubted_at = doubted_at - {by}; \
             update impact_mirror.charge set at = at - {by}; \
             update impact_mirror.bucket set seen_at = seen_at - {by}, seen_resets_at = seen_resets_at - {by}, \
                 closed_until = closed_until - {by}"
        ))
        .await;
    }

    pub fn inject(&self, on: Point, kind: FaultKind) {
        self.sandbox.inject(Fault::next(on, kind));
    }

    /// How many calls of a kind impact.com answered, or at least carried out.
    pub fn calls(&self, kind: &str) -> usize {
        self.sandbox.calls().iter().filter(|call| call.kind == kind).count()
    }

    /// How many calls were refused for want of quota.
    pub fn throttled(&self) -> usize {
        self.sandbox.calls().iter().filter(|call| call.status == Some(429)).count()
    }

    /// The orders that impact.com took, submissions and replays.
    pub fn orders(&self) -> usize {
        let is_order = |kind: &str| matches!(kind, "submit_report" | "submit_clicks" | "replay");
        let calls = self.sandbox.calls();
        calls.iter().filter(|call| is_order(call.kind) && call.status != Some(429)).count()
    }

    /// The rows of a query of one text column.
    pub async fn query(&self, statement: impl AsRef<str>) -> Vec<String> {
        let rows: Vec<Option<String>> =
            sqlx::query_scalar(AssertSqlSafe(statement.as_ref())).fetch_all(self.pool()).await.unwrap();
        rows.into_iter().map(|row| row.unwrap_or_else(|| "NULL".to_owned())).collect()
    }

    /// The one value of a query, as text.
    pub async fn value(&self, statement: impl AsRef<str>) -> String {
        let mut rows = self.query(statement).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    /// Waits until a query has this one value.
    pub async fn eventually(&self, statement: &str, expected: &str) {
        let looking = async {
            while self.query(statement).await != [expected] {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        let jobs = self.jobs().await.join("\n");
        assert!(found.is_ok(), "{statement} is never {expected}; the jobs:\n{jobs}");
    }

    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(self.pool()).await.unwrap();
    }

    /// All jobs, oldest first: export, account, days, reason, state and error.
    pub async fn jobs(&self) -> Vec<String> {
        self.query(
            "select concat_ws(' ', export, account, from_day, to_day, reason, state, error_kind, error_message) \
             from impact_mirror.job order by id",
        )
        .await
    }

    /// How many jobs stand in a state.
    pub async fn count_jobs(&self, state: &str) -> usize {
        let statement = format!("select count(*)::text from impact_mirror.job where state = '{state}'");
        self.value(statement).await.parse().unwrap()
    }

    /// The states of an export's cells, without repeats.
    pub async fn cell_states(&self, export: &str) -> Vec<String> {
        self.query(format!("select distinct state from impact_mirror.coverage where export = '{export}' order by 1"))
            .await
    }
}

fn settings(sandbox: &Sandbox, database_url: &str, state_dir: &Path, exports: &str) -> Settings {
    let account = |name: &str, rest: &str| {
        let capital = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        format!(
            "[accounts.{name}]\npersona = \"{name}\"\naccount_sid = \"IRsandbox{capital}0001\"\n\
             auth_token = {{ env = \"{}\" }}\nbase_url = \"{}\"\ntime_zone = \"America/New_York\"\n{rest}\n",
            name.to_uppercase(),
            sandbox.base_url(),
        )
    };
    let text = format!(
        "state_dir = \"{}\"\n[database]\nurl = \"{database_url}\"\n{}\
         [workers]\npoll_min = \"50ms\"\npoll_max = \"200ms\"\nlease = \"2s\"\nload = 1\npoll = 2\n{}{}{}{exports}",
        state_dir.display(),
        cluster::setting(),
        account("brand", "programs = [1000]"),
        account("partner", ""),
        account("agency", ""),
    );
    let tokens = ["BRAND", "PARTNER", "AGENCY"].map(|name| (name, format!("sandbox-{}-token", name.to_lowercase())));
    config::check(&text, Path::new("mirror.toml"), &Environment::from(tokens))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}
