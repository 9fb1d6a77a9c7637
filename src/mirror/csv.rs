//! Cuts a CSV file into records, in bounded memory, and says which records are malformed. It knows no columns and no types.
//!
//! RFC 4180 with LF or CRLF, with or without a byte order mark. A quote inside a field that did not begin with one is
//! text, as ordinary readers have it. Lines with nothing on them are skipped.
//!
//! Where quoting is broken nobody knows where the record ends. Then the first line of it is malformed and reading goes on
//! with the next line, so that a stray quote costs its own line and never swallows those behind it. A record that is too long
//! to be held is skipped to its end where a second handle on the file can tell that end, and else to the end of its line.

use std::fs::File;
use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2};

use super::records::{Field, Input, Item, Malformed, Record};

pub(super) use again::Again;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads records one after the other.
pub(super) struct Reader<R> {
    input: Input<R>,
    /// What the last item took: bytes and lines, dropped by the next call.
    taken: (usize, u64),
    skips_line: bool,
    /// Where the long record ends that is being skipped.
    skips_until: u64,
    ahead: Option<File>,
    line: u64,
    width: Option<usize>,
    fields: Vec<Field>,
    unescaped: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub fn new(source: R) -> Self {
        Self {
            input: Input::new(source),
            taken: (0, 0),
            skips_line: false,
            skips_until: 0,
            ahead: None,
            line: 1,
            width: None,
            fields: Vec::new(),
            unescaped: Vec::new(),
        }
    }

    /// Looks for the ends of long records in this file, which is the source's own.
    pub fn look_ahead_in(&mut self, file: File) {
        self.ahead = Some(file);
    }

    /// From here on a record has so many fields.
    pub fn expect_fields(&mut self, width: usize) {
        self.width = Some(width);
    }

    /// The next record; `None` at the end of the file.
    pub fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        self.drop_taken();
        if self.input.offset == 0 {
            self.skip_byte_order_mark()?;
        }
        if self.skips_line {
            self.skip_rest_of_line()?;
        }
        self.skip_long_record()?;
        loop {
            let data = self.input.data();
            match split(data, self.input.ended, &mut self.fields, &mut self.unescaped) {
                Split::End => return Ok(None),
                Split::More if self.input.is_full() => return self.long_record().map(Some),
                Split::More => self.input.fill()?,
                Split::Broken(_) if !self.input.is_full() && memchr(b'\n', data).is_none() => self.input.fill()?,
                Split::Broken(reason) => return Ok(Some(self.malformed(reason))),
                Split::Blank { taken } => {
                    self.taken = (taken, 1);
                    self.drop_taken();
                }
                Split::Record { content, taken, lines } => match self.width {
                    Some(expected) if lines > 1 && self.fields.len() != expected => match self.second_line(expected) {
                        SecondLine::Cut if !self.input.is_full() => self.input.fill()?,
                        SecondLine::Whole => return Ok(Some(self.malformed(Malformed::UnclosedQuote))),
                        SecondLine::Cut | SecondLine::Other => {
                            return Ok(Some(self.record(content, taken, lines)));
                        }
                    },
                    _ => return Ok(Some(self.record(content, taken, lines))),
                },
            }
        }
    }

    fn record(&mut self, content: usize, taken: usize, lines: u64) -> Item<'_> {
        let found = self.fields.len();
        let expected = self.width.unwrap_or(found);
        self.taken = (taken, lines);
        let raw = &self.input.data()[..content];
        if found != expected {
            return Item::Malformed { line: self.line, raw, reason: Malformed::FieldCount { expected, found } };
        }
        Item::Record(Record {
            line: self.line,
            offset: self.input.offset,
            raw,
            fields: &self.fields,
            unescaped: &self.unescaped,
        })
    }

    /// What the second line of a record with the wrong number of fields is by itself.
    fn second_line(&self, expected: usize) -> SecondLine {
        let data = self.input.data();
        let Some(line_end) = memchr(b'\n', data) else { return SecondLine::Other };
        let mut fields = Vec::new();
        match split(&data[line_end + 1..], self.input.ended, &mut fields, &mut Vec::new()) {
            Split::Record { lines: 1, .. } if fields.len() == expected => SecondLine::Whole,
            Split::More => SecondLine::Cut,
            Split::End | Split::Broken(_) | Split::Blank { .. } | Split::Record { .. } => SecondLine::Other,
        }
    }

    /// A record that does not end within what can be held: all of it, or the line it starts on where nobody knows its end.
    fn long_record(&mut self) -> io::Result<Item<'_>> {
        let end = match &self.ahead {
            Some(file) => ahead::end_of_record(file, self.input.offset)?,
            None => None,
        };
        let Some(end) = end else { return Ok(self.malformed(Malformed::LongRecord)) };
        self.skips_until = end;
        Ok(Item::Malformed { line: self.line, raw: self.input.data(), reason: Malformed::LongRecord })
    }

    /// The line that the record starts on, whatever it holds.
    fn malformed(&mut self, reason: Malformed) -> Item<'_> {
        let data = self.input.data();
        let line_end = memchr(b'\n', data);
        self.skips_line = line_end.is_none() && !self.input.ended;
        self.taken = line_end.map_or((data.len(), 0), |line_end| (line_end + 1, 1));
        let raw = &data[..line_end.unwrap_or(data.len())];
        Item::Malformed { line: self.line, raw: raw.strip_suffix(b"\r").unwrap_or(raw), reason }
    }

    fn drop_taken(&mut self) {
        let (bytes, lines) = std::mem::take(&mut self.taken);
        self.input.drop(bytes);
        self.line += lines;
    }

    fn skip_long_record(&mut self) -> io::Result<()> {
        while self.input.offset < self.skips_until {
            let left = usize::try_from(self.skips_until - self.input.offset).unwrap_or(usize::MAX);
            let data = self.input.data();
            let data = &data[..left.min(data.len())];
            self.taken = (data.len(), memchr_iter(b'\n', data).count() as u64);
            self.drop_taken();
            if self.input.offset == self.skips_until || self.input.ended {
                break;
            }
            self.input.fill()?;
        }
        Ok(())
    }

    fn skip_rest_of_line(&mut self) -> io::Result<()> {
        loop {
            let data = self.input.data();
            if let Some(line_end) = memchr(b'\n', data) {
                self.taken = (line_end + 1, 1);
                self.drop_taken();
                break;
            }
            self.taken = (data.len(), 0);
            self.drop_taken();
            if self.input.ended {
                break;
            }
            self.input.fill()?;
        }
        self.skips_line = false;
        Ok(())
    }

    fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        while self.input.data().len() < BYTE_ORDER_MARK.len() && !self.input.ended {
            self.input.fill()?;
        }
        if self.input.data().starts_with(BYTE_ORDER_MARK) {
            self.taken = (BYTE_ORDER_MARK.len(), 0);
            self.drop_taken();
        }
        Ok(())
    }
}

enum SecondLine {
    /// A good record: then the first line holds a quote that was never closed.
    Whole,
    /// Not yet read to its end.
    Cut,
    Other,
}

/// What stands at the beginning of a piece of the file.
enum Split {
    /// Nothing, and nothing will come.
    End,
    /// A record that goes on behind the piece.
    More,
    Broken(Malformed),
    Blank {
        taken: usize,
    },
    Record {
        content: usize,
        taken: usize,
        lines: u64,
    },
}

fn split(data: &[u8], ended: bool, fields: &mut Vec<Field>, unescaped: &mut Vec<u8>) -> Split {
    fields.clear();
    unescaped.clear();
    if data.is_empty() {
        return if ended { Split::End } else { Split::More };
    }
    match memchr2(b'\n', b'"', data) {
        Some(at) if data[at] == b'"' => split_quoted(data, ended, fields, unescaped),
        Some(line_end) => split_plain(data, line_end, line_end + 1, fields),
        None if ended => split_plain(data, data.len(), data.len(), fields),
        None => Split::More,
    }
}

/// A line without any quote.
fn split_plain(data: &[u8], line_end: usize, taken: usize, fields: &mut Vec<Field>) -> Split {
    let line = &data[..line_end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Split::Blank { taken };
    }
    let mut from = 0;
    for to in memchr_iter(b',', line) {
        fields.push(Field { from, to, unescaped: false });
        from = to + 1;
    }
    fields.push(Field { from, to: line.len(), unescaped: false });
    Split::Record { content: line.len(), taken, lines: 1 }
}

fn split_quoted(data: &[u8], ended: bool, fields: &mut Vec<Field>, unescaped: &mut Vec<u8>) -> Split {
    let mut at = 0;
    let mut lines = 1;
    loop {
        let content;
        if data.get(at) == Some(&b'"') {
            let close = match quoted_field(data, at + 1, ended, unescaped) {
                Ok((field, close)) => {
                    fields.push(field);
                    close
                }
                Err(split) => return split,
            };
            lines += memchr_iter(b'\n', &data[at..close]).count() as u64;
            at = close + 1;
            content = at;
            match &data[at..] {
                [b',', ..] => {
                    at += 1;
                    continue;
                }
                [b'\n', ..] => at += 1,
                [b'\r', b'\n', ..] => at += 2,
                [b'\r'] | [] if !ended => return Split::More,
                rest @ ([b'\r'] | []) => at += rest.len(),
                _ => return Split::Broken(Malformed::TextAfterQuote),
            }
        } else {
            let rest = &data[at..];
            let length = match memchr2(b',', b'\n', rest) {
                Some(length) => length,
                None if ended => rest.len(),
                None => return Split::More,
            };
            if rest.get(length) == Some(&b',') {
                fields.push(Field { from: at, to: at + length, unescaped: false });
                at += length + 1;
                continue;
            }
            let text = &rest[..length];
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            fields.push(Field { from: at, to: at + text.len(), unescaped: false });
            content = at + text.len();
            at = (at + length + 1).min(data.len());
        }
        return Split::Record { content, taken: at, lines };
    }
}

/// The field that begins at `from`, behind its opening quote, and where its closing quote stands.
fn quoted_field(data: &[u8], from: usize, ended: bool, unescaped: &mut Vec<u8>) -> Result<(Field, usize), Split> {
    let unescaped_from = unescaped.len();
    let mut piece = from;
    loop {
        let Some(distance) = memchr(b'"', &data[piece..]) else {
            return Err(if ended { Split::Broken(Malformed::UnclosedQuote) } else { Split::More });
        };
        let quote = piece + distance;
        match data.get(quote + 1) {
            Some(b'"') => {
                unescaped.extend_from_slice(&data[piece..=quote]);
                piece = quote + 2;
            }
            None if !ended => return Err(Split::More),
            _ if piece == from => return Ok((Field { from, to: quote, unescaped: false }, quote)),
            _ => {
                unescaped.extend_from_slice(&data[piece..quote]);
                return Ok((Field { from: unescaped_from, to: unescaped.len(), unescaped: true }, quote));
            }
        }
    }
}

mod again;
mod ahead;
#[cfg(test)]
mod tests;
