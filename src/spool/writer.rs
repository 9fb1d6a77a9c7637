//! Writes a spool file: a thread hashes, looks at and writes what has come, while more comes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::look::Look;
use super::{Error, Guard, LOOK_BYTES, SpoolFile, dir_of, failed, look_for_room};
use crate::export::ResultFormat;

/// How many first bytes are kept for the look at them.
const HEAD_BYTES: usize = 512;

/// How many pieces may wait for the thread; a fast connection gives some hundred kilobytes at once.
const PIECES_AHEAD: usize = 8;

/// A spool file being written. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct Writer {
    // Dropped first: the file is removed while it is still locked.
    guard: Guard,
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<Result<Written, Error>>,
}

/// What the thread was given.
#[derive(Debug)]
struct Written {
    file: File,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
    /// Up to here there is room.
    room_until: u64,
    head: Vec<u8>,
    look: Look,
}

impl Writer {
    pub(super) fn new(guard: Guard, file: File, format: ResultFormat) -> Self {
        let (pieces, mut coming) = mpsc::channel::<Bytes>(PIECES_AHEAD);
        let path = guard.path.clone();
        let (hash, look) = (Sha256::new(), Look::new(format));
        let mut written = Written { file, path, hash, bytes: 0, room_until: 0, head: Vec::new(), look };
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(piece) = coming.blocking_recv() {
                written.add(&piece)?;
            }
            Ok(written)
        });
        Self { guard, pieces, thread }
    }

    /// Appends bytes, while the disk has more room than is left to others. An error may be told by a later call.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Error> {
        if self.pieces.send(piece.into()).await.is_ok() {
            return Ok(());
        }
        // The thread ends early for one reason.
        ended((&mut self.thread).await, &self.guard.path)?;
        Err(failed("write", &self.guard.path, io::Error::other("the file was closed too early")))
    }

    /// Ends the file: it must have the expected length, where that is known, and look like its format. An empty file is plausible.
    pub async fn finish(self, expected_bytes: Option<u64>) -> Result<SpoolFile, Error> {
        let Self { guard, pieces, thread } = self;
        drop(pieces);
        let Written { file, hash, bytes, head, look, .. } = ended(thread.await, &guard.path)?;
        if let Some(expected) = expected_bytes.filter(|expected| *expected != bytes) {
            return Err(Error::WrongLength { expected, got: bytes });
        }
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
        self.hash.update(piece);
        self.bytes = end;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        self.look.at(piece);
        Ok(())
    }
}

/// How the thread ended.
fn ended(thread: Result<Result<Written, Error>, JoinError>, path: &Path) -> Result<Written, Error> {
    thread.unwrap_or_else(|panicked| Err(failed("write", path, io::Error::other(panicked))))
}
