//! The settings after everything has been checked: code that holds them trusts them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, SubsecRound as _, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds};
use secrecy::SecretString;
use url::Url;

use super::catalogue::Entry;
use crate::account::{AccountName, AccountSid, Persona};
use crate::column::{ColumnKind, OnTypeConflict, Partition};
use crate::doubt::OnDoubts;
use crate::export::{Bucket, ExportName, LockRule, Program, RefreshRule, ResultFormat, Source};

/// Everything the program was told, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether a file that changes is read anew without a signal.
    pub reload_on_change: bool,
    /// Where the mirror lives.
    pub database: Database,
    /// The HTTP faces.
    pub http: Http,
    /// Pools, pauses and leases.
    pub workers: Workers,
    /// Where result files are spooled before they are loaded.
    pub spool_dir: PathBuf,
    /// Where the embedded Postgres and the spool live by default.
    pub state_dir: PathBuf,
    /// Where raw result files are kept, if they are.
    pub archive: Option<Archive>,
    /// Who is told of troubles, if somebody is.
    pub alerts: Option<Alerts>,
    /// Who is told of new rows, if somebody is.
    pub downstream: Option<Receiver>,
    /// The accounts, by name.
    pub accounts: BTreeMap<AccountName, Account>,
    /// What the user adds to the catalogue, by handle.
    pub catalogue: BTreeMap<String, Entry>,
    /// The exports, by name.
    pub exports: BTreeMap<ExportName, Export>,
}

impl Settings {
    /// What is known of a source of accounts of this persona: what the user says over what the built-in catalogue does.
    pub fn entry(&self, source: &Source, persona: Persona) -> Option<&Entry> {
        super::exports::known(source, persona, &self.catalogue)
    }
}

/// `[database]`.
#[derive(Debug, Clone)]
pub struct Database {
    /// Which Postgres.
    pub url: DatabaseUrl,
    /// The schema of the mirrored tables.
    pub schema: String,
    /// How mirrored tables are spread over servers.
    pub distribution: Distribution,
}

/// `database.url`.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// A private Postgres of the daemon's own.
    Embedded,
    /// A server somebody else runs; secret, for it may hold a password.
    Url(SecretString),
}

/// `database.distribution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Plain tables.
    None,
    /// Distributed tables of a Citus cluster.
    Citus,
}

/// `[http]`.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The last part of the address that postbacks come to; without one they are not taken.
    pub postback_secret: Option<SecretString>,
    /// What lets a person act on the status page; without one the page only shows.
    pub token: Option<SecretString>,
    /// Names that the page is asked for by, besides those of `listen`, in lower case and without a port.
    pub hosts: Vec<String>,
}

/// `[workers]`.
#[derive(Debug, Clone)]
pub struct Workers {
    /// Submitters.
    pub submit: usize,
    /// Pollers.
    pub poll: usize,
    /// Loaders.
    pub load: usize,
    /// The first pause between two polls of a job.
    pub poll_min: Duration,
    /// The longest pause between two polls of a job.
    pub poll_max: Duration,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// How long a remote job may take before we give it up.
    pub job_deadline: Duration,
}

/// `[archive]`.
#[derive(Debug, Clone)]
pub struct Archive {
    /// `file://`, `s3://`, `gs://` or `az://`.
    pub url: Url,
    /// How long files are kept.
    pub keep: Duration,
}

/// Where messages are sent to.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// https, or http to loopback; secret, for whoever knows it may send there.
    pub url: SecretString,
    /// How a message is written.
    pub format: MessageFormat,
    /// What messages are signed with.
    pub secret: Option<SecretString>,
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// All that there is to say, for programs.
    Json,
    /// A text, as the incoming webhooks of Slack and its like take it.
    Slack,
}

/// `[alerts]`.
#[derive(Debug, Clone)]
pub struct Alerts {
    /// Who is told.
    pub receiver: Receiver,
    /// How often a trouble that stays is told again.
    pub repeat: Duration,
    /// How often troubles are looked for.
    pub every: Duration,
}

/// `[accounts.NAME]`.
#[derive(Debug, Clone)]
pub struct Account {
    /// The name in the configuration.
    pub name: AccountName,
    /// Which base path and version it uses (impact-api §1.1).
    pub persona: Persona,
    /// The user of HTTP Basic.
    pub sid: AccountSid,
    /// The password of HTTP Basic.
    pub auth_token: SecretString,
    /// The origin of the API; https, or http to loopback.
    pub base_url: Url,
    /// The zone that days are counted in (impact-api §7.4).
    pub time_zone: Tz,
    /// The programs that exports per program are asked for.
    pub programs: Programs,
    /// What we may spend.
    pub quota: Quota,
}

/// `accounts.NAME.programs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Programs {
    /// Whatever the account lists.
    All,
    /// These.
    Listed(Vec<Program>),
}

/// `[accounts.NAME.quota]`; the defaults are the published limits (impact-api §4.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// ReportExport calls in 24 hours.
    pub report_export_per_day: u32,
    /// ClickExport calls in 24 hours.
    pub click_export_per_day: u32,
    /// Other calls in an hour.
    pub requests_per_hour: u32,
    /// The part of all that is ours, above 0 and at most 1.
    pub share: f64,
    /// What a Replay costs of the daily bucket: 0 or 1 (impact-api §9, 2).
    pub replay_cost: u32,
    /// What a submission costs that is answered with an earlier job: 0 or 1 (impact-api §9, 3).
    pub duplicate_cost: u32,
    /// What a call costs that is answered with 4xx other than 429: 0 or 1 (impact-api §9, 19).
    pub refused_cost: u32,
}

impl Quota {
    /// The calls that we may make in the bucket's window: the limit times our share, rounded down, but at least one.
    pub fn ours(&self, bucket: Bucket) -> u32 {
        let limit = match bucket {
            Bucket::ReportExport => self.report_export_per_day,
            Bucket::ClickExport => self.click_export_per_day,
            Bucket::Requests => self.requests_per_hour,
        };
        if limit == 0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 < share <= 1")]
        let ours = (f64::from(limit) * self.share).floor() as u32;
        ours.max(1)
    }
}

/// `[exports.NAME]`.
#[derive(Debug, Clone)]
pub struct Export {
    /// The name in the configuration and of the mirrored table.
    pub name: ExportName,
    /// The accounts it is read from, all of one persona.
    pub accounts: Vec<AccountName>,
    /// What is asked for.
    pub source: Source,
    /// When due cells are looked for: cron with seconds, in the account's zone.
    pub schedule: String,
    /// The first day to mirror.
    pub since: NaiveDate,
    /// One request per program, or one for all.
    pub per_program: bool,
    /// Which of the account's programs: all that it has, or some of them.
    pub programs: Programs,
    /// Request parameters besides program and days; a list repeats its parameter.
    pub params: BTreeMap<String, Vec<String>>,
    /// The format of the results.
    pub result_format: ResultFormat,
    /// The source columns that identify a row within an account; empty for none.
    pub key: Vec<String>,
    /// The source column that dates a row; without one, every day is its own window.
    pub date_column: Option<String>,
    /// The most days one job may ask for.
    pub max_window_days: u32,
    /// How often cells of an age are read again, youngest first.
    pub refresh: Vec<RefreshRule>,
    /// What tells that a row is locked: a day of locked rows is settled.
    pub locked: Option<LockRule>,
    /// The most rows that impact.com puts into a file, where that is known: a file of just so many may be cut.
    pub max_rows: Option<u32>,
    /// How old the newest complete day may get before the export is late.
    pub freshness: Duration,
    /// Whether today's cell, which is not complete yet, is read too.
    pub include_today: bool,
    /// Keep superseded versions of rows.
    pub history: bool,
    /// What to do with values that do not fit.
    pub on_type_conflict: OnTypeConflict,
    /// What to do about files whose number of rows is doubtful.
    pub on_doubts: OnDoubts,
    /// How the table is partitioned.
    pub partition: Partition,
    /// How many days are kept; `None` for all.
    pub keep_days: Option<u32>,
    /// Types of source columns, as the catalogue or the user gives them; others come from MetaData or the data.
    pub types: BTreeMap<String, ColumnKind>,
    /// The source columns whose types the user gives.
    pub typed_by_user: BTreeSet<String>,
}

impl Export {
    /// The programs that it is asked for on an account, which is one of its own; `None` where they are to be discovered.
    pub fn programs_on(&self, account: &Account) -> Option<Vec<Program>> {
        match (self.per_program, &self.programs, &account.programs) {
            (false, _, _) => Some(vec![Program::none()]),
            (true, Programs::Listed(programs), _) | (true, Programs::All, Programs::Listed(programs)) => {
                Some(programs.clone())
            }
            (true, Programs::All, Programs::All) => None,
        }
    }

    /// When the schedule fires in `zone` in the 24 hours after `now`; of ticks less than 15 minutes apart only the first
    /// counts, which is enough to tell how often days can be read.
    pub fn ticks(&self, zone: Tz, now: DateTime<Utc>) -> Arc<[DateTime<Utc>]> {
        const APART: TimeDelta = TimeDelta::minutes(15);
        let until = now + TimeDelta::hours(24);
        let schedule = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build().parse(&self.schedule);
        let schedule = schedule.expect("the schedule was checked");
        let next = |after: DateTime<Utc>| {
            let local = after.trunc_subsecs(0).with_timezone(&zone);
            schedule.find_next_occurrence(&local, false).ok().map(|at| at.with_timezone(&Utc))
        };
        let ticks = std::iter::successors(next(now), |tick| next(*tick + APART - TimeDelta::seconds(1)));
        ticks.take_while(|tick| *tick <= until).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn ticks(schedule: &str, now: &str) -> Vec<String> {
        let text = format!(
            "[database]\nurl = \"embedded\"\n[accounts.a]\npersona = \"brand\"\naccount_sid = \"IR1\"\nauth_token = {{ env = \"T\" }}\ntime_zone = \"UTC\"\n\
             [exports.e]\nclicks = true\nsince = \"2026-01-01\"\nschedule = \"{schedule}\"\n"
        );
        let settings = crate::config::check(&text, Path::new("x.toml"), &[("T", "t")].into()).expect("settings");
        let export = settings.exports.values().next().expect("an export");
        let ticks = export.ticks(chrono_tz::America::New_York, now.parse().expect("a time"));
        ticks.iter().map(|at| at.format("%dT%H:%M:%S").to_string()).collect()
    }

    #[test]
    fn the_coming_ticks_are_those_of_the_zone_after_now() {
        assert_eq!(ticks("0 30 3 * * *", "2026-05-01T07:30:00.5Z"), ["02T07:30:00"]);
        assert_eq!(ticks("0 30 3,12 * * *", "2026-05-01T12:00:00Z"), ["01T16:30:00", "02T07:30:00"]);
        assert_eq!(ticks("0 0 0 1 1 *", "2026-05-01T12:00:00Z"), Vec::<String>::new());
    }

    #[test]
    fn ticks_closer_than_a_quarter_of_an_hour_count_once() {
        assert_eq!(ticks("* * * * * *", "2026-05-01T12:00:00Z").len(), 96);
        assert_eq!(ticks("0 */15 * * * *", "2026-05-01T12:00:00Z").len(), 96);
    }
}
