//! A report, or the clicks, of an account: what its metadata says joined with what the catalogue knows.

use crate::account::{AccountName, Persona};
use crate::column::ColumnKind;
use crate::config::{Account, Certainty, Entry, Settings};
use crate::export::{ExportName, Source};
use crate::impact::{FilterInfo, ReportInfo, ReportMetaData};
use crate::retry::ErrorKind;

use super::super::payer::{Payer, Unanswered};
use super::{CLICKS, Mistake, find, mirrored_by};

/// Everything that is known of it.
#[derive(Debug)]
pub struct Description {
    /// Whose.
    pub account: AccountName,
    /// What kind of account that is.
    pub persona: Persona,
    /// What to ask for.
    pub source: Source,
    /// How the account lists it; clicks are not listed.
    pub listed: Option<ReportInfo>,
    /// What the account says of its columns, where it says anything.
    pub metadata: Option<ReportMetaData>,
    /// What the catalogue knows.
    pub entry: Option<Entry>,
    /// Whether the user's own catalogue says that.
    pub is_own: bool,
    /// The exports that mirror it.
    pub mirrored_by: Vec<ExportName>,
}

/// A column, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Its name, as the metadata spells it where that has it.
    pub name: String,
    /// The type that its column in the mirror begins with; `None`: the data say.
    pub kind: Option<ColumnKind>,
    /// Whether the metadata has it; columns behind a toggle may not be there.
    pub is_in_metadata: bool,
    /// What it holds.
    pub says: String,
    /// How sure the catalogue is of it; `None` where the catalogue does not know it.
    pub certainty: Option<Certainty>,
}

/// Columns that serve as the key or the date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The catalogue is certain enough, and they are used.
    Known(Vec<String>),
    /// A guess of the catalogue whose columns the account's metadata has. Used once the configuration says so.
    Confirmed(Vec<String>),
    /// A guess of the catalogue that the metadata does not bear out.
    Guess(Vec<String>),
    /// Nobody knows.
    Unknown,
}

impl Chosen {
    fn new(known: &[String], likely: &[String], metadata: Option<&ReportMetaData>) -> Self {
        if !known.is_empty() {
            return Self::Known(known.to_vec());
        }
        if likely.is_empty() {
            return Self::Unknown;
        }
        let spelt = |name: &String| {
            let mut columns = metadata.into_iter().flat_map(|metadata| &metadata.attributes);
            columns.find(|column| column.name.eq_ignore_ascii_case(name)).map(|column| column.name.clone())
        };
        match likely.iter().map(spelt).collect() {
            Some(columns) => Self::Confirmed(columns),
            None => Self::Guess(likely.to_vec()),
        }
    }

    /// The columns that a configuration can rely on.
    pub fn usable(&self) -> &[String] {
        match self {
            Self::Known(columns) | Self::Confirmed(columns) => columns,
            Self::Guess(_) | Self::Unknown => &[],
        }
    }
}

impl Description {
    /// Asks the account: its listing and the metadata of the report, or nothing at all for clicks.
    pub async fn ask(settings: &Settings, account: &Account, handle: &str, payer: Payer<'_>) -> anyhow::Result<Self> {
        if handle == CLICKS {
            return Ok(Self::of_clicks(settings, account)?);
        }
        let listed = find(handle, account, payer.reports().await?)?;
        Ok(Self::of_report(settings, account, listed, payer).await?)
    }

    /// Of the account's clicks.
    pub fn of_clicks(settings: &Settings, account: &Account) -> Result<Self, Mistake> {
        if account.persona == Persona::Agency {
            return Err(Mistake::ClicksOfAgency);
        }
        Ok(Self::new(settings, account, Source::Clicks, None, None))
    }

    /// Of a report that the account lists; its metadata is asked for.
    pub async fn of_report(
        settings: &Settings,
        account: &Account,
        listed: ReportInfo,
        payer: Payer<'_>,
    ) -> Result<Self, Unanswered> {
        let handle = listed.handle.clone().expect("a report that was found by its handle");
        let metadata = match payer.report_columns(&handle).await {
            Ok(metadata) => Some(metadata),
            // Some reports have no metadata, and can be exported all the same.
            Err(Unanswered::Failed(error)) if error.kind() == ErrorKind::Permanent => None,
            Err(error) => return Err(error),
        };
        Ok(Self::new(settings, account, Source::Report(handle), Some(listed), metadata))
    }

    fn new(
        settings: &Settings,
        account: &Account,
        source: Source,
        listed: Option<ReportInfo>,
        metadata: Option<ReportMetaData>,
    ) -> Self {
        let entry = settings.entry(&source, account.persona).cloned();
        let own = match &source {
            Source::Report(handle) => settings.catalogue.get(handle.as_str()),
            Source::Clicks => None,
        };
        Self {
            account: account.name.clone(),
            persona: account.persona,
            is_own: own.is_some_and(|own| own.persona == account.persona),
            mirrored_by: mirrored_by(settings, &account.name, &source),
            source,
            listed,
            metadata,
            entry,
        }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        let listed = self.listed.as_ref().map(|listed| listed.name.as_str());
        let known = self.entry.as_ref().map(|entry| entry.name.as_str());
        [listed, known].into_iter().flatten().find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// The columns that identify a row.
    pub fn key(&self) -> Chosen {
        let Some(entry) = &self.entry else { return Chosen::Unknown };
        Chosen::new(&entry.key, &entry.likely_key, self.metadata.as_ref())
    }

    /// The column that dates a row.
    pub fn date_column(&self) -> Chosen {
        let Some(entry) = &self.entry else { return Chosen::Unknown };
        Chosen::new(entry.date_column.as_slice(), entry.likely_date_column.as_slice(), self.metadata.as_ref())
    }

    /// Columns of the metadata that hold dates or times.
    pub fn dates(&self) -> Vec<&str> {
        let columns = self.metadata.iter().flat_map(|metadata| &metadata.attributes);
        let is_date = |kind| matches!(kind, Some(ColumnKind::Date | ColumnKind::Timestamptz));
        columns.filter(|column| is_date(column.kind)).map(|column| column.name.as_str()).collect()
    }

    /// The filters that take a date.
    pub fn date_filters(&self) -> Vec<&FilterInfo> {
        let filters = self.metadata.iter().flat_map(|metadata| &metadata.filters);
        let takes_date = |filter: &&FilterInfo| {
            filter.data_type.as_ref().is_some_and(|data_type| data_type.to_ascii_lowercase().starts_with("date"))
        };
        filters.filter(takes_date).collect()
    }

    /// Columns of the key or the date that the metadata does not have, though it has columns. One behind a toggle may be there.
    pub fn missing(&self) -> Vec<String> {
        let Some(metadata) = self.metadata.as_ref().filter(|metadata| !metadata.attributes.is_empty()) else {
            return Vec::new();
        };
        let has = |name: &String| metadata.attributes.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let (key, date) = (self.key(), self.date_column());
        key.usable().iter().chain(date.usable()).filter(|name| !has(name)).cloned().collect()
    }

    /// The columns: those of the metadata, then those that only the catalogue knows.
    pub fn columns(&self) -> Vec<ColumnFacts> {
        let attributes = self.metadata.iter().flat_map(|metadata| &metadata.attributes);
        let mut columns: Vec<ColumnFacts> = attributes
            .map(|column| {
                let known = self.entry.as_ref().and_then(|entry| entry.column(&column.name));
                let says = known.map(|known| known.says.clone()).filter(|says| !says.is_empty());
                ColumnFacts {
                    name: column.name.clone(),
                    kind: known.and_then(|known| known.kind).or(column.kind),
                    is_in_metadata: true,
                    says: says.or_else(|| column.description.clone()).unwrap_or_default(),
                    certainty: known.map(|known| known.certainty),
                }
            })
            .collect();
        for (name, known) in self.entry.iter().flat_map(|entry| &entry.columns) {
            if columns.iter().all(|column| !column.name.eq_ignore_ascii_case(name)) {
                columns.push(ColumnFacts {
                    name: name.clone(),
                    kind: known.kind,
                    is_in_metadata: false,
                    says: known.says.clone(),
                    certainty: Some(known.certainty),
                });
            }
        }
        columns
    }
}
