//! Finds out which troubles are there, and has people told of those that are new, stay or are over. Replicas share what was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::alert::{Alert, AlertKind};
use crate::config;
use crate::doubt::Doubt;
use crate::error_chain::Chain;
use crate::figures::{ago, moment};
use crate::store::account::{Paused, PausedExport};
use crate::store::alert::{Drift, Spent, Told};
use crate::store::room::NoRoom;
use crate::store::status::{Freshness, JobLine};
use crate::store::warning::LoadWarning;
use crate::store::{self, account, alert, outbox, room, status, warning};
use crate::worker::Context;

/// Failed jobs that are read.
const FAILURES: i64 = 200;

/// Looks for troubles now and then, until told to stop.
pub(super) async fn watch(context: Arc<Context>, alerts: config::Alerts, stop: CancellationToken) {
    let _beat = context.pulse.begin_silent("alerts");
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(alerts.every) => {}
        }
        match look(&context.pool, alerts.repeat).await {
            Ok(0) => {}
            Ok(_) => context.wakes.alerts.notify_one(),
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot look for what to alert on; trying again"),
        }
    }
}

/// Looks once; gives how many messages were written.
pub(super) async fn look(pool: &PgPool, repeat: Duration) -> Result<usize, store::Error> {
    let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    if !alert::enter(&mut tx).await? {
        return Ok(0);
    }
    let there = Seen::read(&mut tx).await?.troubles();
    let told = alert::told(&mut tx, repeat).await?;
    let messages = messages(&there, &told);
    for message in &messages {
        match message {
            Message::Firing(trouble, _) => alert::tell(&mut tx, trouble).await?,
            Message::Resolved(told) => alert::close(&mut tx, &told.kind, &told.subject).await?,
        }
        outbox::write(&mut tx, "alerts", &message.body()).await?;
    }
    tx.commit().await.map_err(store::failed("commit alerts"))?;
    Ok(messages.len())
}

/// What there is to say.
#[derive(Debug)]
enum Message<'a> {
    Firing(&'a Alert, Option<&'a Told>),
    Resolved(&'a Told),
}

/// What is new, has changed in a way that matters, has stayed for long, or is over.
fn messages<'a>(there: &'a [Alert], told: &'a [Told]) -> Vec<Message<'a>> {
    let is_about = |alert: &Alert, told: &Told| alert.kind.as_str() == told.kind && alert.subject == told.subject;
    let firing = there.iter().filter_map(|alert| {
        let Some(told) = told.iter().find(|told| is_about(alert, told)) else {
            return Some(Message::Firing(alert, None));
        };
        let is_another = alert.kind == AlertKind::SchemaDrift && alert.summary != told.summary;
        (told.is_due || is_another).then_some(Message::Firing(alert, Some(told)))
    });
    let is_over = |told: &&Told| !there.iter().any(|alert| is_about(alert, told));
    firing.chain(told.iter().filter(is_over).map(Message::Resolved)).collect()
}

impl Message<'_> {
    fn body(&self) -> Value {
        match self {
            Self::Firing(alert, told) => json!({
                "event": "alert", "status": "firing", "kind": alert.kind, "subject": alert.subject,
                "summary": alert.summary, "mend": alert.mend, "runbook": alert.kind.runbook(),
                "since": told.map(|told| told.opened_at),
            }),
            Self::Resolved(told) => json!({
                "event": "alert", "status": "resolved", "kind": told.kind, "subject": told.subject,
                "summary": told.summary, "since": told.opened_at,
            }),
        }
    }
}

/// What troubles are found in.
#[derive(Debug, Default)]
struct Seen {
    freshness: Vec<Freshness>,
    failed: Vec<JobLine>,
    paused: Vec<Paused>,
    paused_exports: Vec<PausedExport>,
    spent: Vec<Spent>,
    drift: Vec<Drift>,
    warnings: Vec<LoadWarning>,
    no_room: Option<NoRoom>,
}

impl Seen {
    async fn read(conn: &mut PgConnection) -> Result<Self, store::Error> {
        Ok(Self {
            freshness: status::freshness(conn).await?,
            failed: status::failed_jobs(conn, FAILURES).await?,
            paused: account::paused(conn).await?,
            paused_exports: account::paused_exports(conn).await?,
            spent: alert::spent(conn).await?,
            drift: alert::drift(conn).await?,
            warnings: warning::current(conn).await?,
            no_room: room::lacking(conn).await?,
        })
    }

    /// The troubles in it, one for each kind and subject.
    fn troubles(&self) -> Vec<Alert> {
        let mut found = Vec::new();
        let mut add = |kind, subject: String, summary: String, mend: String| {
            found.push(Alert { kind, subject, summary, mend });
        };
        for one in self.freshness.iter().filter(|one| one.is_stale) {
            let promised = ago(one.promised_seconds);
            let summary = match (one.latest_day, one.age_seconds) {
                (Some(day), Some(age)) => format!(
                    "{} is late: complete to {day}, read {} ago, promised within {promised}",
                    one.export,
                    ago(age)
                ),
                _ => format!("{} is late: some program has no complete day yet", one.export),
            };
            let mend = format!("impact-mirror status --export {}", one.export);
            add(AlertKind::StaleExport, one.export.clone(), summary, mend);
        }
        // The newest comes first, and stands for the others.
        let mut failed: BTreeMap<(&str, &str), (usize, &JobLine)> = BTreeMap::new();
        for job in &self.failed {
            failed.entry((&job.export, &job.account)).or_insert((0, job)).0 += 1;
        }
        for ((export, account), (count, job)) in failed {
            let words = job.error_message.as_deref().unwrap_or("without words");
            let more = if count > 1 { format!("; and {} more jobs like it", count - 1) } else { String::new() };
            let summary = format!("job {} of {export} on {account} failed: {words}{more}", job.id);
            let mend = job.mend().map_or_else(|| format!("impact-mirror jobs show {}", job.id), |mend| mend.line());
            add(AlertKind::FailedJob, format!("{export}/{account}"), summary, mend);
        }
        for one in &self.paused {
            let summary = format!("account {} is paused since {}: {}", one.account, moment(one.since), one.reason);
            let mend = format!(
                "give accounts.{0}.auth_token a valid token and reload the daemon's configuration, then: impact-mirror accounts resume {0}",
                one.account
            );
            add(AlertKind::PausedAccount, one.account.to_string(), summary, mend);
        }
        for one in &self.paused_exports {
            let summary =
                format!("{} on {} is paused since {}: {}", one.export, one.account, moment(one.since), one.reason);
            let mend = format!(
                "give the token the scope in impact.com's settings, then: impact-mirror accounts resume {}",
                one.account
            );
            add(AlertKind::PausedExport, format!("{}/{}", one.export, one.account), summary, mend);
        }
        for one in &self.spent {
            let next = one.resets_at.map_or_else(String::new, |at| format!(", the next is free at {}", moment(at)));
            let summary = format!(
                "the {} {} calls of {} are spent{next}; {} days wait",
                one.limit, one.bucket, one.account, one.waiting
            );
            add(
                AlertKind::SpentBudget,
                format!("{}/{}", one.account, one.bucket),
                summary,
                "impact-mirror plan".to_owned(),
            );
        }
        for one in &self.drift {
            let summary = format!("the columns of {} have changed, last on {}: {}", one.export, one.on_day, one.words);
            let mend = "select * from impact_mirror.mirrored_column".to_owned();
            add(AlertKind::SchemaDrift, one.export.clone(), summary, mend);
        }
        for one in &self.warnings {
            let summary =
                format!("the rows of load {} of {} {}: {}", one.load_id, one.export, one.kind.fear(), one.words());
            add(of_doubt(one.kind), one.export.clone(), summary, one.mend());
        }
        if let Some(one) = &self.no_room {
            let summary = format!("{}: {}", one.words(), one.message);
            add(AlertKind::NoRoom, "disk".to_owned(), summary, NoRoom::MEND.to_owned());
        }
        found
    }
}

const fn of_doubt(doubt: Doubt) -> AlertKind {
    match doubt {
        Doubt::CountMismatch => AlertKind::CountMismatch,
        Doubt::UnexpectedZero => AlertKind::UnexpectedZero,
        Doubt::Truncated => AlertKind::Truncated,
        Doubt::KeptDeletions => AlertKind::KeptDeletions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(kind: AlertKind, summary: &str) -> Alert {
        Alert { kind, subject: "actions".to_owned(), summary: summary.to_owned(), mend: "status".to_owned() }
    }

    fn told(kind: AlertKind, is_due: bool) -> Told {
        let opened_at = "2026-05-01T00:00:00Z".parse().expect("a time");
        Told { kind: kind.to_string(), subject: "actions".to_owned(), summary: "as told".to_owned(), opened_at, is_due }
    }

    fn statuses(there: &[Alert], before: &[Told]) -> Vec<String> {
        let word = |message: &Message<'_>| message.body()["status"].as_str().unwrap_or_default().to_owned();
        messages(there, before).iter().map(word).collect()
    }

    #[test]
    fn a_trouble_is_told_once_and_again_when_it_stays_and_when_it_is_over() {
        let stale = [trouble(AlertKind::StaleExport, "late")];
        assert_eq!(statuses(&stale, &[]), ["firing"]);
        assert!(statuses(&stale, &[told(AlertKind::StaleExport, false)]).is_empty());
        assert_eq!(statuses(&stale, &[told(AlertKind::StaleExport, true)]), ["firing"]);
        assert_eq!(statuses(&[], &[told(AlertKind::StaleExport, false)]), ["resolved"]);
    }

    #[test]
    fn columns_that_change_again_are_told_of_again() {
        let drift = [trouble(AlertKind::SchemaDrift, "one more column")];
        assert_eq!(statuses(&drift, &[told(AlertKind::SchemaDrift, false)]), ["firing"]);
    }
}
