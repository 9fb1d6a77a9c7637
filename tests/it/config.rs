//! The configuration: what is taken, what is refused, and in which words.

/// Entries of the user's own.
mod catalogue;
/// Variables and secrets.
mod environment;
/// What is refused.
mod refused;
/// What is taken.
mod taken;

use std::path::Path;

use impact_mirror::config::{self, Environment, Error, Settings};

/// Everything that has no default, for a brand, a partner and an agency.
const BASE: &str = r#"
[database]
url = "embedded"

[accounts.acme]
persona = "brand"
account_sid = "IRacme"
auth_token = { env = "TOKEN" }
time_zone = "America/New_York"

[accounts.blog-eu]
persona = "partner"
account_sid = "IRblog"
auth_token = { env = "TOKEN" }
time_zone = "Europe/Berlin"

[accounts.house]
persona = "agency"
account_sid = "IRhouse"
auth_token = { env = "TOKEN" }
time_zone = "Etc/UTC"
"#;

/// An export that is right, for `BASE`.
const ACTIONS: &str = r#"
[exports.actions]
accounts = ["acme"]
report = "adv_action_listing_pm_only"
since = "2026-01-01"
"#;

fn environment() -> Environment {
    Environment::from([("TOKEN", "s3cret-token"), ("STATE_DIRECTORY", "/var/lib/mirror")])
}

fn check(text: &str) -> Result<Settings, Error> {
    config::check(text, Path::new("mirror.toml"), &environment())
}

fn problems(text: &str) -> Vec<String> {
    match check(text) {
        Ok(_) => Vec::new(),
        Err(Error::Invalid { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// `BASE` with lines changed, and more behind it.
fn base(from: &str, to: &str, more: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    format!("{}\n{more}", BASE.replacen(from, to, 1))
}

fn export(lines: &str) -> String {
    format!("{BASE}\n[exports.x]\n{lines}")
}
