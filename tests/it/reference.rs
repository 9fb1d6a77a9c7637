//! docs/configuration.md is made from the example configuration, which explains every setting. `UPDATE_DOCS=1` writes it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Configuration

<!-- Made from config/impact-mirror.example.toml; a test holds it up to date (UPDATE_DOCS=1 cargo test --test it reference). -->

One TOML file: `./impact-mirror.toml`, else `/etc/impact-mirror/impact-mirror.toml`, or the one that `--config` names. Every key can be set by an
environment variable instead, levels parted by two underscores: `IMPACT_MIRROR__DATABASE__URL`. Unknown keys are refused. Secrets are named, as
an environment variable, a file or a credential of systemd, and never stand in the file. `impact-mirror check` tries everything.
A change is applied by SIGHUP (docs/upgrade.md says how, and which keys need a restart).
A value in brackets is an example, for a setting without a default.
";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A line that sets a key, commented out or not: whether it is, the key, the value and what is said behind it.
fn setting(line: &str) -> Option<(bool, &str, &str, &str)> {
    let (commented, rest) = line.strip_prefix("# ").map_or((false, line), |rest| (true, rest));
    let (key, value) = rest.split_once(" = ")?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (value, said) = value.split_once(" # ").map_or((value, ""), |(value, said)| (value.trim_end(), said.trim()));
    is_key.then_some((commented, key, value, said))
}

/// The name of a section, commented out or not.
fn section(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    line.strip_prefix('[')?.strip_suffix(']')
}

fn reference(example: &str) -> String {
    let mut text = HEAD.to_owned();
    let mut said: Vec<&str> = Vec::new();
    let mut open = false; // a table has been begun
    let mut begun = false; // past the words about the whole file
    for line in example.lines() {
        if let Some(name) = section(line) {
            let _ = write!(text, "\n## `[{name}]`\n");
            if !said.is_empty() {
                let _ = write!(text, "\n{}\n", said.join(" "));
            }
            said.clear();
            (open, begun) = (false, true);
        } else if let Some((commented, key, value, behind)) = setting(line) {
            if !begun {
                text.push_str("\n## At the top\n");
                begun = true;
            }
            if !open {
                text.push_str("\n| key | default | what for |\n| --- | --- | --- |\n");
                open = true;
            }
            let words = said.drain(..).chain((!behind.is_empty()).then_some(behind)).collect::<Vec<_>>().join(" ");
            let value = if commented { format!("`{value}`") } else { format!("(`{value}`)") };
            let _ = writeln!(text, "| `{key}` | {} | {} |", value.replace('|', "\\|"), words.replace('|', "\\|"));
        } else if line.is_empty() {
            if begun && open && !said.is_empty() {
                let _ = write!(text, "\n{}\n", said.join(" "));
            }
            if !begun || open {
                said.clear();
            }
        } else {
            said.push(line.trim_start_matches('#').trim());
        }
    }
    text
}

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    let example = std::fs::read_to_string(path("config/impact-mirror.example.toml")).unwrap();
    let expected = reference(&example);
    let file = path("docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "docs/configuration.md is not what the example says; UPDATE_DOCS=1 writes it anew");
}

/// The keys that the code reads, by the calls of its reader.
#[test]
fn the_example_names_every_key_that_is_read() {
    let example = std::fs::read_to_string(path("config/impact-mirror.example.toml")).unwrap();
    let mut missing = Vec::new();
    for file in ["sections.rs", "accounts.rs", "exports.rs", "report_fields.rs", "receivers.rs", "own_entries.rs"] {
        let code = std::fs::read_to_string(path("src/config").join(file)).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        for (at, _) in code.match_indices("(\"") {
            let key = code[at + 2..].split('"').next().unwrap_or_default();
            let is_key =
                key.len() > 1 && !key.ends_with('_') && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_key && !example.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).any(|word| word == key) {
                missing.push(key.to_owned());
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "keys that config/impact-mirror.example.toml does not name");
}
