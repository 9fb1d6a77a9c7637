//! The leases of steps under way. A step that is over, however it ended, is not renewed: where its outcome could not be
//! written, its lease runs out although the process lives on, and the step is repeated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Instrument as _;
use uuid::Uuid;

use super::ledger::Since;
use super::{Context, Stop};
use crate::error_chain::Chain;
use crate::failpoint;
use crate::store;

/// While stopping, how soon the heartbeat sees that no step is left.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The leases of a process, each with when it was last taken or renewed.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashMap<Uuid, Since>>);

impl Leases {
    /// Counts a lease that was taken then as in use until the value is dropped.
    pub(super) fn hold(&self, lease: Uuid, since: Since) -> Held<'_> {
        self.all().insert(lease, since);
        Held { leases: self, lease }
    }

    /// The leases in use.
    pub(super) fn held(&self) -> Vec<Uuid> {
        self.all().keys().copied().collect()
    }

    /// Notes that a renewal began then which Postgres granted; of those only that are in use still.
    pub(super) fn renewed(&self, leases: &[Uuid], since: Since) {
        let mut all = self.all();
        for lease in leases {
            all.entry(*lease).and_modify(|renewed| *renewed = since);
        }
    }

    /// What comes of some work, while no other replica can have the lease, which lasts so long from each renewal. `None`: it
    /// was about to run out, and the work was not begun, or dropped.
    ///
    /// What was sent may take effect a moment later, so the work is dropped a sixth of a lease early.
    pub(super) async fn while_ours<T>(
        &self,
        lease: Uuid,
        lasting: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let left = || self.all().get(&lease).and_then(|since| since.left_of(safe_part_of(lasting)));
        left()?;
        let ends = async {
            while let Some(left) = left() {
                tokio::time::sleep(left).await;
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = ends => None,
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Since>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long after a renewal an order may still be on its way, with leases of this length.
pub(super) fn safe_part_of(lasting: Duration) -> Duration {
    lasting * 5 / 6
}

/// A lease in use.
#[derive(Debug)]
pub(super) struct Held<'a> {
    leases: &'a Leases,
    lease: Uuid,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.leases.all().remove(&self.lease);
    }
}

/// Renews the leases in use until told to stop and no step is left.
pub(super) async fn heartbeat(context: Arc<Context>, stop: Stop) {
    let every = context.worker.lease / 3;
    let beat = context.pulse.begin("leases");
    let mut pause = every;
    loop {
        beat.round(every + context.pulse.query());
        let is_stopping = stop.gently.is_cancelled();
        tokio::select! {
            biased;
            () = stop.now.cancelled() => break,
            () = stop.gently.cancelled(), if !is_stopping => {}
            () = tokio::time::sleep(if is_stopping { pause.min(LAST_STEPS) } else { pause }) => {}
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
            let since = Since::now();
            let renewed = store::transition::heartbeat(&mut conn, &leases, context.worker.lease).await?;
            context.leases.renewed(&renewed, since);
            failpoint::reach("lease-renewed");
            Ok::<_, store::Error>(())
        };
        let renewed = renewed.instrument(tracing::debug_span!("heartbeat")).await;
        store::tell(&beat, &renewed);
        pause = if renewed.is_ok() { every } else { every.min(AGAIN) };
        if let Err(error) = renewed {
            tracing::warn!(error = %Chain(&error), "cannot renew leases; trying again");
        }
    }
}
