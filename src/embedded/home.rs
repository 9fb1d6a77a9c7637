//! The directory of the embedded cluster: what lies where, who may enter, and the locks of those who use it.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Error;
use super::owner::Owner;

/// The longest path of a socket that the kernel takes, without the closing zero (macOS takes the fewest).
const SOCKET_PATH_BYTES: usize = 103;
/// How long others may be busy starting or stopping the cluster; recovery after a crash takes its time.
const TURN: Duration = Duration::from_mins(6);

/// `{state_dir}/postgres`, with its owner.
#[derive(Debug)]
pub(super) struct Home {
    root: PathBuf,
    socket_dir: PathBuf,
    owner: Owner,
}

impl Home {
    /// Makes what is missing, and checks that the owner can get there.
    pub(super) fn open(state_dir: &Path) -> Result<Self, Error> {
        let fresh = !state_dir.exists();
        fs::create_dir_all(state_dir).map_err(Error::file("make the directory", state_dir))?;
        let state_dir = fs::canonicalize(state_dir).map_err(Error::file("look at", state_dir))?;
        let root = state_dir.join("postgres");
        let owner = Owner::of(&root.join("data"))?;
        // The directory itself stays ours, so that root never writes where another user can put a link.
        let open_to = if owner.is_other() { 0o755 } else { 0o700 };
        if fresh && owner.is_other() {
            set_mode(&state_dir, open_to)?;
        }
        make_dir(&root)?;
        set_mode(&root, open_to)?;
        owner.can_reach(&root)?;
        let socket_dir = socket_dir(&root, &owner)?;
        let home = Self { root, socket_dir, owner };
        home.make_private(&home.log_dir())?;
        Ok(home)
    }

    /// `{state_dir}/postgres`.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whom the files belong to.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Where the cluster is.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where a server that we start puts its socket.
    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// What the server says.
    pub(super) fn log(&self) -> PathBuf {
        self.log_dir().join("postgres.log")
    }

    /// An empty directory at `path` that only the owner may enter.
    pub(super) fn make_private(&self, path: &Path) -> Result<(), Error> {
        make_private(path, &self.owner)
    }

    /// The password of the superuser, made up when first asked for.
    pub(super) fn password_file(&self) -> Result<PathBuf, Error> {
        let path = self.root.join("password");
        if !path.exists() {
            let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            replace(&path, 0o600, &password)?;
            self.owner.give(&path)?;
        }
        Ok(path)
    }

    /// The port that was used last.
    pub(super) fn remembered_port(&self) -> Option<u16> {
        fs::read_to_string(self.root.join("port")).ok()?.trim().parse().ok()
    }

    /// Keeps the port for the next start.
    pub(super) fn remember_port(&self, port: u16) -> Result<(), Error> {
        replace(&self.root.join("port"), 0o644, &format!("{port}\n"))
    }

    /// Writes what the server reads besides `postgresql.conf`: what depends on this machine and this moment.
    pub(super) fn write_server_conf(&self, text: &str) -> Result<(), Error> {
        replace(&self.root.join("server.conf"), 0o644, text)
    }

    /// Waits for our turn to start or stop the cluster, which lasts until the file is dropped.
    pub(super) async fn turn(&self) -> Result<File, Error> {
        let path = self.root.join("starting.lock");
        let file = open_lock(&path)?;
        let deadline = Instant::now() + TURN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(Error::File { verb: "lock", path, source }),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => return Err(Error::Stuck { lock: path }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Says that this process uses the cluster, until the lock is dropped.
    pub(super) fn use_it(&self) -> Result<InUse, Error> {
        let path = self.root.join("users.lock");
        let file = open_lock(&path)?;
        file.lock_shared().map_err(Error::file("lock", &path))?;
        Ok(InUse { file: Some(file), path })
    }
}

/// The sign that this process uses the cluster.
#[derive(Debug)]
pub(super) struct InUse {
    file: Option<File>,
    path: PathBuf,
}

impl InUse {
    /// Takes the sign down and says whether no other is left. Later calls say no.
    pub(super) fn was_last(&mut self) -> Result<bool, Error> {
        let Some(file) = self.file.take() else { return Ok(false) };
        file.unlock().map_err(Error::file("unlock", &self.path))?;
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(Error::File { verb: "lock", path: self.path.clone(), source }),
        }
    }
}

/// Puts a whole new file in the place of `path`.
fn replace(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .map_err(Error::file("write", &fresh))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(Error::file("write", &fresh))?;
    file.write_all(text.as_bytes()).map_err(Error::file("write", &fresh))?;
    fs::rename(&fresh, path).map_err(Error::file("write", path))
}

fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("open", path))
}

fn make_dir(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(Error::file("make the directory", path)),
    }
}

fn make_private(path: &Path, owner: &Owner) -> Result<(), Error> {
    make_dir(path)?;
    set_mode(path, 0o700)?;
    owner.give(path)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::file("set the permissions of", path))
}

/// `{root}/run`, or a short directory under `/tmp` named after it where that makes too long a path for a socket.
fn socket_dir(root: &Path, owner: &Owner) -> Result<PathBuf, Error> {
    let beside = root.join("run");
    if beside.as_os_str().len() + "/.s.PGSQL.65535".len() <= SOCKET_PATH_BYTES {
        make_private(&beside, owner)?;
        return Ok(beside);
    }
    let digest = Sha256::digest(root.as_os_str().as_bytes());
    let digest = u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"));
    let short = PathBuf::from(format!("/tmp/impact-mirror-{digest:016x}"));
    // Anybody may write to /tmp: what is there already must be a directory of the owner's own.
    match fs::symlink_metadata(&short) {
        Err(_) => make_private(&short, owner)?,
        Ok(found) if found.is_dir() && found.uid() == owner.uid().as_raw() => set_mode(&short, 0o700)?,
        Ok(_) => return Err(Error::ForeignSocketDir { directory: short }),
    }
    Ok(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_moves_the_socket_to_a_short_directory() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("d".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        let directory = socket_dir(&deep, &Owner::Ourselves).unwrap();
        assert!(directory.starts_with("/tmp"), "{}", directory.display());
        assert_eq!(socket_dir(&deep, &Owner::Ourselves).unwrap(), directory);
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn the_last_user_knows_that_it_is_the_last() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home { root: temp.path().to_owned(), socket_dir: temp.path().to_owned(), owner: Owner::Ourselves };
        let mut first = home.use_it().unwrap();
        let mut second = home.use_it().unwrap();
        assert!(!first.was_last().unwrap());
        assert!(second.was_last().unwrap());
        assert!(!second.was_last().unwrap());
    }
}
