//! How the configuration in force stands to its file: when it was read, whether a newer one was refused, and what of it waits for a
//! restart.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// What came of the readings of one process.
#[derive(Debug)]
pub(super) struct Configuration(Mutex<Readings>);

/// What came of them so far.
#[derive(Debug, Clone, Hash)]
pub(super) struct Readings {
    /// Reloads that were applied, those without a change too.
    pub applied: u64,
    /// Reloads that came to nothing.
    pub refused: u64,
    /// When the one in force was read.
    pub read_at: DateTime<Utc>,
    /// Why the last one was refused, where it was.
    pub refusal: Option<String>,
    /// Keys that differ from what is in force until the process is restarted.
    pub for_restart: Vec<String>,
}

impl Configuration {
    /// The one that a process began with at `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        let readings = Readings { applied: 0, refused: 0, read_at: now, refusal: None, for_restart: Vec::new() };
        Self(Mutex::new(readings))
    }

    pub fn now(&self) -> Readings {
        self.readings().clone()
    }

    pub fn applied(&self, now: DateTime<Utc>, for_restart: Vec<String>) {
        let mut readings = self.readings();
        readings.applied += 1;
        readings.read_at = now;
        readings.refusal = None;
        readings.for_restart = for_restart;
    }

    pub fn refused(&self, why: &str) {
        let mut readings = self.readings();
        readings.refused += 1;
        readings.refusal = Some(why.to_owned());
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readings {
    /// The mark of a page that shows this and what the database said: it differs where the page does.
    pub fn mark(&self, of_database: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (of_database, self).hash(&mut hasher);
        hasher.finish()
    }

    /// What is not as the file says, in short.
    pub fn words(&self) -> Option<String> {
        if self.refusal.is_some() {
            return Some(
                "the configuration is the one from before, for the new one was refused; see the log".to_owned(),
            );
        }
        let keys = self.for_restart.join(", ");
        (!keys.is_empty()).then(|| format!("a restart is needed for the new {keys}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_until_a_reading_is_applied() {
        let now = Utc::now();
        let configuration = Configuration::new(now);
        assert_eq!(configuration.now().words(), None);
        configuration.refused("it is no TOML");
        assert!(configuration.now().words().is_some_and(|words| words.contains("refused")));
        configuration.applied(now, vec!["http.listen".to_owned()]);
        assert_eq!(configuration.now().words().as_deref(), Some("a restart is needed for the new http.listen"));
        configuration.applied(now, Vec::new());
        let readings = configuration.now();
        assert_eq!((readings.words(), readings.applied, readings.refused), (None, 2, 1));
    }
}
