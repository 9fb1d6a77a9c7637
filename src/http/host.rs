//! Which names the page answers to. A website can make its own name lead to 127.0.0.1 and would then be of one origin with the
//! page in a browser on this machine; but its requests carry its own name. Addresses in numbers lead nowhere else.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, HeaderMap};

/// The names that requests may carry.
#[derive(Debug)]
pub(super) struct Names {
    is_loopback: bool,
    others: Vec<String>,
}

impl Names {
    pub fn new(listen: SocketAddr, others: Vec<String>) -> Self {
        Self { is_loopback: listen.ip().is_loopback(), others }
    }

    /// Whether the request is meant for us. Where we listen on more than loopback, and no names are configured, anybody may have a
    /// name for us.
    pub fn know(&self, headers: &HeaderMap) -> bool {
        if !self.is_loopback && self.others.is_empty() {
            return true;
        }
        let Some(host) = headers.get(HOST) else { return true }; // HTTP/1.0: no browser
        let host = without_port(host.to_str().unwrap_or_default()).to_ascii_lowercase();
        let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        host == "localhost" || host.ends_with(".localhost") || is_address || self.others.contains(&host)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn know(listen: &str, others: &[&str], host: &str) -> bool {
        let others = others.iter().map(|&name| name.to_owned()).collect();
        let headers = HeaderMap::from_iter([(HOST, host.parse().expect("a host"))]);
        Names::new(listen.parse().expect("an address"), others).know(&headers)
    }

    #[test]
    fn on_loopback_only_its_names_and_configured_ones_are_known() {
        for host in ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "mirror.localhost:1", "10.0.0.1"] {
            assert!(know("127.0.0.1:9464", &[], host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9464", "10.0.0.1.", "localhost.evil.example", "", "127.0.0.1.evil.example"]
        {
            assert!(!know("127.0.0.1:9464", &[], host), "{host}");
        }
        assert!(know("127.0.0.1:9464", &["mirror.example.com"], "Mirror.example.com:443"));
        assert!(know("[::1]:9464", &[], "[::1]:9464"));
    }

    #[test]
    fn elsewhere_all_names_are_known_until_some_are_configured() {
        assert!(know("0.0.0.0:9464", &[], "anything.example"));
        assert!(!know("0.0.0.0:9464", &["mirror.example.com"], "anything.example"));
        assert!(know("10.0.0.1:9464", &["mirror.example.com"], "10.0.0.1:9464"));
    }
}
