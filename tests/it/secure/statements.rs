//! SQL is checked text with bound values. What has to be put together at run time, for a table or a column is named by a file,
//! is put together in one place, which quotes.

use std::fs;
use std::path::Path;

use crate::floors::files;

/// Where statements are put together: `mirror/table.rs` and the files below it.
const MAKER: &str = "mirror/table";
/// How a statement begins.
const VERBS: [&str; 14] = [
    "select ",
    "insert into ",
    "update ",
    "delete from ",
    "merge into ",
    "with \"",
    "copy ",
    "create ",
    "alter ",
    "drop ",
    "truncate ",
    "lock table ",
    "comment on ",
    "analyze ",
];

/// The source files, by their path below `src`, without their tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all = files(&root).into_iter().map(|(_, path)| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
        (path.strip_prefix(&root).unwrap().display().to_string(), code)
    });
    all.filter(|(path, _)| !path.contains("tests") && !path.contains("fuzzing")).collect()
}

/// Texts with places to fill in that look like statements.
fn made_statements(code: &str) -> Vec<&str> {
    let macros = ["format!(", "write!(", "writeln!(", "concat!("];
    let starts = macros.into_iter().flat_map(|name| code.match_indices(name).map(move |(at, _)| at + name.len()));
    starts
        .filter_map(|at| {
            let rest = &code[at..];
            let text = &rest[rest.find('"')? + 1..];
            let text = &text[..text.find('"')?];
            let begins = text.trim_start_matches(['\\', '\n', ' ']).to_ascii_lowercase();
            let is_statement = VERBS.iter().any(|verb| begins.starts_with(verb)) && text.contains('{');
            is_statement.then_some(text)
        })
        .collect()
}

#[test]
fn statements_are_put_together_in_one_place() {
    let mut made_there = 0;
    for (path, code) in sources() {
        let made = made_statements(&code);
        if path.starts_with(MAKER) {
            made_there += made.len();
        } else {
            assert!(
                made.is_empty(),
                "{path} puts a statement together: {made:?}; that belongs into src/mirror/table.rs"
            );
        }
    }
    assert!(made_there > 10, "{made_there}");
}

#[test]
fn only_what_was_put_together_there_is_sent_unchecked() {
    let mut sent = 0;
    for (path, code) in sources() {
        let unchecked: Vec<_> = code.match_indices("AssertSqlSafe(").map(|(at, _)| &code[at..]).collect();
        assert!(unchecked.is_empty() || path.starts_with("mirror/"), "{path} sends a statement that nobody checked");
        for one in &unchecked {
            let argument = one["AssertSqlSafe(".len()..].trim_start();
            assert!(
                !argument.starts_with("format!") && !argument.starts_with('&'),
                "{path}: {}",
                &one[..60.min(one.len())]
            );
        }
        sent += unchecked.len();
    }
    assert!(sent > 10, "{sent}");
}

#[test]
fn a_statement_put_together_elsewhere_is_found() {
    let code = r#"let q = format!("select * from {table}"); write!(q, "  DELETE FROM {table}");"#;
    assert_eq!(made_statements(code).len(), 2);
    assert!(made_statements(r#"format!("selected {rows} rows"); format!("select one")"#).is_empty());
}
