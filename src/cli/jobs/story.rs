//! A job's whole story, for people: what was asked, what happened when, what it cost, and what came of it.

use chrono::{DateTime, Utc};

use super::super::status::WIDTH;
use super::super::table::wrapped;
use super::{days, remote};
use crate::figures::{ago, moment, thousands};
use crate::retry::ErrorKind;
use crate::store::status::{JobEvent, JobLine};
use crate::store::story::Story;

/// Where what is said of a thing begins.
const INDENT: &str = "              ";

pub(super) fn print(job: &JobLine, events: &[JobEvent], story: &Story) {
    say!("Job {}: {} {} of {}, {}", job.id, job.export, days(job), job.account, job.reason);
    line("state", &job.state);
    if !job.program.is_empty() {
        line("program", &job.program);
    }
    if let Some(id) = &job.remote_job_id {
        line("remote job", &format!("{id} {}", remote(job)));
    }
    if let Some(holder) = &job.lease_holder {
        line("worked on", &format!("by {holder}"));
    }
    if job.finished_at.is_none() {
        line("next step", &format!("not before {}, try {}", moment(job.run_at), job.attempts + 1));
    }
    if let Some(message) = &job.error_message {
        line("error", &format!("{}: {message}", job.error_kind.map_or("error", ErrorKind::as_str)));
    }
    line("request", &story.request.to_string());
    print_events(job.created_at, events);
    print_calls(story);
    print_load(story);
    if let Some(mend) = job.mend() {
        say!("\nWhat to do:");
        say_as_is!("{}", wrapped("  ", mend.cause, WIDTH));
        if let Some(command) = mend.command {
            say!("  to try again: {command}");
        }
        return;
    }
    let next = match job.state.as_str() {
        "loaded" => format!("Its days: impact-mirror status --export {}", job.export),
        "cancelled" => "Days that are due are planned again: impact-mirror plan".to_owned(),
        _ => format!("To call it off: impact-mirror jobs cancel {}", job.id),
    };
    say!("\n{next}");
}

/// What happened when, each with the time since the event before.
fn print_events(created_at: DateTime<Utc>, events: &[JobEvent]) {
    say!("\nHistory:");
    let mut before = created_at;
    for event in events {
        let passed = (event.at - before).num_seconds();
        before = event.at;
        let step = match &event.from_state {
            Some(from) if *from == event.to_state => from.clone(),
            Some(from) => format!("{from} → {}", event.to_state),
            None => event.to_state.clone(),
        };
        let after = if passed > 0 { format!(", after {}", ago(passed)) } else { String::new() };
        let note = if event.note.is_empty() { String::new() } else { format!(": {}", event.note) };
        let words = format!("{step}{after}, by {}{note}", event.holder);
        say_as_is!("{}", wrapped(&format!("  {}  ", moment(event.at)), &words, WIDTH));
    }
}

fn print_calls(story: &Story) {
    if story.calls.is_empty() {
        return;
    }
    say!("\nCalls that the ledger remembers:");
    for call in &story.calls {
        say!("  {}  {}, {} of {}", moment(call.at), call.call, call.cost, call.bucket);
    }
}

fn print_load(story: &Story) {
    let Some(load) = &story.load else { return };
    say!("\nLoad {}:", load.id);
    let took = ago((load.committed_at - load.started_at).num_seconds());
    line("committed", &format!("{}, {took} after its file was begun to be fetched", moment(load.committed_at)));
    line("file", &format!("{} bytes", thousands(load.file_bytes)));
    let rows = [
        (load.rows_read, "read"),
        (load.rows_inserted, "inserted"),
        (load.rows_updated, "updated"),
        (load.rows_deleted, "deleted"),
        (load.rows_unchanged, "unchanged"),
        (load.rows_rejected, "rejected"),
    ];
    let rows: Vec<String> = rows.iter().map(|(count, word)| format!("{} {word}", thousands(*count))).collect();
    line("rows", &rows.join(", "));
    match &load.archive_key {
        Some(key) => line("archive", key),
        None => line("archive", "no file is kept"),
    }
    for one in &story.restatement {
        let sum = |sum: &Option<String>| sum.clone().unwrap_or_else(|| "-".to_owned());
        let words = format!(
            "{} in {} rows: {} → {}",
            one.column_name,
            thousands(one.rows_changed),
            sum(&one.sum_before),
            sum(&one.sum_after)
        );
        line("restated", &words);
    }
    if load.rows_rejected > 0 {
        line("rejected", &format!("in SQL: select * from impact_mirror.rejected_row where load_id = {}", load.id));
    }
}

/// A word, and what is said of it.
fn line(word: &str, text: &str) {
    let first = format!("  {word:<width$}", width = INDENT.len() - 2);
    say_as_is!("{}", wrapped(&first, text, WIDTH));
}
