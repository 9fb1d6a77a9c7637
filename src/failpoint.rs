//! Places where a test has the process killed: before and after every write of consequence. Without the feature
//! `failpoints`, which no release has, they are nothing.
//!
//! `IMPACT_MIRROR_FAILPOINT=claim-committed` kills the process where it gets there first, `claim-committed:3` at the third
//! time: by SIGKILL, so that nothing is flushed, dropped or handed back. Of several processes that are told so the first one
//! dies alone where `IMPACT_MIRROR_FAILPOINT_ONCE` names a file, which it makes. With `IMPACT_MIRROR_FAILPOINT_PANICS` the place has
//! a bug instead: it panics, and the process is left to go on. A place is named `…-written` inside a transaction
//! that has not committed, and `…-committed` where a write is done and nothing has followed yet.

/// Every place, in the order of a job's life.
pub const ALL: &[&str] = &[
    // Before there are jobs.
    "migrations-committed",
    "configuration-written",
    "configuration-committed",
    "tick-committed",
    "request-written",
    "request-committed",
    "plan-written",
    "plan-committed",
    // An order.
    "order-claim-written",
    "order-claim-committed",
    "submission-next",
    "submission-answered",
    "replay-base-committed",
    "replay-answered",
    "recharge-written",
    "recharge-committed",
    "refund-written",
    "refund-committed",
    "heard-committed",
    "waiting-written",
    "waiting-committed",
    // An order whose end is unknown.
    "lookup-answered",
    "replay-look-committed",
    "replan-committed",
    "replay-refusal-written",
    "replay-refusal-committed",
    // A step that is claimed as it stands, and its calls.
    "recovery-claimed",
    "poll-claimed",
    "polls-claimed",
    "load-claimed",
    "charge-committed",
    // A look at the remote job.
    "poll-answered",
    "list-answered",
    "poll-again-written",
    "ready-written",
    "reorder-written",
    "remote-failure-written",
    "poll-committed",
    "hint-written",
    "hint-committed",
    // A file.
    "download-begun",
    "download-under-way",
    "spool-complete",
    "metadata-committed",
    "archive-entered",
    "archive-uploaded",
    "archive-stored",
    "archive-late-kept",
    "manifest-uploaded",
    "manifest-committed",
    // Its load.
    "columns-written",
    "columns-committed",
    "widening-begun",
    "widening-written",
    "widening-committed",
    "load-entered",
    "table-changed",
    "rows-moved",
    "load-written",
    "cells-written",
    "loaded-written",
    "loaded-committed",
    "narrow-written",
    "cut-committed",
    "refusal-committed",
    // What follows a load: views, what helps their queries, clicks added up.
    "view-written",
    "view-committed",
    "help-written",
    "help-committed",
    "rollup-written",
    "rollup-committed",
    // A step that failed or was cut short.
    "settle-written",
    "settle-committed",
    "account-resumed",
    "lease-renewed",
    "hand-back-committed",
    "abandoned-written",
    "abandoned-committed",
    // A comparison.
    "comparison-planned-written",
    "comparison-planned-committed",
    "comparison-written",
    "comparison-committed",
    // A reload from the archive.
    "reload-planned-written",
    "reload-planned-committed",
    "reload-claimed",
    "reload-spooled",
    "reload-rows-moved",
    "reload-written",
    "reload-committed",
    "reload-end-written",
    "reload-end-committed",
    // What is kept, and for how long.
    "partitions-ahead-written",
    "partitions-ahead-committed",
    "months-drop-written",
    "months-drop-committed",
    "days-drop-written",
    "days-drop-committed",
    "archive-given-up",
    "archive-removed",
];

/// Kills the process where the environment says so.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_place: &str) {}

#[cfg(feature = "failpoints")]
pub use armed::reach;

#[cfg(feature = "failpoints")]
mod armed {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Where to die, and how often to get there alive before that.
    struct Armed {
        place: String,
        left: AtomicU32,
        /// Made by the one that dies.
        once: Option<PathBuf>,
        /// Whether to panic instead.
        panics: bool,
    }

    impl Armed {
        fn is_its_turn(&self) -> bool {
            self.left.fetch_sub(1, Ordering::Relaxed) == 1
                && self.once.as_ref().is_none_or(|path| File::create_new(path).is_ok())
        }
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let told = std::env::var("IMPACT_MIRROR_FAILPOINT").ok()?;
        let (place, nth) = told.split_once(':').unwrap_or((&told, "1"));
        let nth: u32 = nth.parse().expect("IMPACT_MIRROR_FAILPOINT is a place, or place:N");
        assert!(super::ALL.contains(&place), "IMPACT_MIRROR_FAILPOINT names no place: {place}");
        let once = std::env::var_os("IMPACT_MIRROR_FAILPOINT_ONCE").map(PathBuf::from);
        let panics = std::env::var_os("IMPACT_MIRROR_FAILPOINT_PANICS").is_some();
        Some(Armed { place: place.to_owned(), left: AtomicU32::new(nth), once, panics })
    });

    /// Kills the process where the environment says so, or panics.
    pub fn reach(place: &str) {
        debug_assert!(super::ALL.contains(&place), "{place} is not in the list");
        let Some(armed) = &*ARMED else { return };
        if armed.place == place && armed.is_its_turn() {
            assert!(!armed.panics, "a bug at {place}");
            eprintln!("dying at {place}");
            kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself");
            loop {
                std::thread::park();
            }
        }
    }
}
