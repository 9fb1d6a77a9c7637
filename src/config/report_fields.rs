//! What the catalogue knows of a report, and the user may say otherwise: key, date, parameters, refresh rules, lock, types.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::catalogue::Entry;
use super::nearest::nearest;
use super::reader::{Found, Section};
use crate::column::ColumnKind;
use crate::export::{LockRule, RefreshRule};

const DAY: Duration = Duration::from_hours(24);
const OPEN_WORDS: &str = "a list of words that leave a row open, as in [\"PENDING\"]";
const TYPES: &str = "boolean | bigint | numeric | date | timestamptz | text";
/// What every order gives by itself, in lower case and without underscores.
const RESERVED_PARAMS: [&str; 5] = ["subaid", "startdate", "enddate", "date", "programid"];

/// The columns that identify a row.
pub(super) fn key(section: &mut Section, known: Option<&Entry>) -> Option<Vec<String>> {
    let by_catalogue = || Some(known.map_or_else(Vec::new, |known| known.key.clone()));
    section.take("key").map_or_else(by_catalogue, |found| columns(&found))
}

/// The column that dates a row, if one does.
#[expect(clippy::option_option, reason = "the outer one: could it be read; the inner one: is there one")]
pub(super) fn date_column(section: &mut Section, known: Option<&Entry>) -> Option<Option<String>> {
    let column = section.take("date_column").map_or_else(
        || Some(known.and_then(|known| known.date_column.clone())),
        |found| found.read("the name of a column, or \"\" for none", |text| Some(Some(text.to_owned()))),
    );
    column.map(|column| column.filter(|name| !name.is_empty()))
}

/// How often its days are read again.
pub(super) fn refresh(section: &mut Section, known: Option<&Entry>, is_clicks: bool) -> Option<Vec<RefreshRule>> {
    section.take("refresh").map_or_else(|| Some(default_refresh(known, is_clicks)), |found| read_refresh(&found))
}

/// What tells that a row is locked. An empty table takes away what the catalogue knows.
#[expect(clippy::option_option, reason = "the outer one: could it be read; the inner one: is there one")]
pub(super) fn locked(section: &mut Section, known: Option<&Entry>) -> Option<Option<LockRule>> {
    match section.take("locked").map(Found::section) {
        None => Some(known.and_then(|known| known.locked.clone())),
        Some(None) => None,
        Some(Some(section)) if section.is_empty() => Some(None),
        Some(Some(section)) => read_lock_rule(section).map(Some),
    }
}

/// The most rows that a file has.
#[expect(clippy::option_option, reason = "the outer one: could it be read; the inner one: is there one")]
pub(super) fn max_rows(section: &mut Section, known: Option<&Entry>) -> Option<Option<u32>> {
    let by_catalogue = || Some(known.and_then(|known| known.max_rows));
    section.take("max_rows").map_or_else(by_catalogue, |found| found.number(1..=u32::MAX).map(Some))
}

/// What the user gives over what the catalogue has; an empty list takes a parameter of the catalogue away.
pub(super) fn params(section: &mut Section, known: Option<&Entry>) -> BTreeMap<String, Vec<String>> {
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

fn default_refresh(known: Option<&Entry>, is_clicks: bool) -> Vec<RefreshRule> {
    match known.and_then(|known| known.refresh.as_ref()) {
        Some(rules) => rules.clone(),
        None if is_clicks => Vec::new(),
        None => [(3, DAY / 4), (35, DAY), (190, DAY * 7)]
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

/// What the user gives over what the catalogue has, and which of it the user gives.
pub(super) fn types(section: &mut Section, known: Option<&Entry>) -> (BTreeMap<String, ColumnKind>, BTreeSet<String>) {
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
