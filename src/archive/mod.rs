//! The archive: result files kept compressed (zstd) in a directory or a bucket, named so that a person finds them, each
//! beside a manifest. What is in it is written down in `store::archive`; files are streamed, so that memory stays flat.
//!
//! Credentials come from the standard environment variables of each service.

mod error;
mod line;
mod name;
mod record;
mod upload;

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt as _, RetryConfig};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use url::Url;
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};
use zstd::stream::write::Encoder;

pub use error::Error;
pub use name::{file_key, manifest_key};
pub use record::RecordFinder;
use upload::Upload;

/// The longest record that is shown, as the longest that is loaded.
const MAX_RECORD: usize = 4 << 20;
/// zstd's own default: faster than a network, and CSV shrinks to a seventh.
const LEVEL: i32 = 3;
/// How much is read or decompressed at once.
const CHUNK: usize = 256 << 10;
/// How long an archive that failed is left alone: every load would wait for it in vain.
const REST: Duration = Duration::from_mins(1);
/// How long one call tries, its retries included.
const TRY_FOR: Duration = Duration::from_secs(20);

/// An opened archive.
#[derive(Debug)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where it is a directory.
    dir: Option<PathBuf>,
    resting_until: Mutex<Option<Instant>>,
}

impl Archive {
    /// Opens `archive.url`. A directory is made where it is missing, for the owner only; a bucket is not spoken to yet.
    pub fn open(url: &Url) -> Result<Self, Error> {
        let unusable = |source| Error::Unusable { url: url.to_string(), source };
        let retry = RetryConfig { max_retries: 3, retry_timeout: TRY_FOR, backoff: BackoffConfig::default() };
        let mut dir = None;
        let (store, prefix): (Arc<dyn ObjectStore>, &str) = match url.scheme() {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
                // We remove one object at a time, and not every server knows the call that removes many.
                let builder = builder.with_disable_bulk_delete(true);
                (Arc::new(builder.build().map_err(unusable)?), url.path())
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry);
                (Arc::new(builder.build().map_err(unusable)?), url.path())
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry);
                (Arc::new(builder.build().map_err(unusable)?), url.path())
            }
            _ => {
                let dir = dir.insert(url.to_file_path().unwrap_or_else(|()| url.path().into()));
                (Arc::new(directory(url, dir)?), "")
            }
        };
        Ok(Self { store, prefix: Path::from(prefix), dir, resting_until: Mutex::new(None) })
    }

    /// Compresses a file into the archive; says how many bytes it takes there. The file must have this hash. Nothing is
    /// seen under the key before the whole is there.
    pub async fn put(&self, key: &str, file: &FilePath, sha256: &[u8; 32]) -> Result<u64, Error> {
        if self.is_resting() {
            return Err(Error::Resting);
        }
        let put = self.try_put(key, file, sha256).await;
        if matches!(put, Err(Error::Store { .. })) {
            *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
        }
        put
    }

    async fn try_put(&self, key: &str, file: &FilePath, sha256: &[u8; 32]) -> Result<u64, Error> {
        let mut upload = Upload::new(Arc::clone(&self.store), self.path(key));
        let sent = compress(&mut upload, key, file, sha256).await;
        match sent {
            Ok(()) => upload.finish().await.map_err(failed("write", key)),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Writes a manifest.
    pub async fn put_manifest(&self, key: &str, manifest: &serde_json::Value) -> Result<(), Error> {
        let text = format!("{manifest:#}\n");
        self.store.put(&self.path(key), text.into()).await.map(drop).map_err(failed("write", key))
    }

    /// Opens a file for reading.
    pub async fn get(&self, key: &str) -> Result<Body, Error> {
        let found = self.store.get(&self.path(key)).await.map_err(failed("read", key))?;
        let decoder = Decoder::new().map_err(|source| Error::Read { what: key.to_owned(), source })?;
        Ok(Body {
            key: key.to_owned(),
            stream: found.into_stream(),
            input: Bytes::new(),
            decoder,
            is_between_frames: true,
        })
    }

    /// Removes an object; one that is gone already is no error.
    pub async fn remove(&self, key: &str) -> Result<(), Error> {
        if let Some(dir) = &self.dir {
            remove_unfinished(&dir.join(key));
        }
        match self.store.delete(&self.path(key)).await.map_err(failed("remove", key)) {
            Err(Error::Missing { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes, reads and removes an object of its own.
    pub async fn probe(&self) -> Result<(), Error> {
        let key = format!("impact-mirror-probe-{}", uuid::Uuid::new_v4().simple());
        let path = self.path(&key);
        self.store.put(&path, key.clone().into()).await.map_err(failed("write", &key))?;
        let read = async { self.store.get(&path).await?.bytes().await }.await.map_err(failed("read", &key));
        let removed = self.store.delete(&path).await.map_err(failed("remove", &key));
        let is_same = read? == key.as_bytes();
        removed?;
        if is_same { Ok(()) } else { Err(Error::Forgetful { key }) }
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    fn is_resting(&self) -> bool {
        let until = *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// A file coming back from the archive.
pub struct Body {
    key: String,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    input: Bytes,
    decoder: Decoder<'static>,
    is_between_frames: bool,
}

impl Body {
    /// The next piece of the file as impact.com gave it; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if self.input.is_empty() {
                match self.stream.next().await.transpose().map_err(failed("read", &self.key))? {
                    Some(bytes) => self.input = bytes,
                    None if self.is_between_frames => return Ok(None),
                    None => return Err(self.unread(std::io::ErrorKind::UnexpectedEof.into())),
                }
            }
            let mut output = vec![0; CHUNK];
            let mut given = InBuffer::around(&self.input);
            let mut taken = OutBuffer::around(output.as_mut_slice());
            let left = self.decoder.run(&mut given, &mut taken);
            let (read, written) = (given.pos(), taken.pos());
            self.is_between_frames = left.map_err(|source| self.unread(source))? == 0;
            self.input.advance(read);
            if written > 0 {
                output.truncate(written);
                return Ok(Some(output));
            }
        }
    }

    fn unread(&self, source: std::io::Error) -> Error {
        Error::Read { what: self.key.clone(), source }
    }
}

fn directory(url: &Url, dir: &FilePath) -> Result<LocalFileSystem, Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| Error::Directory { dir: dir.to_owned(), source })?;
    let store = LocalFileSystem::new_with_prefix(dir);
    let store = store.map_err(|source| Error::Unusable { url: url.to_string(), source })?;
    // A load must not name a file that a power cut took.
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

/// Removes what a process that was killed while it wrote this object left beside it: the name, a hash sign and a number.
fn remove_unfinished(object: &FilePath) {
    let (Some(dir), Some(name)) = (object.parent(), object.file_name().and_then(|name| name.to_str())) else { return };
    let is_unfinished = |other: &str| {
        let number = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('#'));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_unfinished)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(error = %error, "an unfinished file in the archive cannot be removed");
        }
    }
}

/// Sends a file, compressed, and proves that it is the one that is meant.
async fn compress(upload: &mut Upload, key: &str, file: &FilePath, sha256: &[u8; 32]) -> Result<(), Error> {
    let unread = |source| Error::Read { what: file.display().to_string(), source };
    let mut source = tokio::fs::File::open(file).await.map_err(unread)?;
    let mut encoder = Encoder::new(Vec::new(), LEVEL).map_err(unread)?;
    encoder.include_checksum(true).map_err(unread)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = source.read(&mut chunk).await.map_err(unread)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        std::io::Write::write_all(&mut encoder, &chunk[..read]).map_err(unread)?;
        upload.send(encoder.get_mut()).await.map_err(failed("write", key))?;
    }
    let mut rest = encoder.finish().map_err(unread)?;
    upload.send(&mut rest).await.map_err(failed("write", key))?;
    if hash.finalize().as_slice() == sha256 { Ok(()) } else { Err(Error::OtherFile { what: key.to_owned() }) }
}

fn failed(action: &'static str, key: &str) -> impl FnOnce(object_store::Error) -> Error {
    let key = key.to_owned();
    move |source| match source {
        object_store::Error::NotFound { .. } => Error::Missing { key },
        source => Error::Store { action, key, source },
    }
}
