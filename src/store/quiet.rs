//! When impact.com's clock may be read, and how long nobody has called for an account, by a clock that nobody sets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::quota::{self, Charge, ChargeId, Charged, Purpose};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::Bucket;

/// A call is under way for 65 s at most, and dates have whole seconds.
const MARGIN: Duration = Duration::from_secs(66);

/// The newest charge of the hourly requests that this process knows of, and since when, for each account.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<HashMap<AccountName, (ChargeId, Instant)>>);

impl Quiet {
    /// Notes at that moment that `charge` is there.
    pub fn note(&self, account: &AccountName, charge: ChargeId, at: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known.entry(account.clone()).or_insert((charge, at));
        if charge.0 > newest.0.0 {
            *newest = (charge, at);
        }
    }

    /// Whether all calls up to `newest` are out of impact.com's window at that moment, whatever clocks were set to since. Where this
    /// process sees the charge for the first time, it begins to wait.
    pub fn has_lasted(&self, account: &AccountName, newest: ChargeId, at: Instant) -> bool {
        self.note(account, newest, at);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = Bucket::Requests.window().to_std().expect("a window is no less than nothing");
        known.get(account).is_some_and(|(_, since)| at.saturating_duration_since(*since) > window + MARGIN)
    }
}

/// Charges a call that is to read impact.com's clock: at most one in five minutes. Where all requests are charged, one is made
/// after `quiet` has lasted for a window, by the clock that nobody sets: ours, which shows `now`, may have been.
pub async fn ask_clock(
    conn: &mut PgConnection,
    account: &AccountName,
    now: DateTime<Utc>,
    quiet: Option<&Quiet>,
    steady: impl Fn() -> Instant,
) -> Result<Option<ChargeId>, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let asked = sqlx::query!(
        r#"
        update impact_mirror.account
        set clock_asked_at = $2
        where name = $1
          and (clock_asked_at is null or clock_asked_at > $2 or clock_asked_at <= $2::timestamptz - interval '5 minutes')
        "#,
        account.as_str(),
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed("ask for impact.com's clock"))?;
    if asked.rows_affected() == 0 {
        return Ok(None);
    }
    // The account's row is ours, so that no other charge comes in between. Waiting for it took time: only now is the time to ask.
    let newest = sqlx::query_scalar!(
        "select max(id) from impact_mirror.charge where account = $1 and bucket = 'requests'",
        account.as_str(),
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed("look for the newest charge"))?;
    let has_lasted = |(newest, quiet): (i64, &Quiet)| quiet.has_lasted(account, ChargeId(newest), steady());
    let after_quiet = newest.zip(quiet).is_some_and(has_lasted);
    let purpose = Purpose::Clock { after_quiet };
    let reading = Charge { account, bucket: Bucket::Requests, call: "company", job: None, purpose };
    let charged = quota::charge(&mut tx, reading, Some(now)).await?;
    if let (Some(quiet), Charged::Yes(id)) = (quiet, charged) {
        quiet.note(account, id, steady());
    }
    tx.commit().await.map_err(failed("commit a charge"))?;
    match charged {
        Charged::Yes(id) => Ok(Some(id)),
        Charged::No { .. } => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_quiet_a_window_after_the_newest_charge_was_seen() {
        let (quiet, began) = (Quiet::default(), Instant::now());
        let after = |minutes: u64| began + Duration::from_mins(minutes);
        let (one, other) = (AccountName::new("one"), AccountName::new("other"));
        assert!(!quiet.has_lasted(&one, ChargeId(7), began), "nobody knows how long it has been there");
        assert!(!quiet.has_lasted(&one, ChargeId(7), after(61)), "a call may have been under way");
        assert!(quiet.has_lasted(&one, ChargeId(7), after(62)));
        assert!(quiet.has_lasted(&one, ChargeId(6), after(62)), "the newest was given back");
        assert!(!quiet.has_lasted(&other, ChargeId(7), after(62)));
        assert!(!quiet.has_lasted(&one, ChargeId(8), after(62)), "somebody has called");
        quiet.note(&one, ChargeId(9), after(70));
        assert!(!quiet.has_lasted(&one, ChargeId(9), after(130)), "we have called");
        assert!(quiet.has_lasted(&one, ChargeId(9), after(132)));
    }
}
