//! Who is told of what: `[alerts]` and `[downstream]`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::environment::Environment;
use super::reader::Section;
use super::secret;
use super::settings::{Alerts, MessageFormat, Receiver};

/// `[alerts]`, where there is one. The outer `None` is a problem.
#[expect(clippy::option_option, reason = "a problem is not the same as nobody to tell")]
pub(super) fn alerts(root: &mut Section, environment: &Environment) -> Option<Option<Alerts>> {
    let Some(found) = root.take("alerts") else { return Some(None) };
    let mut section = found.section()?;
    let formats = [("json", MessageFormat::Json), ("slack", MessageFormat::Slack)];
    let format = section.take("format").map_or(Some(MessageFormat::Json), |found| found.choice(&formats));
    let receiver = receiver(&mut section, environment);
    let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
    let mut pause = |name, default: Duration, most: Duration| {
        section.take(name).map_or(Some(default), |found| found.duration(second..=most))
    };
    let repeat = pause("repeat", 24 * hour, 30 * 24 * hour);
    let every = pause("every", 60 * second, hour);
    section.finish();
    Some(Some(Alerts { receiver: Receiver { format: format?, ..receiver? }, repeat: repeat?, every: every? }))
}

/// `[downstream]`, where there is one. The outer `None` is a problem.
#[expect(clippy::option_option, reason = "a problem is not the same as nobody to tell")]
pub(super) fn downstream(root: &mut Section, environment: &Environment) -> Option<Option<Receiver>> {
    let Some(found) = root.take("downstream") else { return Some(None) };
    let mut section = found.section()?;
    let receiver = receiver(&mut section, environment);
    section.finish();
    Some(Some(receiver?))
}

/// The keys `url` and `secret`.
fn receiver(section: &mut Section, environment: &Environment) -> Option<Receiver> {
    let key = section.key("url");
    let url = secret::require(section, "url", environment).and_then(|url| {
        if is_safe(&url) {
            return Some(url);
        }
        // Whoever knows the address may send there, so it is not repeated.
        section.problems().add(key, "is no address that messages may go to; allowed is https, or http to loopback");
        None
    });
    let secret = match section.take("secret") {
        None => Some(None),
        Some(found) => secret::read(found, environment).map(Some),
    };
    Some(Receiver { url: url?, format: MessageFormat::Json, secret: secret? })
}

fn is_safe(url: &SecretString) -> bool {
    let Ok(url) = Url::parse(url.expose_secret()) else { return false };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}
