//! Looks up the addresses of names. Those of a place that a download was redirected to have to be public, and it is the address
//! connected to that is looked at: a name that is answered in one way now and in another a moment later gains nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::redirect;

/// A name that leads into a private network.
#[derive(Debug, thiserror::Error)]
#[error("its name leads into a private network")]
pub(super) struct LeadsInside;

/// A resolver that asks the system. Cheap to clone; clones share what they watch.
#[derive(Debug, Clone, Default)]
pub(super) struct Resolver {
    /// Names that a download was redirected to. Others are of our own choice: the API, a proxy.
    watched: Arc<Mutex<HashSet<String>>>,
}

impl Resolver {
    /// Has the name in `url`, if there is one, lead to public addresses only.
    pub(super) fn watch(&self, url: &Url) {
        if let Some(name) = url.domain() {
            self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        }
    }

    fn is_watched(&self, name: &str) -> bool {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_watched = self.is_watched(name.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if is_watched && found.iter().any(|one| redirect::is_private(one.ip())) {
                return Err(LeadsInside.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use tokio::net::TcpListener;

    use super::*;

    /// The name of this machine's loopback is one that leads inside, and every system knows it.
    #[tokio::test]
    async fn a_watched_name_that_leads_inside_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://localhost:{}/x", listener.local_addr().unwrap().port()).parse().unwrap();
        let resolver = Resolver::default();
        let client = reqwest::Client::builder().no_proxy().dns_resolver(resolver.clone()).build().unwrap();

        resolver.watch(&url);
        let error = client.get(url.clone()).send().await.unwrap_err();
        let mut cause = error.source();
        while let Some(deeper) = cause.and_then(|cause| cause.source()) {
            cause = Some(deeper);
        }
        assert!(cause.is_some_and(<dyn std::error::Error>::is::<LeadsInside>), "{error:?}");

        let other = reqwest::Client::builder().no_proxy().dns_resolver(Resolver::default()).build().unwrap();
        let asking = tokio::spawn(other.get(url).send());
        listener.accept().await.unwrap();
        asking.abort();
    }
}
