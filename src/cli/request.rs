//! `backfill`, `refresh` and `accounts resume`: what people ask for by hand.

use chrono::{NaiveDate, TimeDelta};
use clap::Args;

use super::{Exit, Misuse, actor, export, open, sync};
use crate::account::AccountName;
use crate::app::{self, Database};
use crate::clock::Clock;
use crate::config::Settings;
use crate::export::Window;
use crate::store::by_hand::{self, Action, Outcome};
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
            "{window} lies before exports.{name}.since, or what exports.{name}.keep keeps, which begins on {since}; ask for \
             later days, or keep earlier ones"
        );
        return Err(Misuse(what).into());
    }
    let latest = (Clock.now() + TimeDelta::hours(14)).date_naive(); // today, wherever the day is the furthest
    let window = Window::new(window.from().max(since), window.to().min(latest))
        .ok_or_else(|| Misuse(format!("{window} lies in the future; ask for days up to {latest}")))?;
    let database = open(&settings).await?;
    let action = match kind {
        Kind::Backfill => Action::Backfill(name.clone(), window),
        Kind::Refresh => Action::Refresh(name.clone(), window),
    };
    let outcome = write(&settings, &database, &action).await;
    database.close().await?;
    let outcome = outcome?;
    if !outcome.changed {
        let hint = "its programs are not known yet; `impact-mirror sync` finds them";
        return Err(Misuse(format!("export {name} has no programs to ask for: {hint}")).into());
    }
    if days.wait {
        return sync::to_the_end(settings, app::Scope::Only(vec![name]), form).await;
    }
    say!("{}", outcome.words);
    say!("A running daemon does it; `--wait` or `impact-mirror sync --export {name}` does it now.");
    Ok(Exit::Done)
}

async fn write(settings: &Settings, database: &Database, action: &Action) -> anyhow::Result<Outcome> {
    app::write_configuration(database.pool(), settings).await?;
    let mut conn = database.pool().acquire().await?;
    Ok(by_hand::act(&mut conn, &actor(), action).await?)
}

/// What is done to an account or an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// Nothing new is ordered.
    Pause,
    /// It goes on.
    Resume,
}

pub(super) async fn switch_account(
    settings: &Settings,
    database: &Database,
    name: &str,
    switch: Switch,
) -> anyhow::Result<Exit> {
    let account = AccountName::new(name);
    if !settings.accounts.contains_key(&account) {
        let known: Vec<&str> = settings.accounts.keys().map(AccountName::as_str).collect();
        return Err(Misuse(format!("there is no account {name:?}; configured are: {}", known.join(", "))).into());
    }
    let action = match switch {
        Switch::Pause => Action::PauseAccount(account),
        Switch::Resume => Action::ResumeAccount(account),
    };
    say!("{}", write(settings, database, &action).await?.words);
    Ok(Exit::Done)
}

pub(super) async fn switch_export(
    settings: &Settings,
    database: &Database,
    name: &str,
    switch: Switch,
) -> anyhow::Result<Exit> {
    let export = export(settings, name)?;
    let action = match switch {
        Switch::Pause => Action::PauseExport(export),
        Switch::Resume => Action::ResumeExport(export),
    };
    say!("{}", write(settings, database, &action).await?.words);
    Ok(Exit::Done)
}
