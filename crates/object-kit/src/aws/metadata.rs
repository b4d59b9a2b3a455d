//! Keys from the machine we run on: a container's credential service, an instance's metadata service (version 2). In:
//! what the environment says of them. Out: keys with their end.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use service_kit::http::Reach;

use super::Loaded;
use super::load::{ChainError, World, from_json, read_token};
use crate::Secret;
use crate::call::{Answer, Ask, Exchange, Line, Payload};
use crate::error::{Class, Fault, chain, said};

/// Where containers ask by a relative address.
const CONTAINER: &str = "http://169.254.170.2";
/// Hosts that may be asked without TLS, beside this machine itself.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// Where instances ask.
const INSTANCE: &str = "http://169.254.169.254";
/// What is waited for a service that is next to us.
const NEAR: Duration = Duration::from_secs(2);
const ANSWER_MAX: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
enum MetadataError {
    #[error(
        "`{0}` is no address of a credential service: https, or http to this machine or AWS' own addresses"
    )]
    Address(String),
    #[error("the authorization token holds characters that no header can")]
    Token,
}

/// A line to what is next to us: short waits, no proxies, no pace.
fn near(line: &Line, https: bool) -> Result<Exchange, Fault> {
    let near = Line {
        reach: Reach::Metadata,
        timeout: NEAR.min(line.timeout),
        connect_timeout: NEAR.min(line.connect_timeout),
        throttles: Vec::new(),
        proxies: false,
        ..line.clone()
    };
    near.exchange(https, false)
}

/// Keys of the container; none when the environment names no service.
pub(super) async fn container(world: &World<'_>) -> Result<Option<Loaded>, Fault> {
    let relative = world.var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let address = match (relative, world.var("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        (Some(relative), _) => format!("{CONTAINER}/{}", relative.trim_start_matches('/')),
        (None, Some(full)) => full,
        (None, None) => return Ok(None),
    };
    let url = Url::parse(&address).ok().filter(may_be_asked);
    let url = url.ok_or_else(|| Fault::local(MetadataError::Address(said(&address))))?;
    let token = match world.var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(read_token(Path::new(&file))?),
        None => world.var("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
    };
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, sensitive(&token)?);
    }
    let from = format!("the credential service at {}", url.host_str().unwrap_or_default());
    let exchange = near(&world.settings.line, url.scheme() == "https")?;
    let answer = exchange.send(asking(Method::GET, url, headers), ANSWER_MAX).await?;
    told(&answer, &from)?;
    from_json(&answer.body, &from).map(Some)
}

fn may_be_asked(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let bare = url.username().is_empty() && url.password().is_none();
    bare && match url.scheme() {
        "https" => url.has_host(),
        "http" => here || CONTAINER_HOSTS.contains(&host),
        _ => false,
    }
}

/// Keys of the instance; in words why there are none.
pub(super) async fn instance(world: &World<'_>) -> Result<Result<Loaded, String>, Fault> {
    if world.var("AWS_EC2_METADATA_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        return Ok(Err("switched off by AWS_EC2_METADATA_DISABLED".into()));
    }
    let address = world.var("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.into());
    let base = Url::parse(&address).ok().filter(|url| url.has_host() && url.username().is_empty());
    let base = base.ok_or_else(|| Fault::local(MetadataError::Address(said(&address))))?;
    let exchange = near(&world.settings.line, base.scheme() == "https")?;
    let from = format!("the metadata service at {}", base.host_str().unwrap_or_default());
    let at = |path: &str| {
        let mut url = base.clone();
        url.set_path(path);
        url
    };
    let ttl =
        (HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds"), HeaderValue::from_static("300"));
    let ask = asking(Method::PUT, at("/latest/api/token"), HeaderMap::from_iter([ttl]));
    let answer = match exchange.send(ask, ANSWER_MAX).await {
        Ok(answer) if answer.status.is_success() => answer,
        // Not a machine that has such a service.
        Ok(answer) => return Ok(Err(format!("{from} answers {}", answer.status))),
        Err(fault) => return Ok(Err(chain(&*fault.source))),
    };
    let token = sensitive(&Secret::new(String::from_utf8_lossy(&answer.body).trim()))?;
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-aws-ec2-metadata-token"), token)]);
    let roles = "/latest/meta-data/iam/security-credentials/";
    let answer = exchange.send(asking(Method::GET, at(roles), headers.clone()), ANSWER_MAX).await?;
    let role = String::from_utf8_lossy(&answer.body).lines().next().unwrap_or_default().trim().to_owned();
    if !answer.status.is_success() || role.is_empty() {
        return Ok(Err(format!("{from} has no role for us")));
    }
    let url = at(&format!("{roles}{}", crate::key::encoded_query(&role)));
    let answer = exchange.send(asking(Method::GET, url, headers), ANSWER_MAX).await?;
    told(&answer, &from)?;
    from_json(&answer.body, &from).map(Ok)
}

fn asking(method: Method, url: Url, headers: HeaderMap) -> Ask<'static> {
    Ask { method, url, headers, payload: Payload::Empty, moved: None }
}

fn told(answer: &Answer, from: &str) -> Result<(), Fault> {
    if answer.status.is_success() {
        return Ok(());
    }
    let class = if answer.status.is_server_error() { Class::Server } else { Class::Credentials };
    let said = format!("it answers {}", answer.status);
    Err(Fault::new(class, ChainError::Said { from: from.to_owned(), said }))
}

fn sensitive(text: &Secret) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text.reveal()).map_err(|_| Fault::local(MetadataError::Token))?;
    value.set_sensitive(true);
    Ok(value)
}
