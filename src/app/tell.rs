//! Sends what was written into the outbox, a receiver at a time and in order. A receiver that is slow or gone holds up nothing but
//! its own messages.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error_chain::Chain;
use crate::retry::backoff;
use crate::store;
use crate::store::outbox::{self, Message};
use crate::webhook::Webhook;
use crate::worker::Context;

/// How soon messages are found that another replica wrote, or left.
const LOOK: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_mins(10);
/// What is not taken for so long is of no use any more.
const KEEP: TimeDelta = TimeDelta::days(3);

/// Sends to one receiver, until told to stop.
pub(super) async fn send(context: Arc<Context>, webhook: Webhook, stop: CancellationToken) {
    let _beat = context.pulse.begin_silent("messages");
    let bell = if webhook.section() == "alerts" { &context.wakes.alerts } else { &context.wakes.downstream };
    loop {
        let pause = tokio::select! {
            biased;
            () = stop.cancelled() => return, // what was under way is sent again
            pause = all(&context.pool, &webhook) => pause,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Sends what may be sent now, for a command that ends; what is not taken is left to the next.
pub(super) async fn once(pool: &PgPool, webhooks: &[Webhook]) {
    for webhook in webhooks {
        if tokio::time::timeout(LOOK, all(pool, webhook)).await.is_err() {
            tracing::warn!("the receiver of [{}] is slow; the next sync or run sends it the rest", webhook.section());
        }
    }
}

/// Sends what may be sent now; gives the pause after it.
async fn all(pool: &PgPool, webhook: &Webhook) -> Duration {
    loop {
        match one(pool, webhook).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "cannot look for messages; trying again");
                return LOOK;
            }
        }
    }
    let next = outbox::next_in(pool, webhook.section()).await.ok().flatten();
    next.map_or(LOOK, |seconds| Duration::from_secs_f64(seconds).clamp(Duration::from_millis(50), LOOK))
}

/// Sends the oldest message, if its time has come.
async fn one(pool: &PgPool, webhook: &Webhook) -> Result<bool, store::Error> {
    let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
    let Some(message) = outbox::claim(&mut conn, webhook.section()).await? else { return Ok(false) };
    drop(conn); // none is held while a receiver is spoken to
    let sent = webhook.send(message.id, &body(&message), Clock.now().timestamp()).await;
    let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
    match sent {
        Ok(()) => outbox::remove(&mut conn, message.id).await?,
        Err(error) if error.is_final() || Clock.now() - message.created_at > KEEP => {
            tracing::error!(
                error = %Chain(&error), message.id,
                "a message to [{}] is given up", webhook.section()
            );
            outbox::remove(&mut conn, message.id).await?;
        }
        Err(error) => {
            if message.attempts == 1 {
                tracing::warn!(error = %Chain(&error), message.id, "a message was not taken; it is sent again");
            }
            let tries = u32::try_from(message.attempts).unwrap_or(u32::MAX);
            let pause = backoff(tries, Duration::from_secs(1), LONGEST, 1.0);
            let pause = TimeDelta::from_std(pause).expect("ten minutes at most");
            let words = Chain(&error).to_string();
            outbox::put_off(&mut conn, &message, pause, &words).await?;
        }
    }
    Ok(true)
}

/// What is sent: what was written, with its number and its time.
fn body(message: &Message) -> serde_json::Value {
    let mut body = message.body.clone();
    body["id"] = message.id.into();
    body["at"] = message.created_at.to_rfc3339().into();
    body
}
