//! The actions of a program: what has happened to each of them by a given time.
//!
//! An action is a pure function of its stream, its day, its index and the time: it appears some time after its event, may change
//! its amount or be reversed while it is pending, is locked (approved) at its locking date and cleared later.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::dice::Dice;
use super::money::Cents;
use super::texts::{self, Named};
use super::zone::{day_end, day_number, day_start};

const ACTIONS: u64 = 1;
const ACTION_COUNT: u64 = 2;

/// What an account sees of one program: everything below is derived from it.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Where all dice of this stream start.
    pub key: u64,
    /// The program.
    pub program: u64,
    /// Its name.
    pub program_name: String,
    /// The zone that cuts the days.
    pub zone: Tz,
    /// The ISO code of the currency.
    pub currency: String,
    /// The first day that has any data.
    pub data_start: NaiveDate,
    /// Actions on an average day.
    pub actions_per_day: u32,
    /// Clicks on an average day.
    pub clicks_per_day: u32,
}

impl Stream {
    /// A count around `average` for `day`, which never changes again.
    pub(super) fn daily_count(&self, purpose: u64, average: u32, day: NaiveDate) -> u64 {
        if day < self.data_start {
            return 0;
        }
        let per_cent = 75 + Dice::new(&[self.key, purpose, day_number(day)]).below(51);
        u64::from(average) * per_cent / 100
    }

    /// When the thing with `index` of `count` happens: times grow with the index, so that order needs no sorting.
    pub(super) fn moment(&self, day: NaiveDate, index: u64, count: u64, dice: &mut Dice) -> DateTime<Utc> {
        let start = day_start(self.zone, day);
        let length = u64::try_from((day_end(self.zone, day) - start).num_seconds()).unwrap_or_default();
        let second = (index * length + dice.below(length)) / count.max(1);
        start + TimeDelta::seconds(i64::try_from(second).unwrap_or_default())
    }

    /// How many actions `day` will have in the end.
    pub fn action_count(&self, day: NaiveDate) -> u64 {
        self.daily_count(ACTION_COUNT, self.actions_per_day, day)
    }

    /// The action with `index` on `day` as it is at `now`; nothing while impact.com does not know it yet.
    pub fn action(self: &Arc<Self>, day: NaiveDate, index: u64, count: u64, now: DateTime<Utc>) -> Option<Action> {
        let (event_at, life, dice) = self.fate(day, index, count);
        (life.appears_at <= now).then(|| Action::at(self, day, index, event_at, &life, dice, now))
    }

    /// The moments at which something happens to an action, soonest first; between them it stays as it is.
    pub(super) fn moments(&self, day: NaiveDate, index: u64, count: u64) -> Vec<DateTime<Utc>> {
        let (_, life, _) = self.fate(day, index, count);
        let certain = [life.appears_at, life.locking_at, life.clearing_at];
        let mut moments: Vec<_> = certain.into_iter().chain(life.changed_at).chain(life.reversed_at).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// When an action happens, what becomes of it, and the dice for everything else about it.
    fn fate(&self, day: NaiveDate, index: u64, count: u64) -> (DateTime<Utc>, Life, Dice) {
        let mut dice = Dice::new(&[self.key, ACTIONS, day_number(day), index]);
        let event_at = self.moment(day, index, count, &mut dice);
        let appears_at = event_at + delay(&mut dice);
        let life = Life::throw(&mut dice, self, day, appears_at);
        (event_at, life, dice)
    }
}

/// How long after its event impact.com shows an action: mostly minutes, sometimes days (late and batched ones).
fn delay(dice: &mut Dice) -> TimeDelta {
    let seconds = match dice.below(100) {
        0 => 86_400 + dice.below(20 * 86_400),
        1..=3 => 7_200 + dice.below(3 * 86_400),
        _ => 120 + dice.below(3_600),
    };
    TimeDelta::seconds(i64::try_from(seconds).unwrap_or_default())
}

/// What will happen to an action, and when.
#[derive(Debug)]
struct Life {
    appears_at: DateTime<Utc>,
    changed_at: Option<DateTime<Utc>>,
    change_per_cent: i64,
    reversed_at: Option<DateTime<Utc>>,
    locking_at: DateTime<Utc>,
    clearing_at: DateTime<Utc>,
}

impl Life {
    fn throw(dice: &mut Dice, stream: &Stream, day: NaiveDate, appears_at: DateTime<Utc>) -> Self {
        let terms = 30 + (stream.program / 1000 % 2) * 15;
        let locking_at = day_start(stream.zone, day + Days::new(terms));
        let clearing_at = day_start(stream.zone, day + Days::new(terms + 20));
        let mut within = |per_mille: u64, days: u64| {
            let happens = dice.chance(per_mille);
            let wait = TimeDelta::seconds(i64::try_from(3_600 + dice.below(days * 86_400)).unwrap_or_default());
            (happens && appears_at + wait < locking_at).then_some(appears_at + wait)
        };
        let (changed_at, reversed_at) = (within(150, 20), within(90, 25));
        let change_per_cent = 40 + i64::try_from(dice.below(100)).unwrap_or_default();
        Self { appears_at, changed_at, change_per_cent, reversed_at, locking_at, clearing_at }
    }
}

/// Where an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Tracked, may still change.
    Pending,
    /// Locked.
    Approved,
    /// Taken back; its amounts are zero.
    Reversed,
}

impl Status {
    /// impact.com's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Reversed => "REVERSED",
        }
    }
}

/// One action at one time.
#[derive(Debug, Clone)]
pub struct Action {
    /// Whose action it is.
    pub stream: Arc<Stream>,
    /// Unique within the program.
    pub id: String,
    /// The day it is filed under.
    pub day: NaiveDate,
    /// When the customer acted.
    pub event_at: DateTime<Utc>,
    /// When the customer was sent.
    pub referred_at: DateTime<Utc>,
    /// The last thing that happened to it.
    pub modified_at: DateTime<Utc>,
    /// When it is locked.
    pub locking_at: DateTime<Utc>,
    /// When it is to be cleared.
    pub clearing_at: DateTime<Utc>,
    /// Whether it has been cleared.
    pub cleared: bool,
    /// Where it stands.
    pub status: Status,
    /// What the customer pays now.
    pub sale: Cents,
    /// What the customer paid at first.
    pub original_sale: Cents,
    /// What the partner earns now.
    pub payout: Cents,
    /// What the partner earned at first.
    pub original_payout: Cents,
    /// Whether amounts are padded to 18 decimals.
    pub long_amounts: bool,
    /// Who sent the customer.
    pub partner: Named,
    /// What was clicked.
    pub ad: Named,
    /// What kind of action it is.
    pub tracker: Named,
    /// The buyer's own order number.
    pub order: String,
    /// Promotion code, mostly empty.
    pub promo_code: &'static str,
    /// City, region, country.
    pub place: [&'static str; 3],
    /// SKU, name and category.
    pub item: (&'static str, &'static str, &'static str),
    /// How many of it.
    pub quantity: u64,
    /// Free text.
    pub note: &'static str,
    /// Free text of the partner.
    pub sub_id: &'static str,
    /// Whether the customer is new.
    pub new_customer: bool,
    /// A rate with many decimals.
    pub exchange_rate: u64,
}

impl Action {
    fn at(
        stream: &Arc<Stream>,
        day: NaiveDate,
        index: u64,
        event_at: DateTime<Utc>,
        life: &Life,
        mut dice: Dice,
        now: DateTime<Utc>,
    ) -> Self {
        let past = |moment: Option<DateTime<Utc>>| moment.filter(|moment| *moment <= now);
        let status = match () {
            () if past(life.reversed_at).is_some() => Status::Reversed,
            () if life.locking_at <= now => Status::Approved,
            () => Status::Pending,
        };
        let modified_at = [past(life.changed_at), past(life.reversed_at), past(Some(life.locking_at))]
            .into_iter()
            .flatten()
            .fold(life.appears_at, DateTime::max);
        let amount = i64::try_from(99 + dice.below(25_000)).unwrap_or_default();
        let original_sale = Cents(if dice.chance(10) { -amount } else { amount });
        let original_payout = original_sale.share(4 + i64::try_from(stream.program % 5).unwrap_or_default());
        let now_worth = |original: Cents| match status {
            Status::Reversed => Cents(0),
            Status::Pending | Status::Approved if past(life.changed_at).is_some() => {
                original.share(life.change_per_cent)
            }
            Status::Pending | Status::Approved => original,
        };
        let tracker = dice.pick(texts::TRACKERS);
        let referred = TimeDelta::seconds(i64::try_from(30 + dice.below(3 * 86_400)).unwrap_or_default());
        Self {
            stream: Arc::clone(stream),
            id: format!("{}.{}.{}", stream.program, tracker.0, day_number(day) * 100_000 + index),
            day,
            event_at,
            referred_at: event_at - referred,
            modified_at,
            locking_at: life.locking_at,
            clearing_at: life.clearing_at,
            cleared: life.clearing_at <= now,
            status,
            sale: now_worth(original_sale),
            original_sale,
            payout: now_worth(original_payout),
            original_payout,
            long_amounts: dice.chance(100),
            partner: dice.pick(texts::PARTNERS),
            ad: dice.pick(texts::ADS),
            tracker,
            order: format!("ORD-{:08}", dice.below(100_000_000)),
            promo_code: dice.pick(texts::PROMO_CODES),
            place: dice.pick(texts::PLACES),
            item: dice.pick(texts::ITEMS),
            quantity: 1 + dice.below(4),
            note: texts::free_text(&mut dice, &["gift order", "called support", "phone order"]),
            sub_id: texts::free_text(&mut dice, &["newsletter", "homepage", "app"]),
            new_customer: dice.chance(400),
            exchange_rate: dice.below(1_000_000_000_000_000_000),
        }
    }

    /// The detail that goes with the status; paid ones say so only after clearing.
    pub fn status_detail(&self) -> &'static str {
        match self.status {
            Status::Pending => "",
            Status::Approved if self.cleared => "PAID",
            Status::Approved => "LOCKED",
            Status::Reversed => "RETURNED",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn stream() -> Arc<Stream> {
        Arc::new(Stream {
            key: 7,
            program: 1000,
            program_name: "Acme".into(),
            zone: chrono_tz::America::New_York,
            currency: "USD".into(),
            data_start: "2024-01-01".parse().unwrap(),
            actions_per_day: 400,
            clicks_per_day: 600,
        })
    }

    fn snapshot(now: &str) -> Vec<(String, Status, Cents)> {
        let (stream, day) = (stream(), "2026-05-04".parse().unwrap());
        let count = stream.action_count(day);
        (0..count)
            .filter_map(|index| stream.action(day, index, count, now.parse().unwrap()))
            .map(|action| (action.id, action.status, action.sale))
            .collect()
    }

    #[test]
    fn the_past_is_restated_until_everything_is_locked() {
        let early = snapshot("2026-05-05T12:00:00Z");
        let later = snapshot("2026-05-20T12:00:00Z");
        let locked = snapshot("2026-08-01T12:00:00Z");
        assert_eq!(early, snapshot("2026-05-05T12:00:00Z"));
        assert!(later.len() > early.len(), "late actions appear");
        assert!(early.iter().all(|row| row.1 != Status::Approved));
        assert!(early.iter().any(|row| later.iter().any(|now| now.0 == row.0 && now.1 == Status::Reversed)));
        assert!(early.iter().any(|row| later.iter().any(|now| now.0 == row.0 && now.1 == row.1 && now.2 != row.2)));
        assert!(locked.iter().all(|row| row.1 != Status::Pending));
        assert_eq!(locked, snapshot("2027-08-01T12:00:00Z"));
    }

    #[test]
    fn every_action_happens_on_its_day() {
        let (stream, now) = (stream(), "2027-01-01T00:00:00Z".parse().unwrap());
        for day in ["2026-03-08", "2026-11-01"] {
            let day = day.parse().unwrap();
            let count = stream.action_count(day);
            let times: Vec<_> =
                (0..count).filter_map(|index| stream.action(day, index, count, now)).map(|one| one.event_at).collect();
            assert!(times.is_sorted());
            assert!(times[0] >= day_start(stream.zone, day));
            assert!(times[times.len() - 1] < day_end(stream.zone, day));
        }
    }
}
