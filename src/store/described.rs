//! The mirrored tables as Postgres has them: their columns, types and comments.

use sqlx::PgConnection;

use super::{Error, failed};

/// A column of a mirrored table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its table, which is named as its export.
    pub table: String,
    /// What the table's comment says.
    pub table_comment: String,
    /// Its name.
    pub name: String,
    /// Its type, in Postgres's words.
    pub data_type: String,
    /// What its comment says.
    pub comment: String,
    /// Its name in the files; none for the columns that the mirror adds.
    pub source: Option<String>,
}

/// The columns of all mirrored tables, in order of the tables and of the columns in them.
pub async fn columns(conn: &mut PgConnection, schema: &str) -> Result<Vec<Column>, Error> {
    sqlx::query_as!(
        Column,
        r#"
        select c.relname::text as "table!", coalesce(obj_description(c.oid, 'pg_class'), '') as "table_comment!",
               a.attname::text as "name!", format_type(a.atttypid, a.atttypmod) as "data_type!",
               coalesce(col_description(c.oid, a.attnum), '') as "comment!", m.source_name as "source?"
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join impact_mirror.mirrored_column m on m.export = c.relname and m.column_name = a.attname
        where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
          and c.relname in (select export from impact_mirror.mirrored_column)
        order by c.relname, a.attnum
        "#,
        schema,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the mirrored tables"))
}
