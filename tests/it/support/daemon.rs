//! The real program as a process of its own, against a sandbox in this process and a test database: started, signalled,
//! killed and watched through what it writes into the database.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate, Utc};
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point, Sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, PgPool};

use super::cluster;
use super::database::{TestDatabase, database};
use super::state_dir::StateDir;

/// The SID of the sandbox's brand.
pub const BRAND: &str = "IRsandboxBrand0001";
/// How long a claim of these daemons lasts without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(15);

/// An export of the program 1000; both are one window, and so one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// The three days before today, with a key.
    Actions,
    /// Yesterday, without a key and with exact duplicates.
    Clicks,
}

impl Mirrored {
    /// The name of the export and of its table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Actions => "actions",
            Self::Clicks => "clicks",
        }
    }

    /// What the sandbox calls it.
    pub fn report(self) -> &'static str {
        match self {
            Self::Actions => "adv_action_listing_pm_only",
            Self::Clicks => "clicks",
        }
    }

    fn first_day(self) -> NaiveDate {
        let days = match self {
            Self::Actions => 3,
            Self::Clicks => 1,
        };
        Utc::now().with_timezone(&chrono_tz::America::New_York).date_naive() - Days::new(days)
    }

    fn section(self, schedule: &str) -> String {
        let source = match self {
            Self::Actions => "report = \"adv_action_listing_pm_only\"",
            Self::Clicks => "clicks = true",
        };
        format!(
            "[exports.{}]\naccounts = [\"acme\"]\n{source}\nschedule = \"{schedule}\"\nsince = \"{}\"\ninclude_today = false\n\n",
            self.name(),
            self.first_day(),
        )
    }
}

/// A sandbox whose clock stands still, so that its truth does too, with jobs that take so long.
pub fn still(job_duration: Duration) -> Options {
    Options { clock_speed: 0.0, job_duration, ..Options::default() }
}

/// What a configuration says besides where things are.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// The exports.
    pub exports: &'a [Mirrored],
    /// Their schedule. At their first start they are due whatever it says.
    pub schedule: &'a str,
    /// Further lines of the account's section.
    pub account: &'a str,
    /// The programs of the account.
    pub programs: &'a str,
}

impl Default for Wishes<'_> {
    fn default() -> Self {
        Self {
            exports: &[Mirrored::Actions, Mirrored::Clicks],
            schedule: "0 0 0 1 1 *",
            account: "",
            programs: "[1000]",
        }
    }
}

/// A sandbox, a database and a configuration that names both.
pub struct Scene {
    pub sandbox: Sandbox,
    pub exports: Vec<Mirrored>,
    pub dir: StateDir,
    /// Further variables of the environment of its processes.
    pub env: Vec<(&'static str, String)>,
    pub database: Option<TestDatabase>,
    pub pool: PgPool,
}

impl Scene {
    /// Both exports, in an empty database.
    pub async fn new(options: Options) -> Self {
        Self::with(options, Wishes::default()).await
    }

    /// As wished, in an empty database.
    pub async fn with(options: Options, wishes: Wishes<'_>) -> Self {
        let database = database().await;
        let mut scene = Self::on(options, wishes, database.url(), database.pool().clone()).await;
        scene.database = Some(database);
        scene
    }

    /// As wished, in whatever `database.url` is to be; the pool is for looking.
    pub async fn on(options: Options, wishes: Wishes<'_>, database_url: &str, pool: PgPool) -> Self {
        let scene = Self {
            sandbox: Sandbox::start(options).await.unwrap(),
            exports: wishes.exports.to_vec(),
            dir: StateDir::new(),
            env: Vec::new(),
            database: None,
            pool,
        };
        let mut text = format!(
            "state_dir = \"{}\"\n\n[database]\nurl = \"{database_url}\"\n{}\n[http]\nlisten = \"127.0.0.1:0\"\n\n\
             [workers]\nlease = \"{}s\"\npoll_min = \"100ms\"\npoll_max = \"200ms\"\n\n\
             [accounts.acme]\npersona = \"brand\"\naccount_sid = \"{BRAND}\"\nauth_token = {{ env = \"SANDBOX_TOKEN\" }}\n\
             base_url = \"{}\"\ntime_zone = \"America/New_York\"\nprograms = {}\n{}\n\n",
            scene.dir.path().display(),
            cluster::setting(),
            LEASE.as_secs(),
            scene.sandbox.base_url(),
            wishes.programs,
            wishes.account,
        );
        for export in wishes.exports {
            write!(text, "{}", export.section(wishes.schedule)).unwrap();
        }
        std::fs::write(scene.config(), text).unwrap();
        scene
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("impact-mirror.toml")
    }

    /// Rewrites the configuration.
    pub fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), edit(text)).unwrap();
    }

    /// Starts `impact-mirror run`.
    pub fn run(&self) -> Process {
        self.start(&["run"])
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let log = self.dir.path().join(format!("{}.log", uuid::Uuid::new_v4().simple()));
        let file = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_impact-mirror"))
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env("SANDBOX_TOKEN", "sandbox-brand-token")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Process { child, log }
    }

    /// Orders a fault for the next call of a kind.
    pub fn inject(&self, on: Point, kind: FaultKind) {
        self.sandbox.inject(Fault::next(on, kind));
    }

    /// Waits until every fault that was ordered has hit: its call is on the way.
    pub async fn until_hit(&self) {
        eventually("the faults have hit", async || self.sandbox.faults_left() == 0).await;
    }

    /// Waits until downloads have begun whose faults hold them up. A file in the spool alone does not prove one: the spool
    /// tries out its directory with a file of its own.
    pub async fn until_spooled(&self, files: usize) {
        self.until_hit().await;
        eventually("the files are in the spool", async || self.spooled() == files).await;
    }

    /// Connections for looking.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How many calls of these kinds have been answered.
    pub fn calls(&self, kinds: &[&str]) -> usize {
        self.sandbox.calls().iter().filter(|call| kinds.contains(&call.kind)).count()
    }

    /// How many orders of any kind have been answered.
    pub fn orders(&self) -> usize {
        self.calls(&["submit_report", "submit_clicks", "replay"])
    }

    /// One value from the database.
    pub async fn value<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap()
    }

    /// Changes the database behind the daemon's back.
    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
    }

    /// Waits until a condition on the database holds; says how long that took.
    pub async fn until(&self, condition: &str) -> Duration {
        let query = format!("select {condition}");
        // The tables may not be there yet.
        eventually(condition, async || {
            let holds: Result<bool, _> = sqlx::query_scalar(AssertSqlSafe(query.as_str())).fetch_one(&self.pool).await;
            holds.unwrap_or(false)
        })
        .await
    }

    /// Waits until some job is in a state, perhaps with more to say of it.
    pub async fn until_job(&self, condition: &str) -> Duration {
        self.until(&format!("exists (select 1 from impact_mirror.job where {condition})")).await
    }

    /// Waits until every cell is loaded and no job is open.
    pub async fn until_mirrored(&self) -> Duration {
        let exports = self.exports.len();
        self.until(&format!(
            "(select count(distinct export) = {exports} and bool_and(state in ('loaded', 'settled'))
                from impact_mirror.coverage)
             and not exists (select 1 from impact_mirror.job where finished_at is null)"
        ))
        .await
    }

    /// Cuts the pauses of all jobs short.
    pub async fn hurry(&self) {
        // The tables may not be there yet.
        let _ = sqlx::raw_sql(
            "update impact_mirror.job set run_at = now() where finished_at is null and lease_token is null and run_at > now();
             select pg_notify('impact_mirror_wake', '')",
        )
        .execute(&self.pool)
        .await;
    }

    /// The same as [`Scene::until_mirrored`], with the pauses of jobs cut short.
    pub async fn until_mirrored_in_a_hurry(&self) -> Duration {
        let hurry = async {
            loop {
                self.hurry().await;
                tokio::time::sleep(5 * LOOK).await;
            }
        };
        tokio::select! {
            took = self.until_mirrored() => took,
            () = hurry => unreachable!("it goes on for ever"),
        }
    }

    /// The files in the spool.
    pub fn spooled(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("spool")).map_or(0, Iterator::count)
    }
}

/// Waits for something to come true; says how long that took.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(LOOK).await;
    }
    began.elapsed()
}

/// A running program; killed with the value, and its log shown where the test fails.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// The number that the system knows it by.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its status page is.
    pub async fn url(&self) -> String {
        self.until_says("running; stop").await;
        let log = self.log();
        let (_, rest) = log.split_once("status page: ").unwrap();
        rest.lines().next().unwrap().to_owned()
    }

    /// Whether a job is in its hands.
    pub async fn holds_a_job(&self, scene: &Scene) -> bool {
        let holders =
            "select coalesce(string_agg(lease_holder, ' '), '') from impact_mirror.job where lease_token is not null";
        scene.value::<String>(holders).await.contains(&format!("-{}-", self.child.id()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Kills it without a warning, and returns when it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, if it has.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> (ExitStatus, Duration) {
        let mut status = None;
        let took = eventually("the process ends", async || {
            status = self.try_ended();
            status.is_some()
        })
        .await;
        (status.unwrap(), took)
    }

    /// Waits for its end and gives the exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.ended().await.0.code()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said something.
    pub async fn until_says(&self, text: &str) -> Duration {
        eventually(&format!("the log says {text:?}"), async || self.log().contains(text)).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of process {}\n{}", self.child.id(), self.log());
        }
    }
}
