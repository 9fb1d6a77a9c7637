//! `check`: what has to be right before the daemon can work, each with the mend.

use crate::config::{Account, Export, Settings};
use crate::error_chain::Chain;
use crate::export::Source;
use crate::impact;
use crate::retry::ErrorKind;

use super::{Database, Patience};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Right.
    Good,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Bad,
}

/// One line of a check.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Line {
    /// How it came out.
    pub verdict: Verdict,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where nothing.
    pub mend: String,
}

impl Line {
    /// Nothing to do.
    pub fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, what: what.into(), found: found.into(), mend: String::new() }
    }

    /// Something to look at.
    pub fn warning(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, what: what.into(), found: found.into(), mend: mend.into() }
    }

    /// Something to mend.
    pub fn bad(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, what: what.into(), found: found.into(), mend: mend.into() }
    }
}

/// Looks at the database and at every account; about five requests an account, none of them an export.
pub async fn check(settings: &Settings) -> Vec<Line> {
    let mut lines: Vec<Line> = settings
        .not_yet()
        .into_iter()
        .map(|warning| Line::warning("setting", warning, "nothing to do, or remove it"))
        .collect();
    lines.push(check_database(settings).await);
    for account in settings.accounts.values() {
        lines.extend(check_account(settings, account).await);
    }
    lines
}

async fn check_database(settings: &Settings) -> Line {
    match Database::open(settings, Patience::COMMAND).await {
        Ok(Some(database)) => {
            let found = format!("{}, schema impact_mirror up to date", database.describe());
            match database.close().await {
                Ok(()) => Line::good("database", found),
                Err(error) => Line::warning("database", format!("{found}; {error:#}"), "see the log of Postgres"),
            }
        }
        Ok(None) => Line::warning("database", "not looked at", ""),
        Err(error) => Line::bad(
            "database",
            format!("{error:#}"),
            "check database.url, that the server runs, and that its user may create schemas; or set it to \"embedded\"",
        ),
    }
}

async fn check_account(settings: &Settings, account: &Account) -> Vec<Line> {
    let name = &account.name;
    let what = |about: &str| format!("account {name}: {about}");
    let client = match impact::Client::new(account) {
        Ok(client) => client,
        Err(error) => {
            return vec![Line::bad(
                what("client"),
                Chain(&error).to_string(),
                format!("check accounts.{name}.base_url"),
            )];
        }
    };
    let company = match client.company().await {
        Ok(answer) => answer.value,
        Err(error) => return vec![refused(&what("credentials"), name.as_str(), &error)],
    };
    let company_name = company.name.as_str();
    let mut lines = vec![Line::good(what("credentials"), format!("accepted, {} {company_name:?}", account.persona))];
    lines.push(check_zone(account, company.time_zone.as_deref()));
    match client.programs().await {
        Ok(answer) => lines.push(check_programs(account, &answer.value)),
        Err(error) => lines.push(refused(&what("programs"), name.as_str(), &error)),
    }
    lines.extend(check_exports(settings, account, &client).await);
    lines
}

fn check_zone(account: &Account, text: Option<&str>) -> Line {
    let what = format!("account {}: time zone", account.name);
    let configured = account.time_zone.name();
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Line::good(what, format!("{configured}; impact.com does not say"));
    };
    // A display text, not an IANA name (impact-api §2.10): a person must compare.
    if text.contains(configured) {
        return Line::good(what, configured.to_owned());
    }
    Line::warning(
        what,
        format!("{configured} here; impact.com says {text:?}"),
        format!("if that is another zone, set accounts.{}.time_zone: days are counted in it", account.name),
    )
}

fn check_programs(account: &Account, found: &[impact::ProgramInfo]) -> Line {
    let what = format!("account {}: programs", account.name);
    let missing: Vec<&str> = match &account.programs {
        crate::config::Programs::All => Vec::new(),
        crate::config::Programs::Listed(listed) => listed
            .iter()
            .filter(|id| found.iter().all(|info| info.id != **id))
            .map(crate::export::Program::as_str)
            .collect(),
    };
    if missing.is_empty() {
        return Line::good(what, format!("{} found", found.len()));
    }
    Line::bad(
        what,
        format!("impact.com does not list {}", missing.join(", ")),
        format!("correct accounts.{}.programs, or set it to \"all\"", account.name),
    )
}

async fn check_exports(settings: &Settings, account: &Account, client: &impact::Client) -> Vec<Line> {
    let reports = match client.reports().await {
        Ok(answer) => answer.value,
        Err(error) => {
            return vec![refused(&format!("account {}: reports", account.name), account.name.as_str(), &error)];
        }
    };
    let here = settings.exports.values().filter(|export| export.accounts.contains(&account.name));
    here.map(|export| check_export(export, account, &reports)).collect()
}

fn check_export(export: &Export, account: &Account, reports: &[impact::ReportInfo]) -> Line {
    let what = format!("export {} on {}", export.name, account.name);
    let Source::Report(handle) = &export.source else {
        return Line::good(what, "clicks".to_owned());
    };
    match reports.iter().find(|report| report.handle.as_ref() == Some(handle)) {
        Some(report) if report.api_accessible => Line::good(what, format!("{handle}, {:?}", report.name)),
        Some(_) => Line::bad(
            what,
            format!("{handle} cannot be had by API"),
            format!("choose another report for exports.{}.report", export.name),
        ),
        None => Line::bad(
            what,
            format!("impact.com does not list {handle} for this account"),
            format!("correct exports.{}.report; handles differ from account to account", export.name),
        ),
    }
}

fn refused(what: &str, account: &str, error: &impact::Error) -> Line {
    let mend = match error.kind() {
        ErrorKind::Credentials => {
            format!("check accounts.{account}.account_sid and auth_token in impact.com's settings")
        }
        ErrorKind::Forbidden => "give the token the scopes Reports, Clicks, Jobs and account information".to_owned(),
        ErrorKind::Transient | ErrorKind::Throttled => "try again later; see status.impact.com".to_owned(),
        ErrorKind::Remote
        | ErrorKind::Expired
        | ErrorKind::Permanent
        | ErrorKind::BadFile
        | ErrorKind::Database
        | ErrorKind::Internal => format!("check accounts.{account}.persona and base_url"),
    };
    Line::bad(what, Chain(error).to_string(), mend)
}
