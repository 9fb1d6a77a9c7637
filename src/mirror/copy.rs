//! Streams rows into Postgres: one thread reads and encodes the file while the connection sends what is ready.

use std::fs::File;
use std::io;
use std::sync::mpsc as std_mpsc;

use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::dealt::{Dealt, PARTS};
use super::diff::{self, Change};
use super::error::{Error, Place, is_unique_violation};
use super::load::Load;
use super::pass::{Counts, NobodyListens, OnConflict, Passed, Takes, pass};
use super::records::{Again, Record};
use super::rejects::{Rejects, Spill};
use super::rows::{Fault, Placed, Rows, Rules, field_count};
use super::run::Run;
use super::table::place::PlaceFormat;
use super::value::{put_bytes, put_null};
use crate::thread::finished;

/// How a binary COPY begins: its signature, no flags, no extension.
pub(super) const SIGNATURE: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// How it ends.
pub(super) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

const CHUNK: usize = 128 << 10;
const CHUNKS_AHEAD: usize = 3;

/// How much is handed to the connection at once, which keeps a copy of it.
const PIECE: usize = 2 * CHUNK;
const STEP: &str = "copy the rows";

/// In which order the rows of a file are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    AsInFile,
    /// By their keys as far as memory allows, for the index that takes them.
    ByKey,
}

/// How the copy of a file ended.
pub(super) enum Copied {
    Whole(Counts, Box<Rejects>),
    /// A value calls for another type.
    TypeConflict,
    /// A key stands in the table already, or twice in the file.
    KeyTaken,
}

/// Copies the records of a file with `statement`. After anything but `Whole` the transaction wants a rollback to a savepoint.
pub(super) async fn file(
    load: &Load<'_>,
    conn: &mut PgConnection,
    statement: &str,
    mut rows: Rows,
    order: Order,
    mut rejects: Rejects,
    on_conflict: OnConflict,
) -> Result<Copied, Error> {
    let place = &load.place;
    let mut copy = conn.copy_in_raw(statement).await.map_err(place.database(STEP))?;
    let (path, shape) = (place.file.clone(), load.shape.clone());
    let fed = stream(&mut copy, place, move |sink| {
        let run = if order == Order::ByKey { Run::begin() } else { None };
        let mut encoder = Encoder { rows: &mut rows, run, sink };
        let fed = pass(&path, &shape, &mut encoder, &mut rejects, on_conflict)?;
        if matches!(fed, Passed::Whole(_)) {
            // Where nobody listens, the sender has an error to tell.
            let _ = encoder.end();
        }
        Ok((fed, rejects))
    });
    let (fed, rejects) = match fed.await? {
        Ok(fed) => fed,
        Err(error) => {
            copy.abort("the file cannot be read").await.map_err(place.database(STEP))?;
            return Err(place.file()(error));
        }
    };
    let Passed::Whole(counts) = fed else {
        copy.abort("a column needs another type").await.map_err(place.database(STEP))?;
        return Ok(Copied::TypeConflict);
    };
    match copy.finish().await {
        Ok(_) => Ok(Copied::Whole(counts, Box::new(rejects))),
        Err(error) if is_unique_violation(&error) => Ok(Copied::KeyTaken),
        Err(error) => Err(place.database(STEP)(error)),
    }
}

/// Reads the records that differ a second time, and copies them with `statement`.
pub(super) async fn changed(
    load: &Load<'_>,
    conn: &mut PgConnection,
    statement: &str,
    mut rows: Rows,
    mut changes: Dealt<Change, 5>,
) -> Result<(), Error> {
    let (place, format) = (&load.place, load.table.place_format());
    let mut again = Again::new(File::open(&place.file).map_err(place.file())?, &load.shape);
    send(conn, statement, place, move |sink| {
        for part in 0..PARTS {
            let mut changes = changes.take(part)?;
            changes.sort_unstable_by_key(|change| change.at.line);
            for Change { at, old } in changes {
                let record = again.record(at.line, at.offset, at.length as usize)?;
                rows.append(&record, &mut sink.chunk).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, "a row is not what it was when read first")
                })?;
                put_place(&mut sink.chunk, format, old);
                if sink.make_room().is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
    .await
}

/// Copies where the rows stand that go.
pub(super) async fn places(
    load: &Load<'_>,
    conn: &mut PgConnection,
    statement: &str,
    mut places: Dealt<diff::Place, 2>,
) -> Result<(), Error> {
    let format = load.table.place_format();
    send(conn, statement, &load.place, move |sink| {
        for part in 0..PARTS {
            let mut places = places.take(part)?;
            places.sort_unstable();
            for at in places {
                sink.chunk.extend_from_slice(&field_count(3));
                put_place(&mut sink.chunk, format, Some(at));
                if sink.make_room().is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
    .await
}

/// Appends the two parts of a place and the day, or that there are none.
fn put_place(out: &mut Vec<u8>, format: PlaceFormat, place: Option<diff::Place>) {
    if let Some(diff::Place { table, day, tid }) = place {
        match format {
            PlaceFormat::Tuple => {
                put_bytes(out, &table.to_be_bytes());
                put_bytes(out, &tid.to_bytes());
            }
            PlaceFormat::Lineage => {
                put_bytes(out, &u64::from(table).to_be_bytes());
                put_bytes(out, &tid.line().to_be_bytes());
            }
        }
        put_bytes(out, &day.to_be_bytes());
    } else {
        (0..3).for_each(|_| put_null(out));
    }
}

/// Copies what a thread encodes.
async fn send(
    conn: &mut PgConnection,
    statement: &str,
    place: &Place,
    encode: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static,
) -> Result<(), Error> {
    let mut copy = conn.copy_in_raw(statement).await.map_err(place.database(STEP))?;
    let sent = stream(&mut copy, place, move |sink| {
        encode(sink)?;
        // Where nobody listens, the sender has an error to tell.
        let _ = sink.end();
        Ok(())
    });
    if let Err(error) = sent.await? {
        copy.abort("the file cannot be read").await.map_err(place.database(STEP))?;
        return Err(place.file()(error));
    }
    copy.finish().await.map_err(place.database(STEP))?;
    Ok(())
}

/// Copies what was set aside.
pub(super) async fn spill(
    conn: &mut PgConnection,
    statement: &str,
    spill: &mut Spill,
    place: &Place,
) -> Result<(), Error> {
    let step = "copy the rejected rows";
    let (file, rest) = spill.finish().map_err(place.file())?;
    let mut copy = conn.copy_in_raw(statement).await.map_err(place.database(step))?;
    if let Some(file) = file {
        let mut file = tokio::fs::File::from_std(file);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk).await.map_err(place.file())?;
            if read == 0 {
                break;
            }
            copy.send(&chunk[..read]).await.map_err(place.database(step))?;
        }
    }
    copy.send(rest).await.map_err(place.database(step))?;
    copy.finish().await.map_err(place.database(step))?;
    Ok(())
}

/// Has a thread encode rows, and sends what is ready while it goes on.
async fn stream<T: Send + 'static>(
    copy: &mut PgCopyIn<&mut PgConnection>,
    place: &Place,
    encode: impl FnOnce(&mut Sink) -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, Error> {
    let (full, mut to_send) = mpsc::channel::<Vec<u8>>(CHUNKS_AHEAD);
    let (sent, empty) = std_mpsc::channel::<Vec<u8>>();
    let mut sink = Sink { chunk: SIGNATURE.to_vec(), full, empty };
    let feeder = tokio::task::spawn_blocking(move || encode(&mut sink));
    while let Some(chunk) = to_send.recv().await {
        for piece in chunk.chunks(PIECE) {
            copy.send(piece).await.map_err(place.database(STEP))?;
        }
        // The feeder may be gone already.
        let _ = sent.send(chunk);
    }
    Ok(finished(feeder).await)
}

/// What a thread fills; a few chunks are under way, and they come back empty.
struct Sink {
    chunk: Vec<u8>,
    full: mpsc::Sender<Vec<u8>>,
    empty: std_mpsc::Receiver<Vec<u8>>,
}

impl Sink {
    fn make_room(&mut self) -> Result<(), NobodyListens> {
        if self.chunk.len() < CHUNK {
            return Ok(());
        }
        let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK + CHUNK / 8));
        self.full.blocking_send(std::mem::replace(&mut self.chunk, next)).map_err(|_| NobodyListens)?;
        self.chunk.clear();
        Ok(())
    }

    /// Sends a run as one chunk, behind the one before it: no more than one of that length is under way.
    fn send_run(&mut self, run: &mut Run) -> Result<(), NobodyListens> {
        run.sort();
        if self.chunk.is_empty() {
            self.chunk = self.empty.recv().map_err(|_| NobodyListens)?;
            self.chunk.clear();
        }
        run.end_into(&mut self.chunk);
        self.full.blocking_send(std::mem::take(&mut self.chunk)).map_err(|_| NobodyListens)
    }

    fn end(&mut self) -> Result<(), NobodyListens> {
        self.chunk.extend_from_slice(&TRAILER);
        self.full.blocking_send(std::mem::take(&mut self.chunk)).map_err(|_| NobodyListens)
    }
}

/// Encodes rows for Postgres.
struct Encoder<'a> {
    rows: &'a mut Rows,
    /// Where they are put in order.
    run: Option<Run>,
    sink: &'a mut Sink,
}

impl Encoder<'_> {
    fn end(self) -> Result<(), NobodyListens> {
        if let Some(mut run) = self.run {
            self.sink.send_run(&mut run)?;
        }
        self.sink.end()
    }
}

impl Takes for Encoder<'_> {
    fn rules(&self) -> &Rules {
        &self.rows.rules
    }

    fn take(&mut self, record: &Record<'_>) -> io::Result<Result<Placed, Fault>> {
        let Some(run) = &mut self.run else { return Ok(self.rows.append(record, &mut self.sink.chunk)) };
        let appended = self.rows.append(record, run.next_row());
        if appended.is_ok() {
            run.end_row(self.rows.rules.key.iter().map(|&column| record.field(column)));
        }
        Ok(appended)
    }

    fn go_on(&mut self) -> Result<(), NobodyListens> {
        match &mut self.run {
            Some(run) if run.is_full() => self.sink.send_run(run),
            Some(_) => Ok(()),
            None => self.sink.make_room(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::{add, run};
    use super::*;

    #[tokio::test]
    async fn who_waits_to_send_a_run_learns_that_nobody_listens_any_more() {
        let (full, mut to_send) = mpsc::channel(CHUNKS_AHEAD);
        let (sent, empty) = std_mpsc::channel();
        let mut sink = Sink { chunk: SIGNATURE.to_vec(), full, empty };
        let feeder = tokio::task::spawn_blocking(move || {
            let mut run = run();
            add(&mut run, &["key"], "row");
            assert!(sink.send_run(&mut run).is_ok());
            sink.send_run(&mut run)
        });
        assert_eq!(to_send.recv().await.unwrap(), [&SIGNATURE[..], b"row"].concat());
        drop((to_send, sent));
        assert!(finished(feeder).await.is_err());
    }
}
