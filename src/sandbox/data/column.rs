//! A column: its name, its type for the MetaData, the toggle that shows it, and how its value is written.

use super::request::Toggles;

/// The types that MetaData knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Free text.
    Text,
    /// A whole number.
    Integer,
    /// A number with decimals.
    Decimal,
    /// A date, or a date and a time.
    Date,
    /// `true` or `false`.
    Boolean,
}

impl Kind {
    /// The `DataType` of the MetaData.
    pub fn data_type(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Integer => "Integer",
            Self::Decimal => "Decimal",
            Self::Date => "Date (yyyy-MM-dd'T'HH:mm:ssZZ)",
            Self::Boolean => "Boolean",
        }
    }
}

/// A column of the rows made from `T`.
#[derive(Debug)]
pub struct Column<T: ?Sized> {
    /// The header.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The parameter that must be set for the column to be there.
    pub toggle: Option<&'static str>,
    /// Appends the value of a row.
    pub write: fn(&T, &mut String),
}

impl<T: ?Sized> Column<T> {
    /// A column that is always there.
    pub const fn new(name: &'static str, kind: Kind, write: fn(&T, &mut String)) -> Self {
        Self { name, kind, toggle: None, write }
    }

    /// The same column, there only where `toggle` is set.
    pub const fn shown_by(mut self, toggle: &'static str) -> Self {
        self.toggle = Some(toggle);
        self
    }

    /// Whether a request with these toggles gets the column.
    pub fn is_shown(&self, toggles: &Toggles) -> bool {
        self.toggle.is_none_or(|toggle| toggles.contains(toggle))
    }
}
