//! `[exports.NAME]`: what the user writes, else what the catalogue knows, else the defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::NaiveDate;
use croner::parser::{CronParser, Seconds};

use super::accounts::Accounts;
use super::catalogue::{Entry, catalogue};
use super::reader::{Found, Section, nearest};
use super::settings::{Export, Programs};
use crate::account::{AccountName, Persona};
use crate::column::{ColumnKind, OnTypeConflict, Partition};
use crate::export::{ExportName, LockRule, Program, RefreshRule, ReportHandle, ResultFormat, Source};

const DAY: Duration = Duration::from_hours(24);
const SCHEDULE: &str = "a cron of six fields, seconds first, as in \"0 */15 * * * *\"";
const SINCE: &str = "a day as in \"2026-01-31\"";
const ACCOUNTS: &str = "\"all\" or a list of accounts";
const OPEN_WORDS: &str = "a list of words that leave a row open, as in [\"PENDING\"]";
const TYPES: &str = "boolean | bigint | numeric | date | timestamptz | text";
/// The first day that clicks can be exported for (impact-api §7.1).
const FIRST_CLICK_DAY: NaiveDate = NaiveDate::from_ymd_opt(2024, 4, 10).expect("a day of the calendar");
/// What every order gives by itself, in lower case and without underscores.
const RESERVED_PARAMS: [&str; 5] = ["subaid", "startdate", "enddate", "date", "programid"];

/// What is called after an export with `history`.
const HISTORY_NAMES: [(&str, &str); 3] =
    [("_history", "history"), ("_versions", "view of all versions"), ("_as_known", "function over the versions")];

/// Reads all exports.
pub(super) fn read(root: &mut Section, accounts: &Accounts) -> BTreeMap<ExportName, Export> {
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
        let export = export(&name, &mut section, accounts);
        section.finish();
        exports.extend(export.map(|export| (export.name.clone(), export)));
    }
    exports
}

fn is_export_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 51
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn export(name: &str, section: &mut Section, accounts: &Accounts) -> Option<Export> {
    let (account_names, persona) = read_accounts(section, accounts).unzip();
    let persona = persona.flatten();
    let source = read_source(section, persona);
    let is_clicks = source == Some(Source::Clicks);
    let known = source.as_ref().and_then(|source| catalogue().entry(source, persona?));

    let default_schedule = if is_clicks { "0 30 3 * * *" } else { "0 */15 * * * *" };
    let schedule = section.take("schedule").map_or_else(|| Some(default_schedule.to_owned()), |f| read_schedule(&f));
    let since = section.require("since", SINCE).and_then(|found| read_since(&found, is_clicks));
    let per_program = read_per_program(section, persona, is_clicks);
    let programs = read_programs(section, account_names.as_deref(), per_program, accounts);
    let params = read_params(section, known);
    let formats = [("csv", ResultFormat::Csv), ("json", ResultFormat::Json)];
    let result_format = section.take("result_format").map_or(Some(ResultFormat::Csv), |found| found.choice(&formats));
    let key = section.take("key").map_or_else(|| Some(known.map_or_else(Vec::new, |k| k.key.clone())), |f| columns(&f));
    let date_column = section.take("date_column").map_or_else(
        || Some(known.and_then(|known| known.date_column.clone())),
        |found| found.read("the name of a column, or \"\" for none", |text| Some(Some(text.to_owned()))),
    );
    let date_column = date_column.map(|column| column.filter(|name| !name.is_empty()));
    let max_window_days = read_max_window(section, is_clicks, date_column.as_ref().is_some_and(Option::is_some));
    let refresh = section.take("refresh").map_or_else(|| Some(default_refresh(known, is_clicks)), |f| read_refresh(&f));
    let locked = match section.take("locked").map(Found::section) {
        None => Some(known.and_then(|known| known.locked.clone())),
        Some(None) => None,
        // An empty table takes away what the catalogue knows.
        Some(Some(section)) if section.is_empty() => Some(None),
        Some(Some(section)) => read_lock_rule(section).map(Some),
    };
    let max_rows = section
        .take("max_rows")
        .map_or_else(|| Some(known.and_then(|k| k.max_rows)), |found| found.number(1..=u32::MAX).map(Some));
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
    let (types, typed_by_user) = read_types(section, known);

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
            let fits = |text: &str| {
                !text.is_empty()
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
                    && !text.starts_with('.')
            };
            let handle = report.scalar().filter(|handle| fits(handle));
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

/// What the user gives over what the catalogue has; an empty list takes a parameter of the catalogue away.
fn read_params(section: &mut Section, known: Option<&Entry>) -> BTreeMap<String, Vec<String>> {
    let mut params = known.map_or_else(BTreeMap::new, |known| known.params.clone());
    for (name, found) in section.section("params").entries() {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            found.problem("is no name for a parameter; allowed are letters, digits and _");
        }
        match name.to_lowercase().replace('_', "").as_str() {
            "resultformat" => found.problem("is set by `result_format` of the export; take it away"),
            plain if RESERVED_PARAMS.contains(&plain) => {
                found.problem("is a parameter that every order sets by itself; take it away");
            }
            _ => {}
        }
        let values = if found.is_list() { found.list("a list of texts") } else { None };
        let values: Option<Vec<String>> = match values {
            Some(items) => items.iter().map(Found::scalar).collect(),
            None => found.scalar().map(|value| vec![value]),
        };
        params.retain(|other, _| !other.eq_ignore_ascii_case(&name));
        match values {
            Some(values) if values.is_empty() => {}
            Some(values) => drop(params.insert(name, values)),
            None => found.refuse("a text, or a list of texts for a parameter that is repeated"),
        }
    }
    params
}

fn columns(found: &Found) -> Option<Vec<String>> {
    let allowed = "a list of columns of the file, or [] for none";
    let mut columns: Vec<String> = Vec::new();
    for item in found.list(allowed)? {
        let name = item.read("the name of a column", |text| (!text.is_empty()).then(|| text.to_owned()))?;
        if columns.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
            item.problem("repeats a column that is already listed");
        }
        columns.push(name);
    }
    Some(columns)
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

fn default_refresh(known: Option<&Entry>, is_clicks: bool) -> Vec<RefreshRule> {
    match known {
        Some(known) if !known.refresh.is_empty() => known.refresh.clone(),
        Some(_) | None if is_clicks => Vec::new(),
        Some(_) | None => [(3, DAY / 4), (35, DAY), (190, DAY * 7)]
            .into_iter()
            .map(|(days, every)| RefreshRule { age: DAY * days, every })
            .collect(),
    }
}

fn read_refresh(found: &Found) -> Option<Vec<RefreshRule>> {
    let mut rules: Vec<RefreshRule> = Vec::new();
    for item in found.list("a list as in [{ age = \"3d\", every = \"6h\" }], or [] for none")? {
        let key = item.key().to_owned();
        let mut section = item.section()?;
        let mut length = |name, least: Duration| {
            let found = section.require(name, super::duration::WRITTEN)?;
            found.duration(least..=DAY * 3650)
        };
        let (age, every) = (length("age", Duration::from_hours(1)), length("every", Duration::from_mins(15)));
        let problems = section.problems().clone();
        section.finish();
        let rule = RefreshRule { age: age?, every: every? };
        if rules.last().is_some_and(|last| last.age >= rule.age) {
            problems.add(format!("{key}.age"), "must be greater than the age before it: the youngest comes first");
        }
        rules.push(rule);
    }
    Some(rules)
}

fn read_lock_rule(mut section: Section) -> Option<LockRule> {
    let column = |found: Found| found.read("the name of a column", |text| (!text.is_empty()).then(|| text.to_owned()));
    let status_column = section.require("status_column", "the name of a column").and_then(column);
    let open = section.require("open", OPEN_WORDS).and_then(|found| words(&found));
    let date_column = section.take("date_column").map_or(Some(None), |found| column(found).map(Some));
    let detail_column = section.take("detail_column").map_or(Some(None), |found| column(found).map(Some));
    let open_details = match &detail_column {
        Some(Some(_)) => section.require("open_details", OPEN_WORDS).and_then(|found| words(&found)),
        Some(None) | None => Some(Vec::new()),
    };
    section.finish();
    Some(LockRule {
        status_column: status_column?,
        open: open?,
        date_column: date_column?,
        detail_column: detail_column?,
        open_details: open_details?,
    })
}

fn words(found: &Found) -> Option<Vec<String>> {
    let items = found.list(OPEN_WORDS)?;
    if items.is_empty() {
        found.problem(format!("lists no word; allowed is {OPEN_WORDS}"));
    }
    items.iter().map(|item| item.read("a word", |text| (!text.is_empty()).then(|| text.to_owned()))).collect()
}

fn duration(
    section: &mut Section,
    name: &'static str,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Option<Duration> {
    section.take(name).map_or(Some(default), |found| found.duration(range))
}

/// What the user gives over what the catalogue has, and which of it the user gives.
fn read_types(section: &mut Section, known: Option<&Entry>) -> (BTreeMap<String, ColumnKind>, BTreeSet<String>) {
    let mut by_user = BTreeSet::new();
    let mut types = known.map_or_else(BTreeMap::new, Entry::types);
    for (name, found) in section.section("types").entries() {
        let text = found.text().unwrap_or_default();
        match ColumnKind::ALL.into_iter().find(|kind| kind.as_str() == text) {
            Some(kind) => {
                types.retain(|other, _| !other.eq_ignore_ascii_case(&name));
                by_user.insert(name.clone());
                types.insert(name, kind);
            }
            None => match nearest(text, ColumnKind::ALL.iter().map(|kind| kind.as_str())) {
                Some(near) => found.refuse(&format!("{TYPES}; did you mean {near:?}?")),
                None => found.refuse(TYPES),
            },
        }
    }
    (types, by_user)
}
