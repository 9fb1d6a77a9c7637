//! What is known about impact.com's reports and clicks before an account is asked: `config/catalogue.toml`.
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
#[derive(Debug, Deserialize)]
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

/// A report, or the clicks of a persona.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What people call it.
    pub name: String,
    /// Whose it is.
    pub persona: Persona,
    /// What one row is and what to know about it, in a sentence or two.
    pub says: String,
    /// The columns that identify a row within an account; empty for none.
    #[serde(default)]
    pub key: Vec<String>,
    /// The column that dates a row.
    pub date_column: Option<String>,
    /// The parameters to ask with.
    #[serde(default)]
    pub params: BTreeMap<String, Vec<String>>,
    /// How often its days are read again; empty for the general rules.
    #[serde(default, deserialize_with = "refresh_rules")]
    pub refresh: Vec<RefreshRule>,
    /// What tells that a row is locked, where its columns do.
    pub locked: Option<LockRule>,
    /// The most rows that a file of it has (impact-api §7.1).
    pub max_rows: Option<u32>,
    /// The columns whose type is certain enough, by their names in the file.
    #[serde(default)]
    pub columns: BTreeMap<String, KnownColumn>,
}

impl Entry {
    /// The types of its columns.
    pub fn types(&self) -> BTreeMap<String, ColumnKind> {
        self.columns.iter().map(|(name, column)| (name.clone(), column.kind)).collect()
    }
}

/// A column that is known beforehand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownColumn {
    /// Its type.
    pub kind: ColumnKind,
    /// What it holds, in a sentence.
    pub says: String,
    /// How sure that is.
    pub certainty: Certainty,
}

/// Where a piece of knowledge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The published OpenAPI files.
    Spec,
    /// A page of the documentation.
    Docs,
    /// Public code or data that works with some account.
    Seen,
    /// Judgement from names and neighbours.
    Inferred,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    age: String,
    every: String,
}

fn refresh_rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RefreshRule>, D::Error> {
    let length = |text: &str| duration::parse(text).ok_or_else(|| serde::de::Error::custom("no duration"));
    Vec::<Rule>::deserialize(deserializer)?
        .iter()
        .map(|rule| Ok(RefreshRule { age: length(&rule.age)?, every: length(&rule.every)? }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ReportHandle;

    #[test]
    fn the_catalogue_is_well_formed() {
        for entry in catalogue().reports.values().chain(catalogue().clicks.values()) {
            for sentence in entry.columns.values().map(|column| &column.says).chain([&entry.says]) {
                assert!(sentence.ends_with('.'), "{sentence}");
            }
            assert!(entry.refresh.is_sorted_by(|a, b| a.age < b.age), "{}", entry.name);
        }
    }

    #[test]
    fn action_listings_ask_for_every_status() {
        for (handle, entry) in &catalogue().reports {
            if handle.contains("action_listing") {
                assert_eq!(entry.params["SUPERSTATUS_MS"], ["APPROVED", "PENDING", "REVERSED", "NA"], "{handle}");
            }
        }
    }

    #[test]
    fn a_report_is_known_to_its_persona_alone() {
        let source = Source::Report(ReportHandle::new("mp_action_listing_fast"));
        assert!(catalogue().entry(&source, Persona::Partner).is_some());
        assert!(catalogue().entry(&source, Persona::Brand).is_none());
        assert!(catalogue().entry(&Source::Clicks, Persona::Agency).is_none());
    }
}
