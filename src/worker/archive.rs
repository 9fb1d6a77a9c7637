//! Keeps result files: each goes to the archive before its rows are committed, so that no load names a file that is not
//! there.
//!
//! Where the archive fails, the load goes on without it and the file stays in the spool, to be sent later: fresh data is
//! not held up by a full disk or a bucket that is down. A load without its file says so.

use sqlx::Connection as _;

use super::Context;
use crate::archive::{self, file_key, manifest_key};
use crate::error_chain::Chain;
use crate::failpoint;
use crate::job::Job;
use crate::spool::SpoolFile;
use crate::store;

/// Where a result file is.
#[derive(Debug)]
pub(super) enum Kept {
    /// No archive is configured, or what goes there could not be written down.
    No,
    /// In the archive.
    Stored {
        /// Under this key.
        key: String,
    },
    /// In the spool; the archive did not take it.
    Late,
}

/// Sends the file of a job to the archive, unless the same file of the same window is there.
pub(super) async fn keep(context: &Context, job: &Job, file: &SpoolFile) -> Kept {
    let Some(archive) = &context.archive else { return Kept::No };
    let key = file_key(&job.account, &job.export, &job.request, job.id.0, &file.sha256);
    let entered = async {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::archive::enter(&mut conn, job, &file.sha256, file.bytes, &key).await
    };
    let entered = entered.await;
    failpoint::reach("archive-entered");
    let key = match entered {
        Ok(entered) if entered.is_stored => return Kept::Stored { key: entered.key },
        Ok(entered) => entered.key,
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "the file is not archived: that it goes there cannot be written down");
            return Kept::No;
        }
    };
    match send(context, archive, &key, file).await {
        Ok(()) => Kept::Stored { key },
        Err(error) => {
            tracing::warn!(error = %Chain(error.as_ref()), key, "the archive does not take the file; loading goes on, and it is sent later");
            Kept::Late
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn send(context: &Context, archive: &archive::Archive, key: &str, file: &SpoolFile) -> Result<(), AnyError> {
    let stored_bytes = archive.put(key, &file.path, &file.sha256).await?;
    failpoint::reach("archive-uploaded");
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::archive::stored(&mut conn, key, stored_bytes).await?;
    failpoint::reach("archive-stored");
    Ok(())
}

/// After the commit: writes the manifest, or leaves a file in the spool that the archive has not taken.
pub(super) async fn after_load(context: &Context, job: &Job, file: SpoolFile, kept: Kept) {
    match kept {
        Kept::No => {}
        Kept::Stored { .. } => {
            drop(file);
            write_manifests(context, Some(job.id.0)).await;
        }
        Kept::Late if context.spool.has_room_to_keep() => {
            file.keep();
            failpoint::reach("archive-late-kept");
        }
        Kept::Late => {
            tracing::error!(
                "no room in the spool to keep the file until the archive takes it: these rows lose their file; make room in spool.dir and \
                 mend the archive (`impact-mirror check` tries it)"
            );
        }
    }
}

/// Sends files that wait in our spool, writes manifests that are missing, and prunes what is too old.
pub async fn look_after(context: &Context) {
    if context.archive.is_none() {
        return;
    }
    send_late(context).await;
    write_manifests(context, None).await;
    prune(context).await;
}

async fn send_late(context: &Context) {
    let Some(archive) = &context.archive else { return };
    let late = async {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::archive::late(&mut conn).await
    };
    for late in tell(late.await).unwrap_or_default() {
        let Ok(sha256) = <[u8; 32]>::try_from(late.sha256) else { continue };
        // A file that is being loaded, or lies in the spool of another machine, is not ours to send.
        let Some(file) = context.spool.kept(late.job_id, sha256).await else { continue };
        match send(context, archive, &late.key, &file).await {
            Ok(()) => tracing::info!(key = late.key, "the archive has taken a file that waited"),
            Err(error) => {
                file.keep();
                tracing::warn!(error = %Chain(error.as_ref()), key = late.key, "the archive still does not take files; they are sent again by themselves, and `impact-mirror check` tries it");
                return;
            }
        }
    }
}

async fn write_manifests(context: &Context, job_id: Option<i64>) {
    let Some(archive) = &context.archive else { return };
    let written = async {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        for listed in store::archive::unlisted(&mut conn, job_id).await? {
            if let Err(error) = archive.put_manifest(&manifest_key(&listed.key), &listed.manifest).await {
                tracing::warn!(error = %Chain(&error), "a manifest could not be written; it is tried again");
                break;
            }
            failpoint::reach("manifest-uploaded");
            store::archive::listed(&mut conn, &listed.key).await?;
            failpoint::reach("manifest-committed");
        }
        Ok(())
    };
    tell(written.await);
}

async fn prune(context: &Context) {
    let Some((archive, settings)) = context.archive.as_ref().zip(context.settings.archive.as_ref()) else { return };
    let pruned = async {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut count = 0;
        let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
        store::coverage::lock_planning(&mut tx).await?;
        let dropped = store::archive::drop_old(&mut tx, settings.keep).await?;
        tx.commit().await.map_err(store::failed("commit what is given up"))?;
        failpoint::reach("archive-given-up");
        for key in dropped {
            for object in [manifest_key(&key), key.clone()] {
                if let Err(error) = archive.remove(&object).await {
                    tracing::warn!(error = %Chain(&error), "an old file could not be removed; it is tried again");
                    return Ok(count);
                }
            }
            failpoint::reach("archive-removed");
            store::archive::removed(&mut conn, &key).await?;
            count += 1;
        }
        Ok(count)
    };
    if let Some(file_count @ 1..) = tell(pruned.await) {
        tracing::info!(
            file_count,
            "removed {file_count} files from the archive that are older than archive.keep, or were never loaded"
        );
    }
}

fn tell<T>(outcome: Result<T, store::Error>) -> Option<T> {
    outcome
        .inspect_err(
            |error| tracing::warn!(error = %Chain(error), "cannot look after the archive; a later round does it"),
        )
        .ok()
}
