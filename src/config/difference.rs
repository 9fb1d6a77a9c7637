//! What differs between two configurations, key by key, and what of it a running daemon can take.

use std::fmt;

use super::keys::{Held, Keys};
use super::settings::Settings;

/// The keys that a running daemon cannot change: its connections, its own Postgres, its listener and its spool hang on them.
const FOR_RESTART: [&str; 6] =
    ["database.url", "database.schema", "database.distribution", "http.listen", "state_dir", "spool.dir"];

/// A key that differs, or a whole account or export that is new or gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The key, as in `workers.load`.
    pub key: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    New,
    Gone,
    Other { was: Option<Held>, is: Option<Held> },
}

impl Difference {
    /// Whether the engine works with it. The rest is for the HTTP faces and for the reading of the configuration itself.
    pub fn is_for_engine(&self) -> bool {
        !self.key.starts_with("http.") && self.key != "reload_on_change"
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.what {
            What::New => write!(f, "{key} is new"),
            What::Gone => write!(f, "{key} is gone"),
            What::Other { was: Some(Held::Secret(_)), is: Some(Held::Secret(_)) } => {
                write!(f, "{key} is another secret")
            }
            What::Other { was, is } => write!(f, "{key}: {} -> {}", shown(was.as_ref()), shown(is.as_ref())),
        }
    }
}

fn shown(held: Option<&Held>) -> &str {
    match held {
        None => "not set",
        Some(Held::Shown(text)) => text,
        Some(Held::Secret(_)) => "a secret",
    }
}

impl Settings {
    /// What differs in `next`, in the order of keys.
    pub fn differences(&self, next: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let names = |settings: &Self| -> Vec<String> {
            let accounts = settings.accounts.keys().map(|name| format!("accounts.{name}"));
            accounts.chain(settings.exports.keys().map(|name| format!("exports.{name}"))).collect()
        };
        let (ours, theirs) = (names(self), names(next));
        let only = |names: &[String], others: &[String], what: &What| -> Vec<Difference> {
            let only = names.iter().filter(|name| !others.contains(name));
            only.map(|name| Difference { key: name.clone(), what: what.clone() }).collect()
        };
        differences.extend(only(&theirs, &ours, &What::New));
        differences.extend(only(&ours, &theirs, &What::Gone));

        let (Keys(was), Keys(is)) = (self.keys(), next.keys());
        let whole: Vec<String> = differences.iter().map(|one| format!("{}.", one.key)).collect();
        let mut keys: Vec<&String> = was.keys().chain(is.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (was, is) = (was.get(key), is.get(key));
            if was != is && !whole.iter().any(|name| key.starts_with(name)) {
                let what = What::Other { was: was.cloned(), is: is.cloned() };
                differences.push(Difference { key: key.clone(), what });
            }
        }
        differences.sort_by(|a, b| a.key.cmp(&b.key));
        differences
    }

    /// These settings as a daemon that runs on `running` can take them, and the keys that have to wait for a restart.
    pub fn while_running(mut self, running: &Self) -> (Self, Vec<String>) {
        let is_held_back = |one: &Difference| FOR_RESTART.contains(&one.key.as_str());
        let held_back = running.differences(&self).into_iter().filter(is_held_back).map(|one| one.key).collect();
        self.database = running.database.clone();
        self.http.listen = running.http.listen;
        self.state_dir.clone_from(&running.state_dir);
        self.spool_dir.clone_from(&running.spool_dir);
        (self, held_back)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, check};

    const BASE: &str = "[database]\nurl = \"postgres://me:hunter2@host/db\"\n\
        [accounts.a]\npersona = \"brand\"\naccount_sid = \"IR1\"\nauth_token = { env = \"T\" }\ntime_zone = \"UTC\"\n\
        [exports.e]\nclicks = true\nsince = \"2026-01-01\"\n";

    fn settings(text: &str, token: &str) -> Settings {
        check(text, Path::new("x.toml"), &Environment::from([("T", token)])).expect("settings")
    }

    fn between(one: &Settings, other: &Settings) -> Vec<String> {
        one.differences(other).iter().map(Difference::to_string).collect()
    }

    #[test]
    fn what_changed_is_said_by_key() {
        let old = settings(BASE, "t");
        assert_eq!(between(&old, &settings(&format!("# a comment\n{BASE}"), "t")), Vec::<String>::new());
        let changed = BASE.replace("clicks = true", "clicks = true\nschedule = \"0 0 4 * * *\"");
        let new =
            settings(&format!("{changed}[workers]\nload = 3\nlease = \"90s\"\n[accounts.a.quota]\nshare = 0.5\n"), "t");
        let expected = [
            "accounts.a.quota.share: 1 -> 0.5",
            "exports.e.schedule: 0 30 3 * * * -> 0 0 4 * * *",
            "workers.lease: 30s -> 90s",
            "workers.load: 2 -> 3",
        ];
        assert_eq!(between(&old, &new), expected);
    }

    #[test]
    fn an_export_that_is_new_or_gone_is_one_line() {
        let old = settings(BASE, "t");
        let new = settings(&BASE.replace("[exports.e]", "[exports.f]"), "t");
        assert_eq!(between(&old, &new), ["exports.e is gone", "exports.f is new"]);
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        let old = settings(BASE, "hunter3");
        let new = settings(&BASE.replace("hunter2", "hunter4"), "hunter5");
        let said = between(&old, &new);
        assert_eq!(said, ["accounts.a.auth_token is another secret", "database.url is another secret"]);
        assert!(!format!("{:?}{:?}", old.keys(), old.differences(&new)).contains("hunter"));
    }

    #[test]
    fn what_needs_a_restart_is_held_back_and_named() {
        let running = settings(BASE, "t");
        let text = format!("state_dir = \"/elsewhere\"\n{BASE}[http]\nlisten = \"127.0.0.1:1\"\n[workers]\nload = 3\n");
        let (next, held_back) = settings(&text, "t").while_running(&running);
        assert_eq!(held_back, ["http.listen", "spool.dir", "state_dir"]);
        assert_eq!(between(&running, &next), ["workers.load: 2 -> 3"]);
    }
}
