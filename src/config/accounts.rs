//! `[accounts.NAME]`.

use std::collections::BTreeMap;

use chrono_tz::{TZ_VARIANTS, Tz};
use url::{Host, Url};

use super::environment::Environment;
use super::nearest::nearest;
use super::reader::{Found, Section};
use super::secret;
use super::settings::{Account, Programs, Quota};
use crate::account::{AccountName, AccountSid, Persona};
use crate::export::Program;

const PERSONAS: [(&str, Persona); 3] =
    [("brand", Persona::Brand), ("partner", Persona::Partner), ("agency", Persona::Agency)];
const BASE_URL: &str = "the origin of the API: https://host, or http://host only to loopback";
const PROGRAMS: &str = "\"all\" or a list of program ids";

/// What was found of the accounts: exports are checked against all that are named, even where one has problems.
pub(super) struct Accounts {
    /// Every account that is named, with its persona where that could be read.
    pub(super) named: BTreeMap<AccountName, Option<Persona>>,
    /// Those without problems.
    pub(super) whole: BTreeMap<AccountName, Account>,
}

/// Reads all accounts.
pub(super) fn read(root: &mut Section, environment: &Environment) -> Accounts {
    let mut accounts = Accounts { named: BTreeMap::new(), whole: BTreeMap::new() };
    let section = root.section("accounts");
    let problems = section.problems().clone();
    let entries = section.entries();
    if entries.is_empty() {
        problems.add("accounts", "holds no account; add a section [accounts.NAME]");
    }
    for (name, found) in entries {
        if !is_account_name(&name) {
            found.problem(
                "is no name for an account; allowed are a-z, 0-9, _ and -, the first a letter or digit, at most 63",
            );
        }
        let name = AccountName::new(name);
        let Some(mut section) = found.section() else { continue };
        let persona = section.require("persona", "brand | partner | agency").and_then(|f| f.choice(&PERSONAS));
        let account = account(&name, persona, &mut section, environment);
        section.finish();
        accounts.named.insert(name.clone(), persona);
        accounts.whole.extend(account.map(|account| (name, account)));
    }
    accounts
}

fn account(
    name: &AccountName,
    persona: Option<Persona>,
    section: &mut Section,
    environment: &Environment,
) -> Option<Account> {
    let sid = section.require("account_sid", "the Account SID, as in IRabc123").and_then(|found| {
        let fits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        found.read("the Account SID: letters and digits", |text| fits(text).then(|| AccountSid::new(text)))
    });
    let auth_token = secret::require(section, "auth_token", environment);
    let base_url = section.take("base_url").map_or_else(
        || Some(Url::parse("https://api.impact.com").expect("a constant")),
        |found| found.read(BASE_URL, base_url),
    );
    let time_zone =
        section.require("time_zone", "an IANA time zone as in America/New_York").and_then(|found| time_zone(&found));
    let programs = section.take("programs").map_or(Some(Programs::All), |found| programs(&found));
    let quota = quota(section);
    Some(Account {
        name: name.clone(),
        persona: persona?,
        sid: sid?,
        auth_token: auth_token?,
        base_url: base_url?,
        time_zone: time_zone?,
        programs: programs?,
        quota: quota?,
    })
}

fn is_account_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(letter) && name.len() <= 63 && name.chars().all(|c| letter(c) || c == '_' || c == '-')
}

fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    let is_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    (is_safe && is_origin && is_anonymous).then_some(url)
}

fn time_zone(found: &Found) -> Option<Tz> {
    let text = found.text().unwrap_or_default();
    if let Ok(zone) = text.parse() {
        return Some(zone);
    }
    let allowed = "an IANA time zone as in America/New_York";
    match nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name())) {
        Some(near) => found.refuse(&format!("{allowed}; did you mean {near:?}?")),
        None => found.refuse(allowed),
    }
    None
}

/// A list of programs, or all.
pub(super) fn programs(found: &Found) -> Option<Programs> {
    if found.text() == Some("all") {
        return Some(Programs::All);
    }
    let mut listed: Vec<Program> = Vec::new();
    for item in found.list(PROGRAMS)? {
        let id = item.scalar().filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
        match id.map(Program::new) {
            Some(program) if listed.contains(&program) => item.problem("repeats a program that is already listed"),
            Some(program) => listed.push(program),
            None => item.refuse("a program id as in 1000"),
        }
    }
    if listed.is_empty() {
        found.problem(format!("lists no program; allowed is {PROGRAMS}"));
        return None;
    }
    Some(Programs::Listed(listed))
}

fn quota(account: &mut Section) -> Option<Quota> {
    let mut section = account.section("quota");
    let mut limit =
        |name, default| section.take(name).map_or(Some(default), |found: Found| found.number(0..=1_000_000));
    let report_export_per_day = limit("report_export_per_day", 100);
    let click_export_per_day = limit("click_export_per_day", 10);
    let requests_per_hour = limit("requests_per_hour", 1000);
    let mut cost = |name| section.take(name).map_or(Some(1), |found: Found| found.number(0..=1));
    let replay_cost = cost("replay_cost");
    let duplicate_cost = cost("duplicate_cost");
    let refused_cost = cost("refused_cost");
    let share = section.take("share").map_or(Some(1.0), |found| found.share());
    section.finish();
    Some(Quota {
        report_export_per_day: report_export_per_day?,
        click_export_per_day: click_export_per_day?,
        requests_per_hour: requests_per_hour?,
        share: share?,
        replay_cost: replay_cost?,
        duplicate_cost: duplicate_cost?,
        refused_cost: refused_cost?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for good in ["https://api.impact.com", "http://127.0.0.1:8080/", "http://[::1]:1", "http://localhost:9"] {
            assert!(base_url(good).is_some(), "{good}");
        }
        for bad in ["http://api.impact.com", "https://a@b.c", "https://h/path", "https://h?q", "ftp://h", "x", ""] {
            assert!(base_url(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_of_accounts_are_plain() {
        assert!(is_account_name("acme-eu_2") && is_account_name("1"));
        assert!(!is_account_name("Acme") && !is_account_name("-a") && !is_account_name(&"a".repeat(64)));
    }
}
