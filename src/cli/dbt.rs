//! `export dbt`: the mirrored tables as sources of dbt, from the tables as they stand.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::Exit;
use crate::app::Database;
use crate::config::{Entry, Export, Settings};
use crate::store::described::{self, Column};

/// What to write for which tool.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write sources.yml for dbt 1.10 and later: tables, descriptions, freshness as promised, tests of keys
    Dbt(Options),
}

/// Where to.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The file to write, as in models/sources.yml [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn export(settings: &Settings, database: &Database, command: &Command) -> anyhow::Result<Exit> {
    let Command::Dbt(options) = command;
    let mut conn = database.pool().acquire().await?;
    let columns = described::columns(&mut conn, &settings.database.schema).await?;
    let text = sources(settings, &columns);
    match options.output.as_deref().filter(|file| file.as_os_str() != "-") {
        None => say_as_is!("{text}"),
        Some(file) => {
            std::fs::write(file, &text).with_context(|| {
                format!("cannot write {}; --output names a file in a directory that is there", file.display())
            })?;
            let tables = columns.chunk_by(|one, other| one.table == other.table).count();
            say!("{} describes {tables} tables", file.display());
        }
    }
    Ok(Exit::Done)
}

/// The whole file. Tables whose export is not configured any more are left out: nobody keeps them fresh.
fn sources(settings: &Settings, columns: &[Column]) -> String {
    let schema = &settings.database.schema;
    let mut text = format!(
        "# Written by `impact-mirror export dbt`; write it anew rather than edit it. Wants dbt 1.10 or later, for loaded_at_query.\n\
         version: 2\n\nsources:\n  - name: {}\n    schema: {}\n    description: {}\n    tables:\n",
        quoted(schema),
        quoted(schema),
        quoted("The reports and clicks of impact.com, mirrored by impact-mirror."),
    );
    for table in columns.chunk_by(|one, other| one.table == other.table) {
        if let Some(export) = settings.exports.values().find(|export| export.name.as_str() == table[0].table) {
            write_table(&mut text, settings, export, table);
        }
    }
    text
}

fn write_table(text: &mut String, settings: &Settings, export: &Export, columns: &[Column]) {
    let name = &columns[0].table;
    let persona = export.accounts.first().map(|account| settings.accounts[account].persona);
    let known = persona.and_then(|persona| settings.entry(&export.source, persona));
    let says = known.map(|known| known.says.as_str()).unwrap_or_default();
    let description = joined(&columns[0].table_comment, says);
    let _ = write!(
        text,
        "      - name: {}\n        description: {}\n        config:\n          loaded_at_query: >-\n            \
         select now() - age from impact_mirror.freshness where export = '{}'\n          freshness:\n            \
         warn_after: {}\n            error_after: {}\n",
        quoted(name),
        quoted(&description),
        name.replace('\'', "''"),
        period(export.freshness),
        period(export.freshness * 2),
    );
    let key: Vec<&Column> =
        export.key.iter().filter_map(|source| columns.iter().find(|column| is_from(column, source))).collect();
    let has_key = !key.is_empty() && key.len() == export.key.len();
    if has_key {
        let names: Vec<String> = std::iter::once("_account")
            .chain(key.iter().map(|column| column.name.as_str()))
            .map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
            .collect();
        let _ = write!(
            text,
            "        data_tests:\n          - unique:\n              name: {}\n              arguments:\n                \
             column_name: {}\n",
            quoted(&format!("source_unique_{name}_key")),
            quoted(&format!("jsonb_build_array({})", names.join(", "))),
        );
    }
    text.push_str("        columns:\n");
    for column in columns {
        let says = known.and_then(|known| said(known, column)).unwrap_or_default();
        let _ = write!(
            text,
            "          - name: {}\n            data_type: {}\n            description: {}\n",
            quoted(&column.name),
            quoted(&column.data_type),
            quoted(&joined(&column.comment, says)),
        );
        let is_key = has_key && key.iter().any(|one| one.name == column.name);
        if is_key || column.source.is_none() && column.name.starts_with('_') {
            text.push_str("            data_tests:\n              - not_null\n");
        }
    }
}

fn is_from(column: &Column, source: &str) -> bool {
    column.source.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(source))
}

/// What the catalogue says of a column.
fn said<'a>(known: &'a Entry, column: &Column) -> Option<&'a str> {
    known.columns.iter().find(|(source, _)| is_from(column, source)).map(|(_, column)| column.says.as_str())
}

/// What the database says, after what the catalogue says, unless the database says that too.
fn joined(comment: &str, says: &str) -> String {
    match (comment, says) {
        (comment, says) if says.is_empty() || comment.contains(says) => comment.to_owned(),
        ("", says) => says.to_owned(),
        (comment, says) => format!("{says} {comment}"),
    }
}

/// A length of time as dbt has it: whole minutes.
fn period(length: Duration) -> String {
    let minutes = length.as_secs().div_ceil(60);
    if minutes.is_multiple_of(60) {
        format!("{{count: {}, period: hour}}", minutes / 60)
    } else {
        format!("{{count: {minutes}, period: minute}}")
    }
}

/// A text of YAML. Templates of dbt are none of ours: braces in a description are not taken for one.
fn quoted(text: &str) -> String {
    let text = text.replace("{{", "{ {").replace("{%", "{ %").replace("{#", "{ #");
    serde_json::Value::String(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_yaml_and_never_a_template() {
        assert_eq!(quoted("a \"b\": {{ c }}\n"), r#""a \"b\": { { c }}\n""#);
    }

    #[test]
    fn what_is_known_twice_is_said_once() {
        assert_eq!(joined("source: A", ""), "source: A");
        assert_eq!(joined("source: A", "The a."), "The a. source: A");
        assert_eq!(joined("The a. source: A", "The a."), "The a. source: A");
        assert_eq!(joined("", "The a."), "The a.");
    }

    #[test]
    fn promises_are_whole_hours_or_minutes() {
        assert_eq!(period(Duration::from_hours(26)), "{count: 26, period: hour}");
        assert_eq!(period(Duration::from_mins(90)), "{count: 90, period: minute}");
    }
}
