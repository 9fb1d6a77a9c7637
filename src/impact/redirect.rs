//! Which places a download may be redirected to. The answer comes from outside and must not lead us into our own network.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use super::error::Error;

/// Whether a URL points at this very machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// The place that `location` names, seen from `from`, if it may be followed from an API at `api`: https, or http to
/// loopback; never with credentials; from an API elsewhere never into private networks.
pub(super) fn target(api: &Url, from: &Url, location: &str) -> Result<Url, Error> {
    let refused = |target: String, reason| Err(Error::UnsafeRedirect { target, reason });
    let Ok(url) = from.join(location) else {
        return refused("an unreadable address".to_owned(), "it is not a URL");
    };
    let target = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if !url.username().is_empty() || url.password().is_some() {
        return refused(target, "it carries credentials");
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return refused(target, "plain http is for loopback only"),
        _ => return refused(target, "it is neither https nor http"),
    }
    if !is_loopback(api) && is_inside(&url) {
        return refused(target, "it is inside a private network");
    }
    Ok(url)
}

fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(_)) => is_loopback(url),
        Some(Host::Ipv4(ip)) => is_private(ip.into()),
        Some(Host::Ipv6(ip)) => is_private(ip.to_canonical()),
        None => true,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.octets()[0] == 0
                || is_shared(ip)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// 100.64.0.0/10, the addresses behind carrier-grade NAT.
const fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn verdict(api: &str, location: &str) -> Result<String, &'static str> {
        let from = url(&format!("{api}/Jobs/1/Download"));
        match target(&url(api), &from, location) {
            Ok(url) => Ok(url.into()),
            Err(Error::UnsafeRedirect { reason, .. }) => Err(reason),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn from_the_real_api_only_public_https_is_followed() {
        let api = "https://api.impact.com";
        for location in ["https://storage.googleapis.com/b/f?sig=x", "/elsewhere", "https://8.8.8.8/x"] {
            assert!(verdict(api, location).is_ok(), "{location}");
        }
        for location in [
            "http://storage.googleapis.com/b/f",
            "http://127.0.0.1/x",
            "https://127.0.0.1/x",
            "https://127.1/x",
            "https://2130706433/x",
            "https://localhost/x",
            "https://localhost./x",
            "https://a.localhost/x",
            "https://10.0.0.1/x",
            "https://192.168.1.1/x",
            "https://172.16.0.1/x",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/x",
            "https://0.0.0.0/x",
            "https://[::1]/x",
            "https://[::]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://[::ffff:169.254.169.254]/x",
            "https://[fe80::1]/x",
            "https://[fd00::1]/x",
            "https://user@storage.googleapis.com/x",
            "https://:pw@storage.googleapis.com/x",
            "file:///etc/passwd",
            "ftp://storage.googleapis.com/x",
            "https://",
            "//169.254.169.254/x",
        ] {
            assert!(verdict(api, location).is_err(), "{location}");
        }
    }

    #[test]
    fn from_a_local_api_plain_http_stays_local() {
        let api = "http://127.0.0.1:8080";
        for location in ["http://127.0.0.1:9/x", "http://localhost/x", "https://storage.googleapis.com/x", "/x"] {
            assert!(verdict(api, location).is_ok(), "{location}");
        }
        for location in ["http://example.com/x", "http://10.0.0.1/x", "http://u:p@127.0.0.1/x"] {
            assert!(verdict(api, location).is_err(), "{location}");
        }
    }
}
