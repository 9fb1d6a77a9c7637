//! Writes a table as CSV, JSON or XML, row by row, holding one row at a time.

use std::io::{self, Write};

use super::request::Drift;

/// The formats of a result file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Commas, a header, double quotes.
    Csv,
    /// One object with an array of records.
    Json,
    /// Elements.
    Xml,
}

/// What is around the records of a JSON file, and in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonShape {
    /// An object with the list alone.
    Object,
    /// An object with paging keys before and behind the list.
    Paged,
    /// The list itself.
    Bare,
    /// As the first, but empty values are null, and some are left out behind the first record.
    Sparse,
}

/// How a file is put together, beside its format.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// The format.
    pub format: Format,
    /// What a JSON file looks like.
    pub json: JsonShape,
    /// A byte order mark and CRLF (CSV only).
    pub bom_crlf: bool,
    /// Whether a table without rows is a file without bytes.
    pub empty_is_nothing: bool,
    /// Rows beyond this number are left out without a word.
    pub row_cap: Option<u64>,
    /// What has changed about the columns.
    pub drift: Drift,
}

impl Dialect {
    /// Plain CSV.
    pub fn plain() -> Self {
        Self {
            format: Format::Csv,
            json: JsonShape::Object,
            bom_crlf: false,
            empty_is_nothing: false,
            row_cap: None,
            drift: Drift::None,
        }
    }
}

/// A table that is being written.
pub struct Table<W> {
    out: W,
    dialect: Dialect,
    names: Vec<String>,
    list: &'static str,
    row: Vec<u8>,
    field: usize,
    rows: u64,
    started: bool,
}

impl<W: Write> Table<W> {
    /// A table with these columns; `list` is what JSON calls the rows.
    pub fn new(out: W, dialect: Dialect, names: &[&str], list: &'static str) -> Self {
        let mut names: Vec<String> = match dialect.drift {
            Drift::LowerCase => names.iter().map(|name| name.to_lowercase()).collect(),
            Drift::None | Drift::ExtraColumn => names.iter().map(|name| (*name).to_owned()).collect(),
        };
        if dialect.drift == Drift::ExtraColumn {
            names.push("New_Column".into());
        }
        Self { out, dialect, names, list, row: Vec::with_capacity(1024), field: 0, rows: 0, started: false }
    }

    /// Whether more rows would be left out anyway.
    pub fn is_full(&self) -> bool {
        self.dialect.row_cap.is_some_and(|cap| self.rows >= cap)
    }

    /// Adds the next value of the row.
    pub fn field(&mut self, value: &str) {
        let first = self.field == 0;
        match self.dialect.format {
            Format::Csv => {
                if !first {
                    self.row.push(b',');
                }
                csv_value(value, &mut self.row);
            }
            Format::Json => self.json_field(value),
            Format::Xml => {
                let name = &self.names[self.field];
                let _ = write!(self.row, "<{name}>");
                self.row.extend_from_slice(xml_text(value).as_bytes());
                let _ = write!(self.row, "</{name}>");
            }
        }
        self.field += 1;
    }

    fn json_field(&mut self, value: &str) {
        let is_sparse = self.dialect.json == JsonShape::Sparse && value.is_empty();
        if is_sparse && self.rows > 0 && self.field.is_multiple_of(2) {
            return;
        }
        self.row.push(if self.row.is_empty() { b'{' } else { b',' });
        json_value(&self.names[self.field], &mut self.row);
        self.row.push(b':');
        if is_sparse {
            self.row.extend_from_slice(b"null");
        } else {
            json_value(value, &mut self.row);
        }
    }

    /// Ends the row.
    pub fn end_row(&mut self) -> io::Result<()> {
        if self.dialect.drift == Drift::ExtraColumn {
            self.field("new");
        }
        debug_assert_eq!(self.field, self.names.len(), "a row has as many fields as the table has columns");
        self.field = 0;
        if self.is_full() {
            self.row.clear();
            return Ok(());
        }
        self.start()?;
        match self.dialect.format {
            Format::Csv => self.row.extend_from_slice(self.line_end()),
            Format::Json => {
                if self.rows > 0 {
                    self.out.write_all(b",\n")?;
                }
                if self.row.is_empty() {
                    self.row.push(b'{');
                }
                self.row.push(b'}');
            }
            Format::Xml => {
                self.out.write_all(b"<Record>")?;
                self.row.extend_from_slice(b"</Record>\n");
            }
        }
        self.out.write_all(&self.row)?;
        self.row.clear();
        self.rows += 1;
        Ok(())
    }

    /// Writes what is still missing and gives back the writer and the number of rows.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        if self.rows == 0 && self.dialect.empty_is_nothing {
            return Ok((self.out, 0));
        }
        self.start()?;
        match self.dialect.format {
            Format::Csv => {}
            Format::Json => match self.dialect.json {
                JsonShape::Object | JsonShape::Sparse => self.out.write_all(b"]}")?,
                JsonShape::Paged => write!(self.out, "],\"@total\":\"{}\",\"@nextpageuri\":\"\"}}", self.rows)?,
                JsonShape::Bare => self.out.write_all(b"]")?,
            },
            Format::Xml => self.out.write_all(b"</Records></ImpactRadiusResponse>\n")?,
        }
        Ok((self.out, self.rows))
    }

    fn line_end(&self) -> &'static [u8] {
        if self.dialect.bom_crlf { b"\r\n" } else { b"\n" }
    }

    fn start(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        match self.dialect.format {
            Format::Csv => {
                if self.dialect.bom_crlf {
                    self.out.write_all("\u{FEFF}".as_bytes())?;
                }
                self.out.write_all(self.names.join(",").as_bytes())?;
                self.out.write_all(self.line_end())
            }
            Format::Json => match self.dialect.json {
                JsonShape::Object | JsonShape::Sparse => write!(self.out, "{{\"{}\":[", self.list),
                JsonShape::Paged => write!(self.out, "{{\"@page\":\"1\",\"@numpages\":\"1\",\"{}\":[", self.list),
                JsonShape::Bare => self.out.write_all(b"["),
            },
            Format::Xml => write!(
                self.out,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ImpactRadiusResponse><Records page=\"1\" numpages=\"1\">\n"
            ),
        }
    }
}

fn csv_value(value: &str, row: &mut Vec<u8>) {
    if !value.contains(['"', ',', '\n', '\r']) {
        row.extend_from_slice(value.as_bytes());
        return;
    }
    row.push(b'"');
    for byte in value.bytes() {
        if byte == b'"' {
            row.push(b'"');
        }
        row.push(byte);
    }
    row.push(b'"');
}

fn json_value(value: &str, row: &mut Vec<u8>) {
    // Writing a string to a vector cannot fail.
    let _ = serde_json::to_writer(row, value);
}

/// Text as it stands between XML tags.
pub fn xml_text(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dialect: Dialect, rows: &[[&str; 2]]) -> String {
        let mut table = Table::new(Vec::new(), dialect, &["A", "B_b"], "Records");
        for row in rows {
            for value in row {
                table.field(value);
            }
            table.end_row().unwrap();
        }
        String::from_utf8(table.finish().unwrap().0).unwrap()
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let text = written(Dialect::plain(), &[["plain", "a,\"b\"\nc"], ["", " "]]);
        assert_eq!(text, "A,B_b\nplain,\"a,\"\"b\"\"\nc\"\n, \n");
    }

    #[test]
    fn the_other_formats_hold_the_same_rows() {
        let json = written(Dialect { format: Format::Json, ..Dialect::plain() }, &[["1", "x\"y"], ["2", ""]]);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value, serde_json::json!({"Records": [{"A": "1", "B_b": "x\"y"}, {"A": "2", "B_b": ""}]}));
        let shaped = |json| written(Dialect { format: Format::Json, json, ..Dialect::plain() }, &[["", "x"], ["", ""]]);
        assert_eq!(shaped(JsonShape::Sparse), "{\"Records\":[{\"A\":null,\"B_b\":\"x\"},\n{\"B_b\":null}]}");
        assert_eq!(shaped(JsonShape::Bare), "[{\"A\":\"\",\"B_b\":\"x\"},\n{\"A\":\"\",\"B_b\":\"\"}]");
        let paged: serde_json::Value = serde_json::from_str(&shaped(JsonShape::Paged)).unwrap();
        assert_eq!((&paged["@page"], &paged["@total"]), (&"1".into(), &"2".into()));
        let xml = written(Dialect { format: Format::Xml, ..Dialect::plain() }, &[["1", "<&>"]]);
        assert!(xml.contains("<Record><A>1</A><B_b>&lt;&amp;&gt;</B_b></Record>"));
    }

    #[test]
    fn an_empty_table_is_a_header_or_nothing() {
        assert_eq!(written(Dialect::plain(), &[]), "A,B_b\n");
        assert_eq!(written(Dialect { empty_is_nothing: true, ..Dialect::plain() }, &[]), "");
    }

    #[test]
    fn drift_changes_the_columns_and_the_cap_cuts() {
        let extra = Dialect { drift: Drift::ExtraColumn, row_cap: Some(1), ..Dialect::plain() };
        assert_eq!(written(extra, &[["1", "2"], ["3", "4"]]), "A,B_b,New_Column\n1,2,new\n");
        let lower = Dialect { drift: Drift::LowerCase, bom_crlf: true, ..Dialect::plain() };
        assert_eq!(written(lower, &[]), "\u{FEFF}a,b_b\r\n");
    }
}
