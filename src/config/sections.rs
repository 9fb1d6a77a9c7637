//! The sections about this installation: `reload_on_change`, `state_dir`, `[database]`, `[http]`, `[workers]`, `[spool]`, `[archive]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, Uid, access};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::environment::Environment;
use super::reader::{Found, Section};
use super::secret;
use super::settings::{Archive, Database, DatabaseUrl, Distribution, Http, Workers};

const DATABASE_URL: &str =
    "\"embedded\", for a private Postgres, or an address as in postgres://user@host:5432/database";
/// Where root, or whoever may write there, keeps state.
const SYSTEM_STATE_DIR: &str = "/var/lib/impact-mirror";

/// `reload_on_change`, else whether this is Kubernetes: nobody there sends a signal.
pub(super) fn reload_on_change(root: &mut Section, environment: &Environment) -> Option<bool> {
    let default = environment.get("KUBERNETES_SERVICE_HOST").is_some();
    root.take("reload_on_change").map_or(Some(default), |found| found.boolean())
}

/// `state_dir`, else what systemd gives, else the system's place where we may write, else the user's.
pub(super) fn state_dir(root: &mut Section, environment: &Environment) -> Option<PathBuf> {
    if let Some(found) = root.take("state_dir") {
        return path(&found);
    }
    Some(default_state_dir(environment))
}

fn default_state_dir(environment: &Environment) -> PathBuf {
    if let Some(directory) = environment.directory("STATE_DIRECTORY") {
        return directory;
    }
    if Uid::effective().is_root() || access(SYSTEM_STATE_DIR, AccessFlags::W_OK).is_ok() {
        return PathBuf::from(SYSTEM_STATE_DIR);
    }
    let user_state = environment
        .directory("XDG_STATE_HOME")
        .filter(|directory| directory.is_absolute())
        .or_else(|| Some(environment.directory("HOME")?.join(".local/state")));
    user_state.map_or_else(|| PathBuf::from(SYSTEM_STATE_DIR), |directory| directory.join("impact-mirror"))
}

/// `[spool]`: its directory.
pub(super) fn spool_dir(root: &mut Section, state_dir: &Path) -> Option<PathBuf> {
    let mut section = root.section("spool");
    let dir = section.take("dir").map_or_else(|| Some(state_dir.join("spool")), |found| path(&found));
    section.finish();
    dir
}

fn path(found: &Found) -> Option<PathBuf> {
    found.read("a path", |text| (!text.is_empty()).then(|| std::path::absolute(text).ok())?)
}

/// `[database]`.
pub(super) fn database(root: &mut Section) -> Option<Database> {
    let mut section = root.section("database");
    let url = section.require("url", DATABASE_URL).and_then(|found| database_url(&found));
    let schema = section.take("schema").map_or_else(|| Some("impact".to_owned()), |found| schema(&found));
    let distributions = [("none", Distribution::None), ("citus", Distribution::Citus)];
    let distribution = section.take("distribution").map_or(Some(Distribution::None), |f| f.choice(&distributions));
    section.finish();
    Some(Database { url: url?, schema: schema?, distribution: distribution? })
}

fn database_url(found: &Found) -> Option<DatabaseUrl> {
    let text = found.text().unwrap_or_default();
    if text == "embedded" {
        return Some(DatabaseUrl::Embedded);
    }
    let is_postgres = |url: Url| matches!(url.scheme(), "postgres" | "postgresql");
    if Url::parse(text).is_ok_and(is_postgres) {
        return Some(DatabaseUrl::Url(SecretString::from(text)));
    }
    // What it holds may be a password, so it is not repeated.
    found.problem(format!("is no address of a Postgres; allowed is {DATABASE_URL}"));
    None
}

fn schema(found: &Found) -> Option<String> {
    let name = found.read("a name of a-z, 0-9 and _, at most 63 long", |text| {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let fits = text.len() <= 63 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        (starts_well && fits).then(|| text.to_owned())
    })?;
    if name == "impact_mirror" || name == "information_schema" || name.starts_with("pg_") {
        found.refuse("a schema other than impact_mirror and those of Postgres itself");
        return None;
    }
    Some(name)
}

/// `[http]`.
pub(super) fn http(root: &mut Section, environment: &Environment) -> Option<Http> {
    let mut section = root.section("http");
    let listen = section.take("listen").map_or_else(
        || Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
        |found| found.read("an address and a port as in 127.0.0.1:9464 or [::1]:9464", |text| text.parse().ok()),
    );
    let postback_secret = strong_secret(&mut section, "postback_secret", environment).ok();
    let token = strong_secret(&mut section, "token", environment).ok();
    let hosts = section.take("hosts").map_or_else(|| Some(Vec::new()), |found| hosts(&found));
    section.finish();
    Some(Http { listen: listen?, postback_secret: postback_secret?, token: token?, hosts: hosts? })
}

/// What was there could not be read; a problem says why.
struct Unreadable;

/// A secret that need not be there.
fn strong_secret(
    section: &mut Section,
    name: &'static str,
    environment: &Environment,
) -> Result<Option<SecretString>, Unreadable> {
    let Some(found) = section.take(name) else { return Ok(None) };
    let problems = section.problems().clone();
    let key = found.key().to_owned();
    let secret = secret::read(found, environment).ok_or(Unreadable)?;
    if !is_hard_to_guess(secret.expose_secret()) {
        problems.add(
            key,
            "is too weak or does not fit into an address; allowed are 16 or more of A-Z, a-z, 0-9, -, _, . and ~",
        );
    }
    Ok(Some(secret))
}

fn hosts(found: &Found) -> Option<Vec<String>> {
    const ALLOWED: &str = "a list of names without a port, as in [\"mirror.example.com\"]";
    let is_name = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._[:]".contains(c))
            && !text.starts_with('.')
    };
    let items = found.list(ALLOWED)?;
    items.iter().map(|item| item.read(ALLOWED, |text| is_name(text).then(|| text.to_ascii_lowercase()))).collect()
}

/// Whether a secret is long enough for an address that anybody may try, and stands in one as it is.
fn is_hard_to_guess(secret: &str) -> bool {
    secret.len() >= 16 && secret.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
}

/// `[workers]`.
pub(super) fn workers(root: &mut Section) -> Option<Workers> {
    let mut section = root.section("workers");
    let mut size = |name, default: usize| {
        section.take(name).map_or(Some(default), |found| found.number(1..=64).and_then(|size| size.try_into().ok()))
    };
    let (submit, poll, load) = (size("submit", 2), size("poll", 4), size("load", 2));
    let mut pause = |name, default: Duration, least: Duration, most: Duration| {
        section.take(name).map_or(Some(default), |found| found.duration(least..=most))
    };
    let (seconds, minutes, hours) = (Duration::from_secs, Duration::from_mins, Duration::from_hours);
    let poll_min = pause("poll_min", seconds(2), Duration::from_millis(50), minutes(10));
    let poll_max = pause("poll_max", seconds(60), Duration::from_millis(50), hours(1));
    let lease = pause("lease", seconds(30), seconds(2), hours(1));
    let job_deadline = pause("job_deadline", hours(6), minutes(1), hours(7 * 24));
    if let (Some(least), Some(most)) = (poll_min, poll_max)
        && least > most
    {
        let most = super::duration::write(most);
        let what = format!("holds {:?}; allowed is at most workers.poll_max, {most}", super::duration::write(least));
        section.problems().add(section.key("poll_min"), what);
    }
    section.finish();
    Some(Workers {
        submit: submit?,
        poll: poll?,
        load: load?,
        poll_min: poll_min?,
        poll_max: poll_max?,
        lease: lease?,
        job_deadline: job_deadline?,
    })
}

/// `[archive]`, where there is one. The outer `None` is a problem.
#[expect(clippy::option_option, reason = "a problem is not the same as no archive")]
pub(super) fn archive(root: &mut Section) -> Option<Option<Archive>> {
    let Some(found) = root.take("archive") else { return Some(None) };
    let mut section = found.section()?;
    let allowed = "an address with file://, s3://, gs:// or az://";
    let url = section.require("url", allowed).and_then(|found| {
        found.read(allowed, |text| {
            let url = Url::parse(text).ok()?;
            let has_place = if url.scheme() == "file" { url.path().len() > 1 } else { url.has_host() };
            (matches!(url.scheme(), "file" | "s3" | "gs" | "az") && has_place).then_some(url)
        })
    });
    let days = |days: u64| Duration::from_hours(24 * days);
    let keep = section.take("keep").map_or(Some(days(180)), |found| found.duration(days(1)..=days(3650)));
    section.finish();
    Some(Some(Archive { url: url?, keep: keep? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_kept_where_systemd_says() {
        let environment = Environment::from([("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"), ("HOME", "/home/me")]);
        assert_eq!(default_state_dir(&environment), Path::new("/var/lib/one"));
    }
}
