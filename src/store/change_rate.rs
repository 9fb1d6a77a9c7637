//! How often days of an age still change, learned from re-reads of complete days.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{ExportName, Program};
use crate::job::Job;
use crate::plan::{BANDS, ChangeRates, Observed};

/// What was found fades by a factor of e in this time, so that about as much of the past counts.
const MEMORY: TimeDelta = TimeDelta::days(90);

/// Adds what the reads of a job, ordered at `as_of`, found.
pub async fn learn(conn: &mut PgConnection, job: &Job, seen: &Observed, as_of: DateTime<Utc>) -> Result<(), Error> {
    if *seen == Observed::default() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into impact_mirror.feed_change_rate as r (export, account, program, changes, days, updated_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (account, export, program) do update
        set (changes, days) = (
                select array_agg(coalesce(old.changes, 0) * fading + coalesce(new.changes, 0) order by band),
                       array_agg(coalesce(old.days, 0) * fading + coalesce(new.days, 0) order by band)
                from unnest(r.changes, r.days) with ordinality as old (changes, days, band)
                full join unnest(excluded.changes, excluded.days) with ordinality as new (changes, days, band) using (band)
                cross join lateral (
                    select exp(-extract(epoch from greatest(excluded.updated_at - r.updated_at, interval '0'))::double precision / $7) as fading
                ) f
            ),
            updated_at = greatest(r.updated_at, excluded.updated_at)
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        &seen.changes[..],
        &seen.days[..],
        as_of,
        MEMORY.as_seconds_f64(),
    )
    .execute(conn)
    .await
    .map_err(failed("learn how often days change"))?;
    Ok(())
}

/// What is known of the feeds of some accounts.
#[derive(Debug, Default)]
pub struct Learned {
    feeds: HashMap<(ExportName, AccountName, Program), Observed>,
    exports: HashMap<(ExportName, AccountName), Observed>,
}

impl Learned {
    /// What the planner is told of a feed.
    pub fn rates(&self, export: &ExportName, account: &AccountName, program: &Program) -> ChangeRates {
        let nothing = Observed::default();
        let shared = self.exports.get(&(export.clone(), account.clone())).unwrap_or(&nothing);
        let own = self.feeds.get(&(export.clone(), account.clone(), program.clone())).unwrap_or(&nothing);
        ChangeRates::learned(own, shared)
    }
}

/// What is known of every feed of these accounts, as much as it counts now.
pub async fn read(conn: &mut PgConnection, accounts: &[String]) -> Result<Learned, Error> {
    let rows = sqlx::query!(
        r#"
        select export as "export: ExportName", account as "account: AccountName", program as "program: Program", changes, days,
               exp(-extract(epoch from greatest(now() - updated_at, interval '0'))::double precision / $1) as "fading!"
        from impact_mirror.feed_change_rate
        where account = any($2)
        "#,
        MEMORY.as_seconds_f64(),
        accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read how often days change"))?;
    let mut learned = Learned::default();
    for row in rows {
        let mut observed = Observed::default();
        // Another version may know fewer bands, or more.
        for (band, (changes, days)) in row.changes.iter().zip(&row.days).take(BANDS).enumerate() {
            observed.changes[band] = changes * row.fading;
            observed.days[band] = days * row.fading;
        }
        learned.exports.entry((row.export.clone(), row.account.clone())).or_default().merge(&observed);
        learned.feeds.insert((row.export, row.account, row.program), observed);
    }
    Ok(learned)
}
