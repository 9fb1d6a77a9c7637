//! What the engine does besides jobs: finds programs, tries paused accounts again, listens to commands, prunes.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::retention;
use crate::config::Account;
use crate::error_chain::Chain;
use crate::export::{ExportName, Program};
use crate::failpoint;
use crate::retry::ErrorKind;
use crate::store;
use crate::store::account::OnlyDue;
use crate::store::heard::Paid;
use crate::store::quota::Charged;
use crate::worker::ledger::Series;
use crate::worker::{Context, look_after_archive};

/// How often programs are looked for and the ledger is pruned.
const ROUND: Duration = Duration::from_hours(6);
/// How often it is looked for whether a newer version has migrated the database: a few rows are read.
const LOOK_FOR_NEWER: Duration = Duration::from_secs(15);
/// How soon a round that failed is repeated, and how often the archive is looked after.
const REPEAT: Duration = Duration::from_mins(5);

/// Tries every paused account once, and lets paused exports try again.
pub(super) async fn probe_paused(context: &Context) {
    if let Err(error) = try_probe_paused(context, OnlyDue::No).await {
        tracing::warn!(error = %Chain(&error), "cannot look after paused accounts; they are tried again every 6 hours, or by `impact-mirror accounts resume NAME`");
    }
}

async fn try_probe_paused(context: &Context, only_due: OnlyDue) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let now = context.now();
    let paused = store::account::paused(&mut conn).await?;
    for one in paused {
        let is_due = only_due == OnlyDue::No || one.probe_at.is_none_or(|at| at <= now);
        let Some(client) = context.clients.get(&one.account) else { continue };
        if !is_due {
            continue;
        }
        let caller = context.caller(&one.account, None);
        let Charged::Yes(charge) = caller.pay("company").await? else { continue };
        let answer = client.company().await;
        caller.heard(Paid::Charge(&one.account, charge), &answer).await?;
        match answer {
            Ok(_) => {
                store::account::resume(&mut conn, &one.account).await?;
                failpoint::reach("account-resumed");
                tracing::info!(account = %one.account, "account resumed: its credential is accepted again");
            }
            // Not a matter of the credential: jobs will meet it and say so.
            Err(error) if error.kind() != ErrorKind::Credentials => {
                store::account::resume(&mut conn, &one.account).await?;
                tracing::info!(account = %one.account, error = %Chain(&error), "account resumed");
            }
            Err(error) => {
                store::account::probe_later(&mut conn, &one.account).await?;
                tracing::error!(account = %one.account, error = %Chain(&error), "account stays paused: its credential is refused; give accounts.{}.auth_token a valid token and reload the configuration; it is tried again in 6 hours", one.account);
            }
        }
    }
    store::account::resume_exports(&mut conn, None, only_due).await?;
    context.wakes.all();
    Ok(())
}

/// Finds the programs of accounts that say `programs = "all"`. Says whether every account answered.
pub(super) async fn discover_programs(context: &Context) -> bool {
    let mut all = true;
    for account in context.settings.accounts.values() {
        if !has_programs_to_find(context, account) {
            continue;
        }
        match discover(context, account).await {
            Ok(()) => {}
            Err(error) => {
                all = false;
                tracing::warn!(account = %account.name, error = %format!("{error:#}"), "cannot list the programs; going on with those known, and trying again by itself; `impact-mirror check` says more");
            }
        }
    }
    all
}

fn has_programs_to_find(context: &Context, account: &Account) -> bool {
    let mut exports = context.settings.exports.values();
    exports.any(|export| export.accounts.contains(&account.name) && export.programs_on(account).is_none())
}

async fn discover(context: &Context, account: &Account) -> anyhow::Result<()> {
    let mut conn = context.pool.acquire().await?;
    let is_paused = store::account::paused(&mut conn).await?.iter().any(|paused| paused.account == account.name);
    anyhow::ensure!(!is_paused, "the account is paused");
    let caller = context.caller(&account.name, None);
    let Charged::Yes(charge) = caller.pay("programs").await? else { anyhow::bail!("the hourly requests are spent") };
    let pages = Series::new(caller, "programs", charge);
    let answer = caller.client.programs(|limits| pages.pay(limits)).await;
    caller.heard(pages.paid(), &answer).await?;
    let found = match answer {
        Ok(answer) => answer.value,
        Err(error) => {
            if error.kind() == ErrorKind::Credentials {
                let message = Chain(&error).to_string();
                store::account::pause(&mut conn, &account.name, error.kind(), &message).await?;
                tracing::error!(account = %account.name, error = message, "account paused: its credential is refused; give it a valid one and reload the configuration; it is tried again every 6 hours");
            }
            return Err(error.into());
        }
    };
    // An account without programs has nothing to mirror: rather a slip of the list than a reason to call everything off.
    anyhow::ensure!(!found.is_empty(), "impact.com lists no programs");
    let programs: Vec<Program> = found.into_iter().map(|info| info.id).collect();
    tracing::info!(account = %account.name, program_count = programs.len(), "found {} programs", programs.len());
    for export in context.settings.exports.values() {
        if export.accounts.contains(&account.name) && export.programs_on(account).is_none() {
            store::configured::write_feeds(&mut conn, export, &account.name, &programs).await?;
        }
    }
    Ok(())
}

/// Wakes the engine when a command or a replica says that there is work.
pub(super) async fn listen(context: Arc<Context>, stop: CancellationToken) {
    let _beat = context.pulse.begin_silent("commands");
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        let heard = async {
            let mut listener = store::wake::listen(&context.pool).await?;
            failures = 0;
            context.wakes.all(); // whatever was said meanwhile
            loop {
                // `None`: the connection was lost and made anew, and nobody knows what was said in between.
                let _heard_or_lost = listener.try_recv().await.map_err(store::failed("listen"))?;
                context.wakes.all();
            }
        };
        let ended: Result<(), store::Error> = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            ended = heard => ended,
        };
        if let Err(error) = ended {
            failures += 1;
            tracing::debug!(error = %Chain(&error), "cannot listen for commands; trying again");
        }
        let pause = crate::retry::backoff(failures, Duration::from_secs(1), Duration::from_secs(5), 1.0);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Rounds of the house, until told to stop.
pub(super) async fn keep_house(context: Arc<Context>, stop: CancellationToken) {
    let _beat = context.pulse.begin_silent("housekeeping");
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        kept = keep_tables(&context) => {
            if let Err(error) = kept {
                tracing::warn!(error = format!("{error:#}"), "cannot look after partitions and retention; a later round does it");
            }
        }
    }
    let mut pause = ROUND;
    loop {
        let next_probe = async {
            let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
            store::account::next_probe_at(&mut conn).await
        };
        if let Ok(Some(at)) = next_probe.await {
            let left = (at - context.now()).max(TimeDelta::seconds(1)).to_std().unwrap_or(ROUND);
            pause = pause.min(left);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            after = round(&context) => pause = after,
        }
    }
}

async fn keep_tables(context: &Context) -> anyhow::Result<()> {
    let exports: Vec<ExportName> = context.settings.exports.keys().cloned().collect();
    retention::keep_views(&context.pool, &context.settings).await;
    retention::keep_tables(&context.pool, &context.settings, &exports).await
}

/// Says when a newer version has brought the database up to its own migrations, until told to stop: this process goes on
/// beside it, but once ended it does not start again.
pub(super) async fn watch_versions(context: Arc<Context>, stop: CancellationToken) {
    let _beat = context.pulse.begin_silent("versions");
    let mut known = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_FOR_NEWER) => {}
        }
        let looked = async {
            let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
            store::migration::skew(&mut conn).await
        };
        let looked = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            looked = looked => looked,
        };
        // A database that does not answer is others' to tell.
        let Ok(skew) = looked else { continue };
        if skew.newer > known {
            tracing::warn!(
                version = env!("CARGO_PKG_VERSION"),
                migration_count = skew.newer,
                "a newer version of impact-mirror has migrated the database; this one goes on beside it, but would not start again: bring it up to date too"
            );
        }
        known = skew.newer;
    }
}

/// Sends files that wait for the archive, and prunes it, until told to stop.
pub(super) async fn keep_archive(context: Arc<Context>, stop: CancellationToken) {
    let _beat = context.pulse.begin_silent("archive");
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = look_after_archive(&context) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REPEAT) => {}
        }
    }
}

/// One round; gives the pause after it.
async fn round(context: &Context) -> Duration {
    let has_found_all = discover_programs(context).await;
    let looked_after = async {
        try_probe_paused(context, OnlyDue::Yes).await?;
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let now = store::coverage::database_now(&mut conn).await?;
        store::quota::prune(&mut conn, now).await?;
        drop(conn);
        keep_tables(context).await
    };
    match looked_after.await {
        Ok(()) if has_found_all => ROUND,
        Ok(()) => REPEAT,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "a round of housekeeping failed; it will be repeated");
            REPEAT
        }
    }
}
