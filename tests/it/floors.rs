//! The map of the modules: arrows point down only, and modules on the same floor do not know each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where each module of the library stands. `main` is read with them: a crate of its own, the step before the door.
const FLOORS: [(u32, &[&str]); 8] = [
    (7, &["main"]),
    (6, &["cli", "lib"]),
    (5, &["app", "telemetry"]),
    (4, &["http", "sandbox"]),
    (3, &["scheduler", "worker"]),
    (2, &["impact", "store", "mirror", "spool", "archive", "embedded", "systemd", "webhook"]),
    (1, &["job", "plan", "config"]),
    (
        0,
        &[
            "account",
            "alert",
            "column",
            "doubt",
            "export",
            "failpoint",
            "figures",
            "json",
            "memory",
            "retry",
            "thread",
            "clock",
            "metrics",
            "error_chain",
            "pulse",
            "wake",
        ],
    ),
];

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

/// One module of the library that names another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
}

/// What the modules named in the same text say about each other.
fn arrows(module: &str, source: &str) -> BTreeSet<Arrow> {
    let code = without_comments_and_texts(source);
    let mut targets = BTreeSet::new();
    for root in ["crate::", "impact_mirror::"] {
        for (at, _) in code.match_indices(root) {
            let whole_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if whole_word {
                targets.extend(first_segments(&code[at + root.len()..]));
            }
        }
    }
    // `self` in `use crate::{self, …}` and items of the root itself have no floor of their own.
    let is_module = |name: &String| name.starts_with(|c: char| c.is_lowercase()) && name != "self" && name != module;
    targets.into_iter().filter(is_module).map(|to| Arrow { from: module.to_owned(), to }).collect()
}

/// The names that follow `crate::`: one, or each at the first level of a group in braces.
fn first_segments(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let Some(group) = rest.trim_start().strip_prefix('{') else { return vec![name(rest)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                names.push(name(&group[start..at]));
                break;
            }
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

/// The source with what the compiler does not read as code taken away.
fn without_comments_and_texts(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"")
            || rest.starts_with("r#") && rest[1..].trim_start_matches('#').starts_with('"')
        {
            let fence = rest[1..].find('"').unwrap_or_default();
            let end = format!("\"{}", "#".repeat(fence));
            let open = 1 + fence + 1;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if c == '"' {
            text_length(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(rest.len(), |at| at + 2)
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The length of the text in quotes that `rest` begins with, the quotes included.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Every source file with the module of the first level that it belongs to.
pub fn files(directory: &Path) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let first = path.strip_prefix(directory).unwrap().components().next().unwrap();
                let module = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
                files.push((module, path));
            }
        }
    }
    files
}

/// What is wrong with an arrow, if anything is.
fn fault(arrow: &Arrow) -> Option<String> {
    let Arrow { from, to } = arrow;
    match (floor(from), floor(to)) {
        (None, _) => Some(format!("{from} is not on the map")),
        (_, None) => Some(format!("{from} names {to}, which is not on the map")),
        (Some(above), Some(below)) if above > below => None,
        (Some(above), Some(below)) => {
            Some(format!("{from} (floor {above}) names {to} (floor {below}); arrows point down only"))
        }
    }
}

#[test]
fn arrows_point_down_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = BTreeSet::new();
    for (module, path) in files(&source) {
        if floor(&module).is_none() {
            faults.insert(format!("{module} is not on the map"));
        }
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(&source).unwrap().display().to_string();
        faults.extend(arrows(&module, &text).iter().filter_map(fault).map(|fault| format!("{shown}: {fault}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn arrows_are_found_in_every_form() {
    let source = r##"
        //! See crate::comment.
        use crate::store::{self, Job};
        use crate::{account::{AccountName, Persona}, export, Root};
        /* crate::block */
        const TEXT: &str = "crate::text \" crate::more";
        const RAW: &str = r#"crate::raw "quoted" "#;
        fn f(quote: char) -> crate::retry::ErrorKind { if quote == '"' { other::crate::no() } else { impact_mirror::plan::f() } }
        pub(crate) use crate::mirror::x;
    "##;
    let found: Vec<String> = arrows("mirror", source).into_iter().map(|arrow| arrow.to).collect();
    assert_eq!(found, ["account", "export", "plan", "retry", "store"]);
}

#[test]
fn arrows_up_and_sideways_are_faults() {
    let arrow = |from: &str, to: &str| Arrow { from: from.to_owned(), to: to.to_owned() };
    assert_eq!(fault(&arrow("store", "job")), None);
    assert!(fault(&arrow("job", "store")).unwrap().contains("point down only"));
    assert!(fault(&arrow("store", "mirror")).unwrap().contains("point down only"));
    assert!(fault(&arrow("store", "utils")).unwrap().contains("not on the map"));
}
