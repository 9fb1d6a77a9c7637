//! Plain tables for terminals: aligned columns, no frames.

use std::borrow::Cow;

/// A table that is printed once it is whole.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
    most: Option<usize>,
}

/// Columns of text are not cut shorter than this.
const LEAST: usize = 6;

impl Table {
    /// A table with these columns; a name that begins with `>` is a column of numbers, set to the right.
    pub fn new(columns: &[&'static str]) -> Self {
        Self {
            header: columns.iter().map(|name| name.trim_start_matches('>')).collect(),
            right: columns.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
            most: None,
        }
    }

    /// The same, with its widest texts cut so that no line is longer.
    pub fn within(mut self, most: usize) -> Self {
        self.most = Some(most);
        self
    }

    /// The width of each column.
    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.header[column].len()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let Some(most) = self.most else { return widths };
        while widths.iter().sum::<usize>() + 2 * widths.len() > most {
            let texts = (0..widths.len()).filter(|column| !self.right[*column] && widths[*column] > LEAST);
            let Some(widest) = texts.max_by_key(|column| widths[*column]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    /// Adds a row with as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths = self.widths();
        let header: Vec<String> = self.header.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::from("  ");
            for (column, cell) in row.iter().enumerate() {
                let cell = cut(cell, widths[column]);
                let padding = " ".repeat(widths[column] - cell.chars().count());
                let (before, after) =
                    if self.right[column] { (padding, String::new()) } else { (String::new(), padding) };
                line.push_str(&before);
                line.push_str(&cell);
                line.push_str(&after);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn cut(cell: &str, width: usize) -> Cow<'_, str> {
    if cell.chars().count() <= width {
        return Cow::Borrowed(cell);
    }
    Cow::Owned(cell.chars().take(width.saturating_sub(1)).chain(['…']).collect())
}

/// A text in lines of at most `width`, the first of which begins with `first` and the others with blanks of the same length;
/// a word that is longer stays whole.
pub(super) fn wrapped(first: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(first.chars().count());
    let (mut whole, mut line) = (String::new(), first.to_owned());
    for word in text.split_whitespace() {
        let is_first = line.trim_end() == first.trim_end() || line == indent;
        if !is_first && line.chars().count() + 1 + word.chars().count() > width {
            whole.push_str(&line);
            whole.push('\n');
            line.clone_from(&indent);
            line.push_str(word);
            continue;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    whole + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_too_wide_cuts_its_texts_and_no_number() {
        let mut table = Table::new(&["export", "why", ">rows"]).within(30);
        table.row(vec!["actions".to_owned(), "because of something long".to_owned(), "1,200".to_owned()]);
        let text = table.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert!(text.contains('…') && text.contains("actions") && text.contains("1,200"), "{text}");
    }

    #[test]
    fn a_long_text_is_broken_between_words() {
        assert_eq!(wrapped("! ", "one two three four", 12), "! one two\n  three four\n");
        assert_eq!(wrapped("! ", "one", 12), "! one\n");
        assert_eq!(wrapped("  ", "a-very-long-word is whole", 8), "  a-very-long-word\n  is\n  whole\n");
    }

    #[test]
    fn columns_are_aligned_and_numbers_set_right() {
        let mut table = Table::new(&["export", ">rows"]);
        table.row(vec!["actions".to_owned(), "1,200".to_owned()]);
        table.row(vec!["clicks".to_owned(), "7".to_owned()]);
        assert_eq!(table.to_string(), "  export    rows\n  actions  1,200\n  clicks       7\n");
    }
}
