//! The brand of the simulation: its configuration, read as the daemon reads it, as a list of feeds, and the sandbox
//! that plays impact.com for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use impact_mirror::account::AccountName;
use impact_mirror::clock::{day_end, day_in, day_start};
use impact_mirror::config::{self, Environment, Export, Programs, Settings};
use impact_mirror::export::{Bucket, Program, Source, Window};
use impact_mirror::sandbox::{Account, Options, Persona, ProgramSizes, Sandbox};

/// The first hour of the simulation: midnight of the first of February in the brand's zone.
const START: &str = "2027-02-01T05:00:00Z";
/// What people look at reaches back this far before the start.
const RECENT_DAYS: u64 = 30;

/// One export of one program.
pub struct Feed {
    /// The export's settings.
    pub export: Export,
    /// Whose it is.
    pub account: AccountName,
    /// The program, or none.
    pub program: Program,
    /// The zone of its days.
    pub zone: Tz,
}

impl Feed {
    /// The bucket that pays.
    pub fn bucket(&self) -> Bucket {
        self.export.source.bucket()
    }

    /// From when on a day is asked for: from its beginning or from its end.
    pub fn asked_from(&self, day: NaiveDate) -> DateTime<Utc> {
        if self.export.include_today { day_start(self.zone, day) } else { day_end(self.zone, day) }
    }

    /// The last day that is asked for at `now`.
    pub fn last_day(&self, now: DateTime<Utc>) -> NaiveDate {
        let today = day_in(self.zone, now);
        if self.export.include_today { today } else { today - Days::new(1) }
    }

    /// The days from the first one that is mirrored to the last one that is asked for.
    pub fn days(&self, now: DateTime<Utc>) -> impl Iterator<Item = NaiveDate> + use<> {
        Window::new(self.export.since, self.last_day(now)).into_iter().flat_map(Window::days)
    }

    /// What the sandbox calls the export.
    pub fn report(&self) -> &str {
        match &self.export.source {
            Source::Report(handle) => handle.as_str(),
            Source::Clicks => "clicks",
        }
    }

    /// The parameters as names and values.
    pub fn params(&self) -> Vec<(&str, &str)> {
        let all = self.export.params.iter();
        all.flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str()))).collect()
    }
}

/// All that is simulated.
pub struct Brand {
    /// What it has configured, export by export and program by program.
    pub feeds: Vec<Feed>,
    /// The settings they come from.
    pub settings: Settings,
    /// The first moment.
    pub start: DateTime<Utc>,
    /// The last.
    pub end: DateTime<Utc>,
    /// Days before this one are backfill.
    pub recent_from: NaiveDate,
    /// impact.com.
    pub sandbox: Sandbox,
}

impl Brand {
    /// The brand, with data made from `seed`, for so many days; reports with dates are asked for up to `max_window_days`
    /// days at once.
    pub async fn new(seed: u64, days: i64, max_window_days: u32, sizes: ProgramSizes) -> Self {
        let text = include_str!("brand.toml").replace("31d", &format!("{max_window_days}d"));
        let environment = Environment::from([("ACME_AUTH_TOKEN", "sandbox-brand-token"), ("HOME", "/nonexistent")]);
        let settings = config::check(&text, Path::new("brand.toml"), &environment);
        let settings = settings.unwrap_or_else(|error| panic!("{error}"));
        let start: DateTime<Utc> = START.parse().unwrap();
        let sandbox = start_sandbox(seed, start, &settings, sizes).await;
        let feeds = settings.exports.values().flat_map(|export| feeds(export, &settings)).collect();
        Self {
            feeds,
            start,
            end: start + TimeDelta::days(days),
            recent_from: day_in(chrono_tz::America::New_York, start) - Days::new(RECENT_DAYS),
            settings,
            sandbox,
        }
    }

    /// What a bucket grants in 24 hours.
    pub fn limit(&self, bucket: Bucket) -> u32 {
        self.settings.accounts.values().next().unwrap().quota.ours(bucket)
    }
}

fn feeds(export: &Export, settings: &Settings) -> Vec<Feed> {
    let account = &settings.accounts[&export.accounts[0]];
    let programs = export.programs_on(account).expect("the programs are listed");
    let feed =
        |program| Feed { export: export.clone(), account: account.name.clone(), program, zone: account.time_zone };
    programs.into_iter().map(feed).collect()
}

async fn start_sandbox(seed: u64, start: DateTime<Utc>, settings: &Settings, sizes: ProgramSizes) -> Sandbox {
    let configured = settings.accounts.values().next().unwrap();
    let Programs::Listed(programs) = &configured.programs else { panic!("the programs are listed") };
    let mut account = Account::new(Persona::Brand, configured.sid.as_str(), "sandbox-brand-token", "Bench");
    account.programs = programs.iter().map(|id| (id.as_str().parse().unwrap(), format!("Program {id}"))).collect();
    let options = Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        seed,
        start,
        clock_speed: 0.0,
        actions_per_day: match sizes {
            ProgramSizes::Equal => 40,
            ProgramSizes::Ranked => 100,
        },
        program_sizes: sizes,
        accounts: vec![account],
        ..Options::default()
    };
    Sandbox::start(options).await.unwrap()
}
