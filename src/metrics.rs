//! The names, kinds and labels of what is measured. What people's dashboards and alerts hold on to: names do not change.
#![expect(missing_docs, reason = "the help of a metric is its doc")]

/// A family of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How its value moves.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

/// How a value moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up only, from the start of the process.
    Counter,
    /// Up and down.
    Gauge,
}

impl Kind {
    /// Prometheus' word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

/// The name of an export.
pub const EXPORT: &str = "export";
/// The name of an account.
pub const ACCOUNT: &str = "account";
/// The name of a bucket.
pub const BUCKET: &str = "bucket";
/// The state of a job.
pub const STATE: &str = "state";
/// What is doubtful about a file: count_mismatch, unexpected_zero, truncated or kept_deletions.
pub const KIND: &str = "kind";
/// A part of the engine.
pub const PART: &str = "part";
/// The version of the program.
pub const VERSION: &str = "version";

pub const BUILD_INFO: Metric = gauge("impact_mirror_build_info", "Always 1; the version is in the label.");
pub const DATABASE_UP: Metric =
    gauge("impact_mirror_database_up", "1 where the database answered; without it, what is read from it is missing.");
pub const ENGINE_LATE: Metric = gauge(
    "impact_mirror_engine_late_loops",
    "Loops of the engine that do not go round as they should; /healthz names them.",
);
pub const ENGINE_ROUNDS: Metric =
    counter("impact_mirror_engine_rounds_total", "How often the loops of each part of the engine have gone round.");

pub const EXPORT_AGE: Metric = gauge(
    "impact_mirror_export_age_seconds",
    "How long ago the newest complete days were ordered, of the program furthest behind; missing where one has none.",
);
pub const EXPORT_PROMISED: Metric =
    gauge("impact_mirror_export_promised_seconds", "The export's freshness setting: the age it may reach.");
pub const EXPORT_STALE: Metric = gauge("impact_mirror_export_is_stale", "1 where the promise of freshness is broken.");
pub const CELLS_MISSING: Metric = gauge("impact_mirror_cells_missing", "Cells of the export that were never loaded.");
pub const CELLS_FAILED: Metric = gauge("impact_mirror_cells_failed", "Cells of the export whose last job failed.");
pub const LOAD_WARNINGS: Metric = gauge(
    "impact_mirror_load_warnings",
    "Loads of the export with doubtful rows, of which some day still stands as they left it.",
);
pub const JOBS: Metric = gauge("impact_mirror_jobs", "Jobs in each state.");

pub const NO_ROOM: Metric = gauge(
    "impact_mirror_no_room",
    "1 where a disk is full, that of the spool or of the database: jobs wait for room, and nothing is ordered.",
);

pub const ARCHIVE_LATE: Metric = gauge(
    "impact_mirror_archive_late_files",
    "Loaded files that the archive has not taken for five minutes or longer; after a week they are given up.",
);

pub const ACCOUNT_PAUSED: Metric =
    gauge("impact_mirror_account_is_paused", "1 where impact.com refuses the account's credential.");
pub const QUOTA_LIMIT: Metric = gauge("impact_mirror_quota_limit", "Calls that we may make in the bucket's window.");
pub const QUOTA_USED: Metric = gauge("impact_mirror_quota_used", "Calls charged in the bucket's window.");
pub const QUOTA_REMAINING: Metric = gauge("impact_mirror_quota_remaining", "Calls left in the bucket's window.");

pub const PROCESS_START: Metric =
    gauge("process_start_time_seconds", "When the process began to serve, in seconds since 1970.");
pub const PROCESS_CPU: Metric = counter("process_cpu_seconds_total", "User and system time spent.");
pub const PROCESS_RESIDENT: Metric = gauge("process_resident_memory_bytes", "Resident memory.");
pub const PROCESS_FDS: Metric = gauge("process_open_fds", "Open file descriptors.");
