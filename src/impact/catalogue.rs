//! What an account offers: its company, programs, reports and their columns (impact-api §2.8, §2.10).

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::Fields;
use crate::column::ColumnKind;
use crate::export::{Program, ReportHandle};

/// Who the account belongs to (impact-api §2.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Company {
    /// Its name; may be empty.
    pub name: String,
    /// A display text such as `(GMT -08:00) Pacific Time (US & Canada); Tijuana`, not an IANA name.
    pub time_zone: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
}

impl Company {
    pub(super) fn read(fields: Fields<'_>) -> Self {
        Self {
            name: fields.text("CompanyName").unwrap_or_default(),
            time_zone: fields.text("Timezone"),
            currency: fields.text("Currency"),
        }
    }
}

/// A program of a brand or partner, or a brand of an agency (impact-api §2.10). Nothing else of the answer is kept: an
/// agency's list carries the credentials of its brands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id.
    pub id: Program,
    /// Its name; may be empty.
    pub name: String,
    /// `ACTIVE` and others; of a partner the state of the contract.
    pub state: Option<String>,
}

impl ProgramInfo {
    pub(super) fn read(item: &Value) -> Option<Self> {
        let fields = Fields::new(item.as_object()?);
        let either = |one: &str, other: &str| fields.text(one).or_else(|| fields.text(other));
        Some(Self {
            id: Program::new(either("CampaignId", "Id")?),
            name: either("CampaignName", "Name").unwrap_or_default(),
            state: either("State", "ContractStatus"),
        })
    }
}

/// A report that the account lists (impact-api §2.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportInfo {
    /// What to ask for; absent on some reports that only the web pages run.
    pub handle: Option<ReportHandle>,
    /// The display name; not unique.
    pub name: String,
    /// The group it is shown under.
    pub category: Option<String>,
    /// What it shows.
    pub description: Option<String>,
    /// Whether it can be exported at all.
    pub api_accessible: bool,
}

impl ReportInfo {
    pub(super) fn read(item: &Value) -> Option<Self> {
        let fields = Fields::new(item.as_object()?);
        Some(Self {
            handle: fields.text("Id").map(ReportHandle::new),
            name: fields.text("Name").unwrap_or_default(),
            category: fields.text("Category"),
            description: fields.text("Description"),
            api_accessible: fields.boolean("ApiAccessible").unwrap_or(false),
        })
    }
}

/// The machine-readable schema of a report (impact-api §2.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportMetaData {
    /// The display name; may be empty.
    pub name: String,
    /// What it can be narrowed by.
    pub filters: Vec<FilterInfo>,
    /// Its columns; those behind a toggle may be missing.
    pub attributes: Vec<ReportAttribute>,
}

impl ReportMetaData {
    pub(super) fn read(fields: Fields<'_>) -> Self {
        let list = |key| fields.list(key).unwrap_or_default();
        Self {
            name: fields.text("Name").unwrap_or_default(),
            filters: list("Filters").iter().filter_map(FilterInfo::read).collect(),
            attributes: list("Attributes").iter().filter_map(ReportAttribute::read).collect(),
        }
    }

    /// The types of the columns, by header; only those that impact.com says.
    pub fn kinds(&self) -> BTreeMap<String, ColumnKind> {
        self.attributes.iter().filter_map(|column| Some((column.name.clone(), column.kind?))).collect()
    }
}

/// A filter of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterInfo {
    /// The name of the request parameter.
    pub parameter: String,
    /// The type, as sent.
    pub data_type: Option<String>,
    /// How a value is written, such as `yyyy-MM-dd`.
    pub format: Option<String>,
}

impl FilterInfo {
    fn read(item: &Value) -> Option<Self> {
        let fields = Fields::new(item.as_object()?);
        Some(Self {
            parameter: parameter_name(&fields.text("Name")?),
            data_type: fields.text("DataType"),
            format: fields.text("Format"),
        })
    }
}

/// A column of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportAttribute {
    /// The header of the column in the result file.
    pub name: String,
    /// Its type, where impact.com says one that we know.
    pub kind: Option<ColumnKind>,
    /// What it holds.
    pub description: Option<String>,
}

impl ReportAttribute {
    fn read(item: &Value) -> Option<Self> {
        let fields = Fields::new(item.as_object()?);
        Some(Self {
            name: fields.text("Name")?,
            kind: fields.text("DataType").and_then(|data_type| column_kind(&data_type)),
            description: fields.text("Description"),
        })
    }
}

/// A display name becomes a parameter: upper case, blanks to underscores (impact-api §2.2).
fn parameter_name(name: &str) -> String {
    name.to_uppercase().split_whitespace().collect::<Vec<_>>().join("_")
}

fn column_kind(data_type: &str) -> Option<ColumnKind> {
    let data_type = data_type.to_ascii_lowercase();
    match data_type.split(['(', ' ']).next().unwrap_or_default() {
        "boolean" => Some(ColumnKind::Boolean),
        "integer" | "int" | "long" => Some(ColumnKind::Bigint),
        "decimal" | "money" | "double" | "float" => Some(ColumnKind::Numeric),
        "date" if data_type.contains("hh:mm") => Some(ColumnKind::Timestamptz),
        "datetime" | "timestamp" => Some(ColumnKind::Timestamptz),
        "date" => Some(ColumnKind::Date),
        "string" | "text" => Some(ColumnKind::Text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_types_become_column_kinds() {
        for (data_type, expected) in [
            ("Boolean", Some(ColumnKind::Boolean)),
            ("Date (yyyy-MM-dd'T'HH:mm:ssZZ)", Some(ColumnKind::Timestamptz)),
            ("DATETIME", Some(ColumnKind::Timestamptz)),
            ("DATE", Some(ColumnKind::Date)),
            ("Decimal", Some(ColumnKind::Numeric)),
            ("Integer", Some(ColumnKind::Bigint)),
            ("String", Some(ColumnKind::Text)),
            ("Hologram", None),
            ("", None),
        ] {
            assert_eq!(column_kind(data_type), expected, "{data_type}");
        }
    }

    #[test]
    fn a_display_name_becomes_a_parameter() {
        assert_eq!(parameter_name("Start Date"), "START_DATE");
        assert_eq!(parameter_name("START_DATE"), "START_DATE");
    }
}
