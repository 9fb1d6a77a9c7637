//! What an account says of itself: its persona, zone, currency, programs and reports. Some six calls, none of them an order.

use chrono_tz::Tz;

use super::super::payer::{Payer, Unanswered};
use super::super::zones;
use super::{Wishes, check, write};
use crate::account::{AccountName, Persona};
use crate::config::{self, Account};
use crate::impact::{self, Client, Company, ProgramInfo, ReportInfo};
use crate::retry::ErrorKind;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The account, as the configuration will have it.
    pub account: Account,
    /// Who it belongs to.
    pub company: Company,
    /// Its programs; an agency's brands.
    pub programs: Vec<ProgramInfo>,
    /// What it lists.
    pub reports: Vec<ReportInfo>,
    /// Speaks for it.
    pub client: Client,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was said makes no account.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// impact.com does not know the credential, as whatever it was tried.
    #[error("impact.com refuses the credential as {tried}; check SID and token in impact.com's settings")]
    Refused {
        /// The personas that were tried.
        tried: String,
        /// The last answer.
        source: Box<impact::Error>,
    },
    /// A call failed.
    #[error("impact.com cannot be asked for {what}")]
    Failed {
        /// What for.
        what: &'static str,
        /// Why not.
        source: Unanswered,
    },
    /// The zone is not among those that we know by impact.com's words for them.
    #[error(
        "impact.com calls the account's time zone {said:?}, which could be any; name it with --time-zone, as in America/New_York"
    )]
    UnknownZone {
        /// What it says.
        said: String,
    },
    /// The client could not be made.
    #[error("cannot speak to impact.com")]
    Client(#[source] Box<impact::Error>),
}

impl Error {
    /// Whether the person who asks can mend it by saying something else.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::UnknownZone { .. } | Self::Config(_) => true,
            Self::Refused { .. } | Self::Failed { .. } | Self::Client(_) => false,
        }
    }
}

/// Asks the account.
pub async fn discover(wishes: &Wishes) -> Result<Found, Error> {
    let (mut account, client, company) = greet(wishes).await?;
    account.time_zone = zone(wishes, &company)?;
    account.name = AccountName::new(wishes.account.clone().unwrap_or_else(|| write::account_name(&company.name)));
    let payer = Payer::new(&client, &account.name, None);
    let failed = |what| move |source| Error::Failed { what, source };
    let programs = payer.programs().await.map_err(failed("programs"))?;
    let reports = payer.reports().await.map_err(failed("reports"))?;
    Ok(Found { account, company, programs, reports, client })
}

/// Finds out as what the credential is taken: a token speaks for one persona, and is refused under the paths of the others.
async fn greet(wishes: &Wishes) -> Result<(Account, Client, Company), Error> {
    let all = [Persona::Brand, Persona::Partner, Persona::Agency];
    let tried: Vec<Persona> = wishes.persona.map_or_else(|| all.to_vec(), |persona| vec![persona]);
    let mut last = None;
    for persona in &tried {
        let account = probe(wishes, *persona)?;
        let client = Client::new(&account).map_err(|error| Error::Client(Box::new(error)))?;
        let refusal = match Payer::new(&client, &account.name, None).company().await {
            Ok(company) => return Ok((account, client, company)),
            Err(Unanswered::Failed(refusal)) => refusal,
            Err(source @ (Unanswered::Spent | Unanswered::Uncharged(_))) => {
                return Err(Error::Failed { what: "the company", source });
            }
        };
        match refusal.kind() {
            ErrorKind::Credentials | ErrorKind::Forbidden | ErrorKind::Permanent => last = Some(refusal),
            ErrorKind::Transient
            | ErrorKind::Throttled
            | ErrorKind::Remote
            | ErrorKind::Expired
            | ErrorKind::BadFile
            | ErrorKind::Database
            | ErrorKind::NoRoom
            | ErrorKind::Internal => return Err(Error::Failed { what: "the company", source: refusal.into() }),
        }
    }
    let tried: Vec<&str> = tried.iter().map(|persona| persona.as_str()).collect();
    Err(Error::Refused { tried: tried.join(", as "), source: Box::new(last.expect("somebody was tried")) })
}

/// The account as far as it is known, read as the configuration will be.
fn probe(wishes: &Wishes, persona: Persona) -> Result<Account, Error> {
    let name = wishes.account.clone().unwrap_or_else(|| write::NAMELESS.to_owned());
    let text = write::DATABASE.to_owned() + &write::account_lines(&name, wishes, persona, Tz::UTC);
    let settings = check(&text)?;
    Ok(settings.accounts.into_values().next().expect("the text has an account"))
}

fn zone(wishes: &Wishes, company: &Company) -> Result<Tz, Error> {
    let said = company.time_zone.clone().unwrap_or_default();
    wishes.time_zone.or_else(|| zones::meant(&said)).ok_or(Error::UnknownZone { said })
}
