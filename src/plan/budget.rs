//! How much of a bucket may be spent now, and when the rest frees up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use chrono::{DateTime, TimeDelta, Utc};

use super::Because;
use crate::export::Reason;

/// At most this part of a bucket is kept for fresh days; the rest is there for backfill too.
const FRESH_SHARE: f64 = 0.8;

/// What is known of a bucket.
#[derive(Debug, Clone)]
pub struct BudgetState {
    /// Our share of what impact.com grants in a window.
    pub limit: u32,
    /// How long a charge counts.
    pub window: TimeDelta,
    /// When each charge that still counts was made, and whether it was for backfill. Planned jobs stand here too.
    pub charges: Vec<(DateTime<Utc>, bool)>,
    /// Closed by a 429 until then.
    pub closed_until: Option<DateTime<Utc>>,
}

/// A bucket while a plan is made.
pub(super) struct Purse {
    limit: u32,
    window: TimeDelta,
    backfill_limit: u32,
    /// When each charge stops counting, soonest first.
    frees: BinaryHeap<Reverse<DateTime<Utc>>>,
    backfill_frees: BinaryHeap<Reverse<DateTime<Utc>>>,
    opens_at: DateTime<Utc>,
}

/// Why a purse stays shut.
pub(super) struct Refusal {
    pub because: Because,
    /// When this window's turn comes; `None`: never, for the limit is zero.
    pub expected_at: Option<DateTime<Utc>>,
}

impl Purse {
    pub fn new(state: &BudgetState, fresh_calls_per_day: u32, now: DateTime<Utc>) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
        let most_kept = (f64::from(state.limit) * FRESH_SHARE).floor() as u32;
        let frees_at = |at: DateTime<Utc>| Reverse(at + state.window);
        let counts = |at: &DateTime<Utc>| *at + state.window > now;
        Self {
            limit: state.limit,
            window: state.window,
            backfill_limit: state.limit - fresh_calls_per_day.min(most_kept),
            frees: state.charges.iter().filter(|(at, _)| counts(at)).map(|(at, _)| frees_at(*at)).collect(),
            backfill_frees: state
                .charges
                .iter()
                .filter(|(at, is_backfill)| *is_backfill && counts(at))
                .map(|(at, _)| frees_at(*at))
                .collect(),
            opens_at: state.closed_until.map_or(now, |until| until.max(now)),
        }
    }

    /// How many calls of a window backfill may take.
    pub fn backfill_limit(&self) -> u32 {
        self.backfill_limit
    }

    /// Takes one call out, now or, by refusing, at the time it will be possible.
    pub fn spend(&mut self, reason: Reason, now: DateTime<Utc>) -> Result<(), Refusal> {
        if self.limit == 0 {
            return Err(Refusal { because: Because::Quota, expected_at: None });
        }
        let is_backfill = reason == Reason::Backfill;
        let mut at = self.opens_at;
        let mut because = Because::Quota;
        if is_backfill && self.backfill_frees.len() >= self.backfill_limit as usize {
            match self.backfill_frees.pop() {
                Some(Reverse(free_at)) => {
                    if free_at > at {
                        because = Because::Share;
                        at = free_at;
                    }
                }
                None => return Err(Refusal { because: Because::Share, expected_at: None }),
            }
        }
        if self.frees.len() >= self.limit as usize {
            let Reverse(free_at) = self.frees.pop().expect("the limit is not zero");
            if free_at > at {
                because = Because::Quota;
                at = free_at;
            }
        }
        self.frees.push(Reverse(at + self.window));
        if is_backfill {
            self.backfill_frees.push(Reverse(at + self.window));
        }
        if at <= now { Ok(()) } else { Err(Refusal { because, expected_at: Some(at) }) }
    }
}
