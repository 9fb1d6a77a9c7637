//! The sandbox's own time: it starts where it is told, runs at its own speed and can be pushed forward.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use tokio::sync::Notify;

/// The clock that all of the sandbox lives by.
#[derive(Debug)]
pub struct SandboxClock {
    start: DateTime<Utc>,
    begun: Instant,
    speed: f64,
    pushed: Mutex<TimeDelta>,
    moved: Notify,
}

impl SandboxClock {
    /// A clock that shows `start` now. At speed 0 it stands still until it is pushed.
    pub fn new(start: DateTime<Utc>, speed: f64) -> Self {
        let speed = if speed.is_finite() { speed.max(0.0) } else { 1.0 };
        Self { start, begun: Instant::now(), speed, pushed: Mutex::new(TimeDelta::zero()), moved: Notify::new() }
    }

    /// The time, in whole seconds as impact.com shows it.
    pub fn now(&self) -> DateTime<Utc> {
        let run = Duration::try_from_secs_f64(self.begun.elapsed().as_secs_f64() * self.speed).unwrap_or_default();
        let pushed = *self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        (self.start + TimeDelta::from_std(run).unwrap_or_default() + pushed).trunc_subsecs(0)
    }

    /// Moves the time forward.
    pub fn advance(&self, by: TimeDelta) {
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner) += by;
        self.moved.notify_waiters();
    }

    /// Waits until this clock shows `until`.
    pub async fn sleep_until(&self, until: DateTime<Utc>) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let Ok(left) = (until - self.now()).to_std() else { return };
            if left.is_zero() {
                return;
            }
            let real = Duration::try_from_secs_f64(left.as_secs_f64() / self.speed).unwrap_or(Duration::MAX);
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep(real.clamp(Duration::from_millis(1), Duration::from_hours(1))) => {}
            }
        }
    }
}

/// Reads `1d`, `6h`, `30m` or `90s`.
pub fn parse_span(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
    match unit {
        'd' => TimeDelta::try_days(number),
        'h' => TimeDelta::try_hours(number),
        'm' => TimeDelta::try_minutes(number),
        's' => TimeDelta::try_seconds(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_pushed_past_its_time() {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = SandboxClock::new(start, 0.0);
        let push = async {
            tokio::task::yield_now().await;
            clock.advance(TimeDelta::minutes(15));
        };
        tokio::join!(clock.sleep_until(start + TimeDelta::minutes(15)), push);
        assert_eq!(clock.now(), start + TimeDelta::minutes(15));
    }

    #[test]
    fn spans_are_read() {
        assert_eq!(parse_span("2d"), Some(TimeDelta::days(2)));
        assert_eq!(parse_span("90s"), Some(TimeDelta::seconds(90)));
        assert_eq!(parse_span("soon"), None);
        assert_eq!(parse_span(""), None);
    }
}
