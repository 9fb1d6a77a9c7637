//! The spool: result files on local disk between download and load. A file is hashed, counted and looked at while it is
//! written; only a whole, plausible one is handed on. Files of live processes are locked, those of dead ones swept away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::retry::ErrorKind;

/// The ending of our file names.
const SUFFIX: &str = ".spool";

/// How many first bytes are kept for the look at them.
const HEAD_BYTES: usize = 512;

/// How many characters of a wrong file a message shows.
const SHOWN_CHARS: usize = 80;

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

    /// Begins the file of a job.
    pub async fn writer(&self, job_id: i64) -> Result<Writer, Error> {
        let dir = self.dir.clone();
        let made = tokio::task::spawn_blocking(move || create_locked(&dir, job_id)).await;
        let (guard, file) = made
            .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
            .map_err(|source| failed("create", &self.dir, source))?;
        Ok(Writer { guard, file: tokio::fs::File::from_std(file), hash: Sha256::new(), bytes: 0, head: Vec::new() })
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
    head: Vec<u8>,
}

impl Writer {
    /// Appends bytes.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.file.write_all(chunk).await.map_err(|source| failed("write", &self.guard.path, source))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(&chunk[..wanted]);
        Ok(())
    }

    /// Ends the file: it must have the expected length, where that is known, and look like CSV. An empty file is plausible.
    pub async fn finish(mut self, expected_bytes: Option<u64>) -> Result<SpoolFile, Error> {
        self.file.flush().await.map_err(|source| failed("write", &self.guard.path, source))?;
        if let Some(expected) = expected_bytes.filter(|expected| *expected != self.bytes) {
            return Err(Error::WrongLength { expected, got: self.bytes });
        }
        if let Some(kind) = FileKind::of(&self.head) {
            return Err(Error::NotAFile { kind, head: shown(&self.head) });
        }
        Ok(SpoolFile {
            path: self.guard.path.clone(),
            sha256: self.hash.finalize().into(),
            bytes: self.bytes,
            _guard: self.guard,
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
    _guard: Guard,
    _lock: File,
}

/// What a file is that should have been CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A web page.
    Html,
    /// A JSON object or array.
    Json,
    /// Another markup.
    Xml,
    /// Compressed, or text in a 16-bit encoding.
    Binary,
}

impl FileKind {
    /// The name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Html => "an HTML page",
            Self::Json => "JSON",
            Self::Xml => "XML",
            Self::Binary => "binary data",
        }
    }

    /// Looks at the first bytes; none where they may be CSV.
    fn of(head: &[u8]) -> Option<Self> {
        const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff"];
        if MAGIC.iter().any(|magic| head.starts_with(magic)) {
            return Some(Self::Binary);
        }
        let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
        match text.first()? {
            b'{' | b'[' => Some(Self::Json),
            b'<' => {
                let text = text.to_ascii_lowercase();
                let is_html = text.starts_with(b"<!doctype html") || text.windows(5).any(|part| part == b"<html");
                Some(if is_html { Self::Html } else { Self::Xml })
            }
            _ => None,
        }
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
    /// The disk is full.
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
    /// An error page or another format in place of CSV.
    #[error("the result file is {} and not CSV; it begins {head:?}", kind.as_str())]
    NotAFile {
        /// What it looks like.
        kind: FileKind,
        /// Its first characters.
        head: String,
    },
}

impl Error {
    /// The class of the failure, on which the retry policy hangs (design §3).
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unusable { .. } | Self::NoRoom { .. } | Self::Io { .. } | Self::WrongLength { .. } => {
                ErrorKind::Transient
            }
            Self::NotAFile { .. } => ErrorKind::BadFile,
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

/// Names what the system refused, and the mend where the disk is full.
fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let dir = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
            Error::NoRoom { dir: dir.to_owned(), source }
        }
        _ => Error::Io { action, path: path.to_owned(), source },
    }
}

/// The beginning of a file, fit for a message.
fn shown(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    text.trim_start_matches('\u{feff}').chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
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
        let mut writer =
            Writer { guard, file: tokio::fs::File::from_std(file), hash: Sha256::new(), bytes: 0, head: Vec::new() };
        let error = match writer.write(b"a,b\n").await {
            Ok(()) => writer.finish(None).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(&error, Error::NoRoom { dir: told, .. } if *told == dir), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.to_string().contains("spool.dir"), "{error}");
    }
}
