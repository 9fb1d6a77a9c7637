//! A disk that is soon full.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A small file system in memory, gone with the value.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many bytes; only root may, so that others get none.
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "small-disk"])
            .arg(dir.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn free_bytes(&self) -> u64 {
        let disk = nix::sys::statvfs::statvfs(self.path()).unwrap();
        disk.blocks_available() * disk.fragment_size()
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut bytes = 1 << 20;
        let mut ballast = Vec::new();
        while bytes > 0 {
            let longer = [ballast.as_slice(), &vec![0; bytes]].concat();
            if fs::write(self.path().join("ballast"), &longer).is_ok() {
                ballast = longer;
            } else {
                fs::write(self.path().join("ballast"), &ballast).unwrap();
                bytes /= 2;
            }
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
