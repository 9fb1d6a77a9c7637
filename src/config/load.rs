//! Finds the file, lays the environment over it and checks the whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ::config::{Config, File, FileFormat};

use super::environment::Environment;
use super::reader::{Problem, Problems, Section};
use super::settings::Settings;
use super::{accounts, changes, exports, own_entries, receivers, sections};

/// Where the configuration is looked for when nobody says.
const PLACES: [&str; 2] = ["impact-mirror.toml", "/etc/impact-mirror/impact-mirror.toml"];

/// Loads the configuration from `path`, else from the first default place that has one, with the environment of this
/// process over it.
pub fn load(path: Option<&Path>) -> Result<Settings, Error> {
    load_with(path, &[])
}

/// The file that `load` reads: `path`, else the first default place that has one.
pub fn find(path: Option<&Path>) -> Result<PathBuf, Error> {
    match path {
        Some(path) => Ok(path.to_owned()),
        None => PLACES.iter().map(PathBuf::from).find(|place| place.exists()).ok_or(Error::NoFile),
    }
}

/// Loads the configuration as `load` does, with `changes` over file and environment. A change is written `KEY=VALUE`; a
/// key without dots is one of `[accounts.NAME.quota]`, for all accounts.
pub fn load_with(path: Option<&Path>, changes: &[String]) -> Result<Settings, Error> {
    let path = find(path)?;
    let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.clone(), source },
        _ => Error::Read { path: path.clone(), source },
    })?;
    check_with(&text, &path, &Environment::of_this_process(), changes)
}

/// Checks the text of a file, which messages call `path`, with `environment` over it.
pub fn check(text: &str, path: &Path, environment: &Environment) -> Result<Settings, Error> {
    check_with(text, path, environment, &[])
}

/// Checks the text of a file with `environment` over it, and `changes` over both.
pub fn check_with(text: &str, path: &Path, environment: &Environment, changes: &[String]) -> Result<Settings, Error> {
    // The messages of TOML parsers quote the line, and the line may hold a secret.
    if let Err(error) = toml::from_str::<toml::Table>(text) {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        return Err(Error::Syntax { path: path.to_owned(), line, message: error.message().to_owned() });
    }
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source: Box::new(source) };
    let file = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build().map_err(unreadable)?;
    let overrides = environment.overrides(&file.cache);
    let whole = Config::builder().add_source(file).add_source(overrides).build().map_err(unreadable)?;
    let changes = changes::overrides(changes, &whole.cache)?;
    let whole = Config::builder().add_source(whole).add_source(changes).build().map_err(unreadable)?;

    let problems = Problems::default();
    let mut root = Section::root(whole.cache, &problems);
    let settings = settings(&mut root, environment);
    root.finish();
    let problems = problems.take();
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        Some(_) | None => Err(Error::Invalid { path: path.to_owned(), problems }),
    }
}

fn settings(root: &mut Section, environment: &Environment) -> Option<Settings> {
    let reload_on_change = sections::reload_on_change(root, environment);
    let database = sections::database(root);
    let http = sections::http(root, environment);
    let workers = sections::workers(root);
    let state_dir = sections::state_dir(root, environment);
    let spool_dir = sections::spool_dir(root, state_dir.as_deref().unwrap_or(Path::new("/")));
    let archive = sections::archive(root);
    let alerts = receivers::alerts(root, environment);
    let downstream = receivers::downstream(root, environment);
    let accounts = accounts::read(root, environment);
    let catalogue = own_entries::read(root);
    let exports = exports::read(root, &accounts, &catalogue);
    Some(Settings {
        reload_on_change: reload_on_change?,
        database: database?,
        http: http?,
        workers: workers?,
        spool_dir: spool_dir?,
        state_dir: state_dir?,
        archive: archive?,
        alerts: alerts?,
        downstream: downstream?,
        accounts: accounts.whole,
        catalogue,
        exports,
    })
}

/// Why there are no settings. All of these are for the user to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None of the default places has a file.
    #[error(
        "no configuration: there is neither {} nor {}; name one with --config, or write one with `impact-mirror init`",
        PLACES[0],
        PLACES[1]
    )]
    NoFile,
    /// The file was said to be there, and is not.
    #[error(
        "cannot read the configuration {path}; name another with --config, or have one written by `impact-mirror init`"
    )]
    Missing {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is there, but cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{path}, line {line}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The file is TOML, and still the tree could not be built.
    #[error("cannot make sense of the configuration {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: Box<::config::ConfigError>,
    },
    /// A change is no `KEY=VALUE`.
    #[error(
        "{change:?} is no change of a setting; write KEY=VALUE, as in share=0.5 or exports.clicks.since=2026-01-01"
    )]
    Change {
        /// What was written.
        change: String,
    },
    /// Keys are wrong: all that were found, a line each.
    #[error("the configuration {path} has {}", list(problems))]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    let count = match problems.len() {
        1 => "1 problem:".to_owned(),
        count => format!("{count} problems:"),
    };
    problems.iter().fold(count, |text, problem| format!("{text}\n  {problem}"))
}
