//! The real binary under steady work for a long time: whether memory and connections stay where they are, and what goes wrong.
//!
//! `cargo bench --bench soak -- [MINUTES] [ACCOUNTS] [JOBS A SECOND]`, or `make soak`. The server is that of `DATABASE_URL`,
//! else an embedded cluster. Every program of every account has one day of clicks, which is asked for again and again: a
//! Replay, its polls, a download and a load each, and no two files are the same. A new round is asked for as often as the
//! wanted rate says, but not while two rounds wait; so a machine that is too slow shows by the rate that is printed.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate};
use impact_mirror::embedded::Embedded;
use impact_mirror::sandbox::{Account, Limits, Options, Persona, Sandbox};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const TOKEN: &str = "sandbox-brand-token";
const DATABASE: &str = "impact_mirror_bench_soak";
const PROGRAMS: u64 = 10;
const CLICKS_PER_DAY: u32 = 20;
/// More than is used.
const PLENTY: u32 = 1_000_000;
/// Minutes in which caches and pools fill.
const WARM_UP: usize = 3;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let minutes = numbers.next().unwrap_or(30);
    let accounts = numbers.next().unwrap_or(25);
    let wanted = numbers.next().unwrap_or(50);
    let (server, embedded) = if let Ok(url) = std::env::var("DATABASE_URL") {
        (url, None)
    } else {
        let embedded = Embedded::start(&std::path::absolute("target/bench-postgres").unwrap()).await.unwrap();
        (embedded.url().to_owned(), Some(embedded))
    };
    let mut soak = Soak::new(&server, accounts).await;
    soak.run(minutes, Duration::from_secs(accounts * PROGRAMS / wanted)).await;
    soak.end(&server).await;
    if let Some(embedded) = embedded {
        embedded.stop().await.unwrap();
    }
}

/// A simulator, a database and a daemon.
struct Soak {
    sandbox: Sandbox,
    conn: PgConnection,
    day: NaiveDate,
    accounts: u64,
    dir: tempfile::TempDir,
}

/// What one minute showed.
struct Minute {
    jobs: i64,
    memory_mb: f64,
    connections: i64,
    troubles: usize,
}

impl Soak {
    async fn new(server: &str, accounts: u64) -> Self {
        let programs: Vec<_> = (0..PROGRAMS).map(|number| (1000 + number, format!("Program {number}"))).collect();
        let mut options = Options {
            clock_speed: 1.0, // a clock that stands still would have every Replay take a second longer
            clicks_per_day: CLICKS_PER_DAY,
            job_duration: Duration::from_secs(1),
            limits: Limits { report_export_per_day: PLENTY, click_export_per_day: PLENTY, requests_per_hour: PLENTY },
            accounts: (0..accounts)
                .map(|number| Account {
                    programs: programs.clone(),
                    ..Account::new(Persona::Brand, &sid(number), TOKEN, "Soak")
                })
                .collect(),
            ..Options::default()
        };
        options.behaviours.set("row_order=random").unwrap();
        let sandbox = Sandbox::start(options).await.unwrap();
        let day = sandbox.now().with_timezone(&chrono_tz::America::New_York).date_naive() - Days::new(1);
        let mut admin = PgConnection::connect(server).await.unwrap();
        for statement in
            [format!("drop database if exists {DATABASE} with (force)"), format!("create database {DATABASE}")]
        {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        let mut url = url::Url::parse(server).unwrap();
        url.set_path(DATABASE);
        let dir = tempfile::tempdir().unwrap();
        write_config(url.as_str(), &sandbox.base_url(), day, accounts, dir.path());
        let conn = PgConnection::connect(url.as_str()).await.unwrap();
        Self { sandbox, conn, day, accounts, dir }
    }

    async fn run(&mut self, minutes: u64, every: Duration) {
        let mut daemon = self.start(&["run"], "daemon.log");
        while !self.is_mirrored().await {
            assert!(daemon.try_wait().unwrap().is_none(), "the daemon ended: {}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!("minute  jobs/s  memory, MB  connections  warnings and errors");
        let began = Instant::now();
        let (mut asked, mut told, mut jobs) = (0_u32, Vec::new(), self.loaded().await);
        while told.len() < usize::try_from(minutes).unwrap() {
            if began.elapsed() >= every * asked && self.open_jobs().await < 2 * self.windows() {
                asked += 1;
                self.ask().await;
            }
            if began.elapsed() >= Duration::from_secs(60 * (told.len() as u64 + 1)) {
                let loaded = self.loaded().await;
                let minute = self.look(&daemon, loaded - jobs).await;
                jobs = loaded;
                println!(
                    "{:>6}  {:>6.1}  {:>10.1}  {:>11}  {}",
                    told.len() + 1,
                    per_second(minute.jobs),
                    minute.memory_mb,
                    minute.connections,
                    minute.troubles,
                );
                told.push(minute);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while self.open_jobs().await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.conclude(&told).await;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", self.log());
    }

    async fn conclude(&mut self, told: &[Minute]) {
        let warm = &told[WARM_UP.min(told.len() - 1)..];
        let memory: Vec<f64> = warm.iter().map(|minute| minute.memory_mb).collect();
        let jobs: i64 = told.iter().map(|minute| minute.jobs).sum();
        let failed: i64 =
            self.value("select count(*) from impact_mirror.job where state in ('failed', 'cancelled')").await;
        let rows: i64 = self.value("select count(*) from impact.clicks").await;
        println!(
            "{} minutes, {jobs} jobs, {:.1} a second; memory {:.1} to {:.1} MB, slope {:+.3} MB a minute after {WARM_UP} minutes; \
             {} to {} connections; {} warnings and errors, {failed} jobs failed; {rows} rows, {} in the simulator",
            told.len(),
            per_second(jobs) / f64::from(u32::try_from(told.len()).unwrap()),
            memory.iter().copied().fold(f64::INFINITY, f64::min),
            memory.iter().copied().fold(0.0, f64::max),
            slope(&memory),
            told.iter().map(|minute| minute.connections).min().unwrap_or_default(),
            told.iter().map(|minute| minute.connections).max().unwrap_or_default(),
            self.troubles(),
            self.true_rows(),
        );
    }

    /// Asks for everything again.
    async fn ask(&self) {
        let day = self.day.to_string();
        let mut asking = self.start(&["refresh", "clicks", "--from", &day, "--to", &day], "asking.log");
        while asking.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(asking.wait().unwrap().success());
    }

    async fn look(&mut self, daemon: &Child, jobs: i64) -> Minute {
        let connections = "select count(*) from pg_stat_activity
                           where datname = current_database() and application_name = 'impact-mirror'";
        Minute {
            jobs,
            memory_mb: memory_mb(daemon),
            connections: self.value(connections).await,
            troubles: self.troubles(),
        }
    }

    fn windows(&self) -> i64 {
        i64::try_from(self.accounts * PROGRAMS).unwrap()
    }

    async fn is_mirrored(&mut self) -> bool {
        let loaded: Result<i64, _> =
            sqlx::query_scalar("select count(*) from impact_mirror.load").fetch_one(&mut self.conn).await;
        loaded.is_ok_and(|loaded| loaded >= self.windows()) && self.open_jobs().await == 0
    }

    async fn loaded(&mut self) -> i64 {
        self.value("select count(*) from impact_mirror.load").await
    }

    /// Jobs that are open, and windows that are asked for and not planned yet.
    async fn open_jobs(&mut self) -> i64 {
        let open = "select (select count(*) from impact_mirror.job where finished_at is null)
                         + (select count(*) from impact_mirror.manual_request)";
        self.value(open).await
    }

    async fn value(&mut self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.conn).await.unwrap()
    }

    /// Lines of the daemon's log that tell of trouble.
    fn troubles(&self) -> usize {
        self.log().lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }

    /// The rows that a perfect mirror has.
    fn true_rows(&self) -> usize {
        let windows = (0..self.accounts).flat_map(|account| (0..PROGRAMS).map(move |program| (account, program)));
        windows
            .map(|(account, program)| {
                let program = (1000 + program).to_string();
                let csv = self.sandbox.truth(&sid(account), "clicks", &program, self.day, self.day, &[]);
                records(&csv) - 1
            })
            .sum()
    }

    fn start(&self, arguments: &[&str], log: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_impact-mirror"))
            .args(arguments)
            .arg("--config")
            .arg(config_file(self.dir.path()))
            .env("BENCH_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join(log)).unwrap())
            .spawn()
            .unwrap()
    }

    async fn end(self, server: &str) {
        self.conn.close().await.unwrap();
        let mut admin = PgConnection::connect(server).await.unwrap();
        let statement = format!("drop database {DATABASE} with (force)");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        self.sandbox.stop().await;
    }
}

fn sid(account: u64) -> String {
    format!("IRsandboxBrand{account:04}")
}

fn config_file(dir: &Path) -> PathBuf {
    dir.join("soak.toml")
}

fn write_config(database: &str, base_url: &str, since: NaiveDate, accounts: u64, dir: &Path) {
    let mut text = format!(
        r#"
        state_dir = "{}"
        [database]
        url = "{database}"
        [http]
        listen = "127.0.0.1:0"
        [workers]
        submit = 4
        poll = 4
        load = 4
        [exports.clicks]
        accounts = "all"
        clicks = true
        schedule = "0 0 0 1 1 *"
        since = "{since}"
        include_today = false
        "#,
        dir.display(),
    );
    for account in 0..accounts {
        let _ = write!(
            text,
            r#"
            [accounts.soak{account}]
            persona = "brand"
            account_sid = "{}"
            auth_token = {{ env = "BENCH_TOKEN" }}
            base_url = "{base_url}"
            time_zone = "America/New_York"
            [accounts.soak{account}.quota]
            click_export_per_day = {PLENTY}
            requests_per_hour = {PLENTY}
            "#,
            sid(account)
        );
    }
    std::fs::write(config_file(dir), text).unwrap();
}

/// What a process holds now, in MB.
fn memory_mb(process: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

fn per_second(jobs_in_a_minute: i64) -> f64 {
    f64::from(i32::try_from(jobs_in_a_minute).unwrap()) / 60.0
}

/// The slope of the straight line that fits best.
fn slope(values: &[f64]) -> f64 {
    let count = f64::from(u32::try_from(values.len()).unwrap());
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let at = |index: usize| f64::from(u32::try_from(index).unwrap()) - middle;
    let spread: f64 = (0..values.len()).map(|index| at(index).powi(2)).sum();
    let rise: f64 = values.iter().enumerate().map(|(index, value)| at(index) * (value - mean)).sum();
    if spread > 0.0 { rise / spread } else { 0.0 }
}

/// How many records a CSV file has, its header among them: line breaks within quotes end none.
fn records(csv: &[u8]) -> usize {
    let (count, _) = csv.iter().fold((0, false), |(count, is_quoted), byte| match byte {
        b'"' => (count, !is_quoted),
        b'\n' if !is_quoted => (count + 1, false),
        _ => (count, is_quoted),
    });
    count
}
