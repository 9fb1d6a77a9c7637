//! `check`: what has to be right before the daemon can work, each with the mend.

use crate::archive::{self, Archive};
use crate::config::{Account, DatabaseUrl, Export, Programs, Settings};
use crate::error_chain::Chain;
use crate::export::{Program, Source};
use crate::impact;
use crate::store;

use super::payer::{Payer, Unanswered};
use super::{Database, Patience, retention, write_configuration, zones};
use crate::clock::Clock;

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

/// Looks at the database and at every account; about five requests an account, none of them an export. The programs
/// found are written down, so that `plan` knows them.
pub async fn check(settings: &Settings) -> Vec<Line> {
    let mut lines = Vec::new();
    let database = match open(settings).await {
        Ok((database, line)) => {
            lines.push(line);
            database
        }
        Err(line) => {
            lines.push(line);
            None
        }
    };
    if let Some(database) = &database {
        lines.extend(check_partitions(settings, database).await);
    }
    lines.extend(check_archive(settings).await);
    for account in settings.accounts.values() {
        lines.extend(check_account(settings, account, database.as_ref()).await);
    }
    if let Some(database) = database
        && let Err(error) = database.close().await
    {
        lines.push(Line::warning("database", Chain(error.as_ref()).to_string(), "see the log of Postgres"));
    }
    lines
}

async fn open(settings: &Settings) -> Result<(Option<Database>, Line), Line> {
    let general = match &settings.database.url {
        DatabaseUrl::Embedded => format!("see {}", settings.state_dir.join("postgres/log").display()),
        DatabaseUrl::Url(_) => {
            "check database.url, that the server runs, and that its user may create schemas; or set it to \
             \"embedded\""
                .to_owned()
        }
    };
    let bad = |error: anyhow::Error| {
        let mend = super::mend::of(error.as_ref()).unwrap_or_else(|| general.clone());
        Line::bad("database", Chain(error.as_ref()).to_string(), mend)
    };
    let Some(database) = Database::open(settings, Patience::COMMAND).await.map_err(bad)? else {
        return Ok((None, Line::warning("database", "not looked at", "")));
    };
    if let Err(error) = write_configuration(database.pool(), settings).await {
        return Err(bad(error));
    }
    let found = format!("{}, schema impact_mirror up to date", database.describe());
    Ok((Some(database), Line::good("database", found)))
}

/// A line for each table that is not partitioned as its settings say.
async fn check_partitions(settings: &Settings, database: &Database) -> Vec<Line> {
    let mut lines = Vec::new();
    for export in settings.exports.values() {
        let checked = async {
            let mut conn = database.pool().acquire().await?;
            retention::check(&mut conn, settings, export).await
        };
        if let Err(error) = checked.await {
            let mend = format!("correct exports.{}.partition, or convert the table", export.name);
            lines.push(Line::bad(
                format!("export {}: partitions", export.name),
                Chain(error.as_ref()).to_string(),
                mend,
            ));
        }
    }
    lines
}

/// Writes, reads and removes an object.
async fn check_archive(settings: &Settings) -> Option<Line> {
    let url = &settings.archive.as_ref()?.url;
    let probed = async { Archive::open(url)?.probe().await };
    let probed: Result<(), archive::Error> = probed.await;
    Some(match probed {
        Ok(()) => Line::good("archive", format!("{url}: written, read and removed")),
        Err(error) => {
            let mend = match url.scheme() {
                "s3" => {
                    "check archive.url, the AWS_… variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION) and that they may put, get and delete"
                }
                "gs" => {
                    "check archive.url, GOOGLE_APPLICATION_CREDENTIALS and that it may create, get and delete objects"
                }
                "az" => {
                    "check archive.url, the AZURE_STORAGE_… variables (ACCOUNT_NAME, ACCOUNT_KEY) and that they may write, read and delete"
                }
                _ => "make the directory writable for the daemon's user, or name another in archive.url",
            };
            Line::bad("archive", Chain(&error).to_string(), mend)
        }
    })
}

async fn check_account(settings: &Settings, account: &Account, database: Option<&Database>) -> Vec<Line> {
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
    let payer = Payer::new(&client, name, database);
    let company = match payer.company().await {
        Ok(company) => company,
        Err(error) => return vec![unanswered(&what("credentials"), name.as_str(), &error)],
    };
    let mut lines = vec![Line::good(what("credentials"), format!("accepted, {} {:?}", account.persona, company.name))];
    lines.push(check_zone(account, company.time_zone.as_deref()));
    match payer.programs().await {
        Ok(programs) => {
            lines.push(check_programs(account, &programs));
            if let Some(database) = database
                && let Err(error) = keep_programs(settings, account, &programs, database).await
            {
                lines.push(Line::warning(
                    what("programs"),
                    Chain(error.as_ref()).to_string(),
                    "run or sync will look for them again",
                ));
            }
        }
        Err(error) => {
            lines.push(unanswered(&what("programs"), name.as_str(), &error));
            if matches!(error, Unanswered::Spent) {
                return lines;
            }
        }
    }
    lines.extend(check_exports(settings, account, payer.reports().await));
    lines
}

/// Makes the feeds of exports that are asked for per program, where the programs are discovered.
async fn keep_programs(
    settings: &Settings,
    account: &Account,
    found: &[impact::ProgramInfo],
    database: &Database,
) -> anyhow::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let programs: Vec<Program> = found.iter().map(|info| info.id.clone()).collect();
    let mut conn = database.pool().acquire().await?;
    for export in settings.exports.values() {
        if export.accounts.contains(&account.name) && export.programs_on(account).is_none() {
            store::configured::write_feeds(&mut conn, export, &account.name, &programs).await?;
        }
    }
    Ok(())
}

fn check_zone(account: &Account, text: Option<&str>) -> Line {
    let what = format!("account {}: time zone", account.name);
    let configured = account.time_zone.name();
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Line::good(what, format!("{configured}; impact.com does not say"));
    };
    let mend = format!("set accounts.{}.time_zone to that zone: days are counted in it", account.name);
    match zones::means(text, account.time_zone, Clock.now()) {
        Some(true) => Line::good(what, format!("{configured}, as impact.com says")),
        Some(false) => Line::bad(what, format!("{configured} here, but impact.com says {text:?}"), mend),
        None => Line::warning(
            what,
            format!("{configured} here; impact.com says {text:?}"),
            format!("if that is another zone, {mend}"),
        ),
    }
}

fn check_programs(account: &Account, found: &[impact::ProgramInfo]) -> Line {
    let what = format!("account {}: programs", account.name);
    let missing: Vec<&str> = match &account.programs {
        Programs::All => Vec::new(),
        Programs::Listed(listed) => {
            listed.iter().filter(|id| found.iter().all(|info| info.id != **id)).map(Program::as_str).collect()
        }
    };
    if found.is_empty() && account.programs == Programs::All {
        let mend =
            format!("list them in accounts.{}.programs, or ask impact.com why the account has none", account.name);
        return Line::warning(what, "impact.com lists none", mend);
    }
    if missing.is_empty() {
        return Line::good(what, format!("{} found", found.len()));
    }
    Line::bad(
        what,
        format!("impact.com does not list {}", missing.join(", ")),
        format!("correct accounts.{}.programs, or set it to \"all\"", account.name),
    )
}

fn check_exports(
    settings: &Settings,
    account: &Account,
    reports: Result<Vec<impact::ReportInfo>, Unanswered>,
) -> Vec<Line> {
    let reports = match reports {
        Ok(reports) => reports,
        Err(error) => {
            return vec![unanswered(&format!("account {}: reports", account.name), account.name.as_str(), &error)];
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

fn unanswered(what: &str, account: &str, error: &Unanswered) -> Line {
    match error {
        Unanswered::Spent => {
            Line::warning(what, "not looked at: the hourly requests are spent", "try again in an hour")
        }
        Unanswered::Uncharged(error) => Line::warning(
            what,
            format!("not looked at: {}", Chain(error)),
            store::mend::of(error).unwrap_or_else(|| "try again".to_owned()),
        ),
        Unanswered::Failed(error) => refused(what, account, error),
    }
}

fn refused(what: &str, account: &str, error: &impact::Error) -> Line {
    let mend = super::mend::of_call(error, Some(account));
    Line::bad(what, Chain(error).to_string(), mend)
}
