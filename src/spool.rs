//! The spool: result files on local disk between download and load. A file is hashed, counted and looked at while it is
//! written; only a whole, plausible one is handed on. Files of live processes are locked, those of dead ones swept away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::export::ResultFormat;
use crate::json::NoResult;
use crate::retry::{ErrorKind, is_disk_full};

pub use look::FileKind;
use look::Look;

mod look;

/// The ending of our file names.
const SUFFIX: &str = ".spool";

/// How many first bytes are kept for the look at them.
const HEAD_BYTES: usize = 512;

/// How much is written between two looks at the room that is left.
const LOOK_BYTES: u64 = 1 << 20;

/// The most that is left free for others; on a small disk a part of it is.
const RESERVE_BYTES: u64 = 1 << 30;

/// The part of a disk that is left free, where that is less.
const RESERVE_PART: u64 = 20;

/// How much of a kept file is hashed at once.
const HASHED_AT_ONCE: usize = 256 << 10;

/// How often a file is made anew because a sweep took it before it was locked.
const TRIES: u32 = 10;

/// The directory of spool files.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
}

impl Spool {
    /// Opens the directory, making it where needed (for the owner only), and proves that files can be made in it.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let spool = Self { dir: dir.to_owned() };
        let _ = create_locked(&spool.dir, 0).map_err(unusable)?;
        Ok(spool)
    }

    /// Begins the file of a job, which is to be of this format.
    pub async fn writer(&self, job_id: i64, format: ResultFormat) -> Result<Writer, Error> {
        let dir = self.dir.clone();
        let made = tokio::task::spawn_blocking(move || create_locked(&dir, job_id)).await;
        let (guard, file) = made
            .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
            .map_err(|source| failed("create", &self.dir, source))?;
        Ok(Writer::new(guard, file, format))
    }

    /// The file of a job that was kept, with this hash; it is in use from now on.
    pub async fn kept(&self, job_id: i64, sha256: [u8; 32]) -> Option<SpoolFile> {
        let dir = self.dir.clone();
        let found = tokio::task::spawn_blocking(move || {
            let paths = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
            paths.filter(|path| job_of(path) == Some(job_id)).find_map(|path| reopen(path, sha256))
        });
        found.await.ok()?
    }

    /// Fails where there is no room for any file, before one is paid for.
    pub fn look_for_room(&self) -> Result<(), Error> {
        look_for_room(&self.dir, 1).map(drop)
    }

    /// Whether files may stay in the spool: all together may take half of the room that there would be without them.
    pub fn has_room_to_keep(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.dir) else { return false };
        let spooled: u64 = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum();
        nix::sys::statvfs::statvfs(&self.dir)
            .is_ok_and(|disk| spooled <= disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Removes the files of processes that are gone, except those of jobs to `keep`; says how many. Files in use by this or
    /// another live process stay, and so does whatever is not a spool file.
    pub fn sweep(&self, keep: impl Fn(i64) -> bool) -> usize {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(error = %error, "the spool directory cannot be swept");
                return 0;
            }
        };
        let leftovers =
            entries.flatten().map(|entry| entry.path()).filter(|path| job_of(path).is_some_and(|job| !keep(job)));
        leftovers.filter(|path| remove_unless_in_use(path)).count()
    }
}

/// A spool file being written. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct Writer {
    // Dropped first: the file is removed while it is still locked.
    guard: Guard,
    file: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
    /// Up to here there is room.
    room_until: u64,
    head: Vec<u8>,
    look: Look,
}

impl Writer {
    fn new(guard: Guard, file: File, format: ResultFormat) -> Self {
        let file = tokio::fs::File::from_std(file);
        Self { guard, file, hash: Sha256::new(), bytes: 0, room_until: 0, head: Vec::new(), look: Look::new(format) }
    }

    /// Appends bytes, while the disk has more room than is left to others.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let end = self.bytes + chunk.len() as u64;
        if end > self.room_until {
            let room = look_for_room(dir_of(&self.guard.path), chunk.len() as u64)?;
            self.room_until = self.bytes + room.min(LOOK_BYTES);
        }
        self.file.write_all(chunk).await.map_err(|source| failed("write", &self.guard.path, source))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(&chunk[..wanted]);
        self.look.at(chunk);
        Ok(())
    }

    /// Ends the file: it must have the expected length, where that is known, and look like its format. An empty file is plausible.
    pub async fn finish(mut self, expected_bytes: Option<u64>) -> Result<SpoolFile, Error> {
        self.file.flush().await.map_err(|source| failed("write", &self.guard.path, source))?;
        if let Some(expected) = expected_bytes.filter(|expected| *expected != self.bytes) {
            return Err(Error::WrongLength { expected, got: self.bytes });
        }
        self.look.judge(&self.head)?;
        Ok(SpoolFile {
            path: self.guard.path.clone(),
            sha256: self.hash.finalize().into(),
            bytes: self.bytes,
            guard: self.guard,
            _lock: self.file.into_std().await,
        })
    }
}

/// A whole, plausible result file. Removed from disk on drop.
#[derive(Debug)]
pub struct SpoolFile {
    /// Where it is.
    pub path: PathBuf,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length.
    pub bytes: u64,
    guard: Guard,
    _lock: File,
}

impl SpoolFile {
    /// Leaves the file on disk, for `Spool::kept`.
    pub fn keep(self) {
        std::mem::forget(self.guard);
    }
}

/// A failure of the spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used at all.
    #[error("the spool directory {} cannot be used; make it writable, or name another in spool.dir", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is full, or as good as that.
    #[error("no room left in the spool directory {}; free some, or name a larger one in spool.dir", dir.display())]
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else that the system refused.
    #[error("cannot {action} in the spool at {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More or fewer bytes than announced: the download was cut.
    #[error("the result file has {got} bytes where {expected} were announced")]
    WrongLength {
        /// The bytes announced.
        expected: u64,
        /// The bytes that came.
        got: u64,
    },
    /// An error page or another format in place of the one that was asked for.
    #[error("the result file is {} and not {format}; it begins {head:?}", kind.as_str())]
    NotAFile {
        /// What it looks like.
        kind: FileKind,
        /// What it should be.
        format: ResultFormat,
        /// Its first characters.
        head: String,
    },
    /// JSON that is cut off, or is no result.
    #[error("the result file is not the JSON of a result; it begins {head:?}")]
    NoResult {
        /// Its first characters.
        head: String,
        /// What is wrong with it.
        source: NoResult,
    },
}

impl Error {
    /// Whether it may be a good result of another format.
    pub fn is_of_another_format(&self) -> bool {
        matches!(self, Self::NotAFile { kind: FileKind::Json | FileKind::Text, .. })
    }

    /// The class of the failure, on which the retry policy hangs (design §3).
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRoom { .. } => ErrorKind::NoRoom,
            Self::Unusable { .. } | Self::Io { .. } | Self::WrongLength { .. } => ErrorKind::Transient,
            Self::NotAFile { .. } | Self::NoResult { .. } => ErrorKind::BadFile,
        }
    }
}

/// Removes its file on drop.
#[derive(Debug)]
struct Guard {
    path: PathBuf,
}

impl Drop for Guard {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(error = %error, "a spool file cannot be removed"),
        }
    }
}

/// Makes and locks a new file. Between the two a sweep may take it for a leftover, so afterwards it must still be there.
fn create_locked(dir: &Path, job_id: i64) -> io::Result<(Guard, File)> {
    for _ in 0..TRIES {
        let path = dir.join(format!("{job_id}-{}{SUFFIX}", Uuid::new_v4().simple()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let guard = Guard { path };
        if lock(&file)? {
            return Ok((guard, file));
        }
    }
    Err(io::Error::other("every new spool file was swept away at once"))
}

/// Takes the lock; says whether it is ours and the file is still in its place.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The job whose file this is, if it is a spool file.
fn job_of(path: &Path) -> Option<i64> {
    let (job, unique) = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.split_once('-')?;
    Uuid::try_parse(unique).ok()?;
    job.parse().ok()
}

/// Takes the lock that a live owner would hold, and removes the file under it.
fn remove_unless_in_use(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    file.try_lock().is_ok() && fs::remove_file(path).is_ok()
}

/// Takes a file that nobody uses, if it is the right one.
fn reopen(path: PathBuf, sha256: [u8; 32]) -> Option<SpoolFile> {
    let mut file = File::open(&path).ok()?;
    if !lock(&file).ok()? {
        return None;
    }
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; HASHED_AT_ONCE]);
    loop {
        let read = file.read(&mut chunk).ok()?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
    let is_right = hash.finalize().as_slice() == sha256;
    is_right.then(|| SpoolFile { path: path.clone(), sha256, bytes, guard: Guard { path }, _lock: file })
}

/// The directory of a spool file.
fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// How many more bytes may be written, at least so many, before less is free than is left to others: a full disk is somebody
/// else's trouble too. A system that cannot tell will say when it is full.
fn look_for_room(dir: &Path, bytes: u64) -> Result<u64, Error> {
    let Ok(disk) = nix::sys::statvfs::statvfs(dir) else { return Ok(u64::MAX) };
    let of_blocks = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    let (free, all) = (of_blocks(disk.blocks_available()), of_blocks(disk.blocks()));
    let reserve = RESERVE_BYTES.min(all / RESERVE_PART);
    let room = free.saturating_sub(reserve);
    if room >= bytes {
        return Ok(room);
    }
    let why = format!("{} MB are free, of which {} MB are left to others", free >> 20, reserve >> 20);
    Err(Error::NoRoom { dir: dir.to_owned(), source: io::Error::new(io::ErrorKind::StorageFull, why) })
}

/// Names what the system refused, and the mend where the disk is full.
fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    if is_disk_full(&source) {
        let dir = if path.is_dir() { path } else { dir_of(path) };
        return Error::NoRoom { dir: dir.to_owned(), source };
    }
    Error::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_swept_away_before_it_was_locked_is_not_ours() {
        let spool = std::env::temp_dir().join(format!("impact-mirror-{}", Uuid::new_v4()));
        Spool::open(&spool).unwrap();
        let create = |name| OpenOptions::new().write(true).create_new(true).open(spool.join(name)).unwrap();
        let (kept, swept, being_swept) = (create("kept"), create("swept"), create("being-swept"));
        fs::remove_file(spool.join("swept")).unwrap();
        let sweeper = File::open(spool.join("being-swept")).unwrap();
        sweeper.lock().unwrap();
        assert_eq!([&kept, &swept, &being_swept].map(|file| lock(file).unwrap()), [true, false, false]);
        fs::remove_dir_all(&spool).unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_is_told_with_the_directory_and_the_mend() {
        let dir = std::env::temp_dir();
        let guard = Guard { path: dir.join("no-such.spool") };
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = Writer::new(guard, file, ResultFormat::Csv);
        let error = match writer.write(b"a,b\n").await {
            Ok(()) => writer.finish(None).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(&error, Error::NoRoom { dir: told, .. } if *told == dir), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::NoRoom);
        assert!(error.to_string().contains("spool.dir"), "{error}");
    }
}
