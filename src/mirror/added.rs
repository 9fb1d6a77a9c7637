//! Adds the columns that a file brings, before it is loaded and in a transaction of its own. Postgres changes only its catalog
//! for that, so that readers wait for a moment, and not for the load. Where the load then fails, empty columns stay, which do
//! no harm.

use sqlx::{Connection as _, PgConnection};

use super::error::Error;
use super::layout::{Change, History};
use super::load::{Learned, Load};
use super::survey::Extent;
use super::{catalog, ddl, header};
use crate::failpoint;

/// Says what was added, a line each. A table that is yet to be made has no readers.
pub(super) async fn add_columns(mut load: Load<'_>, conn: &mut PgConnection) -> Result<Vec<String>, Error> {
    let known = catalog::recorded_names(conn, &load.place).await?;
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let Some((sources, shape)) = load.columns().await? else { return Ok(Vec::new()) };
    load.shape = shape;
    if header::name_columns(&sources, &known, std::iter::empty().collect()).iter().all(|header| header.known) {
        return Ok(Vec::new());
    }
    let standing = catalog::read(conn, &load.table, &load.place).await?;
    if !standing.exists {
        return Ok(Vec::new());
    }
    let mut learned = Learned::default();
    let layout = load.fit(&sources, &standing, &learned)?;
    if layout.needs_survey {
        // All of the file: a type found too narrow would have the table written anew while the file is loaded.
        learned = load.survey(&layout, learned, Extent::Whole).await?;
    }

    let mut tx = conn.begin().await.map_err(load.place.database("begin to add columns"))?;
    ddl::lock(&mut tx, &load.table, &load.place).await?;
    let standing = catalog::read(&mut tx, &load.table, &load.place).await?;
    let mut layout = load.fit(&sources, &standing, &learned)?;
    layout.changes.retain(|change| match change {
        Change::Add { .. } => true,
        Change::History => standing.history != History::None,
        Change::Create
        | Change::Partition(_)
        | Change::Retype { .. }
        | Change::DropIndex(_)
        | Change::KeyIndex
        | Change::WindowIndex => false,
    });
    if !standing.exists || !layout.adds() {
        return Ok(Vec::new()); // somebody else did it meanwhile
    }
    ddl::keep_readers_out(&mut tx, &load.table, &load.place).await?;
    let said = ddl::apply(&mut tx, &load.table, &layout, ddl::Indexes::Now, load.id, load.now, &load.place).await?;
    failpoint::reach("columns-written");
    tx.commit().await.map_err(load.place.database("commit added columns"))?;
    failpoint::reach("columns-committed");
    Ok(said)
}
