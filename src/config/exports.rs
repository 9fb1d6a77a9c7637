//! `[exports.NAME]`: what the user writes, else what the catalogue knows, else the defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::NaiveDate;
use croner::parser::{CronParser, Seconds};

use super::accounts::Accounts;
use super::catalogue::{Entry, catalogue};
use super::reader::{Found, Section};
use super::report_fields as fields;
use super::settings::{Export, Programs};
use crate::account::{AccountName, Persona};
use crate::column::{OnTypeConflict, Partition};
use crate::export::{ExportName, Program, ReportHandle, ResultFormat, Source};

const DAY: Duration = Duration::from_hours(24);
const SCHEDULE: &str = "a cron of six fields, seconds first, as in \"0 */15 * * * *\"";
const SINCE: &str = "a day as in \"2026-01-31\"";
const ACCOUNTS: &str = "\"all\" or a list of accounts";
/// The first day that clicks can be exported for (impact-api §7.1).
pub const FIRST_CLICK_DAY: NaiveDate = NaiveDate::from_ymd_opt(2024, 4, 10).expect("a day of the calendar");

/// What is called after an export with `history`.
const HISTORY_NAMES: [(&str, &str); 3] =
    [("_history", "history"), ("_versions", "view of all versions"), ("_as_known", "function over the versions")];

/// Reads all exports.
pub(super) fn read(
    root: &mut Section,
    accounts: &Accounts,
    own: &BTreeMap<String, Entry>,
) -> BTreeMap<ExportName, Export> {
    let entries = root.section("exports").entries();
    let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
    let mut exports = BTreeMap::new();
    for (name, found) in entries {
        if !is_export_name(&name) {
            found.problem("is no name for an export; allowed are a-z, 0-9 and _, the first a letter, at most 51");
        }
        for (suffix, what) in HISTORY_NAMES {
            if let Some(base) = name.strip_suffix(suffix).filter(|base| names.iter().any(|other| other == base)) {
                found.problem(format!("is the name of the {what} of export {base}; choose another"));
            }
        }
        if let Some(base) = super::keep::partition_of(&name).filter(|base| names.iter().any(|other| other == base)) {
            found.problem(format!("is the name of a partition of export {base}; choose another"));
        }
        let Some(mut section) = found.section() else { continue };
        let export = export(&name, &mut section, accounts, own);
        section.finish();
        exports.extend(export.map(|export| (export.name.clone(), export)));
    }
    exports
}

/// What is known of a source: what the user says over what the built-in catalogue does.
pub(super) fn known<'a>(source: &Source, persona: Persona, own: &'a BTreeMap<String, Entry>) -> Option<&'a Entry> {
    let by_user = match source {
        Source::Report(handle) => own.get(handle.as_str()).filter(|entry| entry.persona == persona),
        Source::Clicks => None,
    };
    by_user.or_else(|| catalogue().entry(source, persona))
}

/// Whether a text can be the name of an export.
pub fn is_export_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 51
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn export(name: &str, section: &mut Section, accounts: &Accounts, own: &BTreeMap<String, Entry>) -> Option<Export> {
    let (account_names, persona) = read_accounts(section, accounts).unzip();
    let persona = persona.flatten();
    let source = read_source(section, persona);
    let is_clicks = source == Some(Source::Clicks);
    let known = source.as_ref().and_then(|source| known(source, persona?, own));

    let default_schedule = if is_clicks { "0 30 3 * * *" } else { "0 */15 * * * *" };
    let schedule = section.take("schedule").map_or_else(|| Some(default_schedule.to_owned()), |f| read_schedule(&f));
    let since = section.require("since", SINCE).and_then(|found| read_since(&found, is_clicks));
    let per_program = read_per_program(section, persona, is_clicks);
    let programs = read_programs(section, account_names.as_deref(), per_program, accounts);
    let params = fields::params(section, known);
    let formats = [("csv", ResultFormat::Csv), ("json", ResultFormat::Json)];
    let result_format = section.take("result_format").map_or(Some(ResultFormat::Csv), |found| found.choice(&formats));
    let key = fields::key(section, known);
    let date_column = fields::date_column(section, known);
    let max_window_days = read_max_window(section, is_clicks, date_column.as_ref().is_some_and(Option::is_some));
    let refresh = fields::refresh(section, known, is_clicks);
    let locked = fields::locked(section, known);
    let max_rows = fields::max_rows(section, known);
    let freshness = duration(section, "freshness", Duration::from_hours(26), Duration::from_hours(1)..=DAY * 366);
    let default_today = !is_clicks && date_column.as_ref().is_some_and(Option::is_some);
    let include_today = section.take("include_today").map_or(Some(default_today), |found| found.boolean());
    let history = section.take("history").map_or(Some(false), |found| found.boolean());
    let conflicts = [("widen", OnTypeConflict::Widen), ("quarantine", OnTypeConflict::Quarantine)];
    let on_type_conflict =
        section.take("on_type_conflict").map_or(Some(OnTypeConflict::Widen), |found| found.choice(&conflicts));
    let partitions = [("none", Partition::None), ("month", Partition::Month)];
    let partition = section.take("partition").map_or(Some(Partition::None), |found| found.choice(&partitions));
    let keep_days = section.take("keep").map_or(Some(None), |found| super::keep::days(&found).map(Some));
    let on_doubts = super::doubts::read(section);
    let (types, typed_by_user) = fields::types(section, known);

    Some(Export {
        name: ExportName::new(name),
        accounts: account_names?,
        source: source?,
        schedule: schedule?,
        since: since?,
        per_program: per_program?,
        programs: programs?,
        params,
        result_format: result_format?,
        key: key?,
        date_column: date_column?,
        max_window_days: max_window_days?,
        refresh: refresh?,
        locked: locked?,
        max_rows: max_rows?,
        freshness: freshness?,
        include_today: include_today?,
        history: history?,
        on_type_conflict: on_type_conflict?,
        partition: partition?,
        keep_days: keep_days?,
        on_doubts: on_doubts?,
        types,
        typed_by_user,
    })
}

/// The accounts, and their one persona where it is known.
fn read_accounts(section: &mut Section, accounts: &Accounts) -> Option<(Vec<AccountName>, Option<Persona>)> {
    let found = section.take("accounts");
    let key = section.key("accounts");
    let names: Vec<AccountName> = match &found {
        Some(found) if found.text() != Some("all") => {
            let listed = found.list(ACCOUNTS)?;
            if listed.is_empty() {
                found.problem(format!("lists no account; allowed is {ACCOUNTS}"));
            }
            let mut names = Vec::new();
            for item in listed {
                let name = item.text().map(AccountName::new).filter(|name| accounts.named.contains_key(name));
                match name {
                    Some(name) if names.contains(&name) => item.problem("repeats an account that is already listed"),
                    Some(name) => names.push(name),
                    None => {
                        let known: Vec<_> = accounts.named.keys().map(AccountName::as_str).collect();
                        item.refuse(&format!("an account of the configuration: {}", known.join(", ")));
                    }
                }
            }
            names
        }
        Some(_) | None => accounts.named.keys().cloned().collect(),
    };
    let known: Vec<(&AccountName, Persona)> =
        names.iter().filter_map(|name| Some((name, accounts.named.get(name).copied().flatten()?))).collect();
    let persona = known.first().map(|(_, persona)| *persona);
    if known.iter().any(|(_, other)| Some(*other) != persona) {
        let each: Vec<_> = known.iter().map(|(name, persona)| format!("{name}: {persona}")).collect();
        let what =
            format!("covers accounts of different personas ({}); make one export for each persona", each.join(", "));
        section.problems().add(key, what);
        return Some((names, None));
    }
    Some((names, persona))
}

fn read_source(section: &mut Section, persona: Option<Persona>) -> Option<Source> {
    let report = section.take("report");
    let clicks = section.take("clicks");
    let is_clicks = match &clicks {
        Some(found) => found.boolean()?,
        None => false,
    };
    match (report, is_clicks) {
        (Some(report), false) => {
            let handle = report.scalar().filter(|handle| ReportHandle::is_well_formed(handle));
            if handle.is_none() {
                report.refuse("the handle of a report, as `reports list` shows it");
            }
            handle.map(|handle| Source::Report(ReportHandle::new(handle)))
        }
        (None, true) if persona == Some(Persona::Agency) => {
            clicks?
                .problem("asks for clicks of an agency, which impact.com does not export; use accounts of the brands");
            None
        }
        (None, true) => Some(Source::Clicks),
        (Some(_), true) => {
            section.problems().add(section.key("report"), "and `clicks` exclude each other; keep one");
            None
        }
        (None, false) => {
            let what = "is missing; allowed is the handle of a report, or `clicks = true` instead";
            section.problems().add(section.key("report"), what);
            None
        }
    }
}

fn read_schedule(found: &Found) -> Option<String> {
    let text = found.text().unwrap_or_default();
    let fields = text.split_whitespace().count();
    if fields == 5 {
        found.refuse(&format!("{SCHEDULE}; write \"0 {}\"", text.trim()));
        return None;
    }
    // As the scheduler reads it, which would also take a seventh field for years.
    let parsed = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build().parse(text);
    match parsed {
        Ok(_) if fields == 6 => Some(text.to_owned()),
        Err(error) if fields == 6 => {
            found.refuse(&format!("{SCHEDULE} ({error})"));
            None
        }
        Ok(_) | Err(_) => {
            found.refuse(SCHEDULE);
            None
        }
    }
}

fn read_since(found: &Found, is_clicks: bool) -> Option<NaiveDate> {
    let day: NaiveDate = found.read(SINCE, |text| text.parse().ok())?;
    if is_clicks && day < FIRST_CLICK_DAY {
        found.refuse(&format!("{FIRST_CLICK_DAY} or later, for impact.com exports no clicks before that day"));
        return None;
    }
    Some(day)
}

fn read_per_program(section: &mut Section, persona: Option<Persona>, is_clicks: bool) -> Option<bool> {
    let default = persona == Some(Persona::Brand);
    let Some(found) = section.take("per_program") else { return Some(default) };
    let wanted = found.boolean()?;
    if is_clicks && persona.is_some() && wanted != default {
        found.refuse(if default {
            "true, for a brand's clicks are exported program by program"
        } else {
            "false, for one export holds a partner's clicks on all programs"
        });
        return None;
    }
    Some(wanted)
}

/// Some of the account's programs; all where nothing is said.
fn read_programs(
    section: &mut Section,
    names: Option<&[AccountName]>,
    per_program: Option<bool>,
    accounts: &Accounts,
) -> Option<Programs> {
    let Some(found) = section.take("programs") else { return Some(Programs::All) };
    let programs = super::accounts::programs(&found)?;
    let Programs::Listed(wanted) = &programs else { return Some(programs) };
    if per_program == Some(false) {
        found.problem(
            "names programs, but the export is not asked for per program; set per_program = true or take it away",
        );
        return None;
    }
    let [name] = names? else {
        found.problem("names programs of an export on several accounts; give each account an export of its own");
        return None;
    };
    if let Some(Programs::Listed(known)) = accounts.whole.get(name).map(|account| &account.programs) {
        let strangers: Vec<_> = wanted.iter().filter(|one| !known.contains(one)).map(Program::as_str).collect();
        if !strangers.is_empty() {
            found.problem(format!("names {}, not among accounts.{name}.programs; add it there", strangers.join(", ")));
            return None;
        }
    }
    Some(programs)
}

fn read_max_window(section: &mut Section, is_clicks: bool, has_date_column: bool) -> Option<u32> {
    let most = if has_date_column && !is_clicks { 366 } else { 1 };
    let Some(found) = section.take("max_window") else { return Some(most.min(31)) };
    let duration = found.duration(DAY..=DAY * 366)?;
    let days = u32::try_from(duration.as_secs() / DAY.as_secs()).expect("at most 366");
    if DAY * days != duration {
        found.refuse("whole days as in 31d");
        return None;
    }
    if days > most {
        found.refuse(if is_clicks {
            "1d, for clicks are exported day by day"
        } else {
            "1d, for rows without a date_column cannot be told apart by day"
        });
        return None;
    }
    Some(days)
}

fn duration(
    section: &mut Section,
    name: &'static str,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Option<Duration> {
    section.take(name).map_or(Some(default), |found| found.duration(range))
}
