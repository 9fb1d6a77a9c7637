//! `explain`: from a row of a mirrored table to its load, its job, its request, its file and the line itself.

use serde::Deserialize as _;
use sqlx::PgConnection;

use crate::archive::{self, Archive, RecordFinder};
use crate::config::{Export, Settings};
use crate::error_chain::Chain;
use crate::export::{ResultFormat, Window};
use crate::mirror::{self, Condition, LookupError, Row};
use crate::store;
use crate::store::archive::Origin;

/// A key that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadKey(String);

/// A row, or a line that became none, and where it comes from.
#[derive(Debug, serde::Serialize)]
pub struct Explained {
    /// The row as it stands; empty for a line that is no row any more, or never was.
    pub row: Vec<Value>,
    /// Why it is no row, where it is none.
    pub no_row: Option<String>,
    /// The line of the file where its record begins, the header being line 1; in JSON the number of its record.
    pub line: i64,
    /// Its load, job, request and file; none where the load is unknown.
    pub origin: Option<Origin>,
    /// The record as it stands in the file, all its lines.
    pub raw: Option<String>,
    /// Why there is no record to show.
    pub no_raw: Option<String>,
}

/// A column and its value.
#[derive(Debug, serde::Serialize)]
#[expect(missing_docs, reason = "as named")]
pub struct Value {
    pub column: String,
    pub value: Option<String>,
}

/// Explains the rows that `key` names: the value of a key of one column, `name=value` pairs, or `load:line`, which is also tried
/// where no row has it for its key.
pub async fn explain(
    conn: &mut PgConnection,
    settings: &Settings,
    export: &Export,
    key: &[String],
) -> anyhow::Result<Vec<Explained>> {
    let schema = &settings.database.schema;
    let wanted = wanted(export, key)?;
    let mut rows = match &wanted.conditions {
        Some(conditions) => find(conn, schema, export, conditions, None).await?,
        None => Vec::new(),
    };
    let place = wanted.place.filter(|_| rows.is_empty());
    let mut brought_none = None;
    if let Some((load_id, line)) = place {
        let Some(into) = store::load::loaded_into(conn, &export.name, load_id).await? else { return Ok(Vec::new()) };
        // Where they can be, so that an index leads there.
        let conditions = [
            ("_load_id", load_id.to_string()),
            ("_line", line.to_string()),
            ("_account", into.account),
            ("_program", into.program),
        ];
        let conditions = conditions.map(|(column, value)| (column.to_owned(), value));
        rows = find(conn, schema, export, &conditions, Some(into.window)).await?;
        brought_none = Some((load_id, line)).filter(|_| rows.is_empty());
    }
    let mut explained = Vec::new();
    for row in &rows {
        let number = |column: &str| value(row, column).and_then(|value| value.parse::<i64>().ok());
        let (Some(load_id), Some(line)) = (number("_load_id"), number("_line")) else { continue };
        explained.push(explain_line(conn, settings, row, load_id, line).await?);
    }
    if let Some((load_id, line)) = brought_none {
        let mut one = explain_line(conn, settings, &Vec::new(), load_id, line).await?;
        one.no_row = Some(match store::archive::rejected(conn, load_id, line).await? {
            Some(why) => format!("it was rejected: {why}"),
            None => "no row stands in the table that this line brought; a later load may have changed or removed it"
                .to_owned(),
        });
        explained.push(one);
    }
    Ok(explained)
}

async fn find(
    conn: &mut PgConnection,
    schema: &str,
    export: &Export,
    conditions: &[Condition],
    days: Option<Window>,
) -> anyhow::Result<Vec<Row>> {
    match mirror::find_rows(conn, schema, &export.name, conditions, days).await {
        Err(error @ (LookupError::NoColumn { .. } | LookupError::NoTable(_))) => Err(BadKey(error.to_string()).into()),
        Err(error) if error.is_misfit() => Ok(Vec::new()),
        found => Ok(found?),
    }
}

fn value<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.iter().find(|(name, _)| name == column)?.1.as_deref()
}

/// What is looked for.
#[derive(Debug, Default)]
struct Wanted {
    conditions: Option<Vec<Condition>>,
    /// The load and line that the key may name.
    place: Option<(i64, i64)>,
}

fn wanted(export: &Export, key: &[String]) -> Result<Wanted, BadKey> {
    let pairs: Option<Vec<Condition>> =
        key.iter().map(|part| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect();
    let place = match key {
        [place] => place.split_once(':').and_then(|(load, line)| Some((load.parse().ok()?, line.parse().ok()?))),
        _ => None,
    };
    match (key, pairs, export.key.as_slice()) {
        // The value of a key may hold an equals sign, but hardly after the name of a column.
        ([value], _, [column]) if !value.split_once('=').is_some_and(|(name, _)| is_name(name)) => {
            Ok(Wanted { conditions: Some(vec![(column.clone(), value.clone())]), place })
        }
        (_, Some(pairs), _) => Ok(Wanted { conditions: Some(pairs), place: None }),
        (_, None, _) if place.is_some() => Ok(Wanted { conditions: None, place }),
        (_, None, []) => Err(BadKey(format!(
            "{} has no key: name a row as _load_id:_line, as in 123:7, or as column=value",
            export.name
        ))),
        (_, None, columns) => {
            let pairs: Vec<String> = columns.iter().map(|column| format!("{column}=…")).collect();
            Err(BadKey(format!("the key of {} is written {}", export.name, pairs.join(" "))))
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

async fn explain_line(
    conn: &mut PgConnection,
    settings: &Settings,
    row: &Row,
    load_id: i64,
    line: i64,
) -> anyhow::Result<Explained> {
    let origin = store::archive::origin(conn, load_id).await?;
    let found = match &origin {
        Some(origin) => raw(settings, origin, line).await,
        None => Err(format!("load {load_id} is not known")),
    };
    let (raw, no_raw) = match found {
        Ok(raw) => (Some(raw), None),
        Err(why) => (None, Some(why)),
    };
    let row = row.iter().map(|(column, value)| Value { column: column.clone(), value: value.clone() }).collect();
    Ok(Explained { row, no_row: None, line, origin, raw, no_raw })
}

/// The format of a load's file, as its request has it.
pub fn format(origin: &Origin) -> ResultFormat {
    let asked = origin.request.get("format").map(ResultFormat::deserialize);
    asked.and_then(Result::ok).unwrap_or_default()
}

/// The record, or why it cannot be shown.
async fn raw(settings: &Settings, origin: &Origin, line: i64) -> Result<String, String> {
    if let Some(dropped_at) = origin.dropped_at {
        let day = dropped_at.format("%Y-%m-%d");
        return Err(match origin.stored_at {
            Some(_) => format!("the file was pruned on {day}, as archive.keep says; a longer one keeps those to come"),
            None => format!("the archive did not take the file; it was given up on {day}"),
        });
    }
    let Some(configured) = &settings.archive else {
        return Err(
            "no [archive] is configured, so that files are not kept; archive.url names a place for those to come"
                .to_owned(),
        );
    };
    if origin.is_late {
        return Err(
            "the archive has not taken the file yet; it waits in the spool of the process that fetched it; `impact-mirror check` tries the archive".to_owned()
        );
    }
    let Some(key) = &origin.archive_key else {
        return Err("the file was loaded before there was an archive".to_owned());
    };
    let read = async {
        let archive = Archive::open(&configured.url)?;
        let mut body = archive.get(key).await?;
        let mut finder = RecordFinder::new(format(origin), line.unsigned_abs());
        while let Some(chunk) = body.chunk().await? {
            if finder.take(&chunk) {
                break;
            }
        }
        Ok(finder.found())
    };
    let found: Result<_, archive::Error> = read.await;
    match found {
        Ok(Some(record)) => Ok(String::from_utf8_lossy(&record).into_owned()),
        Ok(None) => Err(format!("{key} has no {} {line}", format(origin).place())),
        Err(error) => Err(Chain(&error).to_string()),
    }
}
