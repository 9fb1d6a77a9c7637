//! `backfill`, `refresh` and `accounts resume`: what people ask for by hand.

use chrono::{NaiveDate, TimeDelta};
use clap::Args;
use sqlx::Connection;

use super::{Exit, Misuse, export, open, sync};
use crate::account::AccountName;
use crate::app::{self, Database};
use crate::clock::Clock;
use crate::config::Settings;
use crate::export::Window;
use crate::failpoint;
use crate::store;
use crate::store::coverage::NewRequest;
use crate::telemetry::Form;

/// An export and the days meant.
#[derive(Debug, Args)]
pub(super) struct Days {
    /// The export
    export: String,
    /// The first day, as in 2026-01-31
    #[arg(long, value_name = "DAY")]
    from: NaiveDate,
    /// The last day, included
    #[arg(long, value_name = "DAY")]
    to: NaiveDate,
    /// Go on like sync until it is done
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only days that are missing.
    Backfill,
    /// All the days.
    Refresh,
}

pub(super) async fn request(settings: Settings, days: Days, kind: Kind, form: Form) -> anyhow::Result<Exit> {
    let name = export(&settings, &days.export)?;
    let window = Window::new(days.from, days.to)
        .ok_or_else(|| Misuse(format!("--from {} lies after --to {}; swap them", days.from, days.to)))?;
    let since = settings.exports[&name].first_day(Clock.now().date_naive());
    if window.to() < since {
        let what = format!(
            "{window} lies before exports.{name}.since, or what exports.{name}.keep keeps, which begins on {since}"
        );
        return Err(Misuse(what).into());
    }
    let latest = (Clock.now() + TimeDelta::hours(14)).date_naive(); // today, wherever the day is the furthest
    let window = Window::new(window.from().max(since), window.to().min(latest))
        .ok_or_else(|| Misuse(format!("{window} lies in the future")))?;
    let database = open(&settings).await?;
    let feeds =
        write(&settings, &database, &NewRequest { export: &name, window, rereads: kind == Kind::Refresh }).await;
    database.close().await?;
    let feeds = feeds?;
    if feeds == 0 {
        let hint = "its programs are not known yet; `impact-mirror sync` finds them";
        return Err(Misuse(format!("export {name} has no programs to ask for: {hint}")).into());
    }
    if days.wait {
        return sync::to_the_end(settings, app::Scope::Only(vec![name]), form).await;
    }
    say!("Asked for {window} of {name}, for {feeds} programs or accounts, ahead of everything else.");
    say!("A running daemon does it; `--wait` or `impact-mirror sync --export {name}` does it now.");
    Ok(Exit::Done)
}

async fn write(settings: &Settings, database: &Database, new: &NewRequest<'_>) -> anyhow::Result<u64> {
    app::write_configuration(database.pool(), settings).await?;
    let mut conn = database.pool().acquire().await?;
    let mut tx = conn.begin().await?;
    let feeds = store::coverage::request(&mut tx, new).await?;
    store::wake::notify(&mut tx).await?;
    failpoint::reach("request-written");
    tx.commit().await?;
    failpoint::reach("request-committed");
    Ok(feeds)
}

pub(super) async fn resume(settings: &Settings, database: &Database, name: &str) -> anyhow::Result<Exit> {
    let account = AccountName::new(name);
    if !settings.accounts.contains_key(&account) {
        let known: Vec<&str> = settings.accounts.keys().map(AccountName::as_str).collect();
        return Err(Misuse(format!("there is no account {name:?}; configured are: {}", known.join(", "))).into());
    }
    let mut conn = database.pool().acquire().await?;
    let mut tx = conn.begin().await?;
    let was_paused = store::account::resume(&mut tx, &account).await?;
    let exports = store::account::resume_exports(&mut tx, Some(&account), store::account::OnlyDue::No).await?;
    store::wake::notify(&mut tx).await?;
    tx.commit().await?;
    if was_paused || exports > 0 {
        say!("Account {name} goes on; it is paused again if impact.com still refuses it.");
    } else {
        say!("Account {name} was not paused.");
    }
    Ok(Exit::Done)
}
