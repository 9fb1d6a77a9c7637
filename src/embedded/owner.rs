//! Whom the cluster's files belong to and its programs run as: ourselves, or somebody else where we are root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use nix::unistd::{Gid, Uid, User};
use tokio::process::Command;

use super::Error;

/// The user of the cluster.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// Whoever runs this process.
    Ourselves,
    /// Another user, because Postgres refuses to run as root.
    Other { name: String, uid: Uid, gid: Gid },
}

impl Owner {
    /// Whoever owns `data` already, else ourselves, else `postgres`, else `nobody`.
    pub(super) fn of(data: &Path) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ourselves);
        }
        if let Ok(metadata) = fs::metadata(data)
            && metadata.uid() != 0
        {
            let uid = Uid::from_raw(metadata.uid());
            let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
            return Ok(Self::Other { name, uid, gid: Gid::from_raw(metadata.gid()) });
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Other { name: user.name, uid: user.uid, gid: user.gid })
            .ok_or(Error::NobodyToRunAs)
    }

    /// Whether we act for somebody else.
    pub(super) fn is_other(&self) -> bool {
        matches!(self, Self::Other { .. })
    }

    /// The user's id.
    pub(super) fn uid(&self) -> Uid {
        match self {
            Self::Ourselves => Uid::effective(),
            Self::Other { uid, .. } => *uid,
        }
    }

    /// Gives `path` to the user.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Other { uid, gid, .. } => {
                chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(Error::file("change the owner of", path))
            }
        }
    }

    /// Checks that the user can get to `path`.
    pub(super) fn can_reach(&self, path: &Path) -> Result<(), Error> {
        let Self::Other { name, uid, gid } = self else { return Ok(()) };
        for directory in path.ancestors() {
            let metadata = fs::metadata(directory).map_err(Error::file("look at", directory))?;
            let passable = if metadata.uid() == uid.as_raw() {
                0o100
            } else if metadata.gid() == gid.as_raw() {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & passable == 0 {
                return Err(Error::Closed { directory: directory.to_owned(), user: name.clone() });
            }
        }
        Ok(())
    }

    /// A command that runs as the user, untouched by the environment that steers Postgres programs.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // What the service manager is told is for the daemon to say: Postgres would say that it is ready.
        command.env_remove("NOTIFY_SOCKET");
        command.env("LC_ALL", "C").current_dir("/");
        if let Self::Other { uid, gid, .. } = self {
            // Changing the user from root also drops root's supplementary groups.
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }
}
