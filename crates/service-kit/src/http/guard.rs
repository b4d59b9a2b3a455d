//! Whom a client may speak to. In: how far it reaches, URLs, names. Out: the addresses of a name, looked up once and
//! judged, which are then the ones that are dialled; or what it was kept from, with the remedy.
//!
//! A name is judged where it is looked up for a connection, so that another answer later changes nothing; an address
//! in a URL is never looked up and is judged before each request and at each redirect. The proxies of the environment
//! are the operator's choice: they may be in a private network, and what is asked of them they look up themselves.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::{Kind, Reach, classify};
use crate::text::one_line;

/// What a client was kept from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The host as the URL has it.
    pub host: String,
    /// Why.
    pub why: Why,
}

/// Why a host is not spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is at this address.
    Address(IpAddr, Kind),
    /// It is a proxy of the environment, whose address is not judged.
    Proxy,
}

impl Refused {
    /// What is wrong, in one line.
    #[must_use]
    pub fn what(&self) -> String {
        let host = self.host.trim_matches(['[', ']']);
        let shown = one_line(host);
        match self.why {
            Why::Proxy => format!("{shown} is a proxy of the environment"),
            Why::Address(address, kind) if host.parse() == Ok(address) => format!("{address} is {kind}"),
            Why::Address(address, kind) => format!("{shown} is at {address}, {kind}"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.why {
            Why::Proxy | Why::Address(_, Kind::Private(_)) => {
                "set [security] allow_private_cache_hosts = true if it is meant"
            }
            Why::Address(_, Kind::Metadata(_)) => {
                "correct the host: such an address is asked for credentials alone"
            }
            Why::Address(_, Kind::Never(_) | Kind::Public) => "correct the host",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}

impl std::error::Error for Refused {}

/// Looks up a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> Looking + Send + Sync>;
pub(super) type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Judges for one client.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) reach: Reach,
    /// Hosts of the environment's proxies.
    pub(super) proxies: Arc<[String]>,
    pub(super) lookup: Lookup,
    pub(super) judge: fn(IpAddr) -> Kind,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", self.reach)
    }
}

impl Guard {
    pub(super) fn new(reach: Reach, proxies: Vec<String>) -> Self {
        let lookup: Lookup = Arc::new(|name| Box::pin(look_up(name)));
        Self { reach, proxies: proxies.into(), lookup, judge: classify }
    }

    /// Judges what can be told from a URL alone.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let refused = |why| Refused { host: host.to_owned(), why };
        match literal(host) {
            Some(address) => {
                let kind = (self.judge)(address);
                if self.reach.has(kind) { Ok(()) } else { Err(refused(Why::Address(address, kind))) }
            }
            // Its address would be taken for the proxy's, which may be private.
            None if self.reach < Reach::Private && self.is_proxy(host) => Err(refused(Why::Proxy)),
            None => Ok(()),
        }
    }

    fn is_proxy(&self, host: &str) -> bool {
        self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(host))
    }

    /// The addresses of a name that may be dialled.
    async fn addresses(&self, name: String) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let reach = if self.is_proxy(&name) { self.reach.max(Reach::Private) } else { self.reach };
        let found = (self.lookup)(name.clone()).await?;
        let (good, bad): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().partition(|address| reach.has((self.judge)(*address)));
        let refused = bad.into_iter().map(|address| (address, (self.judge)(address)));
        // One that can be allowed says more than one that cannot.
        let Some((address, kind)) = refused.min_by_key(|(_, kind)| !matches!(kind, Kind::Private(_))) else {
            return Ok(good);
        };
        let refused = Refused { host: name, why: Why::Address(address, kind) };
        if good.is_empty() {
            return Err(refused.into());
        }
        tracing::debug!("one address is left out: {refused}");
        Ok(good)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.addresses(name.as_str().to_owned()).await?;
            // The port is the URL's.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// Judges a URL without looking its host up: an address in any spelling, or a name that is this machine wherever it is
/// looked up. What is no URL passes, for whoever reads it to say so.
///
/// # Errors
/// [`Refused`]
pub fn check_literal(url: &str, reach: Reach) -> Result<(), Refused> {
    Url::parse(url).map_or(Ok(()), |url| Guard::new(reach, Vec::new()).check(&url))
}

/// The address that a host is without being looked up. URLs have their numbers in one spelling once they are parsed.
fn literal(host: &str) -> Option<IpAddr> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.trim_matches(['[', ']']).parse().ok()
}

async fn look_up(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// The hosts of the proxies that the environment names.
pub(super) fn proxies(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let texts = names.into_iter().filter_map(variable);
    let urls = texts.filter_map(|text| {
        let url = if text.contains("://") { text } else { format!("http://{text}") };
        Url::parse(&url).ok()
    });
    urls.filter_map(|url| url.host_str().map(str::to_owned)).collect()
}
