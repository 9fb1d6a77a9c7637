//! What a sandbox is told at its start.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::behaviour::Behaviours;

/// The three kinds of accounts that impact.com has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persona {
    /// An advertiser.
    Brand,
    /// A publisher.
    Partner,
    /// Somebody who manages several brands.
    Agency,
}

impl Persona {
    /// The first segment of every path.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Brand => "Advertisers",
            Self::Partner => "Mediapartners",
            Self::Agency => "Agencies",
        }
    }
}

/// One credential. Several may share a SID: they are then tokens of one account.
#[derive(Clone)]
pub struct Account {
    /// What it is.
    pub persona: Persona,
    /// The account SID, which is also the user name.
    pub sid: String,
    /// The auth token.
    pub token: String,
    /// The name of the company.
    pub name: String,
    /// The zone of its days.
    pub time_zone: Tz,
    /// The ISO code of its currency.
    pub currency: String,
    /// Its programs: id and name.
    pub programs: Vec<(u64, String)>,
}

impl Account {
    /// An account with the two programs that every account of the sandbox has by default.
    pub fn new(persona: Persona, sid: &str, token: &str, name: &str) -> Self {
        Self {
            persona,
            sid: sid.to_owned(),
            token: token.to_owned(),
            name: name.to_owned(),
            time_zone: chrono_tz::America::New_York,
            currency: "USD".to_owned(),
            programs: vec![(1000, "Acme Outdoor".to_owned()), (2000, "Acme, \"Outlet\" & Söhne".to_owned())],
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("persona", &self.persona).field("sid", &self.sid).finish_non_exhaustive()
    }
}

/// The rate limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Report exports per day.
    pub report_export_per_day: u32,
    /// Click exports per day.
    pub click_export_per_day: u32,
    /// Other calls per hour.
    pub requests_per_hour: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { report_export_per_day: 100, click_export_per_day: 10, requests_per_hour: 1000 }
    }
}

/// How many actions and clicks the programs of an account have beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProgramSizes {
    /// All have as many.
    #[default]
    Equal,
    /// The second has half of what the first has, the third a third, and so on, as sizes mostly go (Zipf's law).
    Ranked,
}

/// Everything that can be said about a sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What the data is made from.
    pub seed: u64,
    /// The answers to the open questions.
    pub behaviours: Behaviours,
    /// What the sandbox clock shows at the start.
    pub start: DateTime<Utc>,
    /// How fast the clock runs: 1 is real time, 0 stands still until it is advanced.
    pub clock_speed: f64,
    /// How long, in real time, a job takes from QUEUED to COMPLETED.
    pub job_duration: Duration,
    /// Actions of a program, of the largest one where they differ, on an average day.
    pub actions_per_day: u32,
    /// Clicks likewise.
    pub clicks_per_day: u32,
    /// How much the programs of an account differ.
    pub program_sizes: ProgramSizes,
    /// The rate limits.
    pub limits: Limits,
    /// Who may come in.
    pub accounts: Vec<Account>,
    /// The first day that has data.
    pub data_start: NaiveDate,
    /// Where ended jobs are posted back: a plain `http` URL with `{JobId}`, `{Status}`, `{Type}` and `{ResultUri}` in it.
    pub postback_url: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 1,
            behaviours: Behaviours::default(),
            start: Utc::now(),
            clock_speed: 1.0,
            job_duration: Duration::from_millis(300),
            actions_per_day: 40,
            clicks_per_day: 120,
            program_sizes: ProgramSizes::Equal,
            limits: Limits::default(),
            accounts: vec![
                Account::new(Persona::Brand, "IRsandboxBrand0001", "sandbox-brand-token", "Sandbox Brand"),
                Account::new(Persona::Partner, "IRsandboxPartner0001", "sandbox-partner-token", "Sandbox Partner"),
                Account::new(Persona::Agency, "IRsandboxAgency0001", "sandbox-agency-token", "Sandbox Agency"),
            ],
            data_start: NaiveDate::from_ymd_opt(2024, 4, 10).unwrap_or_default(),
            postback_url: None,
        }
    }
}
