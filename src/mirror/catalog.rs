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
    let recorded = sqlx::query!(
        r#"
        select source_name, column_name, kind as "kind: ColumnKind", origin as "origin: Origin"
        from impact_mirror.mirrored_column
        where export = $1
        order by first_seen_at, column_name
        "#,
        place.export.as_str(),
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the list of columns"))?;

    // By a scan and not by `to_regclass`: that may remember that there was no table a moment ago.
    let table_oid = sqlx::query_scalar!(
        r#"
        select c.oid as "oid!"
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname = $2
        "#,
        table.schema(),
        table.name(),
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(place.database("look the table up"))?;

    let actual = sqlx::query!(
        r#"
        select a.attname::text as "name!", t.typname::text as "kind!"
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
        "#,
        table_oid,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the columns of the table"))?;
    let mut actual: BTreeMap<_, _> = actual.into_iter().map(|column| (column.name, column.kind)).collect();

    let indexes = sqlx::query!(
        r#"
        select c.relname::text as "name!", array_agg(a.attname::text order by k.position) as "columns!"
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = $1 and i.indisvalid
        group by c.relname
        "#,
        table_oid,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(place.database("read the indexes of the table"))?;

    let mut columns = Vec::with_capacity(recorded.len());
    for column in recorded {
        let found = actual.remove(&column.column_name);
        let kind = match &found {
            None => column.kind,
            Some(found) => kind_of(found).ok_or_else(|| Error::ForeignType {
                export: place.export.clone(),
                column: column.column_name.clone(),
                found: found.clone(),
            })?,
        };
        columns.push(StandingColumn {
            source: column.source_name,
            name: column.column_name,
            kind,
            origin: column.origin,
            in_table: found.is_some(),
        });
    }
    let foreign: BTreeSet<_> = actual.into_keys().filter(|name| !LINEAGE.contains(&name.as_str())).collect();
    Ok(Standing {
        exists: table_oid.is_some(),
        columns,
        foreign,
        indexes: indexes.into_iter().map(|index| (index.name, index.columns)).collect(),
    })
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
