//! Decides how the mirrored table has to look for a file: which column takes which header, and its type. Pure; the tables
//! of Postgres are read by `catalog` and changed by `ddl`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::Target;
use super::error::{ColumnRole, Error, Place};
use super::header::{self, LINEAGE, folded};
use super::partitions;
use super::table::Table;
use super::value::{Format, join};
use crate::column::{ColumnKind, Partition};

/// Where the type of a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(super) enum Origin {
    Configured,
    Metadata,
    Data,
    /// No value was ever seen: text for now.
    Empty,
}

/// The mirrored table as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub exists: bool,
    pub columns: Vec<StandingColumn>,
    /// Further columns, which are not ours.
    pub foreign: BTreeSet<String>,
    /// Its partitions, where it is partitioned.
    pub partitions: Option<Vec<partitions::Standing>>,
    /// Its indexes: name and columns.
    pub indexes: BTreeMap<String, Vec<String>>,
    /// What there is to keep superseded versions of its rows.
    pub history: History,
}

/// How the history of a table stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum History {
    /// There is none.
    #[default]
    None,
    /// Versions are there, but what answers from them is missing or lacks a column.
    Partial,
    Whole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StandingColumn {
    pub source: String,
    pub name: String,
    pub kind: ColumnKind,
    pub origin: Origin,
    /// Whether the table has it; it has not after somebody dropped it.
    pub in_table: bool,
}

impl StandingColumn {
    /// Whether its type is still to be found: it never held a value, and nobody gave it a type by hand.
    fn is_open(&self) -> bool {
        self.origin == Origin::Empty && self.kind == ColumnKind::Text
    }
}

/// A column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub source: String,
    pub name: String,
    pub format: Format,
    pub origin: Origin,
}

impl Column {
    /// Its type in the table.
    pub fn kind(&self) -> ColumnKind {
        self.format.kind.unwrap_or(ColumnKind::Text)
    }
}

/// How a file and its table fit together.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// In the order of the file.
    pub columns: Vec<Column>,
    /// Columns of the table that the file has not.
    pub others: Vec<(String, ColumnKind)>,
    /// Indexes of the key columns.
    pub key: Vec<usize>,
    /// Index of the date column.
    pub date: Option<usize>,
    /// Whether the table is partitioned by month of `_day`.
    pub by_month: bool,
    /// What has to be done to the table, in this order.
    pub changes: Vec<Change>,
    /// Whether a column is new and nobody says its type.
    pub needs_survey: bool,
}

/// One change to the mirrored table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Create,
    Add { name: String, source: String, kind: ColumnKind, origin: Origin },
    Partition(NaiveDate),
    Retype { name: String, source: String, from: ColumnKind, to: ColumnKind, origin: Origin },
    DropIndex(String),
    KeyIndex,
    WindowIndex,
    History,
}

impl Change {
    /// Whether the history of the table has to follow it.
    fn concerns_history(&self) -> bool {
        match self {
            Self::Add { .. } | Self::KeyIndex | Self::History => true,
            Self::Retype { from, to, .. } => from != to,
            Self::Create | Self::Partition(_) | Self::DropIndex(_) | Self::WindowIndex => false,
        }
    }
}

/// Types that a survey of the file found, by folded source name.
pub(super) type Surveyed = BTreeMap<String, ColumnKind>;

impl Layout {
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|index| self.columns[*index].name.as_str())
    }

    /// Fits the headers of a file to the table as it stands.
    pub fn fit(
        sources: &[String],
        standing: &Standing,
        target: &Target<'_>,
        surveyed: &Surveyed,
        place: &Place,
    ) -> Result<Self, Error> {
        let known: Vec<_> =
            standing.columns.iter().map(|column| (column.source.clone(), column.name.clone())).collect();
        let headers = header::name_columns(sources, &known, standing.foreign.clone());
        let configured = by_folded_name(target.configured);
        let metadata = by_folded_name(target.metadata);
        let are_known = !(known.is_empty() && configured.is_empty() && metadata.is_empty());
        let is_known = |source: &str| configured.contains_key(source) || metadata.contains_key(source);
        if are_known
            && !headers.is_empty()
            && !headers.iter().any(|header| header.known || is_known(&folded(&header.source)))
        {
            return Err(place.unknown_columns(sources));
        }

        let mut changes = Vec::new();
        if standing.exists {
            let table = Table::new(target.schema, target.export);
            partitions::fits(standing.partitions.is_some(), target.partition, &table, target.export)?;
        } else {
            changes.push(Change::Create);
        }
        let mut needs_survey = false;
        let mut columns: Vec<Column> = Vec::with_capacity(headers.len());
        for header in headers {
            let folded = folded(&header.source);
            let configured = configured.get(&folded).copied();
            let before = standing.columns.iter().find(|column| column.name == header.name && header.known);
            let told = configured
                .map(|kind| (kind, Origin::Configured))
                .or_else(|| metadata.get(&folded).map(|kind| (*kind, Origin::Metadata)));
            let mut typed = match before {
                Some(before) if !before.is_open() => Some(match configured {
                    Some(wider) if wider != before.kind && join(wider, before.kind) == wider => {
                        (wider, Origin::Configured)
                    }
                    _ => (before.kind, before.origin),
                }),
                _ => told,
            };
            if let Some(&found) = surveyed.get(&folded) {
                typed = Some(match typed {
                    Some((kind, origin)) if join(kind, found) == kind => (kind, origin),
                    Some((kind, _)) => (join(kind, found), Origin::Data),
                    None => (found, Origin::Data),
                });
            }
            needs_survey |= typed.is_none() && before.is_none();
            let column = Column {
                format: Format {
                    kind: typed.map(|(kind, _)| kind),
                    takes_months: configured == Some(ColumnKind::Date),
                },
                origin: typed.map_or(Origin::Empty, |(_, origin)| origin),
                source: header.source,
                name: header.name,
            };
            changes.extend(column_change(&column, before));
            columns.push(column);
        }

        let others = standing.columns.iter().filter(|other| columns.iter().all(|column| column.name != other.name));
        let others: Vec<_> = others.collect();
        changes.extend(others.iter().filter(|column| !column.in_table).map(|column| Change::Add {
            name: column.name.clone(),
            source: column.source.clone(),
            kind: column.kind,
            origin: column.origin,
        }));
        let others = others.into_iter().map(|column| (column.name.clone(), column.kind)).collect();

        let find = |wanted: &str, role| {
            let wanted_folded = folded(wanted);
            columns.iter().position(|column| folded(&column.source) == wanted_folded).ok_or_else(|| {
                Error::MissingColumn {
                    export: place.export.clone(),
                    file: place.file.clone(),
                    column: wanted.to_owned(),
                    role,
                }
            })
        };
        let key = target.key.iter().map(|name| find(name, ColumnRole::Key)).collect::<Result<Vec<_>, _>>()?;
        let date = target.date_column.map(|name| find(name, ColumnRole::Date)).transpose()?;

        let by_month = target.partition == Partition::Month;
        if by_month {
            let standing = standing.partitions.as_deref().unwrap_or_default();
            changes.extend(partitions::missing(target.window, standing).into_iter().map(Change::Partition));
        }
        let mut layout = Self { columns, others, key, date, by_month, changes, needs_survey };
        layout.index_changes(standing, target.export.as_str());
        let follows = standing.history != History::None && layout.changes.iter().any(Change::concerns_history);
        if follows || (target.history && standing.history != History::Whole) {
            layout.changes.push(Change::History);
        }
        Ok(layout)
    }

    /// Whether a change has to keep everybody from the table until the load commits.
    pub fn keeps_readers_out(&self) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Add { .. } | Change::DropIndex(_) => true,
            Change::Retype { from, to, .. } => from != to,
            Change::Create | Change::Partition(_) | Change::KeyIndex | Change::WindowIndex | Change::History => false,
        })
    }

    /// Whether the table gets another column.
    pub fn adds(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Add { .. }))
    }

    /// Whether a column gets another type.
    pub fn retypes(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Retype { from, to, .. } if from != to))
    }

    /// Whether a column of values becomes one of texts.
    pub fn makes_text(&self) -> bool {
        let makes_text = |change: &Change| matches!(change, Change::Retype { from, to: ColumnKind::Text, .. } if *from != ColumnKind::Text);
        self.changes.iter().any(makes_text)
    }

    fn index_changes(&mut self, standing: &Standing, table: &str) {
        let key_index = index_name(table, "key");
        let day = self.by_month.then_some("_day");
        let key = std::iter::once("_account").chain(self.key_names()).chain(day);
        let key: Vec<String> = key.map(str::to_owned).collect();
        let standing_key = standing.indexes.get(&key_index);
        if standing_key.is_some_and(|columns| self.key.is_empty() || *columns != key) {
            self.changes.push(Change::DropIndex(key_index));
        }
        if !self.key.is_empty() && standing_key != Some(&key) {
            self.changes.push(Change::KeyIndex);
        }
        if !standing.indexes.contains_key(&index_name(table, "window")) {
            self.changes.push(Change::WindowIndex);
        }
    }
}

fn column_change(column: &Column, before: Option<&StandingColumn>) -> Option<Change> {
    let kind = column.kind();
    match before {
        Some(before) if before.in_table => {
            (before.kind != kind || before.origin != column.origin).then(|| Change::Retype {
                name: column.name.clone(),
                source: column.source.clone(),
                from: before.kind,
                to: kind,
                origin: column.origin,
            })
        }
        _ => {
            Some(Change::Add { name: column.name.clone(), source: column.source.clone(), kind, origin: column.origin })
        }
    }
}

fn by_folded_name(kinds: &BTreeMap<String, ColumnKind>) -> BTreeMap<String, ColumnKind> {
    kinds.iter().map(|(name, kind)| (folded(name), *kind)).collect()
}

/// The name of one of our indexes, unique to its table even where that has a long name.
pub(super) fn index_name(table: &str, purpose: &str) -> String {
    let whole = format!("{table}_{purpose}");
    if whole.len() <= header::MAX_IDENTIFIER {
        return whole;
    }
    let hash = xxhash_rust::xxh3::xxh3_64(table.as_bytes());
    let suffix = format!("_{hash:016x}_{purpose}");
    format!("{}{suffix}", &table[..table.floor_char_boundary(header::MAX_IDENTIFIER - suffix.len())])
}

/// How many columns of a file a table can hold.
pub(super) const MAX_COLUMNS: usize = 1600 - LINEAGE.len();
