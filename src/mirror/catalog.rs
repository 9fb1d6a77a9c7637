//! Reads how the mirrored table stands: from our own list of its columns and from the catalog of Postgres.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sqlx::PgConnection;
use sqlx::postgres::types::Oid;
use sqlx::types::Json;

use super::error::{Error, Place};
use super::header::LINEAGE;
use super::layout::{History, Origin, Standing, StandingColumn};
use super::partitions;
use super::table::Table;
use super::table::history::VALIDITY;
use crate::column::ColumnKind;

/// The columns that files of an export have had: their names there and in the table.
pub(super) async fn recorded_names(conn: &mut PgConnection, place: &Place) -> Result<Vec<(String, String)>, Error> {
    let recorded = sqlx::query!(
        "select source_name, column_name from impact_mirror.mirrored_column where export = $1",
        place.export.as_str(),
    )
    .fetch_all(conn)
    .await
    .map_err(place.database("read the list of columns"))?;
    Ok(recorded.into_iter().map(|column| (column.source_name, column.column_name)).collect())
}

/// A column as our list has it.
#[derive(Debug, Deserialize)]
struct Recorded {
    source_name: String,
    column_name: String,
    kind: ColumnKind,
    origin: Origin,
}

/// A column as Postgres has it.
#[derive(Debug, Deserialize)]
struct Actual {
    name: String,
    kind: String,
}

/// An index as Postgres has it.
#[derive(Debug, Deserialize)]
struct Index {
    name: String,
    columns: Vec<String>,
}

/// How the table stands now. Takes no lock on it. One trip, for every load asks several times.
pub(super) async fn read(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<Standing, Error> {
    let (history, versions, as_known) = (table.history(), table.versions(), table.as_known_name());
    // By a scan and not by `to_regclass`: that may remember that there was no table a moment ago.
    let found = sqlx::query!(
        r#"
        select coalesce((
                   select json_agg(json_build_object('source_name', m.source_name, 'column_name', m.column_name, 'kind', m.kind,
                                                     'origin', m.origin)
                                   order by m.first_seen_at, m.column_name)
                   from impact_mirror.mirrored_column m
                   where m.export = $7), '[]') as "recorded!: Json<Vec<Recorded>>",
               c.oid as "oid?", coalesce(c.relkind = 'p', false) as "is_partitioned!",
               exists (
                   select 1 from pg_class h
                   join pg_attribute a on a.attrelid = h.oid and a.attname = '_superseded_by'
                   where h.relnamespace = c.relnamespace and h.relname = $3 and h.relkind = 'r') as "has_history!",
               exists (
                   select 1 from pg_class v
                   where v.relnamespace = c.relnamespace and v.relname = $4 and v.relkind = 'v'
                     and (select count(*) from pg_attribute a where a.attrelid = v.oid and a.attnum > 0)
                         = $6 + (select count(*) from pg_attribute a
                                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))
               and exists (
                   select 1 from pg_proc p
                   where p.pronamespace = c.relnamespace and p.proname = $5 and p.prorettype = c.reltype) as "answers!",
               coalesce((
                   select json_agg(json_build_object('name', a.attname, 'kind', t.typname))
                   from pg_attribute a
                   join pg_type t on t.oid = a.atttypid
                   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as "actual!: Json<Vec<Actual>>",
               coalesce((
                   select json_agg(json_build_object('name', x.relname, 'columns', coalesce((
                       select json_agg(a.attname order by k.position)
                       from unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
                       join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum), '[]')))
                   from pg_index i
                   join pg_class x on x.oid = i.indexrelid
                   where i.indrelid = c.oid and i.indisvalid), '[]') as "indexes!: Json<Vec<Index>>"
        from (values (1)) as one (row)
        left join (pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = $1) on c.relname = $2
        "#,
        table.schema(),
        table.name(),
        history.name(),
        versions.name(),
        as_known,
        i64::try_from(VALIDITY.len()).unwrap_or(0),
        place.export.as_str(),
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(place.database("look the table up"))?;
    let table_oid = found.oid;
    let partitions = match table_oid {
        Some(oid) if found.is_partitioned => Some(read_partitions(conn, oid, place).await?),
        Some(_) | None => None,
    };
    let recorded = found.recorded.0;
    // Those of nothing but expressions are not ours.
    let indexes = found.indexes.0.into_iter().filter(|index| !index.columns.is_empty());
    let mut actual: BTreeMap<_, _> = found.actual.0.into_iter().map(|column| (column.name, column.kind)).collect();

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
        partitions,
        indexes: indexes.map(|index| (index.name, index.columns)).collect(),
        history: match (found.has_history, found.answers) {
            (true, true) => History::Whole,
            (true, false) => History::Partial,
            (false, _) => History::None,
        },
    })
}

/// The partitions of a table with their bounds. A default partition has none.
async fn read_partitions(
    conn: &mut PgConnection,
    table: Oid,
    place: &Place,
) -> Result<Vec<partitions::Standing>, Error> {
    let rows = sqlx::query!(
        r#"
        select p.name as "name!",
               coalesce(substring(p.bounds from 'FROM \(''([^'']+)''\)')::date, date '0001-01-01') as "from!",
               coalesce(substring(p.bounds from 'TO \(''([^'']+)''\)')::date, date '9999-12-31') as "to!"
        from (
            select c.relname::text as name, pg_get_expr(c.relpartbound, c.oid) as bounds
            from pg_inherits i
            join pg_class c on c.oid = i.inhrelid
            where i.inhparent = $1
        ) p
        where p.bounds like 'FOR VALUES FROM%'
        order by 2
        "#,
        table,
    )
    .fetch_all(conn)
    .await
    .map_err(place.database("read the partitions of the table"))?;
    Ok(rows.into_iter().map(|row| partitions::Standing { name: row.name, from: row.from, to: row.to }).collect())
}

/// The kind behind Postgres's own name of a type.
pub(super) fn kind_of(type_name: &str) -> Option<ColumnKind> {
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
