//! Where the records of a JSON result stand (impact-api §8.2): a list under `Records` or `Clicks` in an object, or a bare
//! list. It reads piece by piece and holds nothing but a few names; what a record holds is for others to read.
//!
//! An empty result has many shapes: no bytes, `null`, `{}`, an object of nothing but `@…` keys, and an empty list.

use memchr::memchr2;

/// What the list of records is called, in any letter case.
const LISTS: [&str; 2] = ["records", "clicks"];

/// How much of a name or a message is kept.
const KEPT: usize = 200;

/// How many names a message gives.
const NAMED: usize = 6;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file is not the JSON of a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoResult {
    /// It ends too early.
    #[error("it is cut off after {bytes} bytes, behind {records} whole records")]
    Cut {
        /// How long it is.
        bytes: u64,
        /// The records that it has whole.
        records: u64,
    },
    /// Something stands where nothing of the kind can.
    #[error("byte {at} is {found:?}, where {expected} should be")]
    Unexpected {
        /// Counted from 0.
        at: u64,
        /// What stands there.
        found: char,
        /// What could.
        expected: &'static str,
    },
    /// An object, but none of a result.
    #[error("it is an object without a list of Records or Clicks; it has {names}")]
    NoList {
        /// The names of its fields.
        names: String,
    },
    /// The list is there twice.
    #[error("it has a second list of records, from byte {at}")]
    SecondList {
        /// Where that begins.
        at: u64,
    },
    /// `Status: ERROR`, whatever else there is.
    #[error("it says that the export failed: {message}")]
    Failed {
        /// What it says.
        message: String,
    },
}

/// What a scanner came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing but the end of the piece.
    More,
    /// A record begins with the next byte.
    Begin,
    /// A record ended with the last byte.
    End,
}

/// Finds records in a file that comes in pieces.
#[derive(Debug, Clone)]
pub struct Scanner {
    place: Place,
    /// Whether the document is an object.
    in_object: bool,
    has_list: bool,
    value: Value,
    key: Vec<u8>,
    /// The word in place of the list, or of the document: `null`.
    word: Vec<u8>,
    /// The texts of the fields that tell of a failure.
    status: Vec<u8>,
    message: Vec<u8>,
    names: Vec<String>,
    bytes: u64,
    records: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the document.
    Start,
    /// In the object, before a name or its end; a name must come where `true`.
    Name(bool),
    /// Within a name; behind a backslash where `true`.
    InName(bool),
    Colon,
    /// Before the value of a field.
    Field,
    /// Within the value of a field.
    InField,
    /// Before the end of an empty object in place of the list.
    NoList,
    /// Behind the value of a field.
    FieldEnd,
    /// In the list, before a record or its end; a record must come where `true`.
    Item(bool),
    InItem,
    /// Behind a record.
    ItemEnd,
    /// Behind the document.
    Done,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            place: Place::Start,
            in_object: false,
            has_list: false,
            value: Value::default(),
            key: Vec::new(),
            word: Vec::new(),
            status: Vec::new(),
            message: Vec::new(),
            names: Vec::new(),
            bytes: 0,
            records: 0,
        }
    }
}

impl Scanner {
    /// Goes on through a piece of the file to the next beginning or end of a record: how many bytes that took, and which
    /// it is. What is left of the piece comes with the next call.
    pub fn step(&mut self, piece: &[u8]) -> Result<(usize, Step), NoResult> {
        let before = self.bytes;
        let mut at = 0;
        while at < piece.len() {
            self.bytes = before + at as u64;
            match self.place {
                Place::InField | Place::InItem => {
                    let (taken, ended) = self.value.take(&piece[at..]);
                    if self.place == Place::InField {
                        self.keep(&piece[at..at + taken]);
                    }
                    at += taken;
                    if !ended {
                        break;
                    }
                    if self.place == Place::InItem {
                        self.place = Place::ItemEnd;
                        self.records += 1;
                        self.bytes = before + at as u64;
                        return Ok((at, Step::End));
                    }
                    self.bytes = before + at as u64;
                    self.end_field()?;
                }
                Place::InName(escaped) => {
                    self.in_name(piece[at], escaped);
                    at += 1;
                }
                Place::Start if self.is_mark(piece[at]) => at += 1,
                _ if matches!(piece[at], b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                _ => {
                    self.place = self.after(piece[at])?;
                    match self.place {
                        Place::InItem => return Ok((at, Step::Begin)),
                        Place::InField => {}
                        _ => at += 1,
                    }
                }
            }
        }
        self.bytes = before + at as u64;
        Ok((at, Step::More))
    }

    /// Says whether what was read is a whole result.
    pub fn finish(&mut self) -> Result<(), NoResult> {
        if self.place == Place::InField && !self.in_object {
            self.end_field()?;
        }
        match self.place {
            Place::Start | Place::Done => {}
            _ => return Err(NoResult::Cut { bytes: self.bytes, records: self.records }),
        }
        if self.status.eq_ignore_ascii_case(b"\"error\"") {
            let message = String::from_utf8_lossy(&self.message).trim_matches('"').to_owned();
            return Err(NoResult::Failed {
                message: if message.is_empty() { "no reason given".into() } else { message },
            });
        }
        if self.in_object && !self.has_list && !self.names.is_empty() {
            return Err(NoResult::NoList { names: self.names.join(", ") });
        }
        Ok(())
    }

    /// Whether this byte belongs to a byte order mark at the very beginning.
    fn is_mark(&self, byte: u8) -> bool {
        usize::try_from(self.bytes).is_ok_and(|at| BYTE_ORDER_MARK.get(at) == Some(&byte))
    }

    /// Where a byte leads that is not blank; into a value without taking it.
    fn after(&mut self, byte: u8) -> Result<Place, NoResult> {
        let expected = match (self.place, byte) {
            (Place::Start, b'{') => {
                self.in_object = true;
                return Ok(Place::Name(false));
            }
            (Place::Start, b'[') => return Ok(Place::Item(false)),
            (Place::Start, b'n') => {
                self.value = Value::SCALAR;
                return Ok(Place::InField);
            }
            (Place::Start, _) => "the object or the list of a result",
            (Place::Name(_), b'"') => {
                self.key.clear();
                return Ok(Place::InName(false));
            }
            (Place::Name(false) | Place::FieldEnd, b'}') if self.in_object => return Ok(Place::Done),
            (Place::Name(false), _) => "a name or the end of the object",
            (Place::Name(true), _) => "a name",
            (Place::Colon, b':') => return Ok(Place::Field),
            (Place::Colon, _) => "a colon",
            (Place::Field, _) => return self.begin_field(byte),
            (Place::NoList, b'}') => return Ok(Place::FieldEnd),
            (Place::NoList, _) => "the end of an empty object",
            (Place::FieldEnd, b',') if self.in_object => return Ok(Place::Name(true)),
            (Place::FieldEnd, _) if self.in_object => "a comma or the end of the object",
            (Place::Item(false) | Place::ItemEnd, b']') => {
                return Ok(if self.in_object { Place::FieldEnd } else { Place::Done });
            }
            (Place::Item(_), _) => match Value::begin(byte) {
                Some(value) => {
                    self.value = value;
                    return Ok(Place::InItem);
                }
                None => "a record or the end of the list",
            },
            (Place::ItemEnd, b',') => return Ok(Place::Item(true)),
            (Place::ItemEnd, _) => "a comma or the end of the list",
            (Place::FieldEnd | Place::Done, _) => "the end of the file",
            (Place::InName(_) | Place::InField | Place::InItem, _) => unreachable!("such bytes are taken before"),
        };
        Err(NoResult::Unexpected { at: self.bytes, found: char::from(byte), expected })
    }

    fn is_list(&self) -> bool {
        LISTS.iter().any(|list| self.key.eq_ignore_ascii_case(list.as_bytes()))
    }

    fn begin_field(&mut self, byte: u8) -> Result<Place, NoResult> {
        let is_list = self.is_list();
        if is_list && self.has_list {
            return Err(NoResult::SecondList { at: self.bytes });
        }
        self.has_list |= is_list;
        match byte {
            b'[' if is_list => return Ok(Place::Item(false)),
            b'{' if is_list => return Ok(Place::NoList),
            b'n' => {}
            _ if is_list => {
                let expected = "the list of records";
                return Err(NoResult::Unexpected { at: self.bytes, found: char::from(byte), expected });
            }
            _ => {}
        }
        if !self.key.starts_with(b"@") && self.names.len() < NAMED {
            self.names.push(String::from_utf8_lossy(&self.key).into_owned());
        }
        match Value::begin(byte) {
            Some(value) => {
                self.value = value;
                Ok(Place::InField)
            }
            None => Err(NoResult::Unexpected { at: self.bytes, found: char::from(byte), expected: "a value" }),
        }
    }

    fn end_field(&mut self) -> Result<(), NoResult> {
        let word = std::mem::take(&mut self.word);
        if let Some(&last) = word.last().filter(|_| word != b"null") {
            let at = self.bytes - 1;
            return Err(NoResult::Unexpected { at, found: char::from(last), expected: "the end of null" });
        }
        self.place = if self.in_object { Place::FieldEnd } else { Place::Done };
        Ok(())
    }

    fn in_name(&mut self, byte: u8, escaped: bool) {
        self.place = match byte {
            b'"' if !escaped => Place::Colon,
            _ => {
                if self.key.len() < KEPT {
                    self.key.push(byte);
                }
                Place::InName(byte == b'\\' && !escaped)
            }
        };
    }

    /// Keeps what a field says of a failure.
    fn keep(&mut self, piece: &[u8]) {
        let kept = if self.key.eq_ignore_ascii_case(b"status") {
            &mut self.status
        } else if self.key.eq_ignore_ascii_case(b"message") {
            &mut self.message
        } else if !self.in_object || self.is_list() {
            &mut self.word
        } else {
            return;
        };
        let room = KEPT.saturating_sub(kept.len()).min(piece.len());
        kept.extend_from_slice(&piece[..room]);
    }
}

/// A value that is passed over: how deep we are in it, and whether within a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Value {
    depth: u64,
    in_text: bool,
    /// Behind a backslash in a text.
    escaped: bool,
    /// A number or a word, which ends before what cannot be a part of it.
    is_scalar: bool,
}

impl Value {
    const SCALAR: Self = Self { depth: 0, in_text: false, escaped: false, is_scalar: true };

    /// The value that begins with this byte, which is still to be taken.
    fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'{' | b'[' | b'"' => Some(Self::default()),
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => Some(Self::SCALAR),
            _ => None,
        }
    }

    /// Takes as much of a piece as belongs to the value, and says whether it has ended.
    fn take(&mut self, piece: &[u8]) -> (usize, bool) {
        if self.is_scalar {
            let end = piece.iter().position(|byte| b" \t\r\n,]}".contains(byte));
            return (end.unwrap_or(piece.len()), end.is_some());
        }
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            if self.in_text {
                if std::mem::take(&mut self.escaped) {
                    at += 1;
                    continue;
                }
                let Some(distance) = memchr2(b'"', b'\\', &piece[at..]) else { return (piece.len(), false) };
                at += distance + 1;
                if piece[at - 1] == b'\\' {
                    self.escaped = true;
                    continue;
                }
                self.in_text = false;
            } else {
                at += 1;
                match byte {
                    b'"' => {
                        self.in_text = true;
                        continue;
                    }
                    b'{' | b'[' => {
                        self.depth += 1;
                        continue;
                    }
                    b'}' | b']' => self.depth -= 1,
                    _ => continue,
                }
            }
            if self.depth == 0 {
                return (at, true);
            }
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests;
