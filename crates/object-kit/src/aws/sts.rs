//! AWS' service for keys for a time. In: a token or keys, a role. Out: that role's keys.

use std::path::Path;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use service_kit::redact::Redactor;

use super::load::{ChainError, Role, World, expiry, read_token};
use super::{Keys, Loaded};
use crate::call::{Answer, Ask, Payload};
use crate::error::{Class, Fault, said};
use crate::key::encoded_query;
use crate::retry::Retry;
use crate::s3::sign::{Scope, sha256_hex, sign};
use crate::{Secret, xml};

/// Name of a session that was given none.
const SESSION: &str = "eka-queue";
const ANSWER_MAX: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address of STS")]
struct EndpointError(String);

/// The keys of a role for whoever has this token.
pub(super) async fn web_identity(
    world: &World<'_>,
    token_file: &Path,
    role: &str,
    session: Option<&str>,
) -> Result<Loaded, Fault> {
    let token = read_token(token_file)?;
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", role),
        ("RoleSessionName", session.unwrap_or(SESSION)),
        ("Version", "2011-06-15"),
        ("WebIdentityToken", token.reveal()),
    ];
    ask(world, &form, None, Some(&token)).await
}

/// The keys of a role for whoever has these keys.
pub(super) async fn assume(world: &World<'_>, keys: &Keys, role: &Role) -> Result<Loaded, Fault> {
    let mut form = vec![
        ("Action", "AssumeRole"),
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", role.session.as_deref().unwrap_or(SESSION)),
        ("Version", "2011-06-15"),
    ];
    form.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    ask(world, &form, Some(keys), None).await
}

/// The service may quote the token, which stands in the form and in no header.
async fn ask(
    world: &World<'_>,
    form: &[(&str, &str)],
    keys: Option<&Keys>,
    token: Option<&Secret>,
) -> Result<Loaded, Fault> {
    let region = world.region();
    let endpoint = world.var("AWS_ENDPOINT_URL_STS").or_else(|| world.var("AWS_ENDPOINT_URL"));
    let text = endpoint.unwrap_or_else(|| {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts.{region}.amazonaws.com{china}/")
    });
    let url = Url::parse(&text).ok().filter(|url| url.has_host());
    let url = url.ok_or_else(|| Fault::local(EndpointError(said(&text))))?;
    let pairs = form.iter().map(|(name, value)| format!("{name}={}", encoded_query(value)));
    let body = Bytes::from(pairs.collect::<Vec<_>>().join("&"));
    let line = &world.settings.line;
    let exchange = line.exchange(url.scheme() == "https", false)?;
    let retry = Retry::new(line);
    let mut attempts = retry.begin();
    loop {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(keys) = keys {
            let scope = Scope { region: &region, service: "sts", now: line.clock.now() };
            sign(&mut headers, &Method::POST, &url, &sha256_hex(&body), keys, scope)?;
        }
        let payload = Payload::Whole(body.clone());
        let ask = Ask { method: Method::POST, url: url.clone(), headers, payload, moved: None };
        match exchange.send(ask, ANSWER_MAX).await.and_then(|answer| read(&answer, url.as_str(), token)) {
            Ok(loaded) => {
                attempts.worked();
                return Ok(loaded);
            }
            Err(fault) => attempts.again(fault).await?,
        }
    }
}

fn read(answer: &Answer, from: &str, token: Option<&Secret>) -> Result<Loaded, Fault> {
    let root = xml::parse(&answer.body).ok();
    if !answer.status.is_success() {
        let error = root.as_ref().and_then(|root| root.child("Error"));
        let text = |name| error.and_then(|error| error.text_of(name)).unwrap_or_default();
        let told = format!("{} {}: {}", answer.status.as_u16(), text("Code"), text("Message"));
        let told = said(&Redactor::new(token).text(&told));
        let class = match answer.status.as_u16() {
            429 | 503 => Class::Busy,
            500.. => Class::Server,
            _ => Class::Credentials,
        };
        return Err(Fault::new(class, ChainError::Said { from: from.to_owned(), said: told }));
    }
    let result = root.as_ref().and_then(|root| root.children.iter().find_map(|one| one.child("Credentials")));
    let text =
        |name| result.and_then(|keys| keys.text_of(name)).map(str::trim).filter(|text| !text.is_empty());
    let (Some(id), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
        let told = "its answer has no Credentials".to_owned();
        return Err(Fault::new(Class::Server, ChainError::Said { from: from.to_owned(), said: told }));
    };
    let keys =
        Keys { id: id.into(), secret: Secret::new(secret), session: text("SessionToken").map(Secret::new) };
    let expires = text("Expiration").map(|end| expiry(end, from)).transpose()?;
    Ok(Loaded { keys, expires })
}
