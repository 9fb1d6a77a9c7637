//! The door: arguments, what is printed, exit codes (design §7).

/// Prints a line to stdout. A reader that went away, as `head` does, is no error.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// Prints text that ends its own lines.
macro_rules! say_as_is {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($words)*);
    }};
}

mod ask;
mod check;
mod dbt;
mod demo;
mod explain;
mod generate;
mod healthcheck;
mod init;
mod jobs;
mod plan;
mod progress;
mod publish;
mod reload;
mod reports;
mod request;
mod sandbox;
mod status;
mod sync;
mod table;
mod verify;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{self, Database, Patience};
use crate::config::{self, Settings};
use crate::error_chain::Chain;
use crate::memory;
use crate::telemetry::{self, Form};

/// What a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// `sync` ended with cells that wait for quota.
    WaitsForQuota = 3,
    /// `sync` ended with failed cells.
    FailedCells = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Mirrors the exports of an impact.com account into PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    name = "impact-mirror",
    version = env!("IMPACT_MIRROR_VERSION"),
    about,
    after_help = "\
Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 sync ended with cells that wait for quota; 4 sync ended with
failed cells.

No account at hand? `impact-mirror demo` mirrors made-up data and shows everything."
)]
struct Cli {
    /// The configuration file [default: impact-mirror.toml, then /etc/impact-mirror/impact-mirror.toml]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON instead of text: what plan, status, verify, jobs and reports print, and the log lines of run and sync
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon: keeps the mirror fresh until SIGTERM or Ctrl-C, a second one stops at once; SIGHUP reloads the configuration
    Run,
    /// Do what is due now, to the end, then exit: for cron users and for a first try
    Sync {
        /// Only this export; may be repeated
        #[arg(long = "export", value_name = "NAME")]
        exports: Vec<String>,
    },
    /// Check the configuration, the database and each account: a line each, with the mend
    Check,
    /// Show the next 24 hours call by call, what each costs, what waits and when the backfill ends; calls nothing
    Plan {
        /// Only this export; may be repeated
        #[arg(long = "export", value_name = "NAME")]
        exports: Vec<String>,
        /// Show what a changed setting would do, as in share=0.5 (the quota of all accounts) or
        /// exports.clicks.since=2026-01-01; may be repeated
        #[arg(long = "with", value_name = "KEY=VALUE")]
        changes: Vec<String>,
        /// A line for every call and window, however many
        #[arg(long)]
        all: bool,
    },
    /// Show what is wrong and its mend, freshness, jobs in flight and quota; with --export, why it is late
    Status(status::Options),
    /// Ask for days that are missing, ahead of everything else
    Backfill(request::Days),
    /// Ask for days to be read again, loaded or not, ahead of everything else
    Refresh(request::Days),
    /// Load archived files again, after a change of types or catalogue; spends no quota
    Reload(reload::Options),
    /// Order a sample of loaded windows once more, and compare them with the table; exits with 0 where all are equal, with 1 where not
    Verify(verify::Options),
    /// Show where a row comes from: its load, job, request and file, and the line itself from the archive
    Explain(explain::Options),
    /// List and look after single jobs
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Pause accounts, and let paused ones go on
    #[command(subcommand)]
    Accounts(AccountCommand),
    /// Pause exports, and let paused ones go on
    #[command(subcommand)]
    Exports(ExportCommand),
    /// See what an account offers, what is known of it, and add exports of it to the configuration
    #[command(subcommand)]
    Reports(reports::Command),
    /// Describe the mirrored tables to other tools
    #[command(subcommand)]
    Export(dbt::Command),
    /// Publish all mirrored tables to logical replication, and those that loads will make
    Publish(publish::Options),
    /// Apply the database migrations and stop; run and sync do it by themselves
    Migrate,
    /// Ask the daemon of this configuration whether it works; exits with 0 where it does
    Healthcheck,
    /// Write man pages and completions of shells
    #[command(hide = true)]
    Generate(generate::Options),
    /// Write a commented configuration file to start from; with a credential, one that fits the account
    Init(init::Options),
    /// Run the simulator of impact.com
    Sandbox(sandbox::Options),
    /// Mirror made-up data from the simulator into an embedded Postgres, and stay up
    Demo(demo::Options),
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Order nothing new on an account; what is in flight goes on to its end
    Pause(AccountArgs),
    /// Let a paused account, and exports that impact.com forbade on it, try again now
    Resume(AccountArgs),
}

#[derive(Debug, Subcommand)]
enum ExportCommand {
    /// Order nothing new of an export; what is in flight goes on to its end
    Pause(ExportArgs),
    /// Let a paused export go on
    Resume(ExportArgs),
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The export's name in the configuration
    name: String,
}

#[derive(Debug, Args)]
struct AccountArgs {
    /// The account's name in the configuration
    name: String,
}

/// Parses the command line, runs the command and says how it ended.
pub fn main() -> ExitCode {
    telemetry::leave_no_core();
    memory::give_back_early();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("impact-mirror: cannot start: {error}");
            return Exit::Failed.into();
        }
    };
    let exit = match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("impact-mirror: {}", Chain(error.as_ref()));
            if let Some(next) = app::mend::of(error.as_ref()) {
                eprintln!("  next: {next}");
            }
            exit_of(&error)
        }
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit.into()
}

/// Configuration mistakes end with 2, everything else with 1.
fn exit_of(error: &anyhow::Error) -> Exit {
    let is_usage = error.chain().any(|cause| {
        cause.is::<config::Error>()
            || cause.is::<Misuse>()
            || cause.is::<app::explain::BadKey>()
            || cause.is::<app::reports::Mistake>()
            || cause.downcast_ref().is_some_and(app::reports::add::Error::is_usage)
            || cause.downcast_ref().is_some_and(app::init::discover::Error::is_usage)
            || cause.downcast_ref().is_some_and(|error| matches!(error, crate::store::Error::BadUrl { .. }))
    });
    if is_usage { Exit::Usage } else { Exit::Failed }
}

/// An argument that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let form = if cli.json { Form::Json } else { Form::Text };
    let quiet = || telemetry::start(form, "warn");
    match cli.command {
        Command::Run => {
            let (settings, file) = app::ConfigFile::load(cli.config.as_deref())?;
            end_with_terminal()?;
            let _traces = telemetry::start_traced(form, "info");
            app::run(settings, Some(file), stop_signal()?).await?;
            Ok(Exit::Done)
        }
        Command::Sync { exports } => {
            let settings = config::load(cli.config.as_deref())?;
            sync::sync(settings, &exports, form).await
        }
        Command::Check => {
            quiet();
            check::check(cli.config.as_deref()).await
        }
        Command::Plan { exports, changes, all } => {
            quiet();
            let length = if all { plan::Length::All } else { plan::Length::Short };
            plan::plan(cli.config.as_deref(), &exports, &changes, length, form).await
        }
        Command::Status(options) => {
            quiet();
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = status::status(&settings, &database, &options, form).await;
            database.close().await?;
            exit
        }
        Command::Backfill(days) => {
            quiet();
            request::request(config::load(cli.config.as_deref())?, days, request::Kind::Backfill, form).await
        }
        Command::Refresh(days) => {
            quiet();
            request::request(config::load(cli.config.as_deref())?, days, request::Kind::Refresh, form).await
        }
        Command::Reload(options) => {
            quiet();
            Box::pin(reload::reload(config::load(cli.config.as_deref())?, &options, form)).await
        }
        Command::Verify(options) => {
            quiet();
            verify::verify(config::load(cli.config.as_deref())?, &options, form).await
        }
        Command::Explain(options) => {
            quiet();
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = explain::explain(&settings, &database, &options, form).await;
            database.close().await?;
            exit
        }
        Command::Jobs(command) => {
            quiet();
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = jobs::jobs(&settings, &database, command, form).await;
            database.close().await?;
            exit
        }
        Command::Accounts(command) => {
            quiet();
            let (name, switch) = match command {
                AccountCommand::Pause(args) => (args.name, request::Switch::Pause),
                AccountCommand::Resume(args) => (args.name, request::Switch::Resume),
            };
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = request::switch_account(&settings, &database, &name, switch).await;
            database.close().await?;
            exit
        }
        Command::Exports(command) => {
            quiet();
            let (name, switch) = match command {
                ExportCommand::Pause(args) => (args.name, request::Switch::Pause),
                ExportCommand::Resume(args) => (args.name, request::Switch::Resume),
            };
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = request::switch_export(&settings, &database, &name, switch).await;
            database.close().await?;
            exit
        }
        Command::Export(command) => {
            quiet();
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = dbt::export(&settings, &database, &command).await;
            database.close().await?;
            exit
        }
        Command::Publish(options) => {
            quiet();
            let settings = config::load(cli.config.as_deref())?;
            let database = open(&settings).await?;
            let exit = publish::publish(&settings, &database, &options).await;
            database.close().await?;
            exit
        }
        Command::Migrate => {
            quiet();
            let database = open(&config::load(cli.config.as_deref())?).await?;
            say!("{}: the schema impact_mirror is up to date", database.describe());
            database.close().await?;
            Ok(Exit::Done)
        }
        Command::Healthcheck => healthcheck::healthcheck(cli.config.as_deref()).await,
        Command::Generate(options) => generate::generate(&options),
        Command::Reports(command) => {
            quiet();
            reports::reports(cli.config.as_deref(), command, form).await
        }
        Command::Init(options) => {
            quiet();
            init::init(options).await
        }
        Command::Sandbox(options) => {
            telemetry::start(form, "info");
            sandbox::sandbox(options, stop_signal()?).await
        }
        Command::Demo(options) => demo::demo(options, form, stop_signal()?).await,
    }
}

/// Opens the database for a command that a person waits for.
async fn open(settings: &Settings) -> anyhow::Result<Database> {
    let database = Database::open(settings, Patience::COMMAND).await?;
    Ok(database.expect("a command's patience has no stop signal"))
}

/// The names of exports given on the command line, checked; none given means all.
fn scope(settings: &Settings, names: &[String]) -> anyhow::Result<app::Scope> {
    if names.is_empty() {
        return Ok(app::Scope::All);
    }
    let mut exports = Vec::new();
    for name in names {
        exports.push(export(settings, name)?);
    }
    Ok(app::Scope::Only(exports))
}

/// An export by its name.
fn export(settings: &Settings, name: &str) -> anyhow::Result<crate::export::ExportName> {
    let found = settings.exports.keys().find(|export| export.as_str() == name);
    found.cloned().ok_or_else(|| {
        let known: Vec<&str> = settings.exports.keys().map(crate::export::ExportName::as_str).collect();
        Misuse(format!("there is no export {name:?}; configured are: {}", known.join(", "))).into()
    })
}

/// Who acts, for the audit: the user of the operating system that runs the command.
fn actor() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name);
    format!("cli: {user}")
}

/// Ends the process at once when the terminal that it was started on is gone, which SIGHUP tells too: nobody would read its log any
/// more, and nobody asked for a daemon.
fn end_with_terminal() -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if !std::io::stdin().is_terminal() {
                std::process::exit(i32::from(Exit::Failed as u8));
            }
        }
    });
    Ok(())
}

/// Cancelled by SIGTERM or SIGINT; a second signal ends the process at once.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        told.cancel();
        next().await;
        eprintln!("impact-mirror: second signal: stopping at once; leases will run out");
        std::process::exit(i32::from(Exit::Failed as u8));
    });
    Ok(stop)
}
