//! Which places a download may be redirected to. The answer comes from outside and must not lead us into our own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    let target = shown(&url);
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

/// Scheme and host of a place, nothing more.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(_)) => is_loopback(url), // its addresses are looked at when they are known
        Some(Host::Ipv4(ip)) => is_private(ip.into()),
        Some(Host::Ipv6(ip)) => is_private(ip.into()),
        None => true,
    }
}

/// Whether an address is anything but one of the public internet.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => is_private_v6(ip),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    /// Where Azure answers virtual machines, in the middle of public addresses.
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let [a, b, c, _] = ip.octets();
    let is_of_this_machine_or_nobody = matches!(a, 0 | 127 | 224..) || (a, b) == (169, 254);
    let is_of_a_network = a == 10 || matches!((a, b), (172, 16..32) | (192, 168) | (100, 64..128) | (198, 18 | 19));
    let is_for_protocols_or_papers = matches!((a, b, c), (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113));
    is_of_this_machine_or_nobody || is_of_a_network || is_for_protocols_or_papers || ip == AZURE
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let last = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4-mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            last(high, low)
        }
        [0x2001, 0 | 0xdb8, ..] => true,                   // Teredo, documentation
        [first, ..] => !(0x2000..0x4000).contains(&first), // all that is public begins so
    }
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
    fn only_addresses_of_the_public_internet_are_public() {
        for public in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "168.63.129.17",
            "223.255.255.255",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(!is_private(public.parse().expect("an address")), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "127.0.0.2",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2002:7f00:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(private.parse().expect("an address")), "{private}");
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
