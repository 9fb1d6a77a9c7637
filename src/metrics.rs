//! The names, kinds and labels of what is measured. What people's dashboards and alerts hold on to: names do not change.
//! `docs/metrics.md` is this file as a table.
#![expect(missing_docs, reason = "the help of a metric is its doc")]

pub mod tally;

/// A family of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How its value moves.
    pub kind: Kind,
    /// What tells its samples apart.
    pub labels: &'static [&'static str],
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
    /// How many seconds things took, counted by `BUCKETS`.
    Histogram,
}

impl Kind {
    /// Prometheus' word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The upper ends of what seconds are counted by: from a small load to the longest remote job.
pub const BUCKETS: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0];

type Labels = &'static [&'static str];

const fn gauge(name: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn counter(name: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn histogram(name: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// The name of an export.
pub const EXPORT: &str = "export";
/// The name of an account.
pub const ACCOUNT: &str = "account";
/// The name of a bucket.
pub const BUCKET: &str = "bucket";
/// The state of a job, a cell or a connection.
pub const STATE: &str = "state";
/// What is doubtful about a file: count_mismatch, unexpected_zero, truncated or kept_deletions.
pub const KIND: &str = "kind";
/// The class of an error: transient, throttled, remote, expired, permanent, credentials, forbidden, bad_file, database, no_room
/// or internal.
pub const CLASS: &str = "class";
/// A part of the engine.
pub const PART: &str = "part";
/// A receiver of messages: alerts or downstream.
pub const RECEIVER: &str = "receiver";
/// What came of a reload: applied or refused.
pub const RESULT: &str = "result";
/// The version of the program.
pub const VERSION: &str = "version";

macro_rules! metrics {
    ($($name:ident: $kind:ident($metric:literal, [$($label:ident),*], $help:literal);)+) => {
        $(pub const $name: Metric = $kind($metric, &[$($label),*], $help);)+

        /// All that is measured.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

metrics! {
    BUILD_INFO: gauge("impact_mirror_build_info", [VERSION], "Always 1; the version is in the label.");
    DATABASE_UP: gauge("impact_mirror_database_up", [],
        "1 where the database answered; without it, what is read from it is missing.");
    POOL_CONNECTIONS: gauge("impact_mirror_pool_connections", [STATE],
        "Connections to the database that are idle or used; max is how many there may be.");
    ENGINE_LATE: gauge("impact_mirror_engine_late_loops", [],
        "Loops of the engine that do not go round as they should; /healthz names them.");
    ENGINE_ROUNDS: counter("impact_mirror_engine_rounds_total", [PART],
        "How often the loops of each part of the engine have gone round.");

    CONFIG_RELOADS: counter("impact_mirror_config_reloads_total", [RESULT],
        "How often the configuration was read anew while running, and what came of it.");
    CONFIG_SUCCESSFUL: gauge("impact_mirror_config_last_reload_successful", [],
        "0 where the configuration was read anew and refused, so that the one from before is in force.");
    CONFIG_READ_AT: gauge("impact_mirror_config_last_reload_success_timestamp_seconds", [],
        "When the configuration in force was read, at the start or by a reload, in seconds since 1970.");
    CONFIG_FOR_RESTART: gauge("impact_mirror_config_restart_keys", [],
        "Keys of the configuration that were changed and wait for a restart.");

    EXPORT_AGE: gauge("impact_mirror_export_age_seconds", [EXPORT],
        "How long ago the newest complete days were ordered, of the program furthest behind; missing where one has none.");
    EXPORT_PROMISED: gauge("impact_mirror_export_promised_seconds", [EXPORT],
        "The export's freshness setting: the age it may reach.");
    EXPORT_STALE: gauge("impact_mirror_export_is_stale", [EXPORT], "1 where the promise of freshness is broken.");
    CELLS: gauge("impact_mirror_cells", [EXPORT, STATE], "Cells of the export in each state; counted once a minute.");
    CELLS_MISSING: gauge("impact_mirror_cells_missing", [EXPORT], "Cells of the export that were never loaded.");
    CELLS_FAILED: gauge("impact_mirror_cells_failed", [EXPORT], "Cells of the export whose last job failed.");
    LOAD_WARNINGS: gauge("impact_mirror_load_warnings", [EXPORT, KIND],
        "Loads of the export with doubtful rows, of which some day still stands as they left it.");
    JOBS: gauge("impact_mirror_jobs", [STATE], "Jobs in each state.");
    JOBS_FAILED: counter("impact_mirror_jobs_failed_total", [EXPORT, CLASS], "Jobs that this process gave up.");
    RETRIES: counter("impact_mirror_retries_total", [CLASS], "Steps that failed and are tried or ordered again.");
    LEASE_RECOVERIES: counter("impact_mirror_lease_recoveries_total", [],
        "Steps that this process took over from one that died or was stopped.");
    REMOTE_SECONDS: histogram("impact_mirror_remote_seconds", [EXPORT],
        "From an order to the look that found it done at impact.com.");
    LOAD_SECONDS: histogram("impact_mirror_load_seconds", [EXPORT],
        "From the first byte asked for to the commit of the rows.");

    LOADS: counter("impact_mirror_loads_total", [EXPORT], "Files loaded.");
    BYTES_LOADED: counter("impact_mirror_loaded_bytes_total", [EXPORT], "Bytes of the files loaded.");
    ROWS_LOADED: counter("impact_mirror_loaded_rows_total", [EXPORT], "Rows in the files loaded, rejected ones too.");
    ROWS_REJECTED: counter("impact_mirror_rejected_rows_total", [EXPORT], "Rows that could not be loaded.");
    ROWS_RESTATED: counter("impact_mirror_restated_rows_total", [EXPORT],
        "Rows of the table that a load changed or took away.");

    NO_ROOM: gauge("impact_mirror_no_room", [],
        "1 where a disk is full, that of the spool or of the database: jobs wait for room, and nothing is ordered.");
    ARCHIVE_LATE: gauge("impact_mirror_archive_late_files", [],
        "Loaded files that the archive has not taken for five minutes or longer; after a week they are given up.");
    MESSAGES_WAITING: gauge("impact_mirror_messages_waiting", [RECEIVER],
        "Messages that a webhook has not taken yet; counted once a minute.");

    ACCOUNT_PAUSED: gauge("impact_mirror_account_is_paused", [ACCOUNT],
        "1 where impact.com refuses the account's credential.");
    QUOTA_LIMIT: gauge("impact_mirror_quota_limit", [ACCOUNT, BUCKET], "Calls that we may make in the bucket's window.");
    QUOTA_USED: gauge("impact_mirror_quota_used", [ACCOUNT, BUCKET], "Calls charged in the bucket's window.");
    QUOTA_REMAINING: gauge("impact_mirror_quota_remaining", [ACCOUNT, BUCKET], "Calls left in the bucket's window.");

    PROCESS_START: gauge("process_start_time_seconds", [], "When the process began to serve, in seconds since 1970.");
    PROCESS_CPU: counter("process_cpu_seconds_total", [], "User and system time spent.");
    PROCESS_RESIDENT: gauge("process_resident_memory_bytes", [], "Resident memory.");
    PROCESS_FDS: gauge("process_open_fds", [], "Open file descriptors.");
}
