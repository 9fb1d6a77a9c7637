//! Comments on mirrored tables and their columns, from the catalogue and what users add to it. A comment that somebody else wrote is left alone.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};

use super::sources::{Mirrored, Sources};
use crate::config::{Entry, KnownColumn};
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::mirror::ddl::LINEAGE_COMMENTS;
use crate::mirror::error::{Error, Place};
use crate::mirror::header::folded;
use crate::mirror::table::views as text;

/// How the comment on a table begins.
const TABLE: &str = "Mirror of the export ";

/// A comment as it stands: on a relation, or on a column of it.
struct Found {
    relation: String,
    kind: i8,
    column: Option<String>,
    comment: Option<String>,
}

/// Renews those that are not as they should be; says on which tables.
pub(super) async fn keep(
    conn: &mut PgConnection,
    schema: &str,
    sources: &Sources,
    own: &BTreeMap<String, Entry>,
) -> Result<Vec<String>, Error> {
    let mut said = Vec::new();
    for mirrored in &sources.tables {
        let place = Place::without_file(&ExportName::new(mirrored.table.name()));
        let statements = renewed(conn, schema, mirrored, mirrored.entry(own), &place).await?;
        if statements.is_empty() {
            continue;
        }
        let count = statements.len();
        let all = format!("begin; set local lock_timeout = '2s'; {}; commit", statements.join("; "));
        match sqlx::raw_sql(AssertSqlSafe(all)).execute(&mut *conn).await {
            Ok(_) => said.push(format!("{} comments of {} renewed", count, mirrored.table.qualified())),
            Err(error) => {
                sqlx::raw_sql("rollback").execute(&mut *conn).await.map_err(place.database("leave comments"))?;
                let error = place.database("renew the comments")(error);
                tracing::warn!(error = %Chain(&error), "comments cannot be renewed now; a later round does it");
            }
        }
    }
    Ok(said)
}

async fn renewed(
    conn: &mut PgConnection,
    schema: &str,
    mirrored: &Mirrored,
    entry: Option<&Entry>,
    place: &Place,
) -> Result<Vec<String>, Error> {
    let table = &mirrored.table;
    let (history, versions) = (table.history(), table.versions());
    let relations = [table.name().to_owned(), history.name().to_owned(), versions.name().to_owned()];
    let found = sqlx::query_as!(
        Found,
        r#"
        select c.relname::text as "relation!", c.relkind as "kind!", a.attname::text as "column?",
               coalesce(col_description(c.oid, a.attnum), case when a.attnum is null then obj_description(c.oid, 'pg_class') end)
                   as "comment?"
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        left join pg_inherits i on i.inhrelid = c.oid
        left join pg_class p on p.oid = i.inhparent
        cross join lateral (
            select null::name as attname, null::int2 as attnum
            union all
            select a.attname, a.attnum from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) a
        where n.nspname = $1 and c.relkind in ('r', 'p', 'v') and (c.relname = any($2) or p.relname = $3)
        order by c.relname, a.attnum
        "#,
        schema,
        &relations,
        table.name(),
    )
    .fetch_all(conn)
    .await
    .map_err(place.database("read the comments"))?;
    let columns = columns(mirrored, entry);
    let is_ours =
        |relation: &str| found.iter().any(|one| one.relation == relation && one.column.as_deref() == Some("_row_hash"));
    let mut statements = Vec::new();
    for Found { relation, kind, column, comment } in found.iter().filter(|one| is_ours(&one.relation)) {
        let Some(column) = column else {
            if *kind != b'v'.cast_signed() {
                let wanted = about(mirrored, entry, relation);
                let is_own = comment.as_ref().is_some_and(|comment| !comment.starts_with(TABLE));
                if wanted.as_ref().is_some_and(|wanted| comment.as_ref() != Some(wanted)) && !is_own {
                    statements.extend(wanted.map(|wanted| text::comment_table(schema, relation, &wanted)));
                }
            }
            continue;
        };
        let Some((wanted, end)) = columns.get(column.as_str()) else { continue };
        let is_own = comment.as_ref().is_some_and(|comment| !comment.ends_with(end.as_str()));
        if !is_own && comment.as_ref() != Some(wanted) {
            statements.push(text::comment_column(schema, relation, column, wanted));
        }
    }
    Ok(statements)
}

/// What is to be said of each column, and how that ends if it is ours.
fn columns<'a>(mirrored: &'a Mirrored, entry: Option<&Entry>) -> BTreeMap<&'a str, (String, String)> {
    let known = |source: &str| -> Option<&KnownColumn> {
        let columns = &entry?.columns;
        columns.iter().find(|(name, _)| folded(name) == folded(source)).map(|(_, column)| column)
    };
    let of_file = mirrored.standing.columns.iter().filter(|column| column.in_table).map(|column| {
        let end = format!("source: {}", column.source);
        let wanted = known(&column.source).map_or_else(|| end.clone(), |known| format!("{} {end}", known.says));
        (column.name.as_str(), (wanted, end))
    });
    let of_lineage = LINEAGE_COMMENTS.iter().map(|(name, says)| (*name, ((*says).to_owned(), (*says).to_owned())));
    of_file.chain(of_lineage).collect()
}

/// What is to be said of a table; nothing of a history, which says it itself.
fn about(mirrored: &Mirrored, entry: Option<&Entry>, relation: &str) -> Option<String> {
    let name = mirrored.table.name();
    if relation == mirrored.table.history().name() {
        return None;
    }
    if relation != name {
        return Some(mirrored.table.about_partition());
    }
    let report = mirrored.report.as_ref();
    let what = match (entry, report) {
        (Some(entry), Some(report)) => format!(": {} ({report}). {}", entry.name, entry.says),
        (Some(entry), None) => format!(": {}. {}", entry.name, entry.says),
        (None, Some(report)) => format!(": report {report}."),
        (None, None) => ".".to_owned(),
    };
    Some(format!("{TABLE}{name} of impact.com{what}"))
}
