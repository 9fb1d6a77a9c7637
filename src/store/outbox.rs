//! Messages to be sent. They are written with what they tell of and go when they were taken; those of a receiver keep their order.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::{Error, failed};

/// How long a try may take, its outcome included, before somebody else tries again.
const TRY: TimeDelta = TimeDelta::minutes(1);

/// A message whose turn it is.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its number: a receiver that hears it twice knows by it.
    pub id: i64,
    /// What it says.
    pub body: Value,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Tries so far, this one included.
    pub attempts: i32,
}

/// Writes a message, in the transaction of what it tells of.
pub async fn write(conn: &mut PgConnection, receiver: &str, body: &Value) -> Result<(), Error> {
    sqlx::query!("insert into impact_mirror.outbox (receiver, body) values ($1, $2)", receiver, body)
        .execute(conn)
        .await
        .map_err(failed("write a message"))?;
    Ok(())
}

/// Takes the oldest message to a receiver, if its time has come; whoever dies over it leaves it to be sent again.
pub async fn claim(conn: &mut PgConnection, receiver: &str) -> Result<Option<Message>, Error> {
    sqlx::query_as!(
        Message,
        r#"
        update impact_mirror.outbox
        set attempts = attempts + 1, run_at = now() + make_interval(secs => $2)
        where id = (select min(id) from impact_mirror.outbox where receiver = $1)
          and run_at <= now()
        returning id, body, created_at, attempts
        "#,
        receiver,
        TRY.as_seconds_f64(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("take a message"))
}

/// The message was taken, or is given up.
pub async fn remove(conn: &mut PgConnection, id: i64) -> Result<(), Error> {
    sqlx::query!("delete from impact_mirror.outbox where id = $1", id)
        .execute(conn)
        .await
        .map_err(failed("remove a message"))?;
    Ok(())
}

/// The message was not taken; it is sent again after a pause.
pub async fn put_off(conn: &mut PgConnection, message: &Message, pause: TimeDelta, error: &str) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.outbox
        set run_at = now() + make_interval(secs => $3), last_error = $4
        where id = $1 and attempts = $2
        "#,
        message.id,
        message.attempts,
        pause.as_seconds_f64(),
        error,
    )
    .execute(conn)
    .await
    .map_err(failed("put a message off"))?;
    Ok(())
}

/// When the next message to a receiver may be sent, seen from now; `None` where there is none.
pub async fn next_in(pool: &PgPool, receiver: &str) -> Result<Option<f64>, Error> {
    sqlx::query_scalar!(
        r#"
        select greatest(extract(epoch from run_at - now()), 0)::float8 as "seconds!"
        from impact_mirror.outbox
        where receiver = $1
        order by id
        limit 1
        "#,
        receiver,
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("look for messages"))
}
