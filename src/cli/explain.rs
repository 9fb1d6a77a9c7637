//! `explain`: where a row comes from.

use clap::Args;
use serde_json::json;

use super::{Exit, export};
use crate::app::Database;
use crate::app::explain::{Explained, explain as look, format};
use crate::config::Settings;
use crate::export::ResultFormat;
use crate::figures::{moment, thousands};
use crate::mirror::MAX_ROWS;
use crate::store::archive::{Origin, hex};
use crate::telemetry::Form;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The table, which is named after its export
    table: String,
    /// The value of the key; column=value for each column of a longer one; _load_id:_line for any line of a file
    #[arg(required = true)]
    key: Vec<String>,
}

pub(super) async fn explain(
    settings: &Settings,
    database: &Database,
    options: &Options,
    form: Form,
) -> anyhow::Result<Exit> {
    let name = export(settings, &options.table)?;
    let mut conn = database.pool().acquire().await?;
    let explained = look(&mut conn, settings, &settings.exports[&name], &options.key).await?;
    match form {
        Form::Json => say!("{:#}", json!(explained)),
        Form::Text if explained.is_empty() => {
            say!("No row of {name} has the key {}.", options.key.join(" "));
            let of = settings.exports[&name].key.join(", ");
            let key = if of.is_empty() { String::new() } else { format!("Its key is {of}. ") };
            say!("{key}`impact-mirror status --export {name}` shows which days are there.");
        }
        Form::Text => {
            for (number, one) in explained.iter().enumerate() {
                if number > 0 {
                    say!("");
                }
                print(one);
            }
            if explained.len() == MAX_ROWS {
                say!("\nThese are the first {MAX_ROWS} rows; there may be more.");
            }
        }
    }
    Ok(if explained.is_empty() { Exit::Failed } else { Exit::Done })
}

fn print(one: &Explained) {
    if let Some(why) = &one.no_row {
        say!("No row: {why}");
    } else {
        say!("Row");
    }
    let width = one.row.iter().map(|value| value.column.len()).max().unwrap_or_default();
    for value in &one.row {
        say!("  {:width$}  {}", value.column, value.value.as_deref().unwrap_or("NULL"));
    }
    if let Some(origin) = &one.origin {
        print_origin(origin);
    }
    let place = match one.origin.as_ref().map(format).unwrap_or_default() {
        ResultFormat::Csv => "Line",
        ResultFormat::Json => "Record",
    };
    match (&one.raw, &one.no_raw) {
        (Some(raw), _) => say!("{place} {}\n{raw}", one.line),
        (None, why) => say!("{place} {}\n  not to be shown: {}", one.line, why.as_deref().unwrap_or_default()),
    }
}

fn print_origin(origin: &Origin) {
    say!("Load {}", origin.load_id);
    say!("  committed   {}", moment(origin.committed_at));
    say!("  days        {}..{} of {} {}", origin.from_day, origin.to_day, origin.account, origin.program);
    say!("  rows        {} read, {} rejected", thousands(origin.rows_read), thousands(origin.rows_rejected));
    say!("Job {}, {}", origin.job_id, origin.reason);
    if let Some(load_id) = origin.reload_of {
        say!("  reload of   load {load_id}, from the archive");
    }
    if let Some(remote) = &origin.remote_job_id {
        say!("  remote job  {remote}");
    }
    if let Some(as_of) = origin.as_of {
        say!("  as of       {}", moment(as_of));
    }
    say!("  request     {}", origin.request);
    say!("File");
    say!("  sha256      {}", hex(&origin.file_sha256));
    say!("  bytes       {}", thousands(origin.file_bytes));
    say!("  archive     {}", origin.archive_key.as_deref().unwrap_or("-"));
}
