//! Whether the loops of the engine still go round. Each says when it will be back; one that is not back by then is late.
//!
//! A loop that waits for a database goes round as well. That the database has no room to write it down is kept here, for
//! there it cannot be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much later than it said a loop may be back.
const SLACK: Duration = Duration::from_secs(30);

/// The loops of one engine.
#[derive(Debug, Default)]
pub struct Pulse {
    loops: Mutex<Vec<Loop>>,
    no_room: Mutex<BTreeMap<&'static str, String>>,
}

#[derive(Debug)]
struct Loop {
    part: &'static str,
    rounds: u64,
    word: Word,
}

/// What a loop said last.
#[derive(Debug, Clone, Copy)]
enum Word {
    BackBy(Instant),
    /// It reports nothing while all is well.
    Silent,
    Ended,
}

impl Pulse {
    /// A loop of `part`, which several may share, begins.
    pub fn begin(self: &Arc<Self>, part: &'static str) -> Beat {
        let mut loops = self.loops();
        loops.push(Loop { part, rounds: 0, word: Word::BackBy(Instant::now()) });
        Beat { pulse: Arc::clone(self), index: loops.len() - 1 }
    }

    /// The loops that should be back at `now` and are not.
    pub fn late(&self, now: Instant) -> Vec<Late> {
        let lateness = |one: &Loop| match one.word {
            Word::Silent => None,
            Word::Ended => Some(Late { part: one.part, by: None }),
            Word::BackBy(back_by) => {
                let by = now.saturating_duration_since(back_by);
                (by > SLACK).then_some(Late { part: one.part, by: Some(by) })
            }
        };
        self.loops().iter().filter_map(lateness).collect()
    }

    /// How often the loops of each part have gone round.
    pub fn rounds(&self) -> BTreeMap<&'static str, u64> {
        let mut rounds = BTreeMap::new();
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

/// What a loop reports with. Dropping it says nothing: a loop that panics is late once its last word is over.
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

/// A loop that is not back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Which part of the engine.
    pub part: &'static str,
    /// By how much; none: it has ended.
    pub by: Option<Duration>,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some(by) => write!(f, "{}: not back for {} s longer than announced", self.part, by.as_secs()),
            None => write!(f, "{}: ended", self.part),
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
    }

    #[test]
    fn a_loop_that_ended_is_late_at_once() {
        let pulse = Arc::new(Pulse::default());
        let beat = pulse.begin("schedules");
        beat.ended();
        assert_eq!(pulse.late(Instant::now())[0].to_string(), "schedules: ended");
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
    }
}
