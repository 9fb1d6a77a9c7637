//! Where secrets come from: an environment variable, a file, or a credential of systemd. Never the configuration itself.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::environment::Environment;
use super::reader::{Found, Section};

const SOURCES: &str = "{ env = \"VARIABLE\" }, { file = \"/path\" } or { credential = \"name\" }";

/// Reads the secret `name`, which must be there.
pub(super) fn require(section: &mut Section, name: &'static str, environment: &Environment) -> Option<SecretString> {
    read(section.require(name, SOURCES)?, environment)
}

/// Reads a secret.
pub(super) fn read(found: Found, environment: &Environment) -> Option<SecretString> {
    if !found.is_table() {
        // A variable of the environment is a place for a secret; a file that people share and commit is not.
        if let (true, Some(text)) = (found.is_from_environment(), found.text()) {
            return not_empty(&found, text, "the variable");
        }
        found.problem(format!("must not stand in the file itself; allowed is {SOURCES}"));
        return None;
    }
    let key = found.key().to_owned();
    let mut section = found.section()?;
    let sources = [section.take("env"), section.take("file"), section.take("credential")];
    let given: Vec<usize> = (0..sources.len()).filter(|index| sources[*index].is_some()).collect();
    let problems = section.problems().clone();
    section.finish();
    let [which] = given[..] else {
        problems.add(key, format!("must name one source; allowed is {SOURCES}"));
        return None;
    };
    let source = sources[which].as_ref()?;
    let name = source.read("a text", |text| (!text.is_empty()).then(|| text.to_owned()))?;
    let read = match which {
        0 => environment
            .get(&name)
            .map(|text| (text.to_owned(), format!("the variable {name}")))
            .ok_or_else(|| format!("names the variable {name}, which is not set or empty; export it, or name a file as {{ file = \"/path\" }}")),
        1 => from_file(Path::new(&name)),
        _ => credential(environment, &name).and_then(|path| from_file(&path)),
    };
    match read {
        Ok((text, place)) => not_empty(source, &text, &place),
        Err(why) => {
            source.problem(why);
            None
        }
    }
}

fn credential(environment: &Environment, name: &str) -> Result<PathBuf, String> {
    if name.contains('/') || name.starts_with('.') {
        return Err(format!("holds {name:?}; allowed is the name of a credential, without a path"));
    }
    let directory = environment.directory("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        format!("names the credential {name}, and systemd passed none; add LoadCredential={name}:/path to the unit")
    })?;
    Ok(directory.join(name))
}

fn from_file(path: &Path) -> Result<(String, String), String> {
    let place = format!("the file {}", path.display());
    let text = fs::read_to_string(path).map_err(|error| format!("names {place}, which cannot be read: {error}; write the secret there, or give this user the right to read it"))?;
    Ok((text, place))
}

fn not_empty(found: &Found, text: &str, place: &str) -> Option<SecretString> {
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.trim().is_empty() {
        found.problem(format!("is empty in {place}; write the secret there"));
        return None;
    }
    if secret.contains(char::is_control) {
        found.problem(format!("holds a line break or another control character in {place}; write it as one line"));
        return None;
    }
    Some(SecretString::from(secret))
}
