//! Sends result files from disk, whole or damaged as a fault has ordered.

use std::io::{self, Cursor};
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, BufReader};

use super::data::table::Format;
use super::fault::FaultKind;

const CHUNK_BYTES: usize = 64 * 1024;

/// A file that is about to be sent: perhaps another beginning, the file, perhaps another end.
#[derive(Debug)]
pub struct Content {
    head: Vec<u8>,
    file: File,
    file_bytes: u64,
    tail: Vec<u8>,
    ending: Ending,
    stall: Option<Duration>,
    media_type: &'static str,
    gzip: bool,
}

/// Where the sending stops.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Whole,
    /// The connection breaks off after so many bytes.
    BreaksOff(u64),
    /// The body ends after so many bytes and nobody has said how long it would be.
    Early(u64),
    /// So many bytes are announced and sent.
    Announced(u64),
}

impl Content {
    /// Opens a result.
    pub async fn open(path: &Path, format: Format, gzip: bool, fault: Option<FaultKind>) -> io::Result<Self> {
        let file = File::open(path).await?;
        let mut content = Self {
            head: Vec::new(),
            file_bytes: file.metadata().await?.len(),
            file,
            tail: Vec::new(),
            ending: Ending::Whole,
            stall: None,
            media_type: match format {
                Format::Csv => "text/csv",
                Format::Json => "application/json",
                Format::Xml => "application/xml",
            },
            gzip,
        };
        if let Some(fault) = fault {
            content.damage(path, format, fault).await?;
        }
        Ok(content)
    }

    /// Falls silent for a while in the middle.
    pub fn stall_for(&mut self, pause: Duration) {
        self.stall = Some(pause);
    }

    /// Sends the bytes as `application/octet-stream`.
    pub fn into_stream(mut self) -> Self {
        self.media_type = "application/octet-stream";
        self
    }

    /// Damages the file. What is written into a file only works where it is not compressed.
    async fn damage(&mut self, path: &Path, format: Format, fault: FaultKind) -> io::Result<()> {
        let middle = self.file_bytes * 3 / 5;
        match fault {
            FaultKind::Truncate => self.ending = Ending::BreaksOff(mid_row(path, format, middle).await?),
            FaultKind::WrongLength => self.ending = Ending::Announced(mid_row(path, format, middle).await?),
            FaultKind::ShortFile => self.ending = Ending::Early(row_end(path, format, middle).await?),
            FaultKind::GarbageRows if !self.gzip && format == Format::Json => {
                // The first line is what is around the records, and the first of them.
                self.head = self.take_header().await?;
                if self.head.ends_with(b",\n") {
                    self.head.extend(GARBAGE_RECORDS.iter().copied().flatten());
                }
            }
            FaultKind::GarbageRows if !self.gzip => {
                let header = self.take_header().await?;
                self.tail = b"\"a quote that never ends,1,2\n".to_vec();
                self.head.clone_from(&header);
                self.head.extend(garbage_rows(header.split(|byte| *byte == b',').count()));
            }
            FaultKind::HostileHeaders if !self.gzip && format == Format::Csv => {
                let header = self.take_header().await?;
                self.head = hostile_header(&String::from_utf8_lossy(&header)).into_bytes();
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the header row out of the file.
    async fn take_header(&mut self) -> io::Result<Vec<u8>> {
        let mut header = Vec::new();
        BufReader::new(&mut self.file).read_until(b'\n', &mut header).await?;
        self.file.seek(io::SeekFrom::Start(header.len() as u64)).await?;
        self.file_bytes -= header.len() as u64;
        Ok(header)
    }

    /// The reply: 200 with the bytes, read from disk as they are sent.
    pub fn into_response(self) -> Response<Body> {
        let total = self.head.len() as u64 + self.file_bytes + self.tail.len() as u64;
        let (send, announce, breaks) = match self.ending {
            Ending::Whole => (total, Some(total), false),
            Ending::BreaksOff(bytes) => (bytes, Some(total), true),
            Ending::Early(bytes) => (bytes, None, false),
            Ending::Announced(bytes) => (bytes, Some(bytes), false),
        };
        let source = Cursor::new(self.head).chain(self.file).chain(Cursor::new(self.tail)).take(send);
        let stall = self.stall.map(|stall| (send / 2, stall));
        let mut response = Response::new(body(source, stall, breaks));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        if let Some(announce) = announce {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(announce));
        }
        if self.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Streams `source`, pausing once after so many bytes, and breaking the connection at the end where that is wanted.
fn body(source: impl AsyncRead + Send + Unpin + 'static, stall: Option<(u64, Duration)>, breaks: bool) -> Body {
    struct Sending<R> {
        source: R,
        sent: u64,
        stall: Option<(u64, Duration)>,
        breaks: bool,
    }
    let sending = Sending { source, sent: 0, stall, breaks };
    Body::from_stream(stream::unfold(Some(sending), |sending| async {
        let mut sending = sending?;
        let mut room = CHUNK_BYTES;
        if let Some((after, pause)) = sending.stall {
            if sending.sent >= after {
                tokio::time::sleep(pause).await;
                sending.stall = None;
            } else {
                room = usize::try_from(after - sending.sent).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            }
        }
        let mut chunk = BytesMut::with_capacity(room);
        let limit = room as u64;
        match (&mut sending.source).take(limit).read_buf(&mut chunk).await {
            Err(error) => Some((Err(error), None)),
            Ok(0) if sending.breaks => {
                // What has been sent so far should arrive before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None))
            }
            Ok(0) => None,
            Ok(read) => {
                sending.sent += read as u64;
                Some((Ok::<Bytes, io::Error>(chunk.freeze()), Some(sending)))
            }
        }
    }))
}

/// The end of the last row that ends before `before`.
async fn row_end(path: &Path, format: Format, before: u64) -> io::Result<u64> {
    let mut file = BufReader::new(File::open(path).await?.take(before));
    let (mut at, mut end, mut quoted) = (0, 0, false);
    loop {
        let bytes = file.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(end);
        }
        for byte in bytes {
            at += 1;
            match byte {
                // In JSON the end of a line within a text is escaped.
                b'"' if format == Format::Csv => quoted = !quoted,
                b'\n' if !quoted => end = at,
                _ => {}
            }
        }
        let read = bytes.len();
        file.consume(read);
    }
}

/// A place within a row near `near`.
async fn mid_row(path: &Path, format: Format, near: u64) -> io::Result<u64> {
    Ok((row_end(path, format, near).await? + 5).min(near.max(1)))
}

/// Records that no reader should take for data.
const GARBAGE_RECORDS: [&[u8]; 5] = [
    b"\"no object\",\n",
    b"{\"no\" \"colon\"},\n",
    b"{\"Action_Date\":\"not a value\"},\n",
    b"{\"Note\":\"invalid \xFF\xFE text\"},\n",
    b"{\"Note\":\"half a pair: \\ud800, a NUL: \\u0000\"},\n",
];

/// Rows that no reader should take for data.
fn garbage_rows(columns: usize) -> Vec<u8> {
    let row = |value: &[u8]| vec![value; columns].join(&b","[..]);
    let rows: [Vec<u8>; 6] = [
        b"only,three,fields".to_vec(),
        row(b"x").iter().copied().chain(*b",one,too,many").collect(),
        row(b"not a value"),
        row(b"invalid \xFF\xFE text"),
        row(b"a \0 byte"),
        row(b"a \"quote\" inside"),
    ];
    rows.iter().flat_map(|row| row.iter().copied().chain(*b"\n")).collect()
}

/// The header with its last names replaced by such as nobody should make columns of unseen.
fn hostile_header(header: &str) -> String {
    let names: Vec<&str> = header.trim_end().split(',').collect();
    let long = "Long_".repeat(40);
    let kept = names.len().saturating_sub(6).max(1);
    let twin = names[0].to_uppercase().replace('_', " ");
    let hostile = ["\"Say \"\"hi\"\"\"", &long, "", twin.as_str(), "\"x\"\"; drop table job; --\"", "_load_id"];
    let names: Vec<&str> = names[..kept].iter().copied().chain(hostile).take(names.len()).collect();
    names.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_has_rows_of_the_right_and_of_wrong_lengths() {
        let rows = garbage_rows(4);
        let lengths: Vec<usize> =
            rows.split(|byte| *byte == b'\n').map(|row| row.split(|byte| *byte == b',').count()).collect();
        assert_eq!(lengths, [3, 7, 4, 4, 4, 4, 1]);
    }

    #[test]
    fn a_hostile_header_keeps_its_number_of_columns() {
        let header = hostile_header("Action_Id,b,c,d,e,f,g,h\n");
        assert!(header.starts_with("Action_Id,b,\"Say \"\"hi\"\"\",Long_"), "{header}");
        assert!(header.contains(",ACTION ID,"), "{header}");
        assert_eq!(header.split(',').count(), 8);
    }

    #[tokio::test]
    async fn a_row_end_is_never_inside_quotes() {
        let path = std::env::temp_dir().join(format!("impact-sandbox-row-end-{}", std::process::id()));
        std::fs::write(&path, "a,b\n1,\"x\ny\"\n2,z\n").unwrap();
        let ends = [row_end(&path, Format::Csv, 9).await.unwrap(), row_end(&path, Format::Csv, 13).await.unwrap()];
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ends, [4, 12]);
    }
}
