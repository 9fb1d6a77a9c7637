//! Writes a spool file: a thread hashes, looks at and writes what has come, while more comes.

use std::fs::File;
use std::io::{self, Write as _};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::look::Look;
use super::{Error, Guard, SpoolFile, failed};
use crate::export::ResultFormat;

/// How many first bytes are kept for the look at them.
const HEAD_BYTES: usize = 512;

/// How many pieces may wait for the thread; a connection gives some ten kilobytes at once.
const PIECES_AHEAD: usize = 32;

/// A spool file being written. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct Writer {
    // Dropped first: the file is removed while it is still locked.
    guard: Guard,
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<Written>>,
}

/// What the thread was given.
#[derive(Debug)]
struct Written {
    file: File,
    hash: Sha256,
    bytes: u64,
    head: Vec<u8>,
    look: Look,
}

impl Writer {
    pub(super) fn new(guard: Guard, file: File, format: ResultFormat) -> Self {
        let (pieces, mut coming) = mpsc::channel::<Bytes>(PIECES_AHEAD);
        let mut written = Written { file, hash: Sha256::new(), bytes: 0, head: Vec::new(), look: Look::new(format) };
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(piece) = coming.blocking_recv() {
                written.add(&piece)?;
            }
            Ok(written)
        });
        Self { guard, pieces, thread }
    }

    /// Appends bytes.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Error> {
        if self.pieces.send(piece.into()).await.is_ok() {
            return Ok(());
        }
        // The thread ends early for one reason.
        let error = match (&mut self.thread).await {
            Ok(Ok(_)) => io::Error::other("the file was closed too early"),
            Ok(Err(error)) => error,
            Err(panicked) => io::Error::other(panicked),
        };
        Err(failed("write", &self.guard.path, error))
    }

    /// Ends the file: it must have the expected length, where that is known, and look like its format. An empty file is plausible.
    pub async fn finish(self, expected_bytes: Option<u64>) -> Result<SpoolFile, Error> {
        let Self { guard, pieces, thread } = self;
        drop(pieces);
        let written = thread.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let Written { file, hash, bytes, head, look } =
            written.map_err(|source| failed("write", &guard.path, source))?;
        if let Some(expected) = expected_bytes.filter(|expected| *expected != bytes) {
            return Err(Error::WrongLength { expected, got: bytes });
        }
        look.judge(&head)?;
        Ok(SpoolFile { path: guard.path.clone(), sha256: hash.finalize().into(), bytes, guard, _lock: file })
    }
}

impl Written {
    fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        self.look.at(piece);
        Ok(())
    }
}
