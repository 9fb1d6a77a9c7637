//! Gives columns of a mirrored table another type before a file is loaded, in transactions of its own, while the table is read as
//! ever: values of the new type are written into columns beside the old ones, which then take their places in a moment.
//!
//! Postgres would write the whole table anew under a lock that nobody reads through. Where something hangs on a column (an index, a
//! view that is not one of ours, a history), that is left to the load, which does just so.

use sqlx::{Connection as _, PgConnection};

use super::ddl::{self, Ddl};
use super::error::Error;
use super::layout::{Change, History, Layout, Origin, Standing, Surveyed, index_name};
use super::load::{Learned, Load};
use super::table::{Retype, Zones};
use super::{Widened, Writes, catalog, views};
use crate::column::ColumnKind;
use crate::failpoint;

/// What a load found out before it stopped, for its table to be widened first.
#[derive(Debug, Clone)]
pub struct Widening(pub(super) Surveyed);

/// Whether the types that `layout` asks for can be had ahead of the load.
pub(super) async fn is_possible(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    standing: &Standing,
) -> Result<bool, Error> {
    let columns: Vec<String> = retypes(layout).map(|retype| retype.name.to_owned()).collect();
    if columns.is_empty() || standing.history != History::None || load.target.history {
        return Ok(false);
    }
    // Citus writes no values into a column beside by functions that depend on settings.
    if load.table.is_distributed() {
        return Ok(false);
    }
    if columns.len() > MOST || standing.columns.iter().any(|column| column.name.starts_with(BESIDE)) {
        return Ok(false);
    }
    let is_free = sqlx::query_scalar!(
        r#"
        select not exists (
            select 1
            from pg_depend d
            join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            join pg_class c on c.oid = a.attrelid
            join pg_namespace n on n.oid = c.relnamespace
            where d.refclassid = 'pg_class'::regclass and a.attname = any($3)
              and not exists (
                  select 1 from pg_rewrite r join pg_class v on v.oid = r.ev_class
                  where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
                    and strpos(obj_description(v.oid, 'pg_class'), $4) > 0)
              and not exists (
                  select 1 from pg_statistic_ext s
                  where d.classid = 'pg_statistic_ext'::regclass and s.oid = d.objid
                    and s.stxname ~ ('_' || $5 || '[0-9a-f]{8}$'))
              and (n.nspname = $1 and c.relname = $2
                   or exists (
                       select 1 from pg_inherits i
                       join pg_class p on p.oid = i.inhparent
                       join pg_namespace pn on pn.oid = p.relnamespace
                       where i.inhrelid = c.oid and pn.nspname = $1 and p.relname = $2))
        ) as "is_free!"
        "#,
        load.table.schema(),
        load.table.name(),
        &columns,
        views::MARK,
        views::GROUPS,
    )
    .fetch_one(conn)
    .await
    .map_err(load.place.database("look for what hangs on a column"))?;
    Ok(is_free)
}

/// Widens the table, and says what was done. Does nothing where somebody else has done it meanwhile, or it is not possible any more.
pub(super) async fn widen(mut load: Load<'_>, conn: &mut PgConnection, widening: &Widening) -> Result<Widened, Error> {
    let Some((sources, shape)) = load.columns().await? else { return Ok(Widened::default()) };
    load.shape = shape;
    let learned = Learned::of(widening.0.clone());
    let mut tx = conn.begin().await.map_err(load.place.database("begin to widen"))?;
    let Some(layout) = look(&load, &mut tx, &sources, &learned).await? else { return Ok(Widened::default()) };
    ddl::keep_readers_out(&mut tx, &load.table, &load.place).await?;
    let ddl = &mut Ddl { conn: &mut tx, place: &load.place };
    for retype in retypes(&layout) {
        ddl.run(load.table.drop_column(&beside(retype))).await?; // what a crash has left
        ddl.run(load.table.add_column(&beside(retype), retype.to)).await?;
    }
    tx.commit().await.map_err(load.place.database("commit columns to widen into"))?;
    failpoint::reach("widening-begun");

    let mut tx = conn.begin().await.map_err(load.place.database("begin to widen"))?;
    ddl::keep_loads_out(&mut tx, &load.table, &load.place).await?;
    let before = layout;
    let Some(layout) = look(&load, &mut tx, &sources, &learned).await? else { return Ok(Widened::default()) };
    if !retypes(&layout).eq(retypes(&before)) {
        return Ok(Widened::default());
    }
    let zones = ddl::zones(&mut tx, &load.place).await?;
    let widened = swap(&load, &mut tx, &layout, &zones).await?;
    failpoint::reach("widening-written");
    tx.commit().await.map_err(load.place.database("commit wider columns"))?;
    failpoint::reach("widening-committed");
    Ok(widened)
}

/// What there is to be widened, as the table stands now.
async fn look(
    load: &Load<'_>,
    conn: &mut PgConnection,
    sources: &[String],
    learned: &Learned,
) -> Result<Option<Layout>, Error> {
    ddl::lock(conn, &load.table, &load.place).await?;
    let standing = catalog::read(conn, &load.table, &load.place).await?;
    if !standing.exists {
        return Ok(None);
    }
    let layout = load.fit(sources, &standing, learned)?;
    Ok(is_possible(load, conn, &layout, &standing).await?.then_some(layout))
}

/// Fills the columns beside, and has them take the places of the old ones.
async fn swap(load: &Load<'_>, conn: &mut PgConnection, layout: &Layout, zones: &Zones) -> Result<Widened, Error> {
    let writes = if layout.makes_text() { Writes::All } else { Writes::Differing };
    let mut widened = Widened { writes, ..Widened::default() };
    let ddl = &mut Ddl { conn, place: &load.place };
    // Nobody but us writes to it; should somebody, he waits.
    ddl.run(load.table.lock_writers()).await?;
    let mut filled = Vec::new();
    let mut swapped = Vec::new();
    for retype in retypes(layout) {
        let has_values = ddl.has_values(&load.table, retype.name).await?;
        if retype.from == ColumnKind::Text && has_values {
            // Never empty after all: it stays as it is.
            ddl.record(retype.name, retype.source, retype.from, Origin::Data, load.now).await?;
            ddl.run(load.table.drop_column(&beside(retype))).await?;
            continue;
        }
        if has_values {
            filled.push((beside(retype), retype));
        }
        swapped.push((beside(retype), retype));
    }
    if !filled.is_empty() {
        ddl.run(load.table.fill_beside(&filled, zones)).await?;
    }
    ddl::keep_readers_out_to_retype(ddl.conn, &load.table, &load.place).await?;
    for (beside, Retype { name, source, from, to, origin }) in swapped {
        ddl.run(load.table.drop_column(name)).await?;
        ddl.run(load.table.rename_column(&beside, name)).await?;
        ddl.run(load.table.comment_column(name, &format!("source: {source}"))).await?;
        ddl.record_retyped(None, name, from, to, load.now).await?;
        ddl.record(name, source, to, origin, load.now).await?;
        widened.table_changes.push(format!("changed column {name} from {from} to {to}{}", ddl::after_retyping(to)));
    }
    views::restore(ddl.conn, load.table.schema(), &load.place).await?;
    Ok(widened)
}

/// The most columns that are widened so at once.
const MOST: usize = 100;

/// How the names of columns begin that are about to take another's place.
const BESIDE: &str = "_wider_";

/// The column beside one, of its new type: who widens another column, or to another type, uses another.
fn beside(retype: Retype<'_>) -> String {
    index_name(&format!("{BESIDE}{}", retype.name), &retype.to.to_string())
}

fn retypes(layout: &Layout) -> impl Iterator<Item = Retype<'_>> {
    layout.changes.iter().filter_map(|change| match change {
        Change::Retype { name, source, from, to, origin } if from != to => {
            Some(Retype { name, source, from: *from, to: *to, origin: *origin })
        }
        Change::Retype { .. }
        | Change::Create
        | Change::Add { .. }
        | Change::Partition(_)
        | Change::DropIndex(_)
        | Change::KeyIndex
        | Change::WindowIndex
        | Change::History => None,
    })
}
