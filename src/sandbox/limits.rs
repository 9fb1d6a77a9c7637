//! Charges calls to the rate limits and writes the headers that tell of them.

use axum::http::{HeaderName, HeaderValue, Response};
use chrono::{DateTime, TimeDelta, Utc};

use super::data::zone::{day_end, day_of, day_start};
use super::options::{Account, Persona};
use super::quota::{Bucket, Period, Standing};
use super::world::World;

/// The bucket of a call and whose it is.
#[derive(Debug, Clone)]
pub struct Charge {
    owner: String,
    bucket: Bucket,
}

/// Counts a call against its bucket; refuses it with how the bucket stands where nothing is left.
pub fn charge(world: &World, account: &Account, bucket: Bucket) -> Result<Charge, Standing> {
    let now = world.clock.now();
    let owner = owner(world, account);
    let (limit, period) = limit(world, account, bucket, now);
    let mut quota = world.quota();
    let standing = quota.standing(&owner, bucket, limit, period, now);
    if standing.remaining == 0 {
        return Err(standing);
    }
    quota.charge(&owner, bucket, now);
    Ok(Charge { owner, bucket })
}

/// Takes a charge back.
pub fn refund(world: &World, charge: &Charge) {
    world.quota().refund(&charge.owner, charge.bucket);
}

/// How a bucket of the account stands now.
pub fn standing(world: &World, account: &Account, bucket: Bucket, now: DateTime<Utc>) -> Standing {
    let owner = owner(world, account);
    let (limit, period) = limit(world, account, bucket, now);
    world.quota().standing(&owner, bucket, limit, period, now)
}

fn limit(world: &World, account: &Account, bucket: Bucket, now: DateTime<Utc>) -> (u32, Period) {
    let limits = world.options.limits;
    match bucket {
        Bucket::ReportExport => (limits.report_export_per_day, day_period(world, account, now)),
        Bucket::ClickExport => (limits.click_export_per_day, day_period(world, account, now)),
        Bucket::Requests => (limits.requests_per_hour, Period::rolling(TimeDelta::hours(1), now)),
    }
}

fn owner(world: &World, account: &Account) -> String {
    if world.is("quota_scope", "token") { format!("{}|{}", account.sid, account.token) } else { account.sid.clone() }
}

fn day_period(world: &World, account: &Account, now: DateTime<Utc>) -> Period {
    let length = TimeDelta::hours(24);
    let zone = match world.behaviours().get("quota_day") {
        "utc_midnight" => chrono_tz::UTC,
        "account_midnight" => account.time_zone,
        _ => return Period::rolling(length, now),
    };
    let today = day_of(zone, now);
    // The instant of midnight itself is already of the new day.
    let began = day_start(zone, today) - TimeDelta::seconds(1);
    Period { began, ends: Some(day_end(zone, today)), length }
}

/// Adds the headers of the account's persona. A 429 tells of the bucket that is empty, every other reply of the one that the
/// sandbox is told to show.
pub fn add_headers(
    world: &World,
    account: &Account,
    bucket: Bucket,
    exhausted: Option<Standing>,
    response: &mut Response<axum::body::Body>,
) {
    let shown = world.behaviours().get("quota_headers");
    let now = world.clock.now();
    let bucket = if shown == "daily" { bucket } else { Bucket::Requests };
    let standing = exhausted.unwrap_or_else(|| standing(world, account, bucket, now));
    let seconds = (standing.resets_at - now).num_seconds().max(0);
    let reset = if world.is("reset_header", "epoch") { standing.resets_at.timestamp() } else { seconds };
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    if shown != "none" {
        let (limit, remaining, reset) = lie(world, standing, reset.to_string());
        match account.persona {
            Persona::Brand | Persona::Agency => {
                put("x-ratelimit-limit", limit);
                put("x-ratelimit-remaining", remaining);
                put("x-ratelimit-reset", reset);
            }
            Persona::Partner => {
                put("x-ratelimit-limit-hour", limit);
                put("x-ratelimit-remaining-hour", remaining);
                put("ratelimit-reset", reset);
            }
        }
    }
    if shown != "none" && world.is("header_lies", "contradiction") {
        let (limit, remaining) = (standing.limit * 2, standing.limit);
        match account.persona {
            Persona::Brand | Persona::Agency => {
                put("x-ratelimit-limit-hour", limit.to_string());
                put("x-ratelimit-remaining-hour", remaining.to_string());
            }
            Persona::Partner => {
                put("x-ratelimit-limit", limit.to_string());
                put("x-ratelimit-remaining", remaining.to_string());
            }
        }
    }
    let says_when = match world.behaviours().get("retry_after") {
        "always" => true,
        "never" => false,
        _ => account.persona == Persona::Partner,
    };
    if exhausted.is_some() && says_when {
        put("retry-after", seconds.max(1).to_string());
    }
}

/// Limit, remaining and reset as the headers give them: rightly, or as the switch says.
fn lie(world: &World, standing: Standing, reset: String) -> (String, String, String) {
    let (limit, remaining) = (standing.limit.to_string(), standing.remaining.to_string());
    match world.behaviours().get("header_lies") {
        "remaining_high" => (limit, (standing.limit * 10).to_string(), reset),
        "remaining_zero" => (limit, "0".to_owned(), reset),
        "negative" => (limit, "-1".to_owned(), reset),
        "text" => ("plenty".to_owned(), "enough".to_owned(), "soon".to_owned()),
        "reset_past" => (limit, remaining, "1487332519".to_owned()),
        "reset_2099" => (limit, remaining, "4085000000".to_owned()),
        _ => (limit, remaining, reset),
    }
}
