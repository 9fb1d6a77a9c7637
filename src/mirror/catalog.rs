//! Reads how the mirrored table stands: from our own list of its columns and from the catalog of Postgres.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::error::{Error, Place};
use super::header::LINEAGE;
use super::layout::{Origin, Standing, StandingColumn};
use super::table::Table;
use crate::column::ColumnKind;

/// How the table stands now. Takes no lock on it.
pub(super) async fn read(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<Standing, Error> {
    let recorded: Vec<(String, String, ColumnKind, Origin)> = sqlx::query_as(
        r"
        select source_name, column_name, kind, origin
        from impact_mirror.mirrored_column
        where export = $1
        order by first_seen_at, column_name
        ",
    )
    .bind(&place.export)
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the list of columns"))?;

    let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table.qualified())
        .fetch_one(&mut *conn)
        .await
        .map_err(place.database("look the table up"))?;

    let actual: Vec<(String, String)> = sqlx::query_as(
        r"
        select a.attname::text, t.typname::text
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
        ",
    )
    .bind(table.qualified())
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the columns of the table"))?;
    let mut actual: BTreeMap<_, _> = actual.into_iter().collect();

    let indexes: Vec<(String, Vec<String>)> = sqlx::query_as(
        r"
        select c.relname::text, array_agg(a.attname::text order by k.position)
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = to_regclass($1) and i.indisvalid
        group by c.relname
        ",
    )
    .bind(table.qualified())
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the indexes of the table"))?;

    let mut columns = Vec::with_capacity(recorded.len());
    for (source, name, recorded_kind, origin) in recorded {
        let found = actual.remove(&name);
        let kind = match &found {
            None => recorded_kind,
            Some(found) => kind_of(found).ok_or_else(|| Error::ForeignType {
                export: place.export.clone(),
                column: name.clone(),
                found: found.clone(),
            })?,
        };
        columns.push(StandingColumn { source, name, kind, origin, in_table: found.is_some() });
    }
    let foreign: BTreeSet<_> = actual.into_keys().filter(|name| !LINEAGE.contains(&name.as_str())).collect();
    Ok(Standing { exists, columns, foreign, indexes: indexes.into_iter().collect() })
}

/// The kind behind Postgres's own name of a type.
fn kind_of(type_name: &str) -> Option<ColumnKind> {
    match type_name {
        "bool" => Some(ColumnKind::Boolean),
        "int8" => Some(ColumnKind::Bigint),
        "numeric" => Some(ColumnKind::Numeric),
        "date" => Some(ColumnKind::Date),
        "timestamptz" => Some(ColumnKind::Timestamptz),
        "text" => Some(ColumnKind::Text),
        _ => None,
    }
}
