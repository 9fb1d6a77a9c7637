//! The bytes of an answer, unpacked as they arrive, and watched: a few bytes may be made to unpack to a full disk.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use super::error::{Call, Error};

/// The encodings that we ask for.
pub(super) const ENCODINGS: &str = "gzip, zstd";

/// How much is unpacked at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What an answer may unpack to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    /// So much in any case.
    pub(super) free_bytes: u64,
    /// Beyond that, so many times its own length. Text shrinks to a tenth, a table that says the same in each row to a
    /// two-hundredth.
    pub(super) ratio: u64,
}

impl Measure {
    /// What we use in earnest.
    pub(super) const USUAL: Self = Self { free_bytes: 64 << 20, ratio: 500 };
}

/// The bytes of an answer.
pub(super) struct Unpacked {
    call: Call,
    source: Source,
    content_length: Option<u64>,
    pub(super) measure: Measure,
    made_bytes: u64,
}

enum Source {
    Plain(Box<Response>),
    Packed { reader: Pin<Box<dyn AsyncRead + Send + Sync>>, packed_bytes: Arc<AtomicU64> },
}

impl Unpacked {
    /// Begins to read an answer, in any of the encodings that we ask for.
    pub(super) async fn new(call: Call, response: Response) -> Result<Self, Error> {
        let content_length = length(response.headers());
        let encoding =
            response.headers().get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes().to_ascii_lowercase());
        let (source, content_length) = match encoding.as_deref() {
            None | Some(b"" | b"identity") => (Source::Plain(Box::new(response)), content_length),
            Some(b"gzip" | b"x-gzip") => (packed(call, response, gzip).await?, None),
            Some(b"zstd") => (packed(call, response, zstd).await?, None),
            Some(other) => {
                let encoding = String::from_utf8_lossy(other);
                let problem = format!("it has the content encoding {encoding:?}, which was not asked for");
                return Err(Error::Unreadable { call, problem });
            }
        };
        Ok(Self { call, source, content_length, measure: Measure::USUAL, made_bytes: 0 })
    }

    /// How many bytes there must be; none where that is unknown, as under an encoding.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The next bytes; none at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let call = self.call;
        let (reader, packed_bytes) = match &mut self.source {
            Source::Plain(response) => {
                return response.chunk().await.map_err(|error| Error::Transport { call, source: error.without_url() });
            }
            Source::Packed { reader, packed_bytes } => (reader, packed_bytes),
        };
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        if reader.read_buf(&mut chunk).await.map_err(|error| unread(call, error))? == 0 {
            return Ok(None);
        }
        self.made_bytes += chunk.len() as u64;
        let packed_bytes = packed_bytes.load(Ordering::Relaxed);
        if self.made_bytes > self.measure.free_bytes.max(packed_bytes.saturating_mul(self.measure.ratio)) {
            return Err(Error::Bomb { call, packed_bytes, unpacked_bytes: self.made_bytes });
        }
        Ok(Some(chunk.freeze()))
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

type Packed = Pin<Box<dyn AsyncBufRead + Send + Sync>>;

fn gzip(packed: Packed) -> Pin<Box<dyn AsyncRead + Send + Sync>> {
    let mut decoder = GzipDecoder::new(packed);
    decoder.multiple_members(true);
    Box::pin(decoder)
}

fn zstd(packed: Packed) -> Pin<Box<dyn AsyncRead + Send + Sync>> {
    let mut decoder = ZstdDecoder::new(packed);
    decoder.multiple_members(true);
    Box::pin(decoder)
}

async fn packed(
    call: Call,
    response: Response,
    unpack: fn(Packed) -> Pin<Box<dyn AsyncRead + Send + Sync>>,
) -> Result<Source, Error> {
    let packed_bytes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&packed_bytes);
    let pieces = response.bytes_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok::<_, io::Error>(piece)
    });
    let mut raw: Packed = Box::pin(StreamReader::new(Box::pin(pieces)));
    // No body at all is empty in every encoding.
    let is_empty = raw.fill_buf().await.map_err(|error| unread(call, error))?.is_empty();
    let reader = if is_empty { Box::pin(tokio::io::empty()) } else { unpack(raw) };
    Ok(Source::Packed { reader, packed_bytes })
}

/// A failure of the line, or of what came over it.
fn unread(call: Call, error: io::Error) -> Error {
    match error.downcast::<reqwest::Error>() {
        Ok(error) => Error::Transport { call, source: error.without_url() },
        Err(source) => Error::Packed { call, source },
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::retry::ErrorKind;

    const SMALL: Measure = Measure { free_bytes: 64 << 10, ratio: 100 };

    async fn pack(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        if encoding == "gzip" {
            let mut encoder = GzipEncoder::new(Vec::new());
            encoder.write_all(bytes).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        } else {
            let mut encoder = ZstdEncoder::new(Vec::new());
            encoder.write_all(bytes).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
    }

    /// An answer with this body, as it comes over a real line.
    async fn answer(encoding: &str, body: Vec<u8>) -> Unpacked {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", body.len());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(&body).await;
        });
        let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        Unpacked { measure: SMALL, ..Unpacked::new(Call::Storage, response).await.unwrap() }
    }

    async fn whole(mut unpacked: Unpacked) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = unpacked.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn what_unpacks_beyond_measure_is_told_as_a_bomb() {
        let bomb = vec![b'0'; 4 << 20];
        for encoding in ["gzip", "zstd"] {
            let packed = pack(encoding, &bomb).await;
            let error = whole(answer(encoding, packed.clone()).await).await.unwrap_err();
            let Error::Bomb { packed_bytes, unpacked_bytes, .. } = error else { panic!("{encoding}: {error}") };
            assert!(packed_bytes <= packed.len() as u64 && unpacked_bytes < 1 << 20, "{encoding}: {error}");
            assert_eq!(error.kind(), ErrorKind::BadFile);
            assert!(error.to_string().contains("is a decompression bomb"), "{error}");

            let mut patient = answer(encoding, packed).await;
            patient.measure = Measure { ratio: 1 << 20, ..SMALL };
            assert_eq!(whole(patient).await.unwrap(), bomb, "{encoding}");
        }
    }

    #[tokio::test]
    async fn a_small_answer_may_shrink_as_it_likes_and_so_may_none() {
        let even = vec![b'0'; 60 << 10];
        for encoding in ["gzip", "zstd"] {
            let packed = pack(encoding, &even).await;
            assert!(packed.len() < 600, "{encoding}");
            assert_eq!(whole(answer(encoding, packed).await).await.unwrap(), even, "{encoding}");
            assert_eq!(whole(answer(encoding, Vec::new()).await).await.unwrap(), b"", "{encoding}");
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_or_no_packing_at_all_is_worth_another_try() {
        for encoding in ["gzip", "zstd"] {
            let packed = pack(encoding, b"a,b\n1,2\n").await;
            for broken in [packed[..packed.len() / 2].to_vec(), b"a,b\n1,2\n".to_vec()] {
                let error = whole(answer(encoding, broken).await).await.unwrap_err();
                assert!(matches!(error, Error::Packed { .. }), "{encoding}: {error}");
                assert_eq!(error.kind(), ErrorKind::Transient);
            }
        }
    }
}
