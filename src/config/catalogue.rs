//! What is known about impact.com's reports and clicks before an account is asked: `config/catalogue.toml`, and what users
//! add to it under `[catalogue.HANDLE]`.
//!
//! Every account has its own listing, so the catalogue only saves typing; what the user writes wins over it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer};

use super::duration;
use crate::account::Persona;
use crate::column::ColumnKind;
use crate::export::{LockRule, RefreshRule, Source};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    toml::from_str(include_str!("../../config/catalogue.toml")).expect("the built-in catalogue is well-formed")
});

/// The built-in catalogue.
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

/// Everything that is known beforehand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Reports, by handle.
    pub reports: BTreeMap<String, Entry>,
    /// Clicks, by the word for the persona; an agency has none.
    pub clicks: BTreeMap<String, Entry>,
}

impl Catalogue {
    /// What is known about a source of an account of this persona.
    pub fn entry(&self, source: &Source, persona: Persona) -> Option<&Entry> {
        match source {
            Source::Report(handle) => self.reports.get(handle.as_str()).filter(|entry| entry.persona == persona),
            Source::Clicks => self.clicks.get(persona.as_str()),
        }
    }
}

/// A report, or the clicks of a persona. What is not known is not there; a guess is in a field that says so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What people call it; may be empty.
    #[serde(default)]
    pub name: String,
    /// Whose it is.
    pub persona: Persona,
    /// What one row is and what to know about it, in a sentence or two; may be empty.
    #[serde(default)]
    pub says: String,
    /// How sure it is that some account of the persona has it under this handle.
    #[serde(default)]
    pub certainty: Certainty,
    /// How sure it is what one row is, and so its key and its date.
    #[serde(default)]
    pub grain: Certainty,
    /// How its rows change after they were first had (impact-api §7.7).
    pub changes: Option<Changes>,
    /// Whether it can be seen on the web pages alone: impact.com lists it, and exports it to nobody.
    #[serde(default)]
    pub web_only: bool,
    /// The columns that identify a row within an account; empty for none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The column that dates a row.
    pub date_column: Option<String>,
    /// A guess at the key, which counts for nothing until the report's metadata has such columns and the user takes it over.
    #[serde(default)]
    pub likely_key: Vec<String>,
    /// A guess at the column that dates a row; the same holds for it.
    pub likely_date_column: Option<String>,
    /// The parameters to ask with.
    #[serde(default)]
    pub params: BTreeMap<String, Vec<String>>,
    /// Parameters that it cannot be asked without and that only the user knows, by name, each with a sentence.
    #[serde(default)]
    pub needs: BTreeMap<String, String>,
    /// How often its days are read again; `None` for the general rules.
    #[serde(default, deserialize_with = "refresh_rules")]
    pub refresh: Option<Vec<RefreshRule>>,
    /// What tells that a row is locked, where its columns do.
    pub locked: Option<LockRule>,
    /// The most rows that a file of it has (impact-api §7.1).
    pub max_rows: Option<u32>,
    /// Further limits, in a sentence: how far back it goes, what it is known to fail at.
    pub limits: Option<String>,
    /// What is known of its columns, by their names in the file.
    #[serde(default)]
    pub columns: BTreeMap<String, KnownColumn>,
}

impl Entry {
    /// The types of its columns that are certain enough.
    pub fn types(&self) -> BTreeMap<String, ColumnKind> {
        self.columns.iter().filter_map(|(name, column)| Some((name.clone(), column.kind?))).collect()
    }

    /// What is known of a column, in whatever letter case it comes.
    pub fn column(&self, name: &str) -> Option<&KnownColumn> {
        let exact = self.columns.get(name);
        exact
            .or_else(|| self.columns.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, known)| known))
    }

    /// What contradicts itself in it: where, below the entry, and what.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |place: &str, what: &str| faults.push((place.to_owned(), what.to_owned()));
        let refresh = self.refresh.as_deref().unwrap_or_default();
        if !refresh.is_sorted_by(|a, b| a.age < b.age) {
            fault("refresh", "must have the youngest age first, each once");
        }
        if refresh.iter().any(|rule| rule.age.is_zero() || rule.every.is_zero()) {
            fault("refresh", "holds a duration of nothing");
        }
        if !self.key.is_empty() && !self.likely_key.is_empty() {
            fault("likely_key", "and `key` exclude each other; keep one");
        }
        if self.date_column.is_some() && self.likely_date_column.is_some() {
            fault("likely_date_column", "and `date_column` exclude each other; keep one");
        }
        for (place, names) in [("key", &self.key), ("likely_key", &self.likely_key)] {
            let repeats =
                |(at, name): (usize, &String)| names[..at].iter().any(|other| other.eq_ignore_ascii_case(name));
            if names.iter().enumerate().any(repeats) {
                fault(place, "repeats a column that is already listed");
            }
        }
        let named = self.key.iter().chain(&self.likely_key).chain(&self.date_column).chain(&self.likely_date_column);
        if named.into_iter().any(String::is_empty) {
            fault("key", "and the other names of columns must not be empty");
        }
        for name in self.params.keys().chain(self.needs.keys()) {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                fault(
                    "params",
                    &format!("has {name:?}, which is no name for a parameter; allowed are letters, digits and _"),
                );
            }
        }
        if let Some(rule) = &self.locked
            && (rule.open.is_empty() || rule.detail_column.is_some() == rule.open_details.is_empty())
        {
            fault(
                "locked",
                "needs words that leave a row open, and open_details if and only if there is a detail_column",
            );
        }
        if self.max_rows == Some(0) {
            fault("max_rows", "must be greater than 0");
        }
        faults
    }
}

/// A column that is known beforehand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownColumn {
    /// Its type, where that is certain enough; else the report's metadata or the data say it.
    pub kind: Option<ColumnKind>,
    /// What it holds, in a sentence; may be empty.
    #[serde(default)]
    pub says: String,
    /// How sure that is.
    #[serde(default)]
    pub certainty: Certainty,
}

/// Where a piece of knowledge comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The published OpenAPI files.
    Spec,
    /// A page of the documentation.
    Docs,
    /// Public code or data that works with some account; what a user adds is seen in the user's own.
    #[default]
    Seen,
    /// Judgement from names and neighbours.
    Inferred,
}

impl Certainty {
    /// The word in the file and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Docs => "docs",
            Self::Seen => "seen",
            Self::Inferred => "inferred",
        }
    }
}

/// How rows change after they were first had (impact-api §7.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Changes {
    /// Events whose rows change until they are locked, often months later.
    UntilLocked,
    /// Sums that are restated as the events under them change.
    Restated,
    /// Events that stay as they are once their day is over.
    Never,
    /// A log of changes, which only grows.
    Log,
    /// Documents that go through states of their own, such as being paid.
    Ledger,
    /// The state at the time of the request, whatever day is asked for.
    Snapshot,
}

impl Changes {
    /// In a few words.
    pub const fn says(self) -> &'static str {
        match self {
            Self::UntilLocked => "change until they are locked, often months later",
            Self::Restated => "are restated as the events under them change",
            Self::Never => "stay as they are once their day is over",
            Self::Log => "are a log of changes, which only grows",
            Self::Ledger => "go through states of their own, such as being paid",
            Self::Snapshot => "are the state at the time of the request, whatever day is asked for",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    age: String,
    every: String,
}

fn refresh_rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<RefreshRule>>, D::Error> {
    let length = |text: &str| {
        duration::parse(text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not {}", duration::WRITTEN)))
    };
    let rules = Vec::<Rule>::deserialize(deserializer)?;
    let rules = rules.iter().map(|rule| Ok(RefreshRule { age: length(&rule.age)?, every: length(&rule.every)? }));
    rules.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests;
