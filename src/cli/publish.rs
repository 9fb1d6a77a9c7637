//! `publish`: the mirrored tables for logical replication.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sqlx::Connection as _;

use super::{Exit, Misuse};
use crate::app::Database;
use crate::config::{Distribution, Settings};
use crate::mirror::publication;

/// Readers of a table wait behind us while we wait for others: not for long.
const LOCK: Duration = Duration::from_secs(5);

/// Which publication, and what becomes of it.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The publication's name
    #[arg(long, value_name = "NAME", default_value = "impact_mirror")]
    name: String,
    /// Take it away instead
    #[arg(long)]
    drop: bool,
    /// Print the statements and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn publish(settings: &Settings, database: &Database, options: &Options) -> anyhow::Result<Exit> {
    if settings.database.distribution == Distribution::Citus && !options.drop {
        let what = "distributed tables cannot be published: Citus names no replica identity; follow the coordinator's changes by its own means";
        return Err(Misuse(what.to_owned()).into());
    }
    let (name, schema) = (&options.name, &settings.database.schema);
    let mut conn = database.pool().acquire().await?;
    let standing = publication::find(&mut conn, name).await.context("cannot look for the publication")?;
    if let Some(standing) = &standing
        && !standing.is_owned
    {
        let what =
            format!("publication {name} belongs to another role; call this as its owner, or give another --name");
        return Err(Misuse(what).into());
    }
    let statements = match (&standing, options.drop) {
        (None, true) => Vec::new(),
        (Some(standing), true) if !standing.is_ours => {
            let what = format!("publication {name} was not made by impact-mirror; drop it by hand");
            return Err(Misuse(what).into());
        }
        (Some(_), true) => publication::drop_statements(&mut conn, schema, name).await?,
        (_, false) => publication::statements(&mut conn, schema, name, standing.as_ref()).await?,
    };
    if options.dry_run {
        for statement in &statements {
            say!("{statement};");
        }
        return Ok(Exit::Done);
    }
    let mut tx = conn.begin().await?;
    publication::set_lock_timeout(&mut tx, LOCK).await?;
    for statement in &statements {
        let cannot = || format!("cannot {statement}; where a long query holds the table, try again later");
        publication::run(&mut tx, statement.clone()).await.with_context(cannot)?;
    }
    tx.commit().await?;
    match (statements.len(), options.drop) {
        (0, true) => say!("there is no publication {name}"),
        (0, false) => say!("publication {name} is in step"),
        (_, true) => say!("publication {name} is gone"),
        (_, false) => {
            say!("publication {name} holds all mirrored tables; tables that a load makes are added to it");
            say!("a subscriber: create subscription {name} connection '…' publication {name}");
        }
    }
    let level = publication::wal_level(&mut conn).await?;
    if !options.drop && level != "logical" {
        say!("wal_level is {level}: set it to logical and restart Postgres, before anybody can subscribe");
    }
    Ok(Exit::Done)
}
