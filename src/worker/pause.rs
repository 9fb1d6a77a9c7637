//! How long a worker sleeps that found nothing to claim, and who of them wakes for the next job.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::retry::backoff;
use crate::store::job::NextDue;

/// A pool looks again after this long, or after a lease where that is shorter, whatever it was told: another replica's work
/// rings no bell, and where that dies, somebody has to see its leases run out.
pub(super) const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// The longest that a job which waits for nothing but a claim is left alone.
const DUE_AGAIN: Duration = Duration::from_secs(5);
/// The pause where nobody could be asked when the next job is due.
pub(super) const UNKNOWN_DUE: Duration = Duration::from_secs(1);

/// Who of a pool's idle workers looks next by the passing of time alone, and when: the others need not wake for the same job. Whoever
/// leaves it either claims a job, and rings for a colleague, or comes back.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<(usize, Instant)>>);

impl Watch {
    /// How long a worker that found nothing sleeps: for `pause`, or for as long as may be where a colleague looks by then.
    pub fn pause(&self, worker: usize, pause: Duration, longest: Duration) -> Duration {
        let now = Instant::now();
        let mut watched = self.0.lock().expect("nobody panics while holding it");
        match *watched {
            Some((_, at)) if at > now && at <= now + pause => longest,
            _ => {
                *watched = Some((worker, now + pause));
                pause
            }
        }
    }

    /// The worker is awake, and keeps no watch.
    pub fn leave(&self, worker: usize) {
        let mut watched = self.0.lock().expect("nobody panics while holding it");
        if watched.is_some_and(|(owner, _)| owner == worker) {
            *watched = None;
        }
    }
}

/// How long to wait where nothing could be claimed, `in_vain` times in a row though something was due. A planned job that
/// is due waits for something (a budget, another order) whose end rings a bell or takes long: it is asked after less and
/// less often. Any other waits for a claim alone, and soon has it.
pub(super) fn until_next(next: NextDue, in_vain: u32) -> Duration {
    let Some(left) = next.in_all else { return LOOK_AGAIN };
    if !left.is_zero() {
        return left.min(LOOK_AGAIN);
    }
    let cap = match next.ordered {
        None => LOOK_AGAIN,
        Some(left) if left.is_zero() => DUE_AGAIN,
        Some(left) => left.min(LOOK_AGAIN),
    };
    backoff(in_vain, Duration::from_millis(100), cap, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn next(in_all: Option<Duration>, ordered: Option<Duration>) -> NextDue {
        NextDue { in_all, ordered }
    }

    #[test]
    fn a_pool_sleeps_until_its_next_job_is_due() {
        assert_eq!(until_next(next(Some(SECOND), None), 0), SECOND);
        assert_eq!(until_next(next(Some(100 * SECOND), None), 0), LOOK_AGAIN);
        assert_eq!(until_next(NextDue::default(), 0), LOOK_AGAIN);
    }

    #[test]
    fn a_job_that_waits_for_its_budget_is_asked_after_less_and_less_often() {
        let blocked = next(Some(Duration::ZERO), None);
        let pauses: Vec<Duration> = [1, 2, 3, 30].map(|in_vain| until_next(blocked, in_vain)).into();
        assert_eq!(pauses, [SECOND / 10, SECOND / 5, 2 * SECOND / 5, LOOK_AGAIN]);
    }

    #[test]
    fn one_worker_of_a_pool_wakes_for_the_next_job() {
        let (watch, minute) = (Watch::default(), Duration::from_mins(1));
        assert_eq!(watch.pause(1, 2 * SECOND, minute), 2 * SECOND);
        assert_eq!(watch.pause(2, 3 * SECOND, minute), minute, "the first looks by then");
        assert_eq!(watch.pause(3, SECOND, minute), SECOND, "an earlier job is watched for");
        watch.leave(1);
        assert_eq!(watch.pause(1, 2 * SECOND, minute), minute, "the third still does");
        watch.leave(3);
        assert_eq!(watch.pause(2, 3 * SECOND, minute), 3 * SECOND, "whoever is awake watches for nobody");
    }

    #[test]
    fn a_lease_that_ran_out_or_soon_does_is_not_left_alone_for_a_minute() {
        assert_eq!(until_next(next(Some(Duration::ZERO), Some(Duration::ZERO)), 30), DUE_AGAIN);
        assert_eq!(until_next(next(Some(Duration::ZERO), Some(2 * SECOND)), 30), 2 * SECOND);
    }
}
