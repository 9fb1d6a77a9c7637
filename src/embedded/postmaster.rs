//! The server that a cluster's `postmaster.pid` speaks of, if it is still there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `postmaster.pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    /// Its process.
    pub(super) pid: i32,
    /// The port it listens on.
    pub(super) port: u16,
    /// Where its socket is.
    pub(super) socket_dir: PathBuf,
    /// `starting`, `ready`, `stopping`; empty at the very beginning.
    pub(super) status: String,
}

impl Postmaster {
    /// Reads the pid file of the cluster in `data`; `None` where there is none, or one that is not written to its end.
    pub(super) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(Self::file(data)).ok()?)
    }

    /// Where the pid file is.
    pub(super) fn file(data: &Path) -> PathBuf {
        data.join("postmaster.pid")
    }

    /// Whether the server is ready for work.
    pub(super) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    /// Whether the process exists and is a Postgres: after a crash the number may belong to any other process.
    pub(super) fn is_alive(&self) -> bool {
        let program = if Path::new("/proc/self").exists() {
            fs::read(format!("/proc/{}/cmdline", self.pid)).ok().and_then(|line| {
                let program = line.split(|byte| *byte == 0).next()?;
                Some(String::from_utf8_lossy(program).into_owned())
            })
        } else {
            Command::new("ps")
                .args(["-o", "comm=", "-p", &self.pid.to_string()])
                .output()
                .ok()
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        program.is_some_and(|program| {
            // A server under way renames itself to `postgres: …` only in its children.
            Path::new(&program).file_name().is_some_and(|name| name == "postgres" || name == "postmaster")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            pid: lines.first()?.trim().parse().ok()?,
            port: lines.get(3)?.trim().parse().ok()?,
            socket_dir: PathBuf::from(lines.get(4)?),
            status: lines.get(7).map_or_else(String::new, |status| status.trim().to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_of_a_ready_server_is_read() {
        let text = "4711\n/srv/data\n1795459565\n30320\n/srv/run\n127.0.0.1\n  1234 56\nready   \n";
        let postmaster = Postmaster::parse(text).unwrap();
        assert_eq!((postmaster.pid, postmaster.port), (4711, 30320));
        assert_eq!(postmaster.socket_dir, Path::new("/srv/run"));
        assert!(postmaster.is_ready());
    }

    #[test]
    fn a_pid_file_that_is_half_written_is_none() {
        assert_eq!(Postmaster::parse("4711\n/srv/data\n"), None);
    }

    #[test]
    fn a_process_that_is_no_postgres_is_not_taken_for_one() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let postmaster = Postmaster { pid, port: 1, socket_dir: PathBuf::new(), status: "ready".to_owned() };
        assert!(!postmaster.is_alive());
    }
}
