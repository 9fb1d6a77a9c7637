//! Brings a file from the spool into its table: rows, coverage and the state `loaded` are one transaction. Before it, columns are added
//! and widened, which readers of the table do not wait for then.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection, PgConnection};

use super::Context;
use super::archive::Kept;
use super::load::{Cut, Doubtful, may_be_foreign};
use crate::clock::Clock;
use crate::column::ColumnKind;
use crate::config::Export;
use crate::doubt::{Doubt, Figures};
use crate::error_chain::Chain;
use crate::failpoint;
use crate::job::Job;
use crate::job::narrow::is_cut;
use crate::job::proof::{self, Verdict};
use crate::mirror::{self, Target, Widening, Widens, Writes};
use crate::spool::SpoolFile;
use crate::store;
use crate::store::cell::Filled;
use crate::store::load::{Counts, File};
use crate::store::transition::Move;

/// Why a file was not loaded.
pub(super) enum Failed {
    /// It is the file of another client's order.
    Foreign,
    Doubtful(Doubtful),
    Refused(Doubt, Doubtful),
    Cut(Cut),
    Load(mirror::Error),
    Store(store::Error),
}

impl From<mirror::Error> for Failed {
    fn from(error: mirror::Error) -> Self {
        Self::Load(error)
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Where the rows of a job belong.
pub(super) fn target<'a>(
    context: &'a Context,
    job: &'a Job,
    export: &'a Export,
    kinds: &'a BTreeMap<String, ColumnKind>,
) -> Target<'a> {
    Target {
        schema: &context.settings.database.schema,
        export: &job.export,
        account: &job.account,
        program: &job.program,
        window: job.window,
        time_zone: context.settings.accounts[&job.account].time_zone,
        key: &export.key,
        date_column: export.date_column.as_deref(),
        configured: &export.types,
        typed_by_user: &export.typed_by_user,
        metadata: kinds,
        on_type_conflict: export.on_type_conflict,
        partition: export.partition,
        history: export.history,
        widens: Widens::Before,
        distribution: context.settings.database.distribution,
    }
}

/// Widens the table for a file whose load asked for that; says which rows of the file are to be written then. A load that is still
/// not content has to do it itself.
pub(super) async fn widen(
    conn: &mut PgConnection,
    job: &Job,
    file: &SpoolFile,
    target: &mut Target<'_>,
    widening: &Widening,
) -> Result<Writes, mirror::Error> {
    let widened = mirror::widen(conn, &file.path, job.request.format, target, widening, Clock.now()).await?;
    tell_changes(target, &widened.table_changes);
    target.widens = Widens::Within;
    Ok(widened.writes)
}

/// Adds the columns that a file brings, and says so.
pub(super) async fn add_columns(
    conn: &mut PgConnection,
    job: &Job,
    file: &SpoolFile,
    target: &Target<'_>,
    now: DateTime<Utc>,
) -> Result<Shape, mirror::Error> {
    let added = mirror::add_columns(conn, &file.path, job.request.format, target, now).await?;
    tell_changes(target, &added);
    Ok(if added.is_empty() { Shape::AsBefore } else { Shape::Changed })
}

/// Whether a table got other columns or types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    AsBefore,
    Changed,
}

impl Shape {
    pub fn of(report: &mirror::Report) -> Self {
        if report.table_changes.is_empty() { Self::AsBefore } else { Self::Changed }
    }

    /// Has the views for analysts follow what has changed and is committed. That they cannot follow now fails no load.
    pub async fn follow(self, context: &Context) {
        if self == Self::AsBefore {
            return;
        }
        let kept = async {
            let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
            let settings = &context.settings;
            Ok::<_, Failed>(mirror::views::keep(&mut conn, &settings.database.schema, &settings.catalogue).await?)
        };
        match kept.await {
            Ok(said) => said.iter().for_each(|line| tracing::info!("{line}")),
            Err(Failed::Load(error)) => {
                tracing::warn!(error = %Chain(&error), "the views for analysts cannot follow now; a later round does it");
            }
            Err(_) => tracing::warn!("the views for analysts cannot follow now; a later round does it"),
        }
    }
}

fn tell_changes(target: &Target<'_>, changes: &[String]) {
    for change in changes {
        tracing::info!("table {}.{}: {change}", target.schema, target.export);
    }
}

/// What became of the rows, as a load keeps it; says what was done to the table.
pub(super) fn counts(target: &Target<'_>, report: &mirror::Report) -> Counts {
    tell_changes(target, &report.table_changes);
    Counts {
        read: report.rows_read,
        inserted: report.rows_inserted,
        updated: report.rows_updated,
        deleted: report.rows_deleted,
        unchanged: report.rows_unchanged,
        rejected: report.rows_rejected,
        outside: report.rows_outside,
        kept_deletions: report.kept_deletions,
    }
}

/// What doubts go by.
pub(super) fn figures(job: &Job, counts: &Counts, rows_per_day: Option<&BTreeMap<NaiveDate, u64>>) -> Figures {
    let standing: Option<u64> = rows_per_day.filter(|_| counts.kept_deletions).map(|rows| rows.values().sum());
    Figures {
        rows: counts.read,
        told: job.records_processed,
        deleted: counts.deleted,
        rejected: counts.rejected,
        stale: standing.unwrap_or_default().saturating_sub(counts.read - counts.rejected),
    }
}

/// The days whose rows are all locked.
pub(super) async fn locked_days(
    conn: &mut PgConnection,
    target: &Target<'_>,
    export: &Export,
    counts: &Counts,
    as_of: DateTime<Utc>,
) -> Result<BTreeSet<NaiveDate>, mirror::Error> {
    match &export.locked {
        // A rejected row is not in the table, so that nobody can tell whether it is locked.
        Some(rule) if counts.rejected == 0 => mirror::locked_days(conn, target, rule, as_of).await,
        Some(_) | None => Ok(BTreeSet::new()),
    }
}

/// The doubts about what stood in the window `before` that this file does not settle: an empty one leaves it as empty as it was.
pub(super) async fn carried_over(
    conn: &mut PgConnection,
    job: &Job,
    mut before: Vec<Doubt>,
    figures: Figures,
) -> Result<Vec<Doubt>, store::Error> {
    if figures.rows == 0 && store::load::is_emptied_in_doubt(conn, job).await? {
        before.push(Doubt::UnexpectedZero);
    }
    Ok(proof::carried_over(&before, figures))
}

/// A file on its way into its table.
pub(super) struct Loading<'a> {
    pub context: &'a Context,
    pub job: &'a Job,
    pub export: &'a Export,
    pub kinds: &'a BTreeMap<String, ColumnKind>,
    pub file: &'a SpoolFile,
    pub kept: &'a Kept,
    /// When we began to fetch it.
    pub started_at: DateTime<Utc>,
    /// The file that was fetched before, and doubted.
    pub doubted: Option<[u8; 32]>,
}

impl Loading<'_> {
    /// Makes room for what the file brings, and loads it; tells whether the table is another now.
    pub async fn load(&self, shape: &mut Shape) -> Result<(Counts, Vec<(Doubt, String)>), Failed> {
        let Self { context, job, file, .. } = *self;
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut target = target(context, job, self.export, self.kinds);
        let now = Clock.now();
        *shape = add_columns(&mut conn, job, file, &target, now).await?;
        let mut writes = Writes::Differing;
        loop {
            match self.transaction(&mut conn, &target, now, writes, shape).await {
                Err(Failed::Load(mirror::Error::Narrow { widening, .. })) => {
                    writes = widen(&mut conn, job, file, &mut target, &widening).await?;
                    *shape = Shape::Changed;
                }
                ended => return ended,
            }
        }
    }

    /// Rows, coverage and the state `loaded`: one transaction.
    async fn transaction(
        &self,
        conn: &mut PgConnection,
        target: &Target<'_>,
        now: DateTime<Utc>,
        writes: Writes,
        shape: &mut Shape,
    ) -> Result<(Counts, Vec<(Doubt, String)>), Failed> {
        let Self { job, export, file, kept, started_at, doubted, context, .. } = *self;
        let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
        store::load::enter(&mut tx, job).await?;
        let about = File { sha256: file.sha256, bytes: file.bytes, target_hash: target.hash(), started_at };
        let same = match store::load::same_file(&mut tx, job, &about).await? {
            // Believed only while the rows stand there: a table may be dropped, and a row may have moved to another window.
            Some(same) if mirror::standing_rows(&mut tx, target).await? == Some(same.kept()) => Some(same),
            Some(_) | None => None,
        };
        let load_id = store::load::insert(&mut tx, job, &about).await?;
        failpoint::reach("load-entered");
        let before = same.as_ref().map(|same| same.doubts.clone()).unwrap_or_default();
        let (counts, rows_per_day, written) = if let Some(same) = same {
            if same.rows_rejected > 0 {
                store::load::copy_rejected(&mut tx, load_id).await?;
            }
            (
                Counts {
                    read: same.rows_read,
                    unchanged: same.kept(),
                    rejected: same.rows_rejected,
                    ..Counts::default()
                },
                None,
                BTreeSet::new(),
            )
        } else {
            let report = mirror::load(&mut tx, &file.path, job.request.format, target, load_id, now, writes).await?;
            failpoint::reach("rows-moved");
            let counts = counts(target, &report);
            if Shape::of(&report) == Shape::Changed {
                *shape = Shape::Changed;
            }
            (counts, Some(report.rows_per_day), report.days_written)
        };
        if may_be_foreign(job) && counts.outside > 0 && counts.outside + counts.rejected >= counts.read {
            return Err(Failed::Foreign);
        }
        if job.window.len_days() > 1 && is_cut(counts.read, export.max_rows) {
            return Err(Failed::Cut(Cut { rows: counts.read }));
        }
        let figures = figures(job, &counts, rows_per_day.as_ref());
        let doubts = proof::doubts(figures, export.max_rows);
        if proof::wants_another_fetch(figures) && doubted != Some(file.sha256) {
            let words = doubts.first().map(|doubt| doubt.words(figures)).unwrap_or_default();
            return Err(Failed::Doubtful(Doubtful(words)));
        }
        let carried = carried_over(&mut tx, job, before, figures).await?;
        let doubts = match proof::judge(doubts, carried, &export.on_doubts) {
            Verdict::Load(doubts) => doubts,
            Verdict::Refuse(doubt) => return Err(Failed::Refused(doubt, Doubtful(doubt.words(figures)))),
        };
        store::load::finish(&mut tx, load_id, &counts, figures.told, &doubts, context.announce()).await?;
        failpoint::reach("load-written");
        if let Kept::Stored { key } = kept {
            store::archive::attach(&mut tx, load_id, key).await?;
        }
        let as_of = job.as_of.or(job.submitted_at).unwrap_or(started_at);
        let locked = locked_days(&mut tx, target, export, &counts, as_of).await?;
        let filled = Filled { rows_per_day, written, locked, as_of };
        store::cell::fill(&mut tx, job, &filled, target.time_zone, &export.refresh).await?;
        failpoint::reach("cells-written");
        if store::window_limit::prove(&mut tx, job).await? {
            tracing::info!(
                "a part of a window that was refused or cut has loaded: its length is the limit from now on"
            );
        }
        store::transition::advance(&mut tx, job, Move::Loaded { load_id }, context.holder()).await?;
        failpoint::reach("loaded-written");
        tx.commit().await.map_err(store::failed("commit a load"))?;
        failpoint::reach("loaded-committed");
        Ok((counts, doubts.into_iter().map(|doubt| (doubt, doubt.words(figures))).collect()))
    }
}
