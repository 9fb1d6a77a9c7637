//! Clicks added up by day, program and partner, in `impact_mirror.click_day`: a load does so for its window, in its transaction.
//!
//! Where the way of adding up changes, a table is not in it yet, or an older version has loaded beside us, all of the table is done anew
//! by [`fill`].

use chrono::NaiveDate;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::error::{Error, Place};
use super::load::Load;
use super::table::Table;
use super::table::views::Feeding;
use super::views::feeding_of_clicks;
use crate::account::AccountName;
use crate::export::{ExportName, Program, Window};
use crate::failpoint;

const STEP: &str = "add clicks up";

/// Follows a load that wrote to its window.
pub(super) async fn follow(load: &Load<'_>, conn: &mut PgConnection) -> Result<(), Error> {
    let Some(feeding) = feeding_of_clicks(conn, &load.table, &load.place).await? else { return Ok(()) };
    forget_window(conn, &load.place, load.target.account, load.target.program, load.target.window).await?;
    load.bind_window(feeding.add_up_window()).execute(conn).await.map_err(load.place.database(STEP))?;
    Ok(())
}

/// Forgets the days of an account's program that its table has no more.
pub(super) async fn forget_window(
    conn: &mut PgConnection,
    place: &Place,
    account: &AccountName,
    program: &Program,
    window: Window,
) -> Result<(), Error> {
    sqlx::query!(
        "delete from impact_mirror.click_day where export = $1 and account = $2 and program = $3 and day between $4 and $5",
        place.export.as_str(),
        account.as_str(),
        program.as_str(),
        window.from(),
        window.to(),
    )
    .execute(conn)
    .await
    .map_err(place.database(STEP))?;
    Ok(())
}

/// Forgets all days before one.
pub(super) async fn forget_before(conn: &mut PgConnection, place: &Place, day: NaiveDate) -> Result<(), Error> {
    sqlx::query!("delete from impact_mirror.click_day where export = $1 and day < $2", place.export.as_str(), day,)
        .execute(conn)
        .await
        .map_err(place.database(STEP))?;
    Ok(())
}

/// Adds up all of a table that is not, or not so, in `click_day`; says so. Loads of the table wait for it.
pub(super) async fn fill(conn: &mut PgConnection, feeding: &Feeding) -> Result<Option<String>, Error> {
    let table = &feeding.table;
    let place = Place::without_file(&ExportName::new(table.name()));
    let definition = definition(conn, table, feeding, &place).await?;
    if is_filled(conn, &place, &definition).await? {
        return Ok(None);
    }
    let mut tx = conn.begin().await.map_err(place.database(STEP))?;
    // A load that takes long is not waited for: a later round fills.
    sqlx::raw_sql("set local lock_timeout = '2s'").execute(&mut *tx).await.map_err(place.database(STEP))?;
    super::ddl::keep_loads_out(&mut tx, table, &place).await?;
    if is_filled(&mut tx, &place, &definition).await? {
        return Ok(None);
    }
    sqlx::query!("delete from impact_mirror.click_day where export = $1", table.name())
        .execute(&mut *tx)
        .await
        .map_err(place.database(STEP))?;
    let added = sqlx::raw_sql(AssertSqlSafe(feeding.add_up())).execute(&mut *tx).await.map_err(place.database(STEP))?;
    sqlx::query!(
        r#"
        insert into impact_mirror.click_rollup (export, definition, filled_at, missing)
        select $1, $2, now(),
               coalesce((select sum(rows) from impact_mirror.cell where export = $1), 0)
                   - coalesce((select sum(clicks) from impact_mirror.click_day where export = $1), 0)
        on conflict (export) do update
        set definition = excluded.definition, filled_at = excluded.filled_at, missing = excluded.missing
        "#,
        table.name(),
        definition,
    )
    .execute(&mut *tx)
    .await
    .map_err(place.database(STEP))?;
    failpoint::reach("rollup-written");
    tx.commit().await.map_err(place.database("commit clicks added up"))?;
    failpoint::reach("rollup-committed");
    Ok(Some(format!("clicks of {} added up: {} rows", table.qualified(), added.rows_affected())))
}

async fn is_filled(conn: &mut PgConnection, place: &Place, definition: &str) -> Result<bool, Error> {
    // Of the same days both sums change alike, unless somebody loads without adding up.
    let is_filled = sqlx::query_scalar!(
        r#"
        select definition = $2
               and missing = coalesce((select sum(rows) from impact_mirror.cell where export = $1), 0)
                   - coalesce((select sum(clicks) from impact_mirror.click_day where export = $1), 0) as "is_filled!"
        from impact_mirror.click_rollup
        where export = $1
        "#,
        place.export.as_str(),
        definition,
    )
    .fetch_optional(conn)
    .await
    .map_err(place.database(STEP))?;
    Ok(is_filled == Some(true))
}

/// The statement, and which table that is: another of the same name has other rows.
async fn definition(conn: &mut PgConnection, table: &Table, feeding: &Feeding, place: &Place) -> Result<String, Error> {
    let oid = sqlx::query_scalar!(
        r#"
        select c.oid::bigint as "oid!" from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname = $2
        "#,
        table.schema(),
        table.name(),
    )
    .fetch_optional(conn)
    .await
    .map_err(place.database(STEP))?;
    let hash = xxhash_rust::xxh3::xxh3_128(feeding.add_up().as_bytes());
    Ok(format!("{hash:032x} of table {}", oid.unwrap_or_default()))
}
