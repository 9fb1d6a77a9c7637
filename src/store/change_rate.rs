//! How often days of an age still change, learned from re-reads of complete days.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::ExportName;
use crate::plan::{BANDS, Band, ChangeRates};

/// What was found fades by a factor of e in this time, so that about as much of the past counts.
const MEMORY: TimeDelta = TimeDelta::days(90);

/// A re-read of a complete day.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The band of the day's age.
    pub band: usize,
    /// Whether it found other rows than the read before.
    pub changed: bool,
    /// The time since the read before.
    pub waited: TimeDelta,
}

/// Adds what reads ordered at `as_of` found.
pub async fn learn(
    conn: &mut PgConnection,
    export: &ExportName,
    account: &AccountName,
    seen: &[Seen],
    as_of: DateTime<Utc>,
) -> Result<(), Error> {
    let mut sums: BTreeMap<usize, Band> = BTreeMap::new();
    for one in seen {
        let sum = sums.entry(one.band).or_default();
        sum.changes += f64::from(u8::from(one.changed));
        sum.days += one.waited.as_seconds_f64() / TimeDelta::days(1).as_seconds_f64();
    }
    let bands: Vec<i16> = sums.keys().map(|band| i16::try_from(*band).expect("few bands")).collect();
    let changes: Vec<f64> = sums.values().map(|sum| sum.changes).collect();
    let days: Vec<f64> = sums.values().map(|sum| sum.days).collect();
    // The bands are in order, so that two loads at once take the rows in the same order.
    sqlx::query!(
        r#"
        insert into impact_mirror.change_rate as r (export, account, band, changes, days, updated_at)
        select $1, $2, band, changes, days, $6
        from unnest($3::smallint[], $4::double precision[], $5::double precision[]) as new (band, changes, days)
        on conflict (export, account, band) do update
        set changes = r.changes * exp(-extract(epoch from greatest(excluded.updated_at - r.updated_at, interval '0'))::double precision / $7)
                + excluded.changes,
            days = r.days * exp(-extract(epoch from greatest(excluded.updated_at - r.updated_at, interval '0'))::double precision / $7)
                + excluded.days,
            updated_at = greatest(r.updated_at, excluded.updated_at)
        "#,
        export.as_str(),
        account.as_str(),
        &bands,
        &changes,
        &days,
        as_of,
        MEMORY.as_seconds_f64(),
    )
    .execute(conn)
    .await
    .map_err(failed("learn how often days change"))?;
    Ok(())
}

/// What is known of every export on these accounts, as much as it counts now.
pub async fn read(
    conn: &mut PgConnection,
    accounts: &[String],
) -> Result<HashMap<(ExportName, AccountName), ChangeRates>, Error> {
    let rows = sqlx::query!(
        r#"
        select export as "export: ExportName", account as "account: AccountName", band,
               changes * fading as "changes!", days * fading as "days!"
        from impact_mirror.change_rate
        cross join lateral (
            select exp(-extract(epoch from greatest(now() - updated_at, interval '0'))::double precision / $1) as fading
        ) f
        where account = any($2)
        "#,
        MEMORY.as_seconds_f64(),
        accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read how often days change"))?;
    let mut rates: HashMap<(ExportName, AccountName), ChangeRates> = HashMap::new();
    for row in rows {
        let band = usize::try_from(row.band)
            .ok()
            .filter(|band| *band < BANDS)
            .ok_or_else(|| Error::Corrupt { table: "change_rate", problem: format!("band {}", row.band) })?;
        let known = rates.entry((row.export, row.account)).or_default();
        known.0[band] = Band { changes: row.changes, days: row.days };
    }
    Ok(rates)
}
