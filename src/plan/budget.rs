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
    /// The charges that still count. Planned jobs stand here too.
    pub charges: Vec<Spent>,
    /// Closed by a 429 until then.
    pub closed_until: Option<DateTime<Utc>>,
    /// What the response headers leave, where that is less than our own count does.
    pub at_most: Option<AtMost>,
}

/// A call that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// When it was charged.
    pub at: DateTime<Utc>,
    /// What it was for; `None` where its job is gone.
    pub reason: Option<Reason>,
}

/// Fewer calls than our own count would allow: others spend from the same bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtMost {
    /// Calls left now.
    pub left: u32,
    /// Until then.
    pub until: DateTime<Utc>,
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
        let counts = |spent: &&Spent| spent.at + state.window > now;
        let is_backfill = |spent: &&Spent| spent.reason == Some(Reason::Backfill);
        Self {
            limit: state.limit,
            window: state.window,
            backfill_limit: state.limit - fresh_calls_per_day.min(most_kept),
            frees: state.charges.iter().filter(counts).map(|spent| frees_at(spent.at)).collect(),
            backfill_frees: state
                .charges
                .iter()
                .filter(counts)
                .filter(is_backfill)
                .map(|spent| frees_at(spent.at))
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
