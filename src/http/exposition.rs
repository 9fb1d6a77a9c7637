//! The metrics in Prometheus' text format.

use std::fmt::{Display, Write as _};
use std::time::Instant;

use sqlx::PgPool;

use super::configuration::Readings;
use super::counted::Counts;
use super::snapshot::Snapshot;
use super::{Face, Mirror, process};
use crate::doubt::Doubt;
use crate::error_chain::Chain;
use crate::job::JobState;
use crate::metrics::tally::{Durations, Series, Tally};
use crate::metrics::{self, Kind, Metric};
use crate::pulse::Pulse;

/// Everything that is measured, now.
pub(super) async fn exposition(face: &Face) -> String {
    let mut text = Text::default();
    text.family(&metrics::BUILD_INFO).sample(&[(metrics::VERSION, env!("CARGO_PKG_VERSION"))], 1);
    write_process(&mut text, face);
    let Some(Mirror { pool, pulse }) = face.mirror.get() else {
        text.family(&metrics::DATABASE_UP).sample(&[], 0);
        return text.0;
    };
    write_engine(&mut text, &pulse);
    write_pool(&mut text, &pool);
    if let Some(tally) = face.tally.get() {
        write_tally(&mut text, tally);
    }
    let snapshot = face.snapshots.get(&pool).await;
    text.family(&metrics::DATABASE_UP).sample(&[], u8::from(snapshot.is_ok()));
    let lacks_room = pulse.no_room().is_some() || snapshot.as_ref().is_ok_and(|snapshot| snapshot.no_room.is_some());
    if lacks_room || snapshot.is_ok() {
        text.family(&metrics::NO_ROOM).sample(&[], u8::from(lacks_room));
    }
    match snapshot {
        Ok(snapshot) => {
            write_snapshot(&mut text, &snapshot);
            write_counts(&mut text, &*face.counted.get(&pool).await);
        }
        Err(error) => tracing::debug!(error = %Chain(&*error), "metrics without a database"),
    }
    text.0
}

fn write_process(text: &mut Text, face: &Face) {
    text.family(&metrics::PROCESS_START).sample(&[], face.began_at.timestamp());
    write_configuration(text, &face.configuration.now());
    if let Some(seconds) = process::cpu_seconds() {
        text.family(&metrics::PROCESS_CPU).sample(&[], seconds);
    }
    if let Some(bytes) = process::resident_bytes() {
        text.family(&metrics::PROCESS_RESIDENT).sample(&[], bytes);
    }
    if let Some(count) = process::open_fds() {
        text.family(&metrics::PROCESS_FDS).sample(&[], count);
    }
}

fn write_configuration(text: &mut Text, readings: &Readings) {
    let mut reloads = text.family(&metrics::CONFIG_RELOADS);
    reloads.sample(&[(metrics::RESULT, "applied")], readings.applied);
    reloads.sample(&[(metrics::RESULT, "refused")], readings.refused);
    text.family(&metrics::CONFIG_SUCCESSFUL).sample(&[], u8::from(readings.refusal.is_none()));
    text.family(&metrics::CONFIG_READ_AT).sample(&[], readings.read_at.timestamp());
    text.family(&metrics::CONFIG_FOR_RESTART).sample(&[], readings.for_restart.len());
}

fn write_engine(text: &mut Text, pulse: &Pulse) {
    text.family(&metrics::ENGINE_LATE).sample(&[], pulse.late(Instant::now()).len());
    let mut family = text.family(&metrics::ENGINE_ROUNDS);
    for (part, rounds) in pulse.rounds() {
        family.sample(&[(metrics::PART, part)], rounds);
    }
}

fn write_pool(text: &mut Text, pool: &PgPool) {
    let (size, idle) = (pool.size() as usize, pool.num_idle());
    let mut family = text.family(&metrics::POOL_CONNECTIONS);
    family.sample(&[(metrics::STATE, "idle")], idle);
    family.sample(&[(metrics::STATE, "used")], size.saturating_sub(idle));
    family.sample(&[(metrics::STATE, "max")], pool.options().get_max_connections());
}

fn write_tally(text: &mut Text, tally: &Tally) {
    let is_counted = |metric: &&Metric| metric.kind == Kind::Counter && !tally.counts(metric).is_empty();
    for metric in metrics::ALL.iter().filter(is_counted) {
        let mut family = text.family(metric);
        for (series, count) in tally.counts(metric) {
            family.sample(&labels(metric, &series), count);
        }
    }
    for metric in metrics::ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let mut family = text.family(metric);
        for (series, durations) in tally.durations(metric) {
            family.histogram(&labels(metric, &series), &durations);
        }
    }
}

fn labels<'a>(metric: &Metric, series: &'a Series) -> Vec<(&'static str, &'a str)> {
    metric.labels.iter().copied().zip(series.values.iter().map(String::as_str)).collect()
}

fn write_counts(text: &mut Text, counts: &Counts) {
    let mut cells = text.family(&metrics::CELLS);
    for one in &counts.cells {
        cells.sample(&[(metrics::EXPORT, &one.export), (metrics::STATE, &one.state)], one.cells);
    }
    let mut waiting = text.family(&metrics::MESSAGES_WAITING);
    for one in &counts.waiting {
        waiting.sample(&[(metrics::RECEIVER, &one.receiver)], one.messages);
    }
}

fn write_snapshot(text: &mut Text, snapshot: &Snapshot) {
    let mut exports = |metric: &Metric, value: &dyn Fn(&crate::store::status::Freshness) -> Option<i64>| {
        let mut family = text.family(metric);
        for one in &snapshot.freshness {
            if let Some(value) = value(one) {
                family.sample(&[(metrics::EXPORT, &one.export)], value);
            }
        }
    };
    exports(&metrics::EXPORT_AGE, &|one| one.age_seconds);
    exports(&metrics::EXPORT_PROMISED, &|one| Some(one.promised_seconds));
    exports(&metrics::EXPORT_STALE, &|one| Some(i64::from(one.is_stale)));
    exports(&metrics::CELLS_MISSING, &|one| Some(one.missing_cells));
    exports(&metrics::CELLS_FAILED, &|one| Some(one.failed_cells));

    let mut warnings = text.family(&metrics::LOAD_WARNINGS);
    for one in &snapshot.freshness {
        for kind in Doubt::ALL {
            let known = snapshot.warnings.iter().find(|known| known.export == one.export && known.kind == kind);
            let labels = [(metrics::EXPORT, one.export.as_str()), (metrics::KIND, kind.as_str())];
            warnings.sample(&labels, known.map_or(0, |known| known.loads));
        }
    }
    let mut jobs = text.family(&metrics::JOBS);
    for state in JobState::ALL {
        jobs.sample(&[(metrics::STATE, state.as_str())], snapshot.job_count(state));
    }
    text.family(&metrics::ARCHIVE_LATE).sample(&[], snapshot.late_files);
    let mut accounts = text.family(&metrics::ACCOUNT_PAUSED);
    for account in &snapshot.accounts {
        let is_paused = snapshot.paused.iter().any(|paused| paused.account.as_str() == account);
        accounts.sample(&[(metrics::ACCOUNT, account)], u8::from(is_paused));
    }
    let mut quota = |metric: &Metric, value: &dyn Fn(&crate::store::status::Quota) -> i32| {
        let mut family = text.family(metric);
        for one in &snapshot.quota {
            family.sample(&[(metrics::ACCOUNT, &one.account), (metrics::BUCKET, &one.bucket)], value(one));
        }
    };
    quota(&metrics::QUOTA_LIMIT, &|one| one.limit);
    quota(&metrics::QUOTA_USED, &|one| one.used);
    quota(&metrics::QUOTA_REMAINING, &|one| one.remaining);
}

/// The text so far.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    /// Begins a family; its samples follow at once.
    fn family(&mut self, metric: &Metric) -> Family<'_> {
        let Metric { name, kind, help, .. } = *metric;
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        Family { text: &mut self.0, name }
    }
}

/// The family that is being written.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    fn histogram(&mut self, labels: &[(&str, &str)], durations: &Durations) {
        for (end, count) in metrics::BUCKETS.iter().zip(durations.counts) {
            self.line("_bucket", &[labels, &[("le", &end.to_string())]].concat(), count);
        }
        self.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), durations.count);
        self.line("_sum", labels, durations.sum);
        self.line("_count", labels, durations.count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_labels_are_escaped() {
        let mut text = Text::default();
        text.family(&metrics::EXPORT_STALE).sample(&[(metrics::EXPORT, "a\"b\\c\nd")], 1);
        assert!(text.0.ends_with("impact_mirror_export_is_stale{export=\"a\\\"b\\\\c\\nd\"} 1\n"), "{}", text.0);
    }
}
