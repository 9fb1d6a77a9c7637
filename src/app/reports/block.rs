//! The text of an `[exports.NAME]` block, with what is known of the report in comments.

use std::fmt::{self, Write as _};

use chrono::{Days, Months, NaiveDate};

use super::super::toml_text::{quoted, quoted_list, remark};
use super::describe::{Chosen, Description};
use super::{CLICKS, Mistake, handle};
use crate::config::{self, Changes, Entry};
use crate::export::{ExportName, ReportHandle, Source};

/// What a block says beyond what the report itself brings.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// The first day.
    pub since: NaiveDate,
    /// The schedule, where it is not the default.
    pub schedule: Option<String>,
    /// The refresh rules as TOML, where they are not the catalogue's or the general ones.
    pub refresh: Option<String>,
    /// Whether today is read, where that is not the default.
    pub include_today: Option<bool>,
    /// The programs, where not all of them.
    pub programs: Vec<String>,
    /// Why it is tuned so.
    pub note: Option<String>,
}

impl Tuning {
    /// What is moderate for a report of which nobody has said more, on the account's `today`.
    pub fn moderate(described: &Description, today: NaiveDate) -> Self {
        let changes = described.entry.as_ref().and_then(|entry| entry.changes);
        let daily = Some("0 0 5 * * *".to_owned());
        let back = |days| today - Days::new(days);
        let is_dated = !described.date_column().usable().is_empty();
        match (&described.source, changes) {
            (Source::Clicks, _) => Self { since: back(7), ..Self::default() },
            (Source::Report(_), Some(Changes::Snapshot)) => Self {
                since: back(1),
                schedule: daily,
                note: Some(
                    "Each day has the state at the time of its request; days that are gone cannot be had.".to_owned(),
                ),
                ..Self::default()
            },
            (Source::Report(_), _) if is_dated => {
                let month = today.format("%Y-%m-01").to_string().parse::<NaiveDate>().unwrap_or(today);
                Self { since: month - Months::new(2), ..Self::default() }
            }
            (Source::Report(_), _) => Self {
                since: back(7),
                schedule: daily,
                refresh: Some("[{ age = \"3d\", every = \"1d\" }]".to_owned()),
                note: Some("Every day is an order of its own, so few days are read, and seldom.".to_owned()),
                ..Self::default()
            },
        }
    }
}

/// A block that is to be written.
#[derive(Debug)]
pub struct Block {
    /// The export.
    pub name: ExportName,
    text: String,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Block {
    /// The block of a described report.
    pub fn new(name: ExportName, described: &Description, tuning: &Tuning) -> Self {
        let Description { account, source, entry, .. } = described;
        let mut text = String::new();
        let what = match source {
            Source::Clicks => format!("Clicks of account {account}."),
            Source::Report(handle) => format!("{} ({handle}) of account {account}.", described.name()),
        };
        text += &remark(&what);
        text += &remark(&about(described));
        if let Some(note) = &tuning.note {
            text += &remark(note);
        }
        let _ = writeln!(text, "[exports.{name}]\naccounts = {}", quoted_list([account.as_str()]));
        let _ = match source {
            Source::Clicks => writeln!(text, "clicks = true"),
            Source::Report(handle) => writeln!(text, "report = {}", quoted(handle.as_str())),
        };
        let _ = writeln!(text, "since = \"{}\"", tuning.since);
        if let Some(schedule) = &tuning.schedule {
            let _ = writeln!(text, "schedule = {}", quoted(schedule));
        }
        if let Some(today) = tuning.include_today {
            let _ = writeln!(text, "include_today = {today}");
        }
        if !tuning.programs.is_empty() {
            let _ = writeln!(text, "programs = {}", quoted_list(tuning.programs.iter().map(String::as_str)));
        }
        if let Some(refresh) = &tuning.refresh {
            let _ = writeln!(text, "refresh = {refresh}");
        }
        if *source != Source::Clicks {
            text += &key(described);
            text += &date(described);
            text += &entry.as_ref().map_or_else(String::new, needs);
        }
        Self { name, text }
    }
}

/// What is known of its rows.
fn about(described: &Description) -> String {
    let Some(entry) = &described.entry else {
        return "The catalogue does not know this report: look at what its rows are, then set key and date_column."
            .to_owned();
    };
    let changes = match entry.changes {
        Some(changes) if described.source != Source::Clicks => format!("Rows {}.", changes.says()),
        Some(_) | None => String::new(),
    };
    let limits = entry.limits.clone().unwrap_or_default();
    [entry.says.as_str(), &changes, &limits].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn key(described: &Description) -> String {
    match described.key() {
        Chosen::Known(columns) => format!(
            "# key = {}          # as the catalogue knows it\n",
            quoted_list(columns.iter().map(String::as_str))
        ),
        Chosen::Confirmed(columns) => {
            let list = quoted_list(columns.iter().map(String::as_str));
            remark(
                "A guess: the report has these columns, but whether they identify a row is for you to say. A key that is none loses rows.",
            ) + &format!("key = {list}\n")
        }
        Chosen::Guess(columns) => {
            let list = quoted_list(columns.iter().map(String::as_str));
            remark("A guess that the report's metadata does not bear out:") + &format!("# key = {list}\n")
        }
        Chosen::Unknown => String::new(),
    }
}

fn date(described: &Description) -> String {
    match described.date_column() {
        Chosen::Known(columns) => format!("# date_column = {}  # as the catalogue knows it\n", quoted(&columns[0])),
        Chosen::Confirmed(columns) => {
            remark("A guess: the report has this column. Where rows are dated by another, take it away.")
                + &format!("date_column = {}\n", quoted(&columns[0]))
        }
        Chosen::Guess(_) | Chosen::Unknown
            if described.entry.as_ref().and_then(|entry| entry.changes) == Some(Changes::Snapshot) =>
        {
            String::new()
        }
        Chosen::Guess(_) | Chosen::Unknown => match &described.dates()[..] {
            [] => remark("No column is known to date a row, so every day is asked for by itself."),
            dates => {
                let several = dates.join(", ");
                remark(&format!(
                    "No column is known to date a row, so every day is asked for by itself. These hold dates: {several}."
                )) + &format!("# date_column = {}\n", quoted(dates[0]))
            }
        },
    }
}

fn needs(entry: &Entry) -> String {
    let mut text = String::new();
    for (parameter, says) in &entry.needs {
        text += &remark(&format!("It cannot be asked without {parameter}: {says} Set it before the first run:"));
        let _ = writeln!(text, "# params = {{ {parameter} = \"\" }}");
    }
    text
}

/// A name for the export of a source: the handle without what all handles have.
pub fn name_for(source: &Source) -> Result<ExportName, Mistake> {
    let Source::Report(handle) = source else { return Ok(ExportName::new(CLICKS)) };
    named(&plain_name(handle))
}

/// The name, if it can be one.
pub fn named(name: &str) -> Result<ExportName, Mistake> {
    if config::is_export_name(name) {
        Ok(ExportName::new(name))
    } else {
        Err(Mistake::BadName { name: name.to_owned() })
    }
}

fn plain_name(report: &ReportHandle) -> String {
    let mut name: String =
        report.as_str().to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    for suffix in ["_", "_pm_only", "_pm"] {
        name = name.strip_suffix(suffix).unwrap_or(&name).to_owned();
    }
    for prefix in ["att_", "adv_", "mp_", "agency_"] {
        name = name.strip_prefix(prefix).unwrap_or(&name).to_owned();
    }
    if name.starts_with("partner_perf") {
        name = name["partner_".len()..].to_owned();
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("report_{name}");
    }
    name.truncate(51);
    name
}

/// What an export mirrors, for people.
pub fn what(source: &Source) -> String {
    match source {
        Source::Clicks => "clicks".to_owned(),
        Source::Report(_) => handle(Some(source)).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_is_particular_about_a_handle() {
        for (report, name) in [
            ("adv_action_listing_pm_only", "action_listing"),
            ("att_adv_performance_by_day_pm_only", "performance_by_day"),
            ("partner_performance_by_day", "performance_by_day"),
            ("partner_funds_transfer_listing_", "partner_funds_transfer_listing"),
            ("SkuLevelActions", "skulevelactions"),
            ("12172", "report_12172"),
            ("mp_sku_exception_list_active_IO", "sku_exception_list_active_io"),
        ] {
            let found = name_for(&Source::Report(ReportHandle::new(report))).expect("a name");
            assert_eq!(found.as_str(), name, "{report}");
        }
        assert!(named("Actions").is_err());
    }

    #[test]
    fn every_handle_of_the_catalogue_has_a_name() {
        for report in config::catalogue().reports.keys() {
            assert!(name_for(&Source::Report(ReportHandle::new(report))).is_ok(), "{report}");
        }
    }
}
