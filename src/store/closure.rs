//! Buckets that a 429 closes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::Bucket;

/// The shortest reset that is believed.
const SHORTEST_CLOSURE: Duration = Duration::from_secs(1);

/// Closes a bucket after a 429 (design §10): until the reset, but for its window at most, by whose end any count has started
/// anew; without a reset an hourly bucket for 5 minutes doubling to an
/// hour, a daily one for an hour. Where resets are kept and lead to the next 429 all the same, the pause
/// doubles.
/// What is closed already is not closed for longer by further 429s to calls that were under way. Says until when, where the
/// bucket was open before. The caller holds the account's row.
pub(super) async fn close(
    conn: &mut PgConnection,
    account: &AccountName,
    bucket: Bucket,
    reset_after: Option<Duration>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let reset_seconds = reset_after.map(|reset| reset.max(SHORTEST_CLOSURE).as_secs_f64());
    let closed = sqlx::query!(
        r#"
        with before as (
            select coalesce(closed_until > $4, false) as was_closed,
                   case when $3::double precision is not null then least(make_interval(secs => $3), window_length) end as reset
            from impact_mirror.bucket
            where account = $1 and bucket = $2
        )
        update impact_mirror.bucket
        set throttles = throttles + case when closed_until > $4 then 0 else 1 end,
            closed_until = greatest(
                closed_until,
                case
                    when reset is not null and throttles < 2 then $4::timestamptz + reset
                    when closed_until > $4 then $4::timestamptz + coalesce(reset, interval '0')
                    when reset is not null then $4::timestamptz + greatest(
                        reset, least(interval '1 second' * power(2, least(throttles, 12)), interval '1 hour'))
                    when window_length > interval '1 hour' then $4::timestamptz + interval '1 hour'
                    else $4::timestamptz + least(interval '5 minutes' * power(2, least(throttles, 10)), interval '1 hour')
                end)
        from before
        where account = $1 and bucket = $2
        returning closed_until as "until!", was_closed as "was_closed!"
        "#,
        account.as_str(),
        bucket.as_str(),
        reset_seconds,
        now,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("close a bucket"))?;
    Ok((!closed.was_closed).then_some(closed.until))
}

/// Until when any of some buckets is closed; `None`: they are open.
pub async fn closed_until(
    conn: &mut PgConnection,
    account: &AccountName,
    buckets: &[Bucket],
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let buckets: Vec<String> = buckets.iter().map(|bucket| bucket.as_str().to_owned()).collect();
    sqlx::query_scalar!(
        r#"
        select max(closed_until) from impact_mirror.bucket
        where account = $1 and bucket = any($2) and closed_until > $3
        "#,
        account.as_str(),
        &buckets,
        now,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look whether a bucket is closed"))
}
