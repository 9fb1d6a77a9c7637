//! What `plan` found, and its JSON (design §10).

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::account::AccountName;
use crate::app::retention::Drop;
use crate::export::ExportName;
use crate::plan::{BackfillEnd, Forecast, Late, Wanted};
use crate::store;

/// The forecasts of all accounts, and what they stand on.
pub(super) struct View {
    pub now: DateTime<Utc>,
    /// In the order of their time.
    pub calls: Vec<Wanted>,
    pub waiting: Vec<Wanted>,
    pub backfills: Vec<BackfillEnd>,
    pub late: Vec<Late>,
    pub quota: Vec<store::status::Quota>,
    pub undiscovered: Vec<ExportName>,
    /// What is kept no longer, or soon.
    pub drops: Vec<Drop>,
    accounts: Vec<AccountName>,
    paused: Vec<store::account::Paused>,
}

impl View {
    pub fn new(
        forecasts: Vec<Forecast>,
        now: DateTime<Utc>,
        accounts: Vec<AccountName>,
        quota: Vec<store::status::Quota>,
        paused: Vec<store::account::Paused>,
        undiscovered: Vec<ExportName>,
    ) -> Self {
        let (mut calls, mut waiting, mut backfills, mut late) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mut forecast in forecasts {
            calls.append(&mut forecast.calls);
            waiting.append(&mut forecast.waiting);
            backfills.append(&mut forecast.backfills);
            late.append(&mut forecast.late);
        }
        calls.sort_by_key(|one| one.expected_at);
        Self { now, calls, waiting, backfills, late, quota, undiscovered, drops: Vec::new(), accounts, paused }
    }

    pub fn with_drops(self, drops: Vec<Drop>) -> Self {
        Self { drops, ..self }
    }

    pub fn json(&self) -> Value {
        let calls: Vec<Value> = self.calls.iter().map(call).collect();
        let waiting: Vec<Value> = self.waiting.iter().map(waits).collect();
        let backfills: Vec<Value> = self.backfills.iter().map(backfill).collect();
        let late: Vec<Value> = self.late.iter().map(is_late).collect();
        let accounts: Vec<Value> = self.accounts.iter().map(|account| self.account(account)).collect();
        json!({"generated_at": self.now, "accounts": accounts, "calls": calls, "waiting": waiting,
               "backfills": backfills, "late": late, "drops": self.drops})
    }

    fn account(&self, account: &AccountName) -> Value {
        let ours = self.quota.iter().filter(|quota| quota.account == account.as_str());
        let buckets: Vec<Value> = ours
            .map(|quota| {
                json!({"bucket": quota.bucket, "limit": quota.limit, "used": quota.used,
                       "remaining": quota.remaining, "resets_at": quota.resets_at})
            })
            .collect();
        let paused = self.paused.iter().find(|paused| paused.account == *account).map(|paused| &paused.reason);
        json!({"account": account, "paused": paused, "buckets": buckets})
    }
}

fn call(one: &Wanted) -> Value {
    json!({"at": one.expected_at, "account": one.account, "bucket": one.bucket, "action": one.action(),
           "export": one.export, "program": one.request.program, "from_day": one.window.from(),
           "to_day": one.window.to(), "reason": one.reason, "cost": one.cost})
}

fn waits(one: &Wanted) -> Value {
    json!({"export": one.export, "account": one.account, "program": one.request.program,
           "from_day": one.window.from(), "to_day": one.window.to(), "reason": one.reason,
           "because": one.because.as_ref().map(ToString::to_string), "expected_at": one.expected_at})
}

fn backfill(one: &BackfillEnd) -> Value {
    json!({"export": one.export, "account": one.account, "calls_left": one.calls_left,
           "calls_per_day": one.calls_per_day, "done_on": one.done_on})
}

fn is_late(one: &Late) -> Value {
    json!({"export": one.export, "account": one.account, "program": one.program, "day": one.day,
           "behind_since": one.behind_since, "expected_at": one.expected_at})
}
