//! `demo`: sandbox, embedded Postgres and daemon on made-up data, for a first look.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{Days, Utc};
use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use tokio_util::sync::CancellationToken;

use super::progress::Display;
use super::table::Table;
use super::{Exit, status};
use crate::app::{self, Database, Engine, Patience, Scope, SyncEnd};
use crate::config;
use crate::figures::thousands;
use crate::http;
use crate::sandbox::{self, Sandbox};
use crate::store;
use crate::telemetry::{self, Form};

/// How many days the demo mirrors.
const DAYS: u64 = 90;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// End once everything is mirrored
    #[arg(long)]
    exit_when_synced: bool,
    /// Where the demo keeps its Postgres; emptied at the start
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) async fn demo(options: Options, form: Form, stop: CancellationToken) -> anyhow::Result<Exit> {
    telemetry::start(form, if form == Form::Json { "info" } else { "warn" });
    let began = Instant::now();
    let home = Home::open(options.dir)?;
    let sandbox = start_sandbox().await?;
    let file = write_config(&home.dir, &sandbox.base_url())?;
    let settings = config::load(Some(&file))?;
    say!("A made-up impact.com on {}, an embedded Postgres under {}.", sandbox.base_url(), home.dir.display());
    say!("Mirroring {DAYS} days of {} exports for two programs …", settings.exports.len());

    let Some(database) = Database::open(&settings, Patience::Endless(stop.clone())).await? else {
        return Ok(Exit::Done);
    };
    let engine = Engine::start(settings.clone(), &database, Scope::All).await?;
    let mut display = Display::new();
    let report = app::sync(engine, &database, stop.clone(), |progress| display.show(progress)).await;
    display.clear();
    let report = report?;
    if report.end == SyncEnd::Stopped {
        say!("Stopped before everything was mirrored; the next demo begins anew.");
        database.close().await?;
        sandbox.stop().await;
        return Ok(Exit::Done);
    }
    say!(
        "{} windows, {} rows in {:.0} s.\n",
        report.progress.loaded,
        thousands(report.progress.rows),
        began.elapsed().as_secs_f64()
    );
    print_landed(&database).await?;
    print_queries(&database.psql_line().unwrap_or_default());
    if !options.exit_when_synced && report.end == SyncEnd::Done {
        say!("\nThe daemon stays up and keeps it fresh; Ctrl-C ends the demo.");
        say!("  look around:     impact-mirror --config {} status", file.display());
        let server = start_server(settings.http.listen).await?;
        say!("  status page:     {}", server.url());
        if let Some(token) = &settings.http.token {
            server.take_actions(token.clone());
            say!("  to act there:    the token is in {}", home.dir.join("page-token").display());
        }
        let engine = Engine::start(settings, &database, Scope::All).await?;
        engine.keep_going();
        server.count(Arc::clone(engine.tally()));
        server.attach(database.pool().clone(), Arc::clone(engine.pulse()));
        stop.cancelled().await;
        engine.stop(Duration::from_secs(5)).await;
        server.stop().await;
    }
    if matches!(report.end, SyncEnd::WaitsForQuota | SyncEnd::Failed) {
        say!("\nThat is not everything. What is wrong: impact-mirror --config {} status", file.display());
    }
    database.close().await?;
    sandbox.stop().await;
    Ok(match report.end {
        SyncEnd::Done | SyncEnd::Stopped => Exit::Done,
        SyncEnd::WaitsForQuota => Exit::WaitsForQuota,
        SyncEnd::Failed => Exit::FailedCells,
    })
}

/// The demo's folder, held by one demo at a time.
struct Home {
    dir: PathBuf,
    _lock: Flock<std::fs::File>,
}

impl Home {
    fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir =
            dir.unwrap_or_else(|| std::env::temp_dir().join(format!("impact-mirror-demo-{}", nix::unistd::geteuid())));
        let shown = dir.display().to_string();
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {shown}"))?;
        let marker = dir.join("impact-mirror-demo");
        let is_ours = marker.exists() || dir.read_dir()?.next().is_none();
        anyhow::ensure!(is_ours, "{shown} holds something else; name an empty folder with --dir");
        let file = std::fs::File::create(&marker).with_context(|| format!("cannot write {}", marker.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
            anyhow::anyhow!("a demo runs in {shown} already; end it, or name another folder with --dir")
        })?;
        for name in ["state", "impact-mirror.toml"] {
            let old = dir.join(name);
            let removed = if old.is_dir() { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot empty {}", old.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self { dir, _lock: lock })
    }
}

/// A sandbox whose limits are wide enough to mirror three months at once; the real ones are 100 and 10 a day.
async fn start_sandbox() -> anyhow::Result<Sandbox> {
    let options = sandbox::Options {
        job_duration: Duration::from_millis(40),
        limits: sandbox::Limits {
            report_export_per_day: 2_000,
            click_export_per_day: 2_000,
            requests_per_hour: 100_000,
        },
        ..sandbox::Options::default()
    };
    Sandbox::start(options).await.context("cannot start the sandbox")
}

/// On the usual port, or on any where that is taken: a demo should not fail for it.
async fn start_server(listen: SocketAddr) -> Result<http::Server, http::Error> {
    match http::Server::start(listen).await {
        Err(error) if error.is_taken() => http::Server::start(SocketAddr::new(listen.ip(), 0)).await,
        started => started,
    }
}

fn write_config(dir: &Path, base_url: &str) -> anyhow::Result<PathBuf> {
    let token = dir.join("token");
    std::fs::write(&token, "sandbox-brand-token\n")?;
    let page_token = dir.join("page-token");
    write_secret(&page_token, &uuid::Uuid::new_v4().simple().to_string())?;
    let since = Utc::now().date_naive() - Days::new(DAYS - 1);
    let text = format!(
        r#"# The configuration of `impact-mirror demo`: a made-up account, wider limits than the real ones.
state_dir = {state}

[database]
url = "embedded"

[http]
token = {{ file = {page_token} }}

[workers]
poll_min = "200ms"
poll_max = "1s"

[accounts.acme]
persona = "brand"
account_sid = "IRsandboxBrand0001"
auth_token = {{ file = {token} }}
base_url = "{base_url}"
time_zone = "America/New_York"
programs = "all"

[accounts.acme.quota]
report_export_per_day = 2000
click_export_per_day = 2000
requests_per_hour = 100000

[exports.actions]
accounts = ["acme"]
report = "adv_action_listing_pm_only"
schedule = "0 */15 * * * *"
since = "{since}"

[exports.performance_by_day]
accounts = ["acme"]
report = "att_adv_performance_by_day_pm_only"
schedule = "0 */15 * * * *"
since = "{since}"

[exports.performance_by_partner]
accounts = ["acme"]
report = "att_adv_performance_by_media_pm_only"
schedule = "0 0 4 * * *"
since = "{since}"
include_today = false

[exports.clicks]
accounts = ["acme"]
clicks = true
schedule = "0 30 3 * * *"
since = "{since}"
"#,
        state = toml_text(&dir.join("state")),
        token = toml_text(&token),
        page_token = toml_text(&page_token),
    );
    let file = dir.join("impact-mirror.toml");
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// For the eyes of this user alone.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(writeln!(file, "{text}")?)
}

fn toml_text(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

async fn print_landed(database: &Database) -> anyhow::Result<()> {
    let mut conn = database.pool().acquire().await?;
    let tables = store::status::tables(&mut conn).await?;
    let freshness = store::status::freshness(&mut conn).await?;
    say!("What landed:");
    let mut landed = Table::new(&["table", ">rows", ">days", ">rejected"]);
    for table in tables {
        landed.row(vec![table.table_name, thousands(table.rows), thousands(table.days), thousands(table.rejected)]);
    }
    say_as_is!("{landed}");
    say!("\nHow fresh it is:");
    say_as_is!("{}", status::freshness_table(&freshness));
    Ok(())
}

fn print_queries(psql_line: &str) {
    say!("\nQuery it:\n  {psql_line}\n");
    say!("Three queries worth trying:");
    say!("  -- money by month and status");
    say!(
        "  select date_trunc('month', _day)::date as month, status, count(*), sum(sale_amount) as sales, sum(payout) as payout"
    );
    say!("  from impact.actions group by 1, 2 order by 1, 2;\n");
    say!("  -- which partners bring clicks that are unique");
    say!("  select media_name, count(*) as clicks, count(*) filter (where unique_click) as unique_clicks");
    say!("  from impact.clicks group by 1 order by 2 desc limit 10;\n");
    say!("  -- is every day there?");
    say!(
        "  select export, state, count(*), min(day), max(day) from impact_mirror.coverage group by 1, 2 order by 1, 2;"
    );
}
