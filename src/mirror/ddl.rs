//! Changes the mirrored table to what a layout asks for, and takes down what its columns now are.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::error::{Error, Place, is_unique_violation};
use super::layout::{Change, Layout, Origin};
use super::table::{Table, Zones};
use super::{history, views};
use crate::column::ColumnKind;

/// What the lineage columns are, for people who look at the table.
pub(super) const LINEAGE_COMMENTS: [(&str, &str); 8] = [
    ("_account", "The account that the row was read from."),
    ("_program", "The program that was asked for; empty where the export is not narrowed to one."),
    ("_day", "The day, in the zone of the account, under which the row is kept."),
    ("_row_hash", "A hash over the names and texts of the row's values as they stood in the file."),
    ("_load_id", "The load that last wrote the row: impact_mirror.load."),
    (
        "_line",
        "The line of that load's file on which the row begins, the header being line 1; in a JSON file the number of its record, from 1.",
    ),
    ("_first_seen_at", "When the row first came."),
    ("_changed_at", "When the row last changed."),
];

/// Time for those who queued up behind us.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Waits until nobody else changes this table; held until the transaction, or the savepoint, ends.
pub(super) async fn lock(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<(), Error> {
    let name = format!("impact_mirror ddl {}", table.qualified());
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", name)
        .execute(conn)
        .await
        .map_err(place.database("wait for other changes to the table"))?;
    Ok(())
}

/// Waits until nobody loads into this table, and keeps loads away until the transaction ends.
pub(super) async fn keep_loads_out(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", loads_of(table))
        .execute(conn)
        .await
        .map_err(place.database("wait for the loads of the table"))?;
    Ok(())
}

/// Keeps whoever keeps loads out away, until the transaction ends: before the table is touched in any way, for what has been
/// read of it is locked until then.
pub(super) async fn enter(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended($1, 0))", loads_of(table))
        .execute(&mut *conn)
        .await
        .map_err(place.database("wait until the table is wider"))?;
    if table.is_distributed() {
        // Rows and changes of the table go through the same connections to the workers then.
        sqlx::raw_sql("set local citus.multi_shard_modify_mode to 'sequential'")
            .execute(conn)
            .await
            .map_err(place.database("have the workers of the cluster take turns"))?;
    }
    Ok(())
}

fn loads_of(table: &Table) -> String {
    format!("impact_mirror loads {}", table.qualified())
}

/// Takes the table so that nobody reads it until the load commits. Whoever waits for that makes everybody behind wait too, so
/// it is asked for a moment at a time, shorter than Postgres takes to look for a deadlock: a long query delays the load and no
/// other reader.
pub(super) async fn keep_readers_out(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<(), Error> {
    let locking = lock_of(conn, table, place).await?;
    keep_out(conn, table, locking, place).await
}

/// The same for a change of the types of columns: our views are taken out of its way, until `views::restore`.
pub(super) async fn keep_readers_out_to_retype(
    conn: &mut PgConnection,
    table: &Table,
    place: &Place,
) -> Result<(), Error> {
    let locking = lock_of(conn, table, place).await?;
    let release = views::release(conn, table, place).await?;
    let locking = release.map_or_else(|| locking.clone(), |release| [release, locking.clone()].join("; "));
    keep_out(conn, table, locking, place).await
}

async fn keep_out(conn: &mut PgConnection, table: &Table, locking: String, place: &Place) -> Result<(), Error> {
    const STEP: &str = "wait for the readers of the table";
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const TRIES: u32 = 600;
    let run = async |conn: &mut PgConnection, statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
    };
    for attempt in 1..=TRIES {
        let taking = format!(
            "savepoint impact_mirror_lock; set local lock_timeout = '800ms'; {locking}; set local lock_timeout to default; \
             release savepoint impact_mirror_lock",
        );
        match run(conn, taking).await {
            Ok(()) => return Ok(()),
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) && attempt < TRIES =>
            {
                let back = "rollback to savepoint impact_mirror_lock; release savepoint impact_mirror_lock";
                run(conn, back.to_owned()).await.map_err(place.database(STEP))?;
                if attempt == 1 {
                    tracing::info!("table {}: a change waits for a long query", table.qualified());
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(error) => return Err(place.database(STEP)(error)),
        }
    }
    unreachable!("the last try returns")
}

/// The statement that takes the table, and before it the view of its versions, if there is one.
async fn lock_of(conn: &mut PgConnection, table: &Table, place: &Place) -> Result<String, Error> {
    let view = table.versions();
    let has_view = sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
            join pg_attribute a on a.attrelid = c.oid and a.attname = '_superseded_by'
            where n.nspname = $1 and c.relname = $2 and c.relkind = 'v') as "exists!"
        "#,
        table.schema(),
        view.name(),
    )
    .fetch_one(conn)
    .await
    .map_err(place.database("look for the view of the table's versions"))?;
    Ok(if has_view { table.lock_with_versions() } else { table.lock() })
}

/// Carries out the changes of a layout and says them, one line each.
pub(super) async fn apply(
    conn: &mut PgConnection,
    table: &Table,
    layout: &Layout,
    indexes: Indexes,
    load_id: i64,
    now: DateTime<Utc>,
    place: &Place,
) -> Result<Vec<String>, Error> {
    let zones = zones(conn, place).await?;
    let grants = if layout.retypes() { history::take_view_away(conn, table, place).await? } else { Vec::new() };
    let ddl = &mut Ddl { conn, place };
    let creates = layout.changes.contains(&Change::Create);
    let mut said = Vec::new();
    let mut retypes = Vec::new();
    for change in &layout.changes {
        let is_of_column = matches!(change, Change::Create | Change::Add { .. } | Change::Retype { .. });
        if !is_of_column {
            ddl.retype(table, &mut retypes).await?;
        }
        match change {
            Change::Create => {
                let columns: Vec<_> = layout.changes.iter().filter_map(added).collect();
                if !ddl.has_schema(table).await? {
                    // Two first tables at once would both make it, and "if not exists" does not keep them apart.
                    ddl.run("select pg_advisory_xact_lock(hashtextextended('impact_mirror schema', 0))".to_owned())
                        .await?;
                    ddl.run(table.create_schema()).await?;
                }
                ddl.run(table.create(&columns, layout.by_month)).await?;
                if table.is_distributed() {
                    ddl.run(table.distribute(None)).await?;
                }
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
                    retypes.push(Table::retype_column(name, *from, *to, &zones));
                    ddl.record_retyped(Some(load_id), name, *from, *to, now).await?;
                    said.push(format!("changed column {name} from {from} to {to}{}", after_retyping(*to)));
                }
                ddl.record(name, source, *to, *origin, now).await?;
            }
            Change::Partition(month) => {
                ddl.run(table.create_partition(*month)).await?;
                said.push(format!("made partition {}", table.partition_name(*month)));
            }
            Change::DropIndex(name) => ddl.run(table.drop_index(name)).await?,
            Change::KeyIndex | Change::WindowIndex if indexes == Indexes::Later => {}
            Change::KeyIndex => ddl.run(table.create_key_index(layout)).await?,
            Change::WindowIndex => ddl.run(table.create_window_index()).await?,
            Change::History => {
                let key: Vec<&str> = layout.key_names().collect();
                said.append(&mut history::make(ddl.conn, table, &key, grants.clone(), place).await?);
            }
        }
    }
    ddl.retype(table, &mut retypes).await?;
    if layout.retypes() {
        views::restore(conn, table.schema(), place).await?;
    }
    Ok(said)
}

/// The zones of all accounts.
pub(super) async fn zones(conn: &mut PgConnection, place: &Place) -> Result<Zones, Error> {
    let zones = sqlx::query!("select name, time_zone from impact_mirror.account order by name")
        .fetch_all(conn)
        .await
        .map_err(place.database("read the zones of the accounts"))?;
    Ok(zones.into_iter().map(|account| (account.name, account.time_zone)).collect())
}

/// When the indexes of a layout are built. After the rows is faster by far, and only for a table that nobody else sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexes {
    Now,
    Later,
}

/// Builds the indexes that were left for later; `false` where a key stands twice in the table.
pub(super) async fn build_indexes(
    conn: &mut PgConnection,
    table: &Table,
    layout: &Layout,
    place: &Place,
) -> Result<bool, Error> {
    let mut statements = vec![table.create_window_index()];
    if !layout.key.is_empty() {
        statements.push(table.create_key_index(layout));
    }
    for statement in statements {
        match sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await {
            Ok(_) => {}
            Err(error) if is_unique_violation(&error) => return Ok(false),
            Err(error) => return Err(place.database("build the indexes")(error)),
        }
    }
    Ok(true)
}

/// What is to be known of the rows of other windows.
pub(super) fn after_retyping(to: ColumnKind) -> &'static str {
    match to {
        ColumnKind::Text => "; other windows have texts of its values until `reload` brings those of their files",
        ColumnKind::Boolean | ColumnKind::Bigint | ColumnKind::Numeric | ColumnKind::Date | ColumnKind::Timestamptz => {
            ""
        }
    }
}

fn added(change: &Change) -> Option<(&str, ColumnKind)> {
    match change {
        Change::Add { name, kind, .. } => Some((name, *kind)),
        Change::Create
        | Change::Partition(_)
        | Change::Retype { .. }
        | Change::DropIndex(_)
        | Change::KeyIndex
        | Change::WindowIndex
        | Change::History => None,
    }
}

/// Runs statements that change the table, and takes down what they do.
pub(super) struct Ddl<'a> {
    pub conn: &'a mut PgConnection,
    pub place: &'a Place,
}

impl Ddl<'_> {
    pub async fn run(&mut self, statement: String) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *self.conn)
            .await
            .map_err(self.place.database("change the mirrored table"))?;
        Ok(())
    }

    /// Changes the types of columns at once: each statement would write the whole table anew.
    async fn retype(&mut self, table: &Table, retypes: &mut Vec<String>) -> Result<(), Error> {
        if retypes.is_empty() {
            return Ok(());
        }
        self.run(table.retype_columns(&std::mem::take(retypes))).await
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

    pub async fn has_values(&mut self, table: &Table, column: &str) -> Result<bool, Error> {
        sqlx::query_scalar(AssertSqlSafe(table.has_values(column)))
            .persistent(false)
            .fetch_one(&mut *self.conn)
            .await
            .map_err(self.place.database("look for values"))
    }

    pub async fn record(
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

    /// Notes that a type was changed, by a load or ahead of one. A first type for a column that never held a value is no widening.
    pub async fn record_retyped(
        &mut self,
        load_id: Option<i64>,
        name: &str,
        from: ColumnKind,
        to: ColumnKind,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        sqlx::query!(
            r#"
            with widened as (
                update impact_mirror.mirrored_column set type_origin = 'widened'
                where export = $1 and column_name = $3 and $4 <> 'text'
            )
            insert into impact_mirror.retyped_column (export, load_id, column_name, from_kind, to_kind, retyped_at)
            values ($1, $2, $3, $4, $5, $6)
            "#,
            self.place.export.as_str(),
            load_id,
            name,
            from as ColumnKind,
            to as ColumnKind,
            now,
        )
        .execute(&mut *self.conn)
        .await
        .map_err(self.place.database("take down a change of type"))?;
        Ok(())
    }
}
