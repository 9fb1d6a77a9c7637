//! Changes the mirrored table to what a layout asks for, and takes down what its columns now are.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::error::{Error, Place};
use super::layout::{Change, Layout, Origin};
use super::table::{Table, Zones};
use crate::column::ColumnKind;

/// What the lineage columns are, for people who look at the table.
const LINEAGE_COMMENTS: [(&str, &str); 8] = [
    ("_account", "The account that the row was read from."),
    ("_program", "The program that was asked for; empty where the export is not narrowed to one."),
    ("_day", "The day, in the zone of the account, under which the row is kept."),
    ("_row_hash", "A hash over the names and texts of the row's values as they stood in the file."),
    ("_load_id", "The load that last wrote the row: impact_mirror.load."),
    ("_line", "The line of that load's file on which the row begins; the header is line 1."),
    ("_first_seen_at", "When the row first came."),
    ("_changed_at", "When the row last changed."),
];

/// Waits until nobody else changes this table; held until the transaction, or the savepoint, ends.
pub(super) async fn lock(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<(), Error> {
    let name = format!("impact_mirror ddl {}", table.qualified());
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", name)
        .execute(conn)
        .await
        .map_err(place.database("wait for other changes to the table"))?;
    Ok(())
}

/// Carries out the changes of a layout and says them, one line each.
pub(super) async fn apply(
    conn: &mut PgConnection,
    table: &Table,
    layout: &Layout,
    now: DateTime<Utc>,
    place: &Place,
) -> Result<Vec<String>, Error> {
    let zones = sqlx::query!("select name, time_zone from impact_mirror.account order by name")
        .fetch_all(&mut *conn)
        .await
        .map_err(place.database("read the zones of the accounts"))?;
    let zones: Zones = zones.into_iter().map(|account| (account.name, account.time_zone)).collect();
    let ddl = &mut Ddl { conn, place };
    let creates = layout.changes.contains(&Change::Create);
    let mut said = Vec::new();
    for change in &layout.changes {
        match change {
            Change::Create => {
                let columns: Vec<_> = layout.changes.iter().filter_map(added).collect();
                if !ddl.has_schema(table).await? {
                    // Two first tables at once would both make it, and "if not exists" does not keep them apart.
                    ddl.run("select pg_advisory_xact_lock(hashtextextended('impact_mirror schema', 0))".to_owned())
                        .await?;
                    ddl.run(table.create_schema()).await?;
                }
                ddl.run(table.create(&columns)).await?;
                ddl.run(table.comment(&format!("Mirror of the export {} of impact.com.", place.export))).await?;
                for (column, comment) in LINEAGE_COMMENTS {
                    ddl.run(table.comment_column(column, comment)).await?;
                }
                said.push(format!("created table {} with {} columns", table.qualified(), columns.len()));
            }
            Change::Add { name, source, kind, origin } => {
                if !creates {
                    ddl.run(table.add_column(name, *kind)).await?;
                    said.push(format!("added column {name} ({kind})"));
                }
                ddl.run(table.comment_column(name, &format!("source: {source}"))).await?;
                ddl.record(name, source, *kind, *origin, now).await?;
            }
            Change::Retype { name, source, from, to, origin } => {
                if from != to {
                    if *from == ColumnKind::Text && ddl.has_values(table, name).await? {
                        // Never empty after all: it stays as it is.
                        ddl.record(name, source, *from, Origin::Data, now).await?;
                        continue;
                    }
                    ddl.run(table.retype_column(name, *from, *to, &zones)).await?;
                    said.push(format!("changed column {name} from {from} to {to}"));
                }
                ddl.record(name, source, *to, *origin, now).await?;
            }
            Change::DropIndex(name) => ddl.run(table.drop_index(name)).await?,
            Change::KeyIndex => ddl.run(table.create_key_index(layout)).await?,
            Change::WindowIndex => ddl.run(table.create_window_index()).await?,
        }
    }
    Ok(said)
}

fn added(change: &Change) -> Option<(&str, ColumnKind)> {
    match change {
        Change::Add { name, kind, .. } => Some((name, *kind)),
        Change::Create | Change::Retype { .. } | Change::DropIndex(_) | Change::KeyIndex | Change::WindowIndex => None,
    }
}

struct Ddl<'a> {
    conn: &'a mut PgConnection,
    place: &'a Place,
}

impl Ddl<'_> {
    async fn run(&mut self, statement: String) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *self.conn)
            .await
            .map_err(self.place.database("change the mirrored table"))?;
        Ok(())
    }

    /// Asks first: `create schema if not exists` wants the right to create one even where it does not.
    async fn has_schema(&mut self, table: &Table) -> Result<bool, Error> {
        sqlx::query_scalar!(
            r#"select exists (select 1 from pg_namespace where nspname = $1) as "exists!""#,
            table.schema()
        )
        .fetch_one(&mut *self.conn)
        .await
        .map_err(self.place.database("look the schema up"))
    }

    async fn has_values(&mut self, table: &Table, column: &str) -> Result<bool, Error> {
        sqlx::query_scalar(AssertSqlSafe(table.has_values(column)))
            .persistent(false)
            .fetch_one(&mut *self.conn)
            .await
            .map_err(self.place.database("look for values"))
    }

    async fn record(
        &mut self,
        name: &str,
        source: &str,
        kind: ColumnKind,
        origin: Origin,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            r#"
            insert into impact_mirror.mirrored_column (export, column_name, source_name, kind, origin, first_seen_at)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (export, column_name) do update set kind = excluded.kind, origin = excluded.origin
            "#,
            self.place.export.as_str(),
            name,
            source,
            kind as ColumnKind,
            origin as Origin,
            now,
        )
        .execute(&mut *self.conn)
        .await
        .map_err(self.place.database("take down the columns"))?;
        Ok(())
    }
}
