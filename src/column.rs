//! The words for how a mirrored table is shaped.

use std::fmt;

/// The Postgres type of a mirrored column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ColumnKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number that fits 64 bits.
    Bigint,
    /// An exact decimal; all money.
    Numeric,
    /// A calendar day.
    Date,
    /// A point in time.
    Timestamptz,
    /// Anything.
    Text,
}

impl ColumnKind {
    /// All kinds, from narrow to wide.
    pub const ALL: [Self; 6] = [Self::Boolean, Self::Bigint, Self::Numeric, Self::Date, Self::Timestamptz, Self::Text];

    /// The type's name in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Bigint => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamptz => "timestamptz",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do with a value that does not fit its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTypeConflict {
    /// Change the column to the narrowest type that holds old and new values.
    Widen,
    /// Keep the type and put the row into `rejected_row`.
    Quarantine,
}

/// How a mirrored table is partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// One plain table.
    None,
    /// By month of `_day`.
    Month,
}
