//! A configuration from a credential: what the account has, and what of it the daily budget allows.

pub mod discover;
mod outlook;
mod propose;
mod write;

use std::path::PathBuf;

use chrono::NaiveDate;
use chrono_tz::Tz;

use crate::account::Persona;
use crate::config::{self, Environment, Settings};
use crate::plan::DaysAhead;

pub use discover::{Found, discover};
pub use propose::{Proposal, Proposed, propose};

/// What the person says.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// What the account is to be called; `None`: after its company.
    pub account: Option<String>,
    /// The SID.
    pub account_sid: String,
    /// Where the token is.
    pub auth_token: TokenPlace,
    /// The origin of the API, where it is not the usual one.
    pub base_url: Option<String>,
    /// What kind of account it is; `None`: to be found out.
    pub persona: Option<Persona>,
    /// Its zone; `None`: what impact.com says.
    pub time_zone: Option<Tz>,
    /// The first day; `None`: as far back as the budget allows without strain.
    pub since: Option<NaiveDate>,
}

/// Where a token is read from. The token itself is nobody's business here.
#[derive(Debug, Clone)]
pub enum TokenPlace {
    /// A variable of the environment.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// What messages call the configuration that is in the making.
const IN_THE_MAKING: &str = "made of the flags of init";

fn check(text: &str) -> Result<Settings, config::Error> {
    config::check(text, IN_THE_MAKING.as_ref(), &Environment::of_this_process())
}

/// How many days are foreseen.
const WEEK: u16 = 7;

/// The days ahead, if the exports are as proposed.
fn week(settings: &Settings, found: &Found, now: chrono::DateTime<chrono::Utc>) -> DaysAhead {
    crate::plan::days_ahead(outlook::state(settings, &found.programs, now), now, WEEK)
}
