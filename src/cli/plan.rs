//! `plan`: what a look at everything would ask for now. Calls nothing and changes nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};
use sqlx::Connection;

use super::table::Table;
use super::{Exit, open, scope};
use crate::app::{self, Database};
use crate::clock::day_in;
use crate::config::Settings;
use crate::export::Reason;
use crate::figures::moment;
use crate::plan::{Plan, Wanted};
use crate::store;
use crate::telemetry::Form;

/// Lines of each list that a person is shown; `--json` has them all.
const SHOWN: usize = 20;

pub(super) async fn plan(settings: Settings, exports: &[String], form: Form) -> anyhow::Result<Exit> {
    let scope = scope(&settings, exports)?;
    let database = open(&settings).await?;
    let view = look(&settings, &database, scope).await;
    database.close().await?;
    let view = view?;
    match form {
        Form::Json => say!("{:#}", view.json(&settings)),
        Form::Text => view.print(&settings),
    }
    Ok(Exit::Done)
}

struct View {
    plan: Plan,
    now: DateTime<Utc>,
    quota: Vec<store::status::Quota>,
    paused: Vec<store::account::Paused>,
    undiscovered: Vec<String>,
}

/// Plans with the configuration as it stands in the file, in a transaction that is rolled back.
async fn look(settings: &Settings, database: &Database, scope: app::Scope) -> anyhow::Result<View> {
    let mut conn = database.pool().acquire().await?;
    let mut tx = conn.begin().await?;
    store::configured::sync(&mut tx, settings).await?;
    let planner = app::planner(database.pool(), settings, scope);
    let (plan, now) = planner.preview_as_if_ticked(&mut tx).await?;
    let feeds = store::configured::feeds(&mut tx, settings, &planner.exports).await?;
    let undiscovered = planner
        .exports
        .iter()
        .filter(|export| feeds.iter().all(|feed| feed.export != **export))
        .map(ToString::to_string)
        .collect();
    let view = View {
        plan,
        now,
        quota: store::status::quota(&mut tx).await?,
        paused: store::account::paused(&mut tx).await?,
        undiscovered,
    };
    tx.rollback().await?;
    Ok(view)
}

/// A backfill of an export on an account.
struct Backfill<'a> {
    export: &'a str,
    account: &'a str,
    calls_left: usize,
    calls_per_day: u32,
    done_on: Option<NaiveDate>,
}

impl View {
    fn backfills(&self, settings: &Settings) -> Vec<Backfill<'_>> {
        let mut groups: BTreeMap<(&str, &str), Vec<&Wanted>> = BTreeMap::new();
        for one in self.plan.calls.iter().chain(&self.plan.waiting).filter(|one| one.reason == Reason::Backfill) {
            groups.entry((one.export.as_str(), one.account.as_str())).or_default().push(one);
        }
        groups
            .into_iter()
            .map(|((export, account), windows)| {
                let first = windows[0];
                let zone = settings.accounts[&first.account].time_zone;
                let is_known = windows.iter().all(|one| one.expected_at.is_some());
                let done_at = windows.iter().filter_map(|one| one.expected_at).max().filter(|_| is_known);
                let per_day = self.plan.backfill_per_day.get(&(first.account.clone(), first.bucket));
                Backfill {
                    export,
                    account,
                    calls_left: windows.len(),
                    calls_per_day: per_day.copied().unwrap_or(0),
                    done_on: done_at.map(|at| day_in(zone, at)),
                }
            })
            .collect()
    }

    fn json(&self, settings: &Settings) -> Value {
        let accounts: Vec<Value> = settings
            .accounts
            .keys()
            .map(|account| {
                let buckets: Vec<Value> = self
                    .quota
                    .iter()
                    .filter(|quota| quota.account == account.as_str())
                    .map(|quota| {
                        json!({"bucket": quota.bucket, "limit": quota.limit, "used": quota.used,
                               "remaining": quota.remaining, "resets_at": quota.resets_at})
                    })
                    .collect();
                let paused = self.paused.iter().find(|paused| paused.account == *account).map(|paused| &paused.reason);
                json!({"account": account, "paused": paused, "buckets": buckets})
            })
            .collect();
        let calls: Vec<Value> = self
            .plan
            .calls
            .iter()
            .map(|one| {
                json!({"at": one.expected_at, "account": one.account, "bucket": one.bucket, "action": one.action(),
                       "export": one.export, "program": one.request.program, "from_day": one.window.from(),
                       "to_day": one.window.to(), "reason": one.reason, "cost": 1})
            })
            .collect();
        let waiting: Vec<Value> = self
            .plan
            .waiting
            .iter()
            .map(|one| {
                json!({"export": one.export, "account": one.account, "program": one.request.program,
                       "from_day": one.window.from(), "to_day": one.window.to(), "reason": one.reason,
                       "because": one.because.as_ref().map(ToString::to_string), "expected_at": one.expected_at})
            })
            .collect();
        let backfills: Vec<Value> = self
            .backfills(settings)
            .iter()
            .map(|one| {
                json!({"export": one.export, "account": one.account, "calls_left": one.calls_left,
                       "calls_per_day": one.calls_per_day, "done_on": one.done_on})
            })
            .collect();
        json!({"generated_at": self.now, "accounts": accounts, "calls": calls, "waiting": waiting,
               "backfills": backfills})
    }

    fn print(&self, settings: &Settings) {
        for export in &self.undiscovered {
            say!("{export}: its programs are not known yet; run or sync finds them\n");
        }
        if self.plan.calls.is_empty() && self.plan.waiting.is_empty() {
            say!("Nothing is due.");
        }
        self.print_calls();
        self.print_waiting();
        let backfills = self.backfills(settings);
        for one in &backfills {
            let done =
                one.done_on.map_or_else(|| "never: nothing is left for it".to_owned(), |day| format!("done on {day}"));
            let export = format!("{} on {}", one.export, one.account);
            say!("Backfill of {export}: {} calls at up to {} a day: {done}", one.calls_left, one.calls_per_day);
        }
        if !backfills.is_empty() || self.plan.calls.is_empty() && self.plan.waiting.is_empty() {
            say!();
        }
        say!("Quota:");
        say_as_is!("{}", super::status::quota_table(&self.quota));
    }

    fn print_calls(&self) {
        if self.plan.calls.is_empty() {
            return;
        }
        say!("{} calls now, one of its bucket each:", self.plan.calls.len());
        let mut table = Table::new(&["export", "account", "program", "days", "reason", "action", "bucket"]);
        for one in self.plan.calls.iter().take(SHOWN) {
            table.row(vec![
                one.export.to_string(),
                one.account.to_string(),
                dash(one.request.program.as_str()),
                one.window.to_string(),
                one.reason.to_string(),
                one.action().as_str().to_owned(),
                one.bucket.to_string(),
            ]);
        }
        say_as_is!("{table}");
        print_rest(self.plan.calls.len());
    }

    fn print_waiting(&self) {
        if self.plan.waiting.is_empty() {
            return;
        }
        say!("{} windows wait:", self.plan.waiting.len());
        let mut table = Table::new(&["export", "account", "program", "days", "reason", "because", "expected"]);
        for one in self.plan.waiting.iter().take(SHOWN) {
            table.row(vec![
                one.export.to_string(),
                one.account.to_string(),
                dash(one.request.program.as_str()),
                one.window.to_string(),
                one.reason.to_string(),
                one.because.as_ref().map(ToString::to_string).unwrap_or_default(),
                one.expected_at.map_or_else(|| "-".to_owned(), moment),
            ]);
        }
        say_as_is!("{table}");
        print_rest(self.plan.waiting.len());
    }
}

fn print_rest(len: usize) {
    if len > SHOWN {
        say!("  … and {} more; --json has them all", len - SHOWN);
    }
    say!();
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
