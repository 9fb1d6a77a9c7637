//! A directory for the state of one test, which another user may pass: root runs Postgres as somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// What the names of all these directories begin with.
pub const PREFIX: &str = "impact-mirror-test-";

/// A directory that is removed with the value.
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn new() -> Self {
        Self(fresh())
    }

    /// A directory in another one.
    pub fn below(dir: &Path) -> Self {
        Self(fresh_in(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A new, empty directory that nobody removes.
pub fn fresh() -> PathBuf {
    fresh_in(&std::env::temp_dir())
}

fn fresh_in(dir: &Path) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let path = dir.join(format!("{PREFIX}{}-{count}-{nanos}", std::process::id()));
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
