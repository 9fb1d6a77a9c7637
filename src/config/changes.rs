//! Settings that are tried out: `KEY=VALUE` from the command line, over file and environment.

use ::config::{Value, ValueKind};

use super::environment::{Overrides, key_for};
use super::load::Error;

/// What messages call the origin of a change.
pub(super) const ORIGIN: &str = "--with";

/// The changes as overrides of `whole`. A key without dots is one of the quota, for each account.
pub(super) fn overrides(changes: &[String], whole: &Value) -> Result<Overrides, Error> {
    let mut keys = Vec::new();
    for change in changes {
        let (key, text) = change
            .split_once('=')
            .map(|(key, text)| (key.trim(), text.trim()))
            .filter(|(key, _)| !key.is_empty() && key.split('.').all(|level| !level.is_empty()))
            .ok_or_else(|| Error::Change { change: change.clone() })?;
        let origin = format!("{ORIGIN} {change}");
        let value = || Value::new(Some(&origin), ValueKind::String(text.to_owned()));
        if key.contains('.') {
            keys.push((key_for(key.split('.'), whole), value()));
        } else {
            let of = |account: &String| (format!("accounts.{account}.quota.{key}"), value());
            keys.extend(accounts(whole).iter().map(of));
        }
    }
    Ok(Overrides(keys))
}

fn accounts(whole: &Value) -> Vec<String> {
    let ValueKind::Table(root) = &whole.kind else { return Vec::new() };
    match root.get("accounts").map(|accounts| &accounts.kind) {
        Some(ValueKind::Table(accounts)) => accounts.keys().cloned().collect(),
        Some(_) | None => Vec::new(),
    }
}
