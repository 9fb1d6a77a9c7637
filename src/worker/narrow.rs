//! What a window leads to that impact.com refuses or cuts: its days again in shorter windows, or the end.

use sqlx::PgConnection;

use super::outcome::give_up;
use crate::failpoint;
use crate::job::Job;
use crate::job::narrow::{AfterRefusal, after_refusal};
use crate::retry::ErrorKind;
use crate::store;
use crate::store::transition::Move;

/// Ends a job whose window was refused or cut: called off where shorter windows are worth a try, so that its days are planned
/// again at once, else failed.
pub(super) async fn or_give_up(
    conn: &mut PgConnection,
    job: &Job,
    kind: ErrorKind,
    message: String,
    holder: &str,
) -> Result<(), store::Error> {
    if job.compares {
        return give_up(conn, job, kind, message, holder).await;
    }
    // A plan that is being made knows nothing of what is learned here: it goes first, and what it plans is called off.
    store::coverage::lock_planning(conn).await?;
    let limit = store::window_limit::lock(conn, job).await?;
    let now = store::coverage::database_now(conn).await?;
    match after_refusal(job.window.len_days(), limit.as_ref(), &message, now) {
        AfterRefusal::Narrow { max_days } => {
            store::window_limit::try_shorter(conn, job, max_days, &message).await?;
            let called_off = store::window_limit::call_off_longer(conn, job, max_days, holder).await?;
            let window = job.window;
            tracing::warn!(error = message, max_days, called_off, "{window} is too long; trying shorter windows");
            let message = format!("{message}; its days are ordered again in windows of at most {max_days} days");
            store::transition::advance(conn, job, Move::Cancelled { kind, message }, holder).await?;
            // Its days are planned anew at once, by another replica where this one dies.
            store::wake::notify(conn).await?;
            failpoint::reach("narrow-written");
            Ok(())
        }
        AfterRefusal::Fail => give_up(conn, job, kind, message, holder).await,
        AfterRefusal::FailAll => {
            store::window_limit::disprove(conn, job).await?;
            let with_it = store::window_limit::fail_planned(conn, job, kind, &message, holder).await?;
            tracing::warn!(with_it, "a single day is refused too");
            give_up(conn, job, kind, message, holder).await
        }
    }
}
