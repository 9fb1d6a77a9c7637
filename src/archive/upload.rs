//! An object on its way into the store: at once where it is small, in parts where it is not. Nothing is seen under its name
//! before the end.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, Result};

/// The size of a part; no store takes smaller ones, and the 10,000 that S3 takes make 50 GB.
const PART: usize = 5 << 20;
/// Room behind a part for what comes at once, so that a buffer need not grow: growing takes twice the memory.
const ROOM: usize = 512 << 10;

pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    bytes: u64,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path, buffer: Vec::new(), parts: None, bytes: 0 }
    }

    /// Takes what is ready; leaves `ready` empty.
    pub async fn send(&mut self, ready: &mut Vec<u8>) -> Result<()> {
        self.bytes += ready.len() as u64;
        self.buffer.append(ready);
        while self.buffer.len() > PART {
            let mut rest = Vec::with_capacity(PART + ROOM);
            rest.extend(self.buffer.drain(PART..));
            let part = std::mem::replace(&mut self.buffer, rest);
            self.put_part(part).await?;
        }
        Ok(())
    }

    /// Ends it; says how many bytes it has.
    pub async fn finish(mut self) -> Result<u64> {
        let last = std::mem::take(&mut self.buffer);
        let ended = if self.parts.is_none() {
            self.store.put(&self.path, last.into()).await.map(drop)
        } else {
            self.end(last).await
        };
        match ended {
            Ok(()) => Ok(self.bytes),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Calls it off: parts that were sent cost money until somebody does.
    pub async fn abort(&mut self) {
        if let Some(mut parts) = self.parts.take()
            && let Err(error) = parts.abort().await
        {
            tracing::debug!(error = %error, "an upload could not be called off");
        }
    }

    async fn end(&mut self, last: Vec<u8>) -> Result<()> {
        self.put_part(last).await?;
        if let Some(parts) = &mut self.parts {
            parts.complete().await?;
        }
        self.parts = None;
        Ok(())
    }

    async fn put_part(&mut self, part: Vec<u8>) -> Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(self.store.put_multipart(&self.path).await?),
        };
        parts.put_part(part.into()).await
    }
}
