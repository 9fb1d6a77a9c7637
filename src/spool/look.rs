//! Whether a file is what was asked for: its first bytes, and in JSON all of it.

use super::Error;
use crate::export::ResultFormat;
use crate::json::{NoResult, Scanner, Step};

/// How many characters of a wrong file a message shows.
const SHOWN_CHARS: usize = 80;

/// What a file is looked at for while it is written.
#[derive(Debug)]
pub(super) enum Look {
    /// CSV may be nearly anything.
    Csv,
    /// Whether the records of JSON can be told apart, and whether it is whole.
    Json(Scanner),
    /// It is not the JSON of a result.
    NoResult(NoResult),
}

impl Look {
    pub fn new(format: ResultFormat) -> Self {
        match format {
            ResultFormat::Csv => Self::Csv,
            ResultFormat::Json => Self::Json(Scanner::default()),
        }
    }

    /// Looks at what comes next.
    pub fn at(&mut self, mut chunk: &[u8]) {
        while let Self::Json(scanner) = self {
            match scanner.step(chunk) {
                Ok((_, Step::More)) => return,
                Ok((taken, Step::Begin | Step::End)) => chunk = &chunk[taken..],
                Err(problem) => *self = Self::NoResult(problem),
            }
        }
    }

    /// Says whether it is of its format, all of which was looked at and this is the beginning.
    pub fn judge(self, head: &[u8]) -> Result<(), Error> {
        let (format, problem) = match self {
            Self::Csv => (ResultFormat::Csv, None),
            Self::Json(mut scanner) => (ResultFormat::Json, scanner.finish().err()),
            Self::NoResult(problem) => (ResultFormat::Json, Some(problem)),
        };
        match (FileKind::of(head), format, problem) {
            (None, ResultFormat::Csv, _) | (_, ResultFormat::Json, None) => Ok(()),
            (Some(FileKind::Json), ResultFormat::Json, Some(source)) => {
                Err(Error::NoResult { head: shown(head), source })
            }
            (kind, _, _) => Err(Error::NotAFile { kind: kind.unwrap_or(FileKind::Text), format, head: shown(head) }),
        }
    }
}

/// What a file is that should have been of another format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A web page.
    Html,
    /// A JSON object or array.
    Json,
    /// CSV, or any other text.
    Text,
    /// Another markup.
    Xml,
    /// Compressed, or text in a 16-bit encoding.
    Binary,
}

impl FileKind {
    /// The name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Html => "an HTML page",
            Self::Json => "JSON",
            Self::Text => "CSV or another text",
            Self::Xml => "XML",
            Self::Binary => "binary data",
        }
    }

    /// Looks at the first bytes; none where they may be CSV.
    fn of(head: &[u8]) -> Option<Self> {
        const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff"];
        if MAGIC.iter().any(|magic| head.starts_with(magic)) {
            return Some(Self::Binary);
        }
        let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
        match text.first()? {
            b'{' | b'[' => Some(Self::Json),
            b'<' => {
                let text = text.to_ascii_lowercase();
                let is_html = text.starts_with(b"<!doctype html") || text.windows(5).any(|part| part == b"<html");
                Some(if is_html { Self::Html } else { Self::Xml })
            }
            _ => None,
        }
    }
}

/// The beginning of a file, fit for a message.
fn shown(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    text.trim_start_matches('\u{feff}').chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}
