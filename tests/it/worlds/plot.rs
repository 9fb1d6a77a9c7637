//! What happens in a world, drawn from its seed alone.

use std::time::Duration;

use impact_mirror::sandbox::{Behaviours, Fault, FaultKind, Point};

use crate::engine::world::{actions, clicks, days_ago};
use crate::support::proxy::Line;

/// Answers under which an export is not what was asked for, so that no client could mirror it.
const NO_MIRROR: [&str; 3] = ["end_date=exclusive", "filter_zone=utc", "max_rows=100"];
/// Headers that lie close a bucket for as long as they say, or for an hour: the tests of the budget live with them.
const NOT_HERE: [&str; 1] = ["header_lies"];

/// Drawn numbers (SplitMix64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn happens(&mut self, in_a_hundred: u64) -> bool {
        self.next() % 100 < in_a_hundred
    }
}

/// Which line fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Impact,
    Postgres,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A call of impact.com goes wrong.
    Fault(Fault),
    /// A line fails for so long.
    Break(Whose, Line, Duration),
    /// So many hours pass at impact.com, and everything is asked for again.
    Restate(i64),
    /// impact.com answers in another way from now on.
    Switch(String),
    /// A replica dies, and another one begins.
    Kill(usize),
    /// A replica is stopped, and another one begins.
    Restart(usize),
}

/// The whole of it.
#[derive(Debug)]
pub struct Plot {
    pub seed: u64,
    pub switches: Vec<String>,
    pub exports: String,
    pub replicas: usize,
    /// What an account may order in a day, where that is little.
    pub few_orders: Option<u32>,
    /// Each after a pause.
    pub events: Vec<(Duration, Event)>,
}

impl Plot {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let switches = (0..dice.below(7)).map(|_| switch(&mut dice)).collect();
        let exports = exports(&mut dice);
        let replicas = 1 + dice.below(3);
        let few_orders = dice.happens(25).then(|| u32::try_from(dice.within(8, 12)).unwrap());
        let events = (0..dice.within(5, 12))
            .map(|_| (Duration::from_millis(dice.within(0, 700)), event(&mut dice, replicas)))
            .collect();
        Self { seed, switches, exports, replicas, few_orders, events }
    }

    /// Whether impact.com may take an order that it had before for a new one.
    pub fn forgets_orders(&self) -> bool {
        let later = self.events.iter().filter_map(|(_, event)| match event {
            Event::Switch(switch) => Some(switch),
            Event::Fault(_) | Event::Break(..) | Event::Restate(_) | Event::Kill(_) | Event::Restart(_) => None,
        });
        let forgetful = ["duplicate_memory=none", "duplicate_memory=day"];
        self.switches.iter().chain(later).any(|switch| forgetful.contains(&switch.as_str()))
    }
}

fn switch(dice: &mut Dice) -> String {
    loop {
        let behaviour = dice.one(Behaviours::all());
        let setting = format!("{}={}", behaviour.name, dice.one(behaviour.values));
        if !NOT_HERE.contains(&behaviour.name) && !NO_MIRROR.contains(&setting.as_str()) {
            return setting;
        }
    }
}

fn exports(dice: &mut Dice) -> String {
    let report = |name: &str, account: &str, handle: &str, days: u64, more: &str| {
        let since = days_ago(days);
        format!("[exports.{name}]\naccounts = [\"{account}\"]\nreport = \"{handle}\"\nsince = \"{since}\"\n{more}\n")
    };
    let agency_keys = "key = [\"ActionId\"]\ndate_column = \"ActionDate\"";
    let partner_clicks = format!(
        "[exports.partner_clicks]\naccounts = [\"partner\"]\nclicks = true\nsince = \"{}\"\n",
        days_ago(dice.within(1, 2))
    );
    let mut all = vec![
        actions(dice.within(0, 4)),
        clicks(dice.within(1, 2)),
        report("by_media", "brand", "att_adv_performance_by_media_pm_only", dice.within(1, 3), ""),
        report("by_day", "brand", "att_adv_performance_by_day_pm_only", dice.within(0, 3), ""),
        report("skus", "partner", "mp_action_listing_sku", dice.within(0, 3), ""),
        partner_clicks,
        report("listing", "agency", "agency_action_listing", dice.within(0, 3), agency_keys),
    ];
    (0..=dice.below(3)).map(|_| all.remove(dice.below(all.len()))).collect()
}

fn event(dice: &mut Dice, replicas: usize) -> Event {
    match dice.below(100) {
        0..35 => Event::Fault(fault(dice)),
        35..60 => {
            let whose = dice.one(&[Whose::Impact, Whose::Postgres]);
            let any = [
                Line::Refused,
                Line::Reset,
                Line::Closed,
                Line::Stalled,
                Line::Slow(3_000),
                Line::CutAfter(2_500),
                Line::CutAfter(20_000),
                Line::ReplyLost,
                Line::CommitLost,
            ];
            let line = dice.one(match whose {
                Whose::Postgres => &any[..],
                Whose::Impact => &any[..any.len() - 1],
            });
            Event::Break(whose, line, Duration::from_millis(dice.within(100, 900)))
        }
        60..72 => Event::Restate(i64::try_from(dice.within(1, 60)).unwrap()),
        72..80 => Event::Switch(switch(dice)),
        80..93 => Event::Kill(dice.below(replicas)),
        _ => Event::Restart(dice.below(replicas)),
    }
}

fn fault(dice: &mut Dice) -> Fault {
    let (on, kind) = dice.one(&[
        (Point::Any, FaultKind::Reset),
        (Point::Any, FaultKind::ReplyLost),
        (Point::Any, FaultKind::Http500),
        (Point::Any, FaultKind::Html502),
        (Point::Any, FaultKind::Html200),
        (Point::Any, FaultKind::ErrorObject200),
        (Point::Any, FaultKind::Empty200),
        (Point::Any, FaultKind::Http401),
        (Point::Any, FaultKind::Http403),
        (Point::Any, FaultKind::Stall(0.5)),
        (Point::Submit, FaultKind::Reset),
        (Point::Submit, FaultKind::ReplyLost),
        (Point::Submit, FaultKind::Stall(1.0)),
        (Point::Submit, FaultKind::JobFails),
        (Point::Submit, FaultKind::JobCancelled),
        (Point::Submit, FaultKind::JobErrorThenOk),
        (Point::Submit, FaultKind::ExpireResult),
        (Point::Replay, FaultKind::Reset),
        (Point::Replay, FaultKind::ReplyLost),
        (Point::Replay, FaultKind::Stall(1.0)),
        (Point::Replay, FaultKind::JobFails),
        (Point::List, FaultKind::ReplyLost),
        (Point::Poll, FaultKind::ReplyLost),
        (Point::Download, FaultKind::ExpireResult),
        (Point::Storage, FaultKind::Truncate),
        (Point::Storage, FaultKind::ShortFile),
        (Point::Storage, FaultKind::WrongLength),
        (Point::Storage, FaultKind::Stall(1.0)),
    ]);
    let times = u32::try_from(dice.within(1, 3)).unwrap();
    Fault { on, kind, times, skip: u32::try_from(dice.within(0, 2)).unwrap() }
}
