//! The leases of steps under way. A step that is over, however it ended, is not renewed: where its outcome could not be
//! written, its lease runs out although the process lives on, and the step is repeated.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::Instrument as _;
use uuid::Uuid;

use super::{Context, Stop};
use crate::error_chain::Chain;
use crate::failpoint;
use crate::store;

/// While stopping, how soon the heartbeat sees that no step is left.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// The leases of a process.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashSet<Uuid>>);

impl Leases {
    /// Counts a lease as in use until the value is dropped.
    pub(super) fn hold(&self, lease: Uuid) -> Held<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(lease);
        Held { leases: self, lease }
    }

    /// The leases in use.
    pub(super) fn held(&self) -> Vec<Uuid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// A lease in use.
#[derive(Debug)]
pub(super) struct Held<'a> {
    leases: &'a Leases,
    lease: Uuid,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.leases.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lease);
    }
}

/// Renews the leases in use until told to stop and no step is left.
pub(super) async fn heartbeat(context: Arc<Context>, stop: Stop) {
    let every = context.worker.lease / 3;
    let beat = context.pulse.begin("leases");
    loop {
        beat.round(every + context.pulse.query());
        let is_stopping = stop.gently.is_cancelled();
        tokio::select! {
            biased;
            () = stop.now.cancelled() => break,
            () = stop.gently.cancelled(), if !is_stopping => {}
            () = tokio::time::sleep(if is_stopping { every.min(LAST_STEPS) } else { every }) => {}
        }
        let leases = context.leases.held();
        if leases.is_empty() {
            if stop.gently.is_cancelled() {
                break;
            }
            beat.worked();
            continue;
        }
        let renewed = async {
            let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
            store::transition::heartbeat(&mut conn, &leases, context.worker.lease).await?;
            failpoint::reach("lease-renewed");
            Ok::<_, store::Error>(())
        };
        let renewed = renewed.instrument(tracing::debug_span!("heartbeat")).await;
        store::tell(&beat, &renewed);
        if let Err(error) = renewed {
            tracing::warn!(error = %Chain(&error), "cannot renew leases; trying again");
        }
    }
}
