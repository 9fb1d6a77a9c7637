//! Writes a spool file: a thread writes what has come, and another one hashes it and looks at it, while more comes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::look::Look;
use super::{Error, Guard, LOOK_BYTES, SpoolFile, dir_of, failed, look_for_room};
use crate::export::ResultFormat;
use crate::thread::finished;

/// How many first bytes are kept for the look at them.
const HEAD_BYTES: usize = 512;

/// How many pieces may wait for a thread; a fast connection gives some hundred kilobytes at once.
const PIECES_AHEAD: usize = 8;

/// A spool file being written. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct Writer {
    // Dropped first: the file is removed while it is still locked.
    guard: Guard,
    to_write: mpsc::Sender<Bytes>,
    writing: JoinHandle<Result<Written, Error>>,
    to_see: mpsc::Sender<Bytes>,
    seeing: JoinHandle<Seen>,
}

/// What was written.
#[derive(Debug)]
struct Written {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Up to here there is room.
    room_until: u64,
}

/// What was seen of it.
#[derive(Debug)]
struct Seen {
    hash: Sha256,
    head: Vec<u8>,
    look: Look,
}

impl Writer {
    pub(super) fn new(guard: Guard, file: File, format: ResultFormat) -> Self {
        let (to_write, mut coming) = mpsc::channel::<Bytes>(PIECES_AHEAD);
        let mut written = Written { file, path: guard.path.clone(), bytes: 0, room_until: 0 };
        let writing = spawn_blocking(move || {
            while let Some(piece) = coming.blocking_recv() {
                written.add(&piece)?;
            }
            Ok(written)
        });
        let (to_see, mut coming) = mpsc::channel::<Bytes>(PIECES_AHEAD);
        let mut seen = Seen { hash: Sha256::new(), head: Vec::new(), look: Look::new(format) };
        let seeing = spawn_blocking(move || {
            while let Some(piece) = coming.blocking_recv() {
                seen.add(&piece);
            }
            seen
        });
        Self { guard, to_write, writing, to_see, seeing }
    }

    /// Appends bytes, while the disk has more room than is left to others. An error may be told by a later call.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Error> {
        let piece = piece.into();
        // Where nobody sees it any more, `finish` has the panic to tell.
        let _ = self.to_see.send(piece.clone()).await;
        if self.to_write.send(piece).await.is_ok() {
            return Ok(());
        }
        // The thread ends early for one reason.
        ended((&mut self.writing).await, &self.guard.path)?;
        Err(failed("write", &self.guard.path, io::Error::other("the file was closed too early")))
    }

    /// Ends the file: it must have the expected length, where that is known, and look like its format. An empty file is plausible.
    pub async fn finish(self, expected_bytes: Option<u64>) -> Result<SpoolFile, Error> {
        let Self { guard, to_write, writing, to_see, seeing } = self;
        drop((to_write, to_see));
        let Written { file, bytes, .. } = ended(writing.await, &guard.path)?;
        if let Some(expected) = expected_bytes.filter(|expected| *expected != bytes) {
            return Err(Error::WrongLength { expected, got: bytes });
        }
        let Seen { hash, head, look } = finished(seeing).await;
        look.judge(&head)?;
        Ok(SpoolFile { path: guard.path.clone(), sha256: hash.finalize().into(), bytes, guard, _lock: file })
    }
}

impl Written {
    fn add(&mut self, piece: &[u8]) -> Result<(), Error> {
        let end = self.bytes + piece.len() as u64;
        if end > self.room_until {
            let room = look_for_room(dir_of(&self.path), piece.len() as u64)?;
            self.room_until = self.bytes + room.min(LOOK_BYTES);
        }
        self.file.write_all(piece).map_err(|source| failed("write", &self.path, source))?;
        self.bytes = end;
        Ok(())
    }
}

impl Seen {
    fn add(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        self.look.at(piece);
    }
}

/// How the thread ended.
fn ended(thread: Result<Result<Written, Error>, JoinError>, path: &Path) -> Result<Written, Error> {
    thread.unwrap_or_else(|panicked| Err(failed("write", path, io::Error::other(panicked))))
}
