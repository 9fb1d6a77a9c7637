//! Walks the tree that file and environment make together, and collects everything that is wrong with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use ::config::{Config, File, FileFormat, Value, ValueKind};

use super::duration;
use super::nearest::nearest;

/// One thing that is wrong: the key, what it holds and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    key: String,
    variable: Option<String>,
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        write!(f, " {}", self.what)
    }
}

/// All that was found to be wrong so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Problems(Rc<RefCell<Vec<Problem>>>);

impl Problems {
    /// Records that `key` is wrong: `what` goes on where the key ends.
    pub(super) fn add(&self, key: impl Into<String>, what: impl Into<String>) {
        self.push(Problem { key: key.into(), variable: None, what: what.into() });
    }

    /// What was recorded, in order of the keys.
    pub(super) fn take(&self) -> Vec<Problem> {
        let mut problems = self.0.take();
        problems.sort_by(|a, b| a.key.cmp(&b.key));
        problems
    }

    fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }
}

/// A table of the configuration. Keys that nobody takes are unknown.
pub(super) struct Section {
    path: String,
    table: BTreeMap<String, Value>,
    known: Vec<&'static str>,
    problems: Problems,
}

impl Section {
    /// The whole configuration.
    pub(super) fn root(value: Value, problems: &Problems) -> Self {
        Self::new(String::new(), value, problems)
    }

    fn new(path: String, value: Value, problems: &Problems) -> Self {
        let table = value.into_table().unwrap_or_default().into_iter().collect();
        Self { path, table, known: Vec::new(), problems: problems.clone() }
    }

    /// Where problems are recorded.
    pub(super) fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The full name of a key in here.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whether it holds no key, or none that was not taken.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// What the key holds, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Found> {
        self.known.push(name);
        let value = self.table.remove(name)?;
        Some(Found::new(self.key(name), value, &self.problems))
    }

    /// What the key holds; a problem where it is not there.
    pub(super) fn require(&mut self, name: &'static str, allowed: &str) -> Option<Found> {
        let found = self.take(name);
        if found.is_none() {
            self.problems.add(self.key(name), format!("is missing; allowed is {allowed}"));
        }
        found
    }

    /// The table under the key, empty where it is not there.
    pub(super) fn section(&mut self, name: &'static str) -> Self {
        let path = self.key(name);
        match self.take(name).and_then(Found::section) {
            Some(section) => section,
            None => Self { path, table: BTreeMap::new(), known: Vec::new(), problems: self.problems.clone() },
        }
    }

    /// Everything in here, for tables whose keys are names.
    pub(super) fn entries(self) -> Vec<(String, Found)> {
        let Self { path, table, problems, .. } = self;
        let key = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        table.into_iter().map(|(name, value)| (name.clone(), Found::new(key(&name), value, &problems))).collect()
    }

    /// Records every key that nobody took.
    pub(super) fn finish(self) {
        for (name, value) in &self.table {
            let what = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("is no key that is known here; did you mean `{near}`?"),
                None => format!("is no key that is known here; known are {}", self.known.join(", ")),
            };
            self.problems.push(Problem { key: self.key(name), variable: variable(value), what });
        }
    }
}

/// What one key holds.
pub(super) struct Found {
    key: String,
    variable: Option<String>,
    kind: ValueKind,
    problems: Problems,
}

impl Found {
    fn new(key: String, value: Value, problems: &Problems) -> Self {
        Self { key, variable: variable(&value), kind: value.kind, problems: problems.clone() }
    }

    /// Its full name.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where problems are recorded.
    pub(super) fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Whether an environment variable says it.
    pub(super) fn is_from_environment(&self) -> bool {
        self.variable.is_some()
    }

    /// Records a problem: `what` goes on where the key ends.
    pub(super) fn problem(&self, what: impl Into<String>) {
        self.problems.push(Problem { key: self.key.clone(), variable: self.variable.clone(), what: what.into() });
    }

    /// Records that what it holds is not allowed.
    pub(super) fn refuse(&self, allowed: &str) {
        self.problem(format!("holds {}; allowed is {allowed}", self.held()));
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text, read by `read`, which says no to what is not `allowed`.
    pub(super) fn read<T>(&self, allowed: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.text().and_then(read);
        if value.is_none() {
            self.refuse(allowed);
        }
        value
    }

    /// A whole number.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let number = match &self.kind {
            ValueKind::I64(number) => u32::try_from(*number).ok(),
            ValueKind::String(text) if self.is_from_environment() => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(&format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A number above 0 and at most 1.
    pub(super) fn share(&self) -> Option<f64> {
        let number = match &self.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::I64(1) => Some(1.0),
            ValueKind::String(text) if self.is_from_environment() => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| *number > 0.0 && *number <= 1.0);
        if number.is_none() {
            self.refuse("a number above 0 and at most 1");
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        let value = match &self.kind {
            ValueKind::Boolean(value) => Some(*value),
            ValueKind::String(text) if self.is_from_environment() => text.trim().to_lowercase().parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.refuse("true or false");
        }
        value
    }

    /// A duration.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(value) = self.text().and_then(duration::parse) else {
            self.refuse(duration::WRITTEN);
            return None;
        };
        if !range.contains(&value) {
            let (least, most) = (duration::write(*range.start()), duration::write(*range.end()));
            self.refuse(&format!("a duration from {least} to {most}"));
            return None;
        }
        Some(value)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" | ");
        self.read(&words, |text| choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value))
    }

    /// The items of a list; from the environment also written `a,b,c`.
    pub(super) fn list(&self, allowed: &str) -> Option<Vec<Self>> {
        let items = match &self.kind {
            ValueKind::Array(items) => Some(items.clone()),
            ValueKind::String(text) if self.is_from_environment() => match as_toml(text) {
                Some(ValueKind::Array(items)) => Some(items),
                _ if text.trim_start().starts_with('[') => None,
                _ => Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()),
            },
            _ => None,
        };
        let Some(items) = items else {
            self.refuse(allowed);
            return None;
        };
        let found = |(index, value): (usize, Value)| Self {
            key: format!("{}[{index}]", self.key),
            variable: self.variable.clone(),
            kind: value.kind,
            problems: self.problems.clone(),
        };
        Some(items.into_iter().enumerate().map(found).collect())
    }

    /// The table, if it is one.
    pub(super) fn section(self) -> Option<Section> {
        let kind = match &self.kind {
            ValueKind::Table(_) => Some(self.kind.clone()),
            ValueKind::String(text) if self.is_from_environment() => as_toml(text),
            _ => None,
        };
        let Some(kind @ ValueKind::Table(_)) = kind else {
            self.refuse("a table");
            return None;
        };
        let Self { key, variable, problems, .. } = self;
        Some(Section::new(key, Value::new(variable.as_ref(), kind), &problems))
    }

    /// The table as a value of a type that refuses what it does not know; a problem where it is none.
    pub(super) fn deserialize<T: serde::de::DeserializeOwned>(self) -> Option<T> {
        let Section { path, table, problems, .. } = self.section()?;
        let value = Value::new(None, ValueKind::Table(table.into_iter().collect()));
        match serde_path_to_error::deserialize(value) {
            Ok(value) => Some(value),
            Err(error) => {
                let at = error.path().to_string();
                let key = if at == "." { path } else { format!("{path}.{at}") };
                problems.add(key, format!("is not as the catalogue has it: {}", error.into_inner()));
                None
            }
        }
    }

    /// Whether it is a table, or text that an environment variable gives for one.
    pub(super) fn is_table(&self) -> bool {
        match &self.kind {
            ValueKind::Table(_) => true,
            ValueKind::String(text) => self.is_from_environment() && text.trim_start().starts_with('{'),
            _ => false,
        }
    }

    /// Whether it is a list, or text that an environment variable gives for one.
    pub(super) fn is_list(&self) -> bool {
        match &self.kind {
            ValueKind::Array(_) => true,
            ValueKind::String(text) => self.is_from_environment() && text.trim_start().starts_with('['),
            _ => false,
        }
    }

    /// A text, a whole number or a flag, as the text that a query parameter or an id has.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.kind {
            ValueKind::String(text) => Some(text.clone()),
            ValueKind::I64(number) => Some(number.to_string()),
            ValueKind::Boolean(flag) => Some(flag.to_string()),
            ValueKind::Nil
            | ValueKind::I128(_)
            | ValueKind::U64(_)
            | ValueKind::U128(_)
            | ValueKind::Float(_)
            | ValueKind::Table(_)
            | ValueKind::Array(_) => None,
        }
    }

    fn held(&self) -> String {
        match &self.kind {
            ValueKind::Nil => "nothing".to_owned(),
            ValueKind::Boolean(flag) => flag.to_string(),
            ValueKind::I64(number) => number.to_string(),
            ValueKind::I128(number) => number.to_string(),
            ValueKind::U64(number) => number.to_string(),
            ValueKind::U128(number) => number.to_string(),
            ValueKind::Float(number) => number.to_string(),
            ValueKind::String(text) => format!("{text:?}"),
            ValueKind::Table(_) => "a table".to_owned(),
            ValueKind::Array(_) => "a list".to_owned(),
        }
    }
}

/// What an environment variable says, where it is written as in the file.
fn as_toml(text: &str) -> Option<ValueKind> {
    let file = File::from_str(&format!("value = {text}"), FileFormat::Toml);
    let parsed = Config::builder().add_source(file).build().ok()?;
    Some(parsed.cache.into_table().ok()?.remove("value")?.kind)
}

/// The environment variable, or the change on the command line, that says it, if one does: files are no origin that we
/// give.
fn variable(value: &Value) -> Option<String> {
    let is_ours =
        |origin: &&str| origin.starts_with(super::environment::PREFIX) || origin.starts_with(super::changes::ORIGIN);
    value.origin().filter(is_ours).map(str::to_owned)
}
