//! What an account offers: its reports and clicks, beside what the catalogue knows of them and what is mirrored already.

pub mod add;
pub mod block;
pub mod describe;

use crate::account::{AccountName, Persona};
use crate::config::{self, Account, Settings};
use crate::export::{ExportName, ReportHandle, Source};
use crate::impact::ReportInfo;

use super::payer::{Payer, Unanswered};

/// What clicks are called where a handle is expected.
pub const CLICKS: &str = "clicks";

/// What cannot be done as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// No such account.
    #[error("there is no account {name:?}; configured are: {known}")]
    UnknownAccount {
        /// What was named.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// None was named, and there are several.
    #[error("several accounts are configured; name one with --account: {known}")]
    WhichAccount {
        /// Those that there are.
        known: String,
    },
    /// The account does not list it.
    #[error(
        "account {account} lists no report {handle:?}{}; `impact-mirror reports list --account {account}` shows what it has",
        meant(near)
    )]
    UnknownReport {
        /// What was named.
        handle: String,
        /// Who was asked.
        account: AccountName,
        /// What may be meant.
        near: Vec<String>,
    },
    /// It is listed, and not to be had.
    #[error("{handle} is shown on impact.com's web pages alone: account {account} cannot export it")]
    WebOnly {
        /// Which.
        handle: String,
        /// Whose.
        account: AccountName,
    },
    /// An agency has no clicks.
    #[error("impact.com exports no clicks of an agency; use accounts of its brands")]
    ClicksOfAgency,
    /// The name cannot be one.
    #[error(
        "{name:?} is no name for an export; allowed are a-z, 0-9 and _, the first a letter, at most 51; choose one with --name"
    )]
    BadName {
        /// What it would have been.
        name: String,
    },
    /// The name is taken.
    #[error("there is an export {name} already, of {what}; nothing was changed; choose another name with --name")]
    NameTaken {
        /// Which.
        name: ExportName,
        /// What it mirrors.
        what: String,
    },
}

fn meant(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        several => format!("; did you mean one of {}?", several.join(", ")),
    }
}

/// The account that is meant: the one named, or the only one.
pub fn account<'a>(settings: &'a Settings, name: Option<&str>) -> Result<&'a Account, Mistake> {
    let known = || settings.accounts.keys().map(AccountName::as_str).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => settings
            .accounts
            .values()
            .find(|account| account.name.as_str() == name)
            .ok_or_else(|| Mistake::UnknownAccount { name: name.to_owned(), known: known() }),
        None => match settings.accounts.values().collect::<Vec<_>>()[..] {
            [account] => Ok(account),
            _ => Err(Mistake::WhichAccount { known: known() }),
        },
    }
}

/// The exports that mirror a source of an account.
pub fn mirrored_by(settings: &Settings, account: &AccountName, source: &Source) -> Vec<ExportName> {
    let exports = settings.exports.values();
    let ours = exports.filter(|export| export.source == *source && export.accounts.contains(account));
    ours.map(|export| export.name.clone()).collect()
}

/// Something that an account has.
#[derive(Debug)]
pub struct Offer {
    /// What to ask for; `None` where the listing names no handle.
    pub source: Option<Source>,
    /// The display name.
    pub name: String,
    /// The group it is shown under.
    pub category: Option<String>,
    /// Whether it can be exported.
    pub exportable: bool,
    /// What the catalogue says that one row is; `None` where it does not know it.
    pub says: Option<String>,
    /// The exports that mirror it.
    pub mirrored_by: Vec<ExportName>,
}

/// What the account has: its reports, and clicks unless it is an agency's.
pub async fn offers(settings: &Settings, account: &Account, payer: Payer<'_>) -> Result<Vec<Offer>, Unanswered> {
    let offer = |source: Option<Source>, name: String, category: Option<String>, exportable: bool| {
        let entry = source.as_ref().and_then(|source| settings.entry(source, account.persona));
        Offer {
            says: entry.map(|entry| entry.says.clone()),
            mirrored_by: source.as_ref().map_or_else(Vec::new, |one| mirrored_by(settings, &account.name, one)),
            source,
            name,
            category,
            exportable,
        }
    };
    let mut offers: Vec<Offer> = payer
        .reports()
        .await?
        .into_iter()
        .map(|info| offer(info.handle.map(Source::Report), info.name, info.category, info.api_accessible))
        .collect();
    offers.sort_by(|a, b| (!a.exportable, handle(a.source.as_ref())).cmp(&(!b.exportable, handle(b.source.as_ref()))));
    if account.persona != Persona::Agency {
        offers.insert(0, offer(Some(Source::Clicks), "Clicks".to_owned(), None, true));
    }
    Ok(offers)
}

/// The handle of a source, or what stands for it.
pub fn handle(source: Option<&Source>) -> &str {
    match source {
        Some(Source::Report(handle)) => handle.as_str(),
        Some(Source::Clicks) => CLICKS,
        None => "",
    }
}

/// Finds what a person named among the reports of an account.
fn find(handle: &str, account: &Account, listed: Vec<ReportInfo>) -> Result<ReportInfo, Mistake> {
    let handles: Vec<ReportHandle> = listed.iter().filter_map(|info| info.handle.clone()).collect();
    match listed.into_iter().find(|info| info.handle.as_ref().is_some_and(|one| one.as_str() == handle)) {
        Some(info) if info.api_accessible => Ok(info),
        Some(_) => Err(Mistake::WebOnly { handle: handle.to_owned(), account: account.name.clone() }),
        None => {
            let near = config::similar(handle, handles.iter().map(ReportHandle::as_str));
            let near = near.into_iter().map(str::to_owned).collect();
            Err(Mistake::UnknownReport { handle: handle.to_owned(), account: account.name.clone(), near })
        }
    }
}
