//! How much of a bucket each class may take now. Higher classes go first, but every class has a minimum; and nobody takes
//! now what a higher class will need before it is free again.

use chrono::{DateTime, TimeDelta, Utc};

use super::demand::Demand;
use super::{Action, Because};
use crate::export::Reason;

/// These parts of a bucket are guaranteed in every window. Rows that were changed are missed more than old ones are.
const GUARANTEED_TO_REFRESH: f64 = 0.25;
const GUARANTEED_TO_BACKFILL: f64 = 0.15;

/// A call that higher classes are expected to make may have to wait this long: what was read yesterday some time after its
/// tick is free again as long after today's. A newest day that is read that much later keeps a promise of 26 hours.
const GRACE: TimeDelta = TimeDelta::hours(2);

/// What is known of a bucket.
#[derive(Debug, Clone)]
pub struct BudgetState {
    /// Our share of what impact.com grants in a window.
    pub limit: u32,
    /// How long a charge counts.
    pub window: TimeDelta,
    /// The charges that still count.
    pub charges: Vec<Spent>,
    /// What the planned jobs are for that will be charged. They count like charges, but make way for what is wanted more.
    pub planned: Vec<Reason>,
    /// Closed by a 429 until then.
    pub closed_until: Option<DateTime<Utc>>,
    /// What the response headers leave, where that is less than our own count does.
    pub at_most: Option<AtMost>,
    /// What a Replay costs: 1, or 0 where the account is known not to pay for it.
    pub replay_cost: u32,
}

impl BudgetState {
    /// What an order costs.
    pub(super) fn cost(&self, action: Action) -> u32 {
        match action {
            Action::Submit => 1,
            Action::Replay => self.replay_cost,
        }
    }
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

/// A bucket while a plan is made at one moment.
#[derive(Debug)]
pub(super) struct Purse {
    limit: u32,
    window: TimeDelta,
    /// After a 429.
    is_closed: bool,
    /// Calls possible now.
    room: u32,
    /// When there may be more; `None`: never, for the limit is zero.
    next_room_at: Option<DateTime<Utc>>,
    refresh: Share,
    backfill: Share,
    /// Planned jobs that can make way, by class.
    planned: [u32; 4],
    /// Those that do, by class.
    called_off: [u32; 4],
    /// The calls a day that each class can count on for long: any class, refreshes, backfill.
    steady: [u32; 3],
    refused: [u32; 4],
}

/// What one of the lower classes has of a bucket.
#[derive(Debug)]
struct Share {
    /// Its minimum.
    guaranteed: u32,
    /// Its calls that count.
    counting: u32,
    /// Its windows that want a call.
    waiting: u32,
    /// What the higher classes will leave at the tightest moment of the coming window.
    spare: i64,
}

impl Share {
    /// What others have to leave for its minimum.
    fn reserved(&self) -> u32 {
        self.guaranteed.saturating_sub(self.counting).min(self.waiting)
    }

    fn may_take(&self) -> bool {
        self.counting < self.guaranteed || self.spare > 0
    }
}

/// How many windows of the classes that have a minimum want a call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waiting {
    pub refresh: u32,
    pub backfill: u32,
}

/// Why a purse stays shut.
pub(super) struct Refusal {
    pub because: Because,
    /// When this window's turn may come; `None`: never, for the limit is zero.
    pub expected_at: Option<DateTime<Utc>>,
}

impl Purse {
    pub fn new(state: &BudgetState, demand: &Demand, waiting: Waiting, now: DateTime<Utc>) -> Self {
        let limit = state.limit;
        let planned = state.planned.iter().map(|reason| Spent { at: now, reason: Some(*reason) });
        let charges = || state.charges.iter().copied().chain(planned.clone());
        let counting = || charges().filter(|spent| spent.at + state.window > now);
        let mut frees: Vec<DateTime<Utc>> = counting().map(|spent| spent.at + state.window).collect();
        frees.sort_unstable();
        let closed_until = state.closed_until.filter(|until| *until > now);
        let at_most = state.at_most.filter(|at_most| at_most.until > now);
        let left = at_most.map_or(u32::MAX, |at_most| at_most.left);
        let room = if closed_until.is_some() { 0 } else { limit.saturating_sub(count(frees.len())).min(left) };

        let next_free_at = frees.first().copied().unwrap_or(now + state.window);
        let next_room_at = [closed_until, at_most.filter(|one| one.left == 0).map(|one| one.until)]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(next_free_at);
        let share = |reason, waiting, demand: &[DateTime<Utc>]| Share {
            guaranteed: guaranteed(reason, limit),
            counting: count(counting().filter(|spent| spent.reason == Some(reason)).count()),
            waiting,
            spare: spare(limit, &frees, demand, at_most, now + state.window),
        };
        let above_backfill = demand.above_backfill();
        let planned = Reason::ALL.map(|reason| count(state.planned.iter().filter(|one| **one == reason).count()));
        Self {
            limit,
            window: state.window,
            is_closed: closed_until.is_some(),
            room,
            next_room_at: (limit > 0).then_some(next_room_at),
            refresh: share(Reason::Refresh, waiting.refresh, &demand.fresh),
            backfill: share(Reason::Backfill, waiting.backfill, &above_backfill),
            steady: [
                limit,
                steady(Reason::Refresh, limit, demand.fresh.len()),
                steady(Reason::Backfill, limit, above_backfill.len()),
            ],
            planned,
            called_off: [0; 4],
            refused: [0; 4],
        }
    }

    /// Takes one call out now, or says why not and when its turn may come. One that costs nothing only waits for a closed
    /// bucket.
    pub fn spend(&mut self, reason: Reason, cost: u32) -> Result<(), Refusal> {
        if cost == 0 && !self.is_closed {
            return Ok(());
        }
        let is_allowed = match reason {
            Reason::Manual => self.room > 0,
            Reason::Fresh => self.room > self.reserved_against_fresh(),
            Reason::Refresh => self.room > self.backfill.reserved() && self.refresh.may_take(),
            Reason::Backfill => self.room > 0 && self.backfill.may_take(),
        };
        if !is_allowed && (cost == 0 || !self.call_off_for(reason)) {
            let because = if self.room == 0 { Because::Quota } else { Because::Share };
            return Err(Refusal { because, expected_at: self.turn(reason) });
        }
        self.take(reason);
        Ok(())
    }

    /// Takes one call out for a job that was planned before: the shares were asked then. Says whether there is room.
    pub fn grant(&mut self, reason: Reason, cost: u32) -> bool {
        if cost == 0 {
            return !self.is_closed;
        }
        let has_room = self.room > 0;
        if has_room {
            self.take(reason);
        }
        has_room
    }

    fn take(&mut self, reason: Reason) {
        self.room -= 1;
        self.refresh.spare -= 1;
        self.backfill.spare -= 1;
        match reason {
            Reason::Manual | Reason::Fresh => {}
            Reason::Refresh => self.refresh.take(),
            Reason::Backfill => self.backfill.take(),
        }
    }

    /// Lets a planned job of the least wanted class make way for a call of `reason`. Only work that cannot wait has that
    /// done, and a fresh day leaves the classes their minimum.
    fn call_off_for(&mut self, reason: Reason) -> bool {
        let may_go = |class: Reason, share: &Share| match reason {
            Reason::Manual => self.planned[class as usize] > 0,
            Reason::Fresh => self.planned[class as usize] > 0 && share.counting > share.guaranteed,
            Reason::Refresh | Reason::Backfill => false,
        };
        let class = if may_go(Reason::Backfill, &self.backfill) {
            Reason::Backfill
        } else if may_go(Reason::Refresh, &self.refresh) {
            Reason::Refresh
        } else if reason == Reason::Manual && self.planned[Reason::Fresh as usize] > 0 {
            Reason::Fresh
        } else {
            return false;
        };
        self.planned[class as usize] -= 1;
        self.called_off[class as usize] += 1;
        self.room += 1;
        self.refresh.spare += 1;
        self.backfill.spare += 1;
        match class {
            Reason::Manual | Reason::Fresh => {}
            Reason::Refresh => self.refresh.give_back(),
            Reason::Backfill => self.backfill.give_back(),
        }
        true
    }

    /// How many planned jobs of each class make way for what was spent.
    pub fn called_off(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::ALL.into_iter().zip(self.called_off).filter(|(_, jobs)| *jobs > 0)
    }

    /// Of a limit of two, one call is left for fresh days even where both minimums want one.
    fn reserved_against_fresh(&self) -> u32 {
        let others = self.refresh.counting + self.backfill.counting;
        let most = self.limit.saturating_sub(1).saturating_sub(others);
        (self.refresh.reserved() + self.backfill.reserved()).min(most)
    }

    /// The calls a day that a class can count on for long.
    pub fn steady(&self, reason: Reason) -> u32 {
        match reason {
            Reason::Manual | Reason::Fresh => self.steady[0],
            Reason::Refresh => self.steady[1],
            Reason::Backfill => self.steady[2],
        }
    }

    /// When the next window of a class that is refused may have its turn: each that was refused before it takes a call.
    fn turn(&mut self, reason: Reason) -> Option<DateTime<Utc>> {
        let before = &mut self.refused[reason as usize];
        let rounds = *before / self.steady[(reason as usize).saturating_sub(1)].max(1);
        *before += 1;
        let rounds = i32::try_from(rounds).unwrap_or(i32::MAX);
        Some(self.next_room_at? + self.window.checked_mul(rounds).unwrap_or(TimeDelta::MAX / 1_000))
    }
}

impl Share {
    fn take(&mut self) {
        self.counting += 1;
        self.waiting = self.waiting.saturating_sub(1);
    }

    fn give_back(&mut self) {
        self.counting = self.counting.saturating_sub(1);
        self.waiting += 1;
    }
}

/// The minimum of a class in every window.
pub(super) fn guaranteed(reason: Reason, limit: u32) -> u32 {
    let share = match reason {
        Reason::Manual | Reason::Fresh => return 0,
        Reason::Refresh => GUARANTEED_TO_REFRESH,
        Reason::Backfill => GUARANTEED_TO_BACKFILL,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
    let part = (f64::from(limit) * share).round() as u32;
    if limit < 2 { 0 } else { part.max(1) }
}

/// What a class can take day by day where classes above it want `above`.
fn steady(reason: Reason, limit: u32, above: usize) -> u32 {
    limit.saturating_sub(count(above)).max(guaranteed(reason, limit))
}

/// How many calls more may be made now so that, at every moment of the coming window, what still counts and what will have
/// been demanded by then fits into the limit. What counts changes for the worse only where a call is demanded.
fn spare(
    limit: u32,
    frees: &[DateTime<Utc>],
    demand: &[DateTime<Utc>],
    at_most: Option<AtMost>,
    free_again_at: DateTime<Utc>,
) -> i64 {
    let mut spare = i64::from(limit) - length(frees.len());
    if let Some(at_most) = at_most {
        spare = spare.min(i64::from(at_most.left));
    }
    for (before, at) in demand.iter().enumerate() {
        let at = *at + GRACE;
        if at >= free_again_at {
            break; // what is called now does not count any more by then
        }
        let counting = frees.len() - frees.partition_point(|free| *free <= at);
        let demanded = length(before) + 1;
        spare = spare.min(i64::from(limit) - length(counting) - demanded);
        if let Some(at_most) = at_most.filter(|at_most| at < at_most.until) {
            spare = spare.min(i64::from(at_most.left) - demanded);
        }
    }
    spare
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn length(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
