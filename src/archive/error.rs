//! What can go wrong between us and the archive. A message names the place, never a credential: those of the services stand
//! in headers.

use std::io;
use std::path::PathBuf;

use crate::retry::ErrorKind;

/// Why the archive did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `archive.url` cannot be used.
    #[error(
        "archive.url {url} cannot be used; write file:///DIRECTORY, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    Unusable {
        /// The setting.
        url: String,
        /// Why not.
        source: object_store::Error,
    },
    /// The directory of a `file://` archive cannot be made.
    #[error("the archive's directory {} cannot be made", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store refused or failed.
    #[error("cannot {action} {key} in the archive")]
    Store {
        /// What was tried.
        action: &'static str,
        /// On which object.
        key: String,
        /// Why not.
        source: object_store::Error,
    },
    /// It failed a moment ago and is left alone for a while.
    #[error("the archive failed a moment ago and is tried again in a minute")]
    Resting,
    /// The object is not there.
    #[error("{key} is not in the archive; where archive.keep pruned it, `impact-mirror refresh` reads its days anew")]
    Missing {
        /// Which.
        key: String,
    },
    /// The file on our side, or what the archive gave back, cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// Which.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The file is not the one that was meant.
    #[error(
        "{what} is not the file that was fetched: its hash differs; bring back the right one, or have its days read anew by `impact-mirror refresh`"
    )]
    OtherFile {
        /// Which.
        what: String,
    },
    /// What a probe gave back is not what was written.
    #[error(
        "the archive gave back something else than was written to {key}; look at what stands between here and archive.url"
    )]
    Forgetful {
        /// The probe.
        key: String,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unusable { .. } | Self::Missing { .. } => ErrorKind::Permanent,
            Self::Directory { .. }
            | Self::Store { .. }
            | Self::Resting
            | Self::Read { .. }
            | Self::OtherFile { .. }
            | Self::Forgetful { .. } => ErrorKind::Transient,
        }
    }
}
