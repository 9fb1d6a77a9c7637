//! The process environment: overrides of keys, and the variables that tell where secrets and state are.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use ::config::{ConfigError, Source, Value, ValueKind};

/// What the names of overrides begin with; levels are parted by two underscores.
pub(super) const PREFIX: &str = "IMPACT_MIRROR__";

/// The variables of a process.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process; those that are not Unicode are left out.
    pub fn of_this_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(unicode).collect())
    }

    /// What the variable holds, if it is set to anything.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The directory that the variable names first, as systemd parts several by colons.
    pub(super) fn directory(&self, name: &str) -> Option<PathBuf> {
        self.get(name)?.split(':').next().map(PathBuf::from)
    }

    /// What the environment says about keys, laid over `file`.
    pub(super) fn overrides(&self, file: &Value) -> Overrides {
        let mut keys = Vec::new();
        for (variable, text) in &self.0 {
            if let Some(name) = variable.strip_prefix(PREFIX).filter(|name| !name.is_empty()) {
                let value = Value::new(Some(variable), ValueKind::String(text.clone()));
                keys.push((key_for(name.split("__"), file), value));
            }
        }
        Overrides(keys)
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Environment {
    fn from(variables: [(K, V); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The overrides, as a source for the `config` crate.
///
/// Its own `Environment` would turn every name to lower case, and so miss `params.SHOW_DATE` and the account `acme-eu`.
#[derive(Debug, Clone)]
pub(super) struct Overrides(pub(super) Vec<(String, Value)>);

impl Source for Overrides {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<HashMap<String, Value>, ConfigError> {
        Ok(self.0.iter().cloned().collect())
    }
}

/// `exports.actions.params.SHOW_DATE` for `EXPORTS__ACTIONS__PARAMS__SHOW_DATE`: each level is the key that the file
/// has, whatever its case, else a new one: in lower case, but a parameter as it is written.
pub(super) fn key_for<'a>(levels: impl Iterator<Item = &'a str>, file: &Value) -> String {
    let mut here = Some(file);
    let mut path: Vec<String> = Vec::new();
    for level in levels {
        let table = match here.map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => Some(table),
            _ => None,
        };
        let existing = table.and_then(|table| table.iter().find(|(key, _)| plain(key) == plain(level)));
        here = existing.map(|(_, value)| value);
        path.push(match existing {
            Some((key, _)) => key.clone(),
            None if path.last().is_some_and(|parent| parent == "params") => level.to_owned(),
            None => level.to_lowercase(),
        });
    }
    path.join(".")
}

fn plain(key: &str) -> String {
    key.to_lowercase().replace('-', "_")
}
