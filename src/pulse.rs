//! Whether the loops of the engine still go round. Each says when it will be back; one that is not back by then is late, and
//! so is one all of whose rounds fail, and one that has ended though nobody told it to.
//!
//! That the database has no room to write it down is kept here, for there it cannot be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much later than it said a loop may be back, at most.
const SLACK: Duration = Duration::from_secs(30);
/// How many slacks a loop may fail for: what is over sooner mends itself.
const FAILING: u32 = 4;

/// The loops of one engine.
#[derive(Debug)]
pub struct Pulse {
    slack: Duration,
    /// The rounds of the engines before, of the same process.
    before: BTreeMap<&'static str, u64>,
    loops: Mutex<Vec<Loop>>,
    no_room: Mutex<BTreeMap<&'static str, String>>,
}

#[derive(Debug)]
struct Loop {
    part: &'static str,
    rounds: u64,
    word: Word,
    failing_since: Option<Instant>,
}

/// What a loop said last.
#[derive(Debug, Clone, Copy)]
enum Word {
    BackBy(Instant),
    /// It reports nothing while all is well.
    Silent,
    Ended,
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new(SLACK)
    }
}

impl Pulse {
    /// An engine whose processes are given up after `lease` without a word is held to that, where it is short.
    pub fn new(lease: Duration) -> Self {
        Self { slack: lease.min(SLACK), before: BTreeMap::new(), loops: Mutex::default(), no_room: Mutex::default() }
    }

    /// The same for an engine that takes the place of another, whose rounds go on being counted.
    pub fn following(before: &Self, lease: Duration) -> Self {
        Self { before: before.rounds(), ..Self::new(lease) }
    }

    /// A loop of `part`, which several may share, begins.
    pub fn begin(self: &Arc<Self>, part: &'static str) -> Beat {
        let mut loops = self.loops();
        loops.push(Loop { part, rounds: 0, word: Word::BackBy(Instant::now()), failing_since: None });
        Beat { pulse: Arc::clone(self), index: loops.len() - 1 }
    }

    /// The same for a loop that reports nothing but that it ended.
    pub fn begin_silent(self: &Arc<Self>, part: &'static str) -> Beat {
        let beat = self.begin(part);
        beat.silent();
        beat
    }

    /// What a query takes at most while all is well.
    pub fn query(&self) -> Duration {
        2 * self.slack
    }

    /// The loops that do not go round at `now` as they should. Where the database has no room, one that is not back waits for
    /// some with what a restart would lose.
    pub fn late(&self, now: Instant) -> Vec<Late> {
        let waits_for_room = self.no_room().is_some();
        let why = |one: &Loop| match one.word {
            Word::Ended => Some(Why::Ended),
            Word::BackBy(back_by) if now.saturating_duration_since(back_by) > self.slack && !waits_for_room => {
                Some(Why::NotBack(now.saturating_duration_since(back_by)))
            }
            Word::Silent | Word::BackBy(_) => {
                let failing = now.saturating_duration_since(one.failing_since?);
                (failing > FAILING * self.slack).then_some(Why::Failing(failing))
            }
        };
        self.loops().iter().filter_map(|one| Some(Late { part: one.part, why: why(one)? })).collect()
    }

    /// How often the loops of each part have gone round.
    pub fn rounds(&self) -> BTreeMap<&'static str, u64> {
        let mut rounds = self.before.clone();
        for one in self.loops().iter() {
            *rounds.entry(one.part).or_default() += one.rounds;
        }
        rounds
    }

    /// A part cannot write into the database, whose disk is full. Says whether that is news.
    pub fn lacks_room(&self, part: &'static str, why: &str) -> bool {
        let mut no_room = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = no_room.is_empty();
        no_room.insert(part, why.to_owned());
        is_news
    }

    /// A part can write, as far as it knows.
    pub fn has_room(&self, part: &'static str) {
        self.no_room.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    /// Whether a part cannot write.
    pub fn is_without_room(&self, part: &str) -> bool {
        self.no_room.lock().unwrap_or_else(PoisonError::into_inner).contains_key(part)
    }

    /// Why nothing can be written, where that is so.
    pub fn no_room(&self) -> Option<String> {
        self.no_room.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    fn loops(&self) -> MutexGuard<'_, Vec<Loop>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a loop reports with. Dropping it says nothing, unless the loop panics: then it has ended.
#[derive(Debug)]
pub struct Beat {
    pulse: Arc<Pulse>,
    index: usize,
}

impl Beat {
    /// A round begins, and the next report comes within `pause`.
    pub fn round(&self, pause: Duration) {
        self.report(1, Word::BackBy(Instant::now() + pause));
    }

    /// The same round goes on, and the next report comes within `pause`.
    pub fn pause(&self, pause: Duration) {
        self.report(0, Word::BackBy(Instant::now() + pause));
    }

    /// The loop goes round where it cannot report.
    pub fn silent(&self) {
        self.report(0, Word::Silent);
    }

    /// The round has failed. The loop is late once all its rounds fail for some time.
    pub fn failed(&self) {
        self.pulse.loops()[self.index].failing_since.get_or_insert_with(Instant::now);
    }

    /// The round has not failed, or not by a fault of ours.
    pub fn worked(&self) {
        self.pulse.loops()[self.index].failing_since = None;
    }

    /// The loop has ended though nobody told it to.
    pub fn ended(&self) {
        self.report(0, Word::Ended);
    }

    fn report(&self, rounds: u64, word: Word) {
        let one = &mut self.pulse.loops()[self.index];
        one.rounds += rounds;
        one.word = word;
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ended();
        }
    }
}

/// A loop that does not go round as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Which part of the engine.
    pub part: &'static str,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is not back, for so much longer than it said.
    NotBack(Duration),
    /// It goes round, and all rounds have failed for so long.
    Failing(Duration),
    /// It has ended.
    Ended,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part;
        match self.why {
            Why::NotBack(by) => write!(f, "{part}: not back for {} s longer than announced", by.as_secs()),
            Why::Failing(since) => write!(f, "{part}: every round has failed for {} s", since.as_secs()),
            Why::Ended => write!(f, "{part}: ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_late_once_its_word_and_some_slack_are_over() {
        let pulse = Arc::new(Pulse::default());
        let beat = pulse.begin("planner");
        beat.round(Duration::from_mins(10));
        let now = Instant::now();
        assert_eq!(pulse.late(now + Duration::from_mins(10)), []);
        let late = pulse.late(now + Duration::from_mins(11));
        assert_eq!(late.iter().map(|late| late.part).collect::<Vec<_>>(), ["planner"]);
        pulse.lacks_room("outcome", "no space");
        assert_eq!(pulse.late(now + Duration::from_mins(11)), []);
    }

    #[test]
    fn a_loop_that_ended_is_late_at_once() {
        let pulse = Arc::new(Pulse::default());
        let beat = pulse.begin("schedules");
        beat.ended();
        assert_eq!(pulse.late(Instant::now())[0].to_string(), "schedules: ended");
    }

    #[test]
    fn a_loop_all_of_whose_rounds_fail_is_late_until_one_does_not() {
        let pulse = Arc::new(Pulse::new(Duration::from_secs(2)));
        let beat = pulse.begin("load");
        beat.round(Duration::from_mins(10));
        beat.failed();
        let (soon, later) = (Instant::now() + Duration::from_secs(7), Instant::now() + Duration::from_secs(9));
        beat.failed();
        assert_eq!(pulse.late(soon), []);
        assert_eq!(pulse.late(later)[0].to_string(), "load: every round has failed for 9 s");
        beat.worked();
        assert_eq!(pulse.late(later), []);
    }

    #[test]
    fn a_loop_that_panics_has_ended_whatever_it_said_before() {
        let pulse = Arc::new(Pulse::default());
        let beat = pulse.begin_silent("schedules");
        let died = std::thread::spawn(move || {
            let _beat = beat;
            panic!("on purpose");
        });
        assert!(died.join().is_err());
        assert_eq!(pulse.late(Instant::now())[0].why, Why::Ended);
        drop(pulse.begin_silent("archive"));
        assert_eq!(pulse.late(Instant::now()).len(), 1, "an end in peace is none");
    }

    #[test]
    fn a_full_disk_is_news_once_and_over_when_every_part_can_write() {
        let pulse = Pulse::default();
        assert!(pulse.lacks_room("load", "no space") && !pulse.lacks_room("poll", "no space"));
        pulse.has_room("load");
        assert_eq!(pulse.no_room().as_deref(), Some("no space"));
        pulse.has_room("poll");
        assert_eq!(pulse.no_room(), None);
    }

    #[test]
    fn loops_of_one_part_are_counted_together() {
        let pulse = Arc::new(Pulse::default());
        for beat in [pulse.begin("load"), pulse.begin("load"), pulse.begin("poll")] {
            beat.round(Duration::ZERO);
            beat.pause(Duration::ZERO);
        }
        assert_eq!(pulse.rounds(), BTreeMap::from([("load", 2), ("poll", 1)]));
        let next = Arc::new(Pulse::following(&pulse, Duration::from_secs(2)));
        next.begin("load").round(Duration::ZERO);
        assert_eq!(next.rounds(), BTreeMap::from([("load", 3), ("poll", 1)]));
    }
}
