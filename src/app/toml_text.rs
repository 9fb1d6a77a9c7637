//! TOML as people write it: texts, lists and comments.

/// A text in quotes.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A list of texts.
pub fn quoted_list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

/// A comment in lines that fit a terminal; empty for nothing. Whatever comes from outside stays in the comment.
pub fn remark(text: &str) -> String {
    const WIDTH: usize = 110;
    let mut whole = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| !c.is_control()).collect();
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            whole += &line;
            whole.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line += &word;
    }
    if line.len() > 1 {
        whole += &line;
        whole.push('\n');
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_stays_one_whatever_it_holds() {
        assert_eq!(remark(""), "");
        assert_eq!(remark("one\n[two]\r\u{7}x"), "# one [two] x\n");
        let long = remark(&"word ".repeat(60));
        assert!(
            long.lines().count() > 2 && long.lines().all(|line| line.starts_with("# ") && line.len() <= 110),
            "{long}"
        );
    }

    #[test]
    fn texts_are_quoted_as_toml_reads_them() {
        for text in ["plain", "with \"quotes\"", "back\\slash", "lines\nof it", "Söhne"] {
            let read: toml::Table = toml::from_str(&format!("a = {}", quoted(text))).expect("TOML");
            assert_eq!(read["a"].as_str(), Some(text));
        }
    }
}
