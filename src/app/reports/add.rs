//! Adds a block to the user's configuration: at its end, with everything before it byte for byte as it was.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::Mistake;
use super::block::{Block, what};
use crate::config::{self, Environment, Settings};

/// A configuration as it was read, and the file that it is in.
#[derive(Debug)]
pub struct Written {
    /// Where it is, links followed.
    path: PathBuf,
    /// What is in it.
    text: String,
    /// What it says.
    pub settings: Settings,
}

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As it was asked for, it cannot be.
    #[error(transparent)]
    Mistake(#[from] Mistake),
    /// The file as it is cannot be used, or it could not with the block.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// With the block, the file would be no configuration.
    #[error("the new export does not go with the rest of the file; nothing was changed")]
    Unfit {
        /// Why not.
        source: config::Error,
    },
    /// Somebody else wrote it meanwhile.
    #[error("{path} was changed meanwhile; nothing was added; try again")]
    ChangedMeanwhile {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be read or replaced.
    #[error("cannot {what} {path}; with --dry-run the block is printed, to be put there by hand")]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether the person who asks can mend it by saying something else.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Mistake(_) | Self::Config(_) | Self::Unfit { .. } => true,
            Self::ChangedMeanwhile { .. } | Self::File { .. } => false,
        }
    }
}

impl Written {
    /// Reads the configuration that commands use.
    pub fn read(path: Option<&Path>) -> Result<Self, Error> {
        let path = config::find(path)?;
        let failed = |source| Error::File { what: "read", path: path.clone(), source };
        let path = fs::canonicalize(&path).map_err(failed)?;
        let text = fs::read_to_string(&path).map_err(failed)?;
        let settings = config::check(&text, &path, &Environment::of_this_process())?;
        Ok(Self { path, text, settings })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text with a block at its end; checked as a whole.
    pub fn with(&self, block: &Block) -> Result<String, Error> {
        if let Some(taken) = self.settings.exports.get(&block.name) {
            return Err(Mistake::NameTaken { name: taken.name.clone(), what: what(&taken.source) }.into());
        }
        let whole = joined(&self.text, &block.to_string());
        match config::check(&whole, &self.path, &Environment::of_this_process()) {
            Ok(_) => Ok(whole),
            Err(source) => Err(Error::Unfit { source }),
        }
    }

    /// Puts `whole` in the place of what was read, at once or not at all; mode bits and, where we may, the owner stay.
    pub fn replace(&self, whole: &str) -> Result<(), Error> {
        let Self { path, text, .. } = self;
        let failed = |what| move |source| Error::File { what, path: path.clone(), source };
        let metadata = fs::metadata(path).map_err(failed("read"))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let beside = path.with_file_name(name);
        let written = write_beside(&beside, whole, &metadata).map_err(failed("replace"));
        let replaced = written.and_then(|()| {
            if fs::read_to_string(path).map_err(failed("read"))? != *text {
                return Err(Error::ChangedMeanwhile { path: path.clone() });
            }
            fs::rename(&beside, path).map_err(failed("replace"))
        });
        if replaced.is_err() {
            // It is ours alone, and of no use to anybody.
            let _ = fs::remove_file(&beside);
        }
        replaced
    }
}

fn write_beside(beside: &Path, whole: &str, like: &fs::Metadata) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    let is_ours = file.metadata()?;
    if (is_ours.uid(), is_ours.gid()) != (like.uid(), like.gid()) {
        // Only root may give files away; for others the new file is their own.
        let _ = fchown(&file, Some(like.uid()), Some(like.gid()));
    }
    file.write_all(whole.as_bytes())?;
    file.sync_all()
}

/// The block after the text and a line between; with the text's own ends of lines.
fn joined(text: &str, block: &str) -> String {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let gap = match text {
        "" => String::new(),
        text if text.ends_with('\n') => end.to_owned(),
        _ => end.repeat(2),
    };
    format!("{text}{gap}{}", block.replace('\n', end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_and_a_line_parts_it_from_the_new() {
        assert_eq!(joined("a = 1\n", "[b]\n"), "a = 1\n\n[b]\n");
        assert_eq!(joined("a = 1 # no end", "[b]\n"), "a = 1 # no end\n\n[b]\n");
        assert_eq!(joined("a = 1\r\n", "[b]\nc = 2\n"), "a = 1\r\n\r\n[b]\r\nc = 2\r\n");
        assert_eq!(joined("", "[b]\n"), "[b]\n");
    }
}
