//! `reports`: what an account offers, what is known of it, and how it becomes an export.

mod words;

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use super::Exit;
use crate::app::payer::{Payer, ledger};
use crate::app::reports::add::Written;
use crate::app::reports::block::{Block, Tuning, name_for, named};
use crate::app::reports::describe::Description;
use crate::app::reports::{self, account};
use crate::clock::{Clock, day_in};
use crate::config::{self, Account, Settings};
use crate::impact::Client;
use crate::telemetry::Form;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what an account offers: reports and clicks, what is known of them, and which exports mirror them
    List(Whose),
    /// Show what a row of a report is, its columns, key, date and filters, and how sure that is
    Describe(Describe),
    /// Add an export of a report to the end of the configuration file, with what is known in comments
    Add(Add),
}

#[derive(Debug, Args)]
pub(super) struct Whose {
    /// The account's name in the configuration; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The handle of the report, as `reports list` shows it, or clicks
    handle: String,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The handle of the report, as `reports list` shows it, or clicks
    handle: String,
    #[command(flatten)]
    whose: Whose,
    /// What the export and its table are to be called [default: after the handle]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The first day to mirror, as in 2026-01-31 [default: what costs little]
    #[arg(long, value_name = "DAY")]
    since: Option<NaiveDate>,
    /// Print the block and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn reports(path: Option<&Path>, command: Command, form: Form) -> anyhow::Result<Exit> {
    match command {
        Command::List(whose) => {
            let settings = config::load(path)?;
            let account = account(&settings, whose.account.as_deref())?;
            let offers =
                looking(&settings, account, async |payer| Ok(reports::offers(&settings, account, payer).await?))
                    .await?;
            match form {
                Form::Json => say!("{:#}", words::list_json(account, &offers)),
                Form::Text => words::print_list(account, &offers),
            }
        }
        Command::Describe(Describe { handle, whose }) => {
            let settings = config::load(path)?;
            let account = account(&settings, whose.account.as_deref())?;
            let described = describe(&settings, account, &handle).await?;
            match form {
                Form::Json => say!("{:#}", words::description_json(&described)),
                Form::Text => words::print_description(&described),
            }
        }
        Command::Add(options) => add(path, options).await?,
    }
    Ok(Exit::Done)
}

async fn describe(settings: &Settings, account: &Account, handle: &str) -> anyhow::Result<Description> {
    looking(settings, account, async |payer| Description::ask(settings, account, handle, payer).await).await
}

/// Calls impact.com, with the ledger of the configured database where that can be had.
async fn looking<T>(
    settings: &Settings,
    account: &Account,
    look: impl AsyncFnOnce(Payer<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let client = Client::new(account)?;
    let database = ledger(settings).await;
    let found = look(Payer::new(&client, &account.name, database.as_ref())).await;
    if let Some(database) = database {
        database.close().await?;
    }
    found
}

async fn add(path: Option<&Path>, options: Add) -> anyhow::Result<()> {
    let Add { handle, whose, name, since, dry_run } = options;
    let written = Written::read(path)?;
    let account = account(&written.settings, whose.account.as_deref())?;
    let wanted = name.as_deref().map(named).transpose()?;
    let described = describe(&written.settings, account, &handle).await?;
    let name = match wanted {
        Some(name) => name,
        None => name_for(&described.source)?,
    };
    let mut tuning = Tuning::moderate(&described, day_in(account.time_zone, Clock.now()));
    if let Some(since) = since {
        tuning.since = since;
    }
    let block = Block::new(name, &described, &tuning);
    let whole = written.with(&block)?;
    say_as_is!("{block}");
    if dry_run {
        say!("\nNothing was changed; without --dry-run this goes to the end of {}.", written.path().display());
        return Ok(());
    }
    written.replace(&whole)?;
    say!("\nAdded to {}. A running daemon takes it up on SIGHUP (`systemctl reload`). Next:", written.path().display());
    let config = path.map_or_else(String::new, |path: &Path| format!(" --config {}", PathBuf::from(path).display()));
    say!("  impact-mirror{config} plan --export {}    # what it costs", block.name);
    say!("  impact-mirror{config} sync --export {}", block.name);
    Ok(())
}
