//! `verify`: a sample of loaded windows is held against impact.com.

use chrono::NaiveDate;
use clap::Args;
use serde_json::{Value, json};

use super::{Exit, Misuse, actor, export, open, stop_signal};
use crate::account::AccountName;
use crate::app::{self, VerifyEnd, VerifyReport, VerifyRequest};
use crate::clock::Clock;
use crate::config::Settings;
use crate::figures::{counted, moment, thousands};
use crate::job::JobState;
use crate::store::comparison::Compared;
use crate::telemetry::Form;

/// An export, and which of its windows.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The export
    export: String,
    /// Only this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only windows from this day on, as in 2026-01-31
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// Only windows up to this day
    #[arg(long, value_name = "DAY")]
    to: Option<NaiveDate>,
    /// How many orders impact.com may be sent for it: each window costs one, out of the quota of the day
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls: u32,
    /// Which windows: the same number takes the same sample of the same windows [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) async fn verify(settings: Settings, options: &Options, form: Form) -> anyhow::Result<Exit> {
    let name = export(&settings, &options.export)?;
    if let (Some(from), Some(to)) = (options.from, options.to)
        && from > to
    {
        return Err(Misuse(format!("--from {from} lies after --to {to}; swap them")).into());
    }
    let account = options.account.as_deref().map(AccountName::new);
    if let Some(account) = &account
        && !settings.exports[&name].accounts.contains(account)
    {
        let known: Vec<&str> = settings.exports[&name].accounts.iter().map(AccountName::as_str).collect();
        let what = format!("export {name} has no account {:?}; it has: {}", account.as_str(), known.join(", "));
        return Err(Misuse(what).into());
    }
    let seed = options.seed.unwrap_or_else(|| Clock.now().timestamp_millis().unsigned_abs());
    let request = VerifyRequest {
        export: name,
        account,
        from: options.from,
        to: options.to,
        calls: options.calls,
        seed,
        actor: actor(),
    };
    let stop = stop_signal()?;
    let database = open(&settings).await?;
    let report = app::verify(settings, &database, &request, stop, |_| {}).await;
    database.close().await?;
    let report = report?;
    match form {
        Form::Text => print(&request, &report),
        Form::Json => say!("{:#}", as_json(&request, &report)),
    }
    Ok(exit(&report))
}

/// Equal alone is a success.
fn exit(report: &VerifyReport) -> Exit {
    let is_equal = |one: &Compared| one.verdict.as_deref() == Some("equal");
    if report.compared.iter().any(|one| one.state.is_final() && !is_equal(one)) || report.compared.is_empty() {
        return Exit::Failed;
    }
    match report.end {
        VerifyEnd::Done => Exit::Done,
        VerifyEnd::Waits => Exit::WaitsForQuota,
        VerifyEnd::Stopped => Exit::Failed,
    }
}

fn print(request: &VerifyRequest, report: &VerifyReport) {
    if report.compared.is_empty() {
        say!("no window of {} that is loaded, and within what was asked, can be compared", request.export);
        say!("`impact-mirror sync --export {}` loads what is due; --from and --to narrow the choice", request.export);
        return;
    }
    if report.taken_up > 0 {
        say!("of an earlier verify, still open and a part of this one: {}", counted(report.taken_up, "window"));
    }
    for one in &report.compared {
        print_one(request, one);
    }
    let equal = report.compared.iter().filter(|one| one.verdict.as_deref() == Some("equal")).count();
    say!(
        "{equal} of {} equal, {}; --seed {} takes the same sample again",
        counted(report.compared.len(), "window"),
        counted(report.compared.len(), "order"),
        request.seed,
    );
    match report.end {
        VerifyEnd::Done => {}
        VerifyEnd::Waits => {
            say!(
                "the rest waits for quota or is paused (`impact-mirror status --export {}` says which); a running daemon goes on, and so does \
                 `verify`",
                request.export
            );
        }
        VerifyEnd::Stopped => say!("stopped; a running daemon goes on with the rest, and so does `verify`"),
    }
}

fn print_one(request: &VerifyRequest, one: &Compared) {
    let program = if one.program.is_empty() { String::new() } else { format!(", program {}", one.program) };
    let days = if one.from_day == one.to_day {
        one.from_day.to_string()
    } else {
        format!("{} to {}", one.from_day, one.to_day)
    };
    let name = format!("{} of {}{program}, {days}", request.export, one.account);
    let Some(verdict) = one.verdict.as_deref() else {
        match (&one.error_message, one.state) {
            (Some(why), JobState::Failed) => {
                say!("{name}: not compared: {why}; `impact-mirror jobs show {}` says what to do", one.job_id);
            }
            (_, JobState::Cancelled) => {
                say!(
                    "{name}: not compared: job {} was called off; `impact-mirror verify {}` orders anew",
                    one.job_id,
                    request.export
                );
            }
            (_, state) => say!("{name}: job {} is {state}", one.job_id),
        }
        return;
    };
    let rows = |count: Option<i64>| thousands(count.unwrap_or_default());
    match verdict {
        "equal" => say!("{name}: equal, {} rows", rows(one.rows_equal)),
        "restated" => {
            say!("{name}: differs, for impact.com has restated it since the load");
            if let Some(loaded_at) = one.loaded_at {
                say!("  loaded {}; {}", moment(loaded_at), next_read(request, one));
            }
        }
        _altered => {
            say!("{name}: differs, and the table is not as it was loaded: somebody changed rows there");
            let days = format!("{} --from {} --to {}", request.export, one.from_day, one.to_day);
            say!("  `impact-mirror refresh {days}` brings back rows that are missing, and takes away those too many");
            say!("  `impact-mirror reload {days}` brings back values that were changed, from the archive");
        }
    }
    if verdict != "equal" {
        say!(
            "  rows: {} equal, {} restated, {} altered in the table, {} only at impact.com, {} only in the table",
            rows(one.rows_equal),
            rows(one.rows_differing),
            rows(one.rows_altered),
            rows(one.rows_only_in_file),
            rows(one.rows_only_in_table),
        );
        for sample in one.samples.iter().filter_map(Value::as_array).flatten() {
            say!("  {}", words(sample));
        }
    }
    if let Some(rejected) = one.rows_rejected.filter(|rejected| *rejected > 0) {
        say!("  {} records would be rejected by a load", thousands(rejected));
    }
    if let Some(note) = one.note.as_deref().filter(|note| !note.is_empty()) {
        say!("  {note}");
    }
}

fn next_read(request: &VerifyRequest, one: &Compared) -> String {
    match one.next_refresh_at {
        Some(at) => format!("it is read again {}", moment(at)),
        None => format!(
            "it is settled, and read again only by `impact-mirror refresh {} --from {} --to {}`",
            request.export, one.from_day, one.to_day
        ),
    }
}

/// A row that is not equal, in words.
fn words(sample: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    };
    let key: Vec<String> = sample["key"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name} {}", text(value)))
        .collect();
    let key = if key.is_empty() {
        match (&sample["load_id"], &sample["loaded_line"]) {
            (Value::Null, _) => format!("line {} of the file", sample["line"]),
            (load, line) => format!("load {load}, line {line}"),
        }
    } else {
        key.join(", ")
    };
    let kind = match sample["kind"].as_str() {
        Some("altered") => "altered in the table",
        Some("differing") => "restated",
        Some("only_in_file") => "only at impact.com",
        _ => "only in the table",
    };
    let columns: Vec<String> = sample["columns"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, sides)| format!("{name} {} here, {} there", text(&sides["table"]), text(&sides["file"])))
        .collect();
    let columns = if columns.is_empty() { String::new() } else { format!(": {}", columns.join("; ")) };
    format!("{key}: {kind}{columns}")
}

fn as_json(request: &VerifyRequest, report: &VerifyReport) -> Value {
    let ends = match report.end {
        VerifyEnd::Done => "done",
        VerifyEnd::Waits => "waits",
        VerifyEnd::Stopped => "stopped",
    };
    json!({
        "export": request.export.as_str(),
        "seed": request.seed,
        "calls": request.calls,
        "end": ends,
        "comparisons": report.compared,
    })
}
