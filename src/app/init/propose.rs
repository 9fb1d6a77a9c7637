//! Which exports an account is to have: the most wanted reports that it lists, read as often as its budget allows for all of
//! its programs.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, Months, NaiveDate, Utc};

use super::super::payer::{Payer, Unanswered};
use super::super::reports::block::{Block, Tuning};
use super::super::reports::describe::Description;
use super::discover::Found;
use super::{IN_THE_MAKING, Wishes, check, outlook, week, write};
use crate::account::Persona;
use crate::clock::day_in;
use crate::config::{self, Settings};
use crate::export::{Bucket, ExportName, Source};
use crate::impact::ReportInfo;
use crate::plan::{DaysAhead, days_ahead};

/// The part of a daily budget that the steady work may take; the rest is for the backfill and for people.
const STEADY: f64 = 0.75;
/// Programs whose clicks are read, of a brand with many: ten click exports a day, two of them to spare.
const CLICKED: usize = 8;
/// A backfill is to end within so many days.
const PATIENCE: u32 = 14;

/// What is proposed, by persona, the most wanted first: the table, and the reports that can fill it, the best first.
const TABLES: [(Persona, &str, &[&str]); 7] = [
    (
        Persona::Brand,
        "actions",
        &[
            "adv_action_listing_pm_only",
            "adv_action_listing_fast_pm_only",
            "adv_action_listing_pm",
            "adv_action_listing",
        ],
    ),
    (Persona::Brand, "performance_by_day", &["att_adv_performance_by_day_pm_only"]),
    (Persona::Brand, "performance_by_partner", &["att_adv_performance_by_media_pm_only", "adv_performance_by_media"]),
    (Persona::Partner, "actions", &["mp_action_listing_sku", "mp_action_listing_fast", "mp_action_listing_sku_fast"]),
    (Persona::Partner, "performance_by_day", &["partner_performance_by_day", "mp_performance_by_day"]),
    (Persona::Partner, "performance_by_program", &["partner_performance_by_program"]),
    (Persona::Agency, "actions", &["agency_action_listing"]),
];

/// How often the days of dated reports are read, and which others there are.
struct Pace {
    refresh: Option<&'static str>,
    /// Once a day, when the day is over, instead of all day long.
    is_daily: bool,
    /// Whether reports are taken that cost an order for every day.
    takes_undated: bool,
    /// Whether reports besides the first are taken at all.
    takes_others: bool,
    says: &'static str,
}

/// The closest first. An account takes the first that it can afford.
const PACES: [Pace; 5] = [
    Pace {
        refresh: None,
        is_daily: false,
        takes_undated: true,
        takes_others: true,
        says: "today is read every six hours, recent days every day",
    },
    Pace {
        refresh: Some(
            "[{ age = \"3d\", every = \"12h\" }, { age = \"35d\", every = \"1d\" }, { age = \"190d\", every = \"14d\" }]",
        ),
        is_daily: false,
        takes_undated: true,
        takes_others: true,
        says: "today is read every twelve hours, recent days every day",
    },
    Pace {
        refresh: Some("[{ age = \"35d\", every = \"1d\" }, { age = \"190d\", every = \"14d\" }]"),
        is_daily: true,
        takes_undated: false,
        takes_others: true,
        says: "every day is read when it is over, and recent days every day",
    },
    Pace {
        refresh: Some("[{ age = \"35d\", every = \"3d\" }, { age = \"190d\", every = \"30d\" }]"),
        is_daily: true,
        takes_undated: false,
        takes_others: true,
        says: "every day is read when it is over, and recent days every third day",
    },
    Pace {
        refresh: Some("[{ age = \"35d\", every = \"7d\" }, { age = \"190d\", every = \"30d\" }]"),
        is_daily: true,
        takes_undated: false,
        takes_others: false,
        says: "every day is read when it is over, and recent days every week; of the reports, the first alone is taken",
    },
];

/// A configuration that fits the account.
#[derive(Debug)]
pub struct Proposal {
    /// The file.
    pub text: String,
    /// What it says.
    pub settings: Settings,
    /// The exports, with what they mirror.
    pub exports: Vec<Proposed>,
    /// What was done for the budget, a sentence each.
    pub remarks: Vec<String>,
    /// The first week.
    pub ahead: DaysAhead,
}

/// An export that is proposed.
#[derive(Debug)]
pub struct Proposed {
    /// Its name.
    pub name: ExportName,
    /// What it mirrors: the display name and the handle.
    pub what: String,
    /// The first day.
    pub since: NaiveDate,
}

/// Why there is no proposal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The metadata of a report cannot be had.
    #[error("impact.com cannot be asked for the columns of a report")]
    Unanswered(#[from] Unanswered),
    /// What was made is no configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// There is nothing to mirror.
    #[error(
        "the account lists none of the reports that are known for a {persona}; `impact-mirror init` without credentials writes a file to start from"
    )]
    Nothing {
        /// Whose reports.
        persona: Persona,
    },
}

/// A table with the report that fills it.
struct Candidate {
    table: &'static str,
    described: Description,
    is_dated: bool,
}

/// Makes the proposal; one call for each report that is taken.
pub async fn propose(wishes: &Wishes, found: &Found, now: DateTime<Utc>) -> Result<Proposal, Error> {
    let today = day_in(found.account.time_zone, now);
    // No export yet, only what is needed to describe reports.
    let bare = check(&write::file(wishes, found, &[], &[]))?;
    let candidates = candidates(found, &bare).await?;
    let maker = Maker { wishes, found, candidates, today, now };

    let programs = found.programs.len().max(1);
    let mut chosen = None;
    for pace in &PACES {
        let steady = maker.steady(pace)?;
        let cost = steady.of(Bucket::ReportExport, programs);
        let affordable = f64::from(found.account.quota.ours(Bucket::ReportExport)) * STEADY;
        let fits = cost <= affordable;
        chosen = Some((pace, steady, affordable));
        if fits {
            break;
        }
    }
    let (pace, steady, affordable) = chosen.expect("there are paces");
    let taken = steady.programs_within(Bucket::ReportExport, affordable, programs);
    let plan = Choice { pace, programs: taken, spare: affordable - steady.of(Bucket::ReportExport, taken) };
    maker.make(&plan)
}

async fn candidates(found: &Found, settings: &Settings) -> Result<Vec<Candidate>, Error> {
    let account = &found.account;
    let payer = Payer::new(&found.client, &account.name, None);
    let listed = |handle: &&str| {
        let is_it =
            |info: &&ReportInfo| info.api_accessible && info.handle.as_ref().is_some_and(|one| one.as_str() == *handle);
        found.reports.iter().find(is_it)
    };
    let mut candidates = Vec::new();
    for (persona, table, handles) in TABLES {
        let Some(info) = handles.iter().find_map(listed).filter(|_| persona == account.persona) else { continue };
        let described = Description::of_report(settings, account, info.clone(), payer).await?;
        let is_dated = !described.date_column().usable().is_empty();
        candidates.push(Candidate { table, described, is_dated });
    }
    if let Ok(described) = Description::of_clicks(settings, account) {
        candidates.push(Candidate { table: "clicks", described, is_dated: false });
    }
    if candidates.is_empty() {
        return Err(Error::Nothing { persona: account.persona });
    }
    Ok(candidates)
}

/// What was chosen.
struct Choice {
    pace: &'static Pace,
    /// How many programs reports are asked for.
    programs: usize,
    /// Report exports a day that the steady work leaves of its part.
    spare: f64,
}

/// What a pace costs a day, once all is read: of each export, for one program.
struct Steady {
    /// By export: the bucket, the cost, and whether it comes for each program.
    exports: BTreeMap<ExportName, (Bucket, f64, bool)>,
}

impl Steady {
    #[expect(clippy::cast_precision_loss, reason = "programs are few")]
    fn of(&self, bucket: Bucket, programs: usize) -> f64 {
        let ours = self.exports.values().filter(|(of, ..)| *of == bucket);
        ours.map(|(_, cost, each)| if *each { cost * programs as f64 } else { *cost }).sum()
    }

    /// How many of the programs can be afforded; at least one.
    fn programs_within(&self, bucket: Bucket, affordable: f64, programs: usize) -> usize {
        (1..=programs).rev().find(|count| self.of(bucket, *count) <= affordable).unwrap_or(1)
    }
}

struct Maker<'a> {
    wishes: &'a Wishes,
    found: &'a Found,
    candidates: Vec<Candidate>,
    today: NaiveDate,
    now: DateTime<Utc>,
}

impl Maker<'_> {
    fn taken(&self, pace: &Pace) -> impl Iterator<Item = &Candidate> {
        let first = self.candidates.first().map(|one| one.table);
        self.candidates.iter().filter(move |one| {
            let is_clicks = one.described.source == Source::Clicks;
            is_clicks || Some(one.table) == first || (pace.takes_others && (pace.takes_undated || one.is_dated))
        })
    }

    /// Plays a few days of one program with all the budget in the world.
    fn steady(&self, pace: &'static Pace) -> Result<Steady, Error> {
        const DAYS: u16 = 8;
        let choice = Choice { pace, programs: usize::MAX, spare: 0.0 };
        let (_, settings, _) = self.write(&choice, &[])?;
        let one = &self.found.programs[..self.found.programs.len().min(1)];
        let mut state = outlook::state(&settings, one, self.now);
        for budget in state.budgets.values_mut() {
            budget.limit = 1_000_000;
        }
        for feed in &mut state.feeds {
            feed.feed.since = feed.feed.since.max(self.today - Days::new(190));
        }
        let ahead = days_ahead(state, self.now, DAYS);
        let mut exports = BTreeMap::new();
        for export in settings.exports.values() {
            // The first day is the backfill.
            let cost: u32 = ahead.days[1..].iter().filter_map(|day| day.by_export.get(&export.name)).sum();
            let a_day = f64::from(cost) / f64::from(DAYS - 1);
            exports.insert(export.name.clone(), (export.source.bucket(), a_day, export.per_program));
        }
        Ok(Steady { exports })
    }

    fn make(&self, choice: &Choice) -> Result<Proposal, Error> {
        let remarks = self.remarks(choice);
        let (text, settings, exports) = self.write(choice, &remarks)?;
        let ahead = week(&settings, self.found, self.now);
        Ok(Proposal { text, settings, exports, remarks, ahead })
    }

    fn write(&self, choice: &Choice, remarks: &[String]) -> Result<(String, Settings, Vec<Proposed>), Error> {
        let mut blocks = Vec::new();
        let mut exports = Vec::new();
        for candidate in self.taken(choice.pace) {
            let tuning = self.tuning(candidate, choice);
            let name = ExportName::new(candidate.table);
            let what = match &candidate.described.source {
                Source::Report(handle) => format!("{} ({handle})", candidate.described.name()),
                Source::Clicks => "Clicks".to_owned(),
            };
            exports.push(Proposed { name: name.clone(), what, since: tuning.since });
            blocks.push(Block::new(name, &candidate.described, &tuning));
        }
        let text = write::file(self.wishes, self.found, remarks, &blocks);
        let settings = config::check(&text, IN_THE_MAKING.as_ref(), &config::Environment::of_this_process())?;
        Ok((text, settings, exports))
    }

    fn tuning(&self, candidate: &Candidate, choice: &Choice) -> Tuning {
        let pace = choice.pace;
        let mut tuning = Tuning::moderate(&candidate.described, self.today);
        let all = self.found.programs.len();
        let is_per_program = self.found.account.persona == Persona::Brand;
        let first =
            |count: usize| self.found.programs.iter().take(count).map(|one| one.id.as_str().to_owned()).collect();
        if candidate.described.source == Source::Clicks {
            let read = if is_per_program { all.clamp(1, CLICKED) } else { 1 };
            if is_per_program && all > CLICKED {
                tuning.programs = first(CLICKED);
                tuning.note = Some(format!(
                    "Ten click exports a day keep the clicks of some ten programs fresh at most. These are the first of {all}: put those here that matter."
                ));
            }
            tuning.since = self.wishes.since.unwrap_or_else(|| self.today - Days::new(self.click_days(read)));
            tuning.since = tuning.since.max(config::FIRST_CLICK_DAY);
            return tuning;
        }
        if is_per_program && choice.programs < all {
            tuning.programs = first(choice.programs);
        }
        if candidate.is_dated {
            tuning.refresh = pace.refresh.map(str::to_owned);
            if pace.is_daily {
                tuning.schedule = Some("0 0 5 * * *".to_owned());
                tuning.include_today = Some(false);
            }
            tuning.since = self.wishes.since.unwrap_or_else(|| self.first_month(choice));
        } else {
            tuning.since = self.wishes.since.unwrap_or_else(|| self.today - Days::new(self.undated_days(choice)));
        }
        tuning
    }

    /// The first of a month, at most two months before this one, from which the backfill ends in good time.
    fn first_month(&self, choice: &Choice) -> NaiveDate {
        let month = self.today.format("%Y-%m-01").to_string().parse::<NaiveDate>().unwrap_or(self.today);
        let dated = self.taken(choice.pace).filter(|one| one.is_dated).count();
        let affordable = self.affordable(choice);
        let months = (1..=2_u32).rev().find(|months| self.windows(dated, choice) * f64::from(months + 1) <= affordable);
        month - Months::new(months.unwrap_or(0))
    }

    /// How many days back reports go that cost an order for every day.
    fn undated_days(&self, choice: &Choice) -> u64 {
        let undated =
            self.taken(choice.pace).filter(|one| !one.is_dated && one.described.source != Source::Clicks).count();
        whole(self.affordable(choice) / 2.0 / self.windows(undated, choice).max(1.0)).clamp(2, 14)
    }

    /// Orders that can go to the backfill before people lose their patience. A part of the budget is its own in any case.
    fn affordable(&self, choice: &Choice) -> f64 {
        const GUARANTEED: f64 = 0.15;
        let limit = f64::from(self.found.account.quota.ours(Bucket::ReportExport));
        choice.spare.max(limit * GUARANTEED) * f64::from(PATIENCE)
    }

    /// The orders for one window of each of some reports.
    #[expect(clippy::cast_precision_loss, reason = "programs are few")]
    fn windows(&self, reports: usize, choice: &Choice) -> f64 {
        let is_per_program = self.found.account.persona == Persona::Brand;
        let programs = if is_per_program { choice.programs.min(self.found.programs.len()).max(1) } else { 1 };
        (reports * programs) as f64
    }

    /// How many days back clicks go, with so many requests for each day.
    #[expect(clippy::cast_precision_loss, reason = "programs are few")]
    fn click_days(&self, requests: usize) -> u64 {
        let limit = f64::from(self.found.account.quota.ours(Bucket::ClickExport));
        let spare = (limit - requests as f64).max(1.0);
        whole(spare * f64::from(PATIENCE) / requests as f64).clamp(2, 31)
    }

    fn remarks(&self, choice: &Choice) -> Vec<String> {
        let all = self.found.programs.len();
        let limit = self.found.account.quota.ours(Bucket::ReportExport);
        let mut remarks = vec![format!("Of {limit} report exports a day, so much can be had: {}.", choice.pace.says)];
        let left: Vec<&str> = self
            .candidates
            .iter()
            .map(|one| one.table)
            .filter(|table| self.taken(choice.pace).all(|one| one.table != *table))
            .collect();
        if !left.is_empty() {
            remarks.push(format!("Left out, for it would cost more than the budget has: {}.", left.join(", ")));
        }
        if self.found.account.persona == Persona::Brand && choice.programs < all {
            remarks.push(format!(
                "Reports are asked for the first {} of {all} programs; put those there that matter.",
                choice.programs
            ));
        }
        remarks
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of days")]
fn whole(days: f64) -> u64 {
    days.max(0.0).floor() as u64
}
