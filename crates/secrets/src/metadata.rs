//! What the machine itself is given by its cloud. In: whose machine, or that this is to be found out. Out: AWS keys, or a
//! token for Google or Azure. The services are next to us: waits are short, no proxy is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_kit::Line;
use object_kit::ask::{Question, Reply, encoded};
use object_kit::aws::Look;
use serde::Deserialize;
use service_kit::clock::Time;
use service_kit::http::Reach;

use crate::aws::{chain, keys};
use crate::error::said;
use crate::parse::{Text, json_error};
use crate::reader::Means;
use crate::{Cloud, Secret, SecretError, Values};

/// Where all three clouds have their service.
const ADDRESS: &str = "http://169.254.169.254";
/// What is waited for a service that is next to us.
const NEAR: Duration = Duration::from_secs(2);
/// Most attempts at one question.
const ATTEMPTS_MAX: u32 = 2;
const ANSWER_MAX: usize = 64 << 10;
/// What an Azure token is for when nothing else is said.
const RESOURCE: &str = "https://storage.azure.com/";

/// Where to ask, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) provider: Option<Cloud>,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) resource: Option<&'a str>,
}

/// Asks the cloud, or each of them in turn.
pub(crate) async fn read(means: &Means, at: At<'_>) -> Result<Values, SecretError> {
    match at.provider {
        Some(cloud) => one(means, at, cloud).await,
        None => {
            let mut said = Vec::new();
            for cloud in [Cloud::Aws, Cloud::Gcp, Cloud::Azure] {
                match one(means, at, cloud).await {
                    Ok(values) => return Ok(values),
                    Err(error) => said.push(format!("{}: {}", error.place, chained(&error))),
                }
            }
            let remedy = "give the machine a role, or write provider to see one cloud's answer alone";
            Err(SecretError::later("the machine's metadata", said.join(". "), remedy))
        }
    }
}

fn chained(error: &SecretError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{}: {}", error.what, object_kit::chain(cause)),
        None => error.what.clone(),
    }
}

async fn one(means: &Means, at: At<'_>, cloud: Cloud) -> Result<Values, SecretError> {
    match cloud {
        Cloud::Aws => keys(&machine(means, at.endpoint), "AWS").await,
        Cloud::Gcp => google(means, at.endpoint).await,
        Cloud::Azure => azure(means, at).await,
    }
}

/// How keys of this machine are found. The address of the service is the one of the configuration, never one of the
/// environment.
pub(crate) fn machine(means: &Means, endpoint: Option<&str>) -> object_kit::aws::ChainSettings {
    let (lookup, endpoint) = (means.lookup.clone(), endpoint.map(str::to_owned));
    let mut settings = chain(means, Look::Machine);
    settings.lookup = Arc::new(move |name| match name {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT" => endpoint.clone(),
        _ => lookup(name),
    });
    settings
}

#[derive(Deserialize)]
struct Token {
    access_token: Text,
    expires_in: Option<Text>,
}

async fn google(means: &Means, endpoint: Option<&str>) -> Result<Values, SecretError> {
    let url = "/computeMetadata/v1/instance/service-accounts/default/token";
    let question = Question::get(format!("{}{url}", endpoint.unwrap_or(ADDRESS)))
        .header("metadata-flavor", Secret::new("Google"));
    let reply = ask(means, &question, "Google").await?;
    // Whoever answers without it is not Google's service.
    if reply.header("metadata-flavor") != Some("Google") {
        let what = "the answer is not of Google's metadata service";
        return Err(SecretError::mend("Google", what, "run on a Google machine, or name another provider"));
    }
    token(means, &reply, "Google", "GOOGLE_OAUTH_ACCESS_TOKEN")
}

async fn azure(means: &Means, at: At<'_>) -> Result<Values, SecretError> {
    let resource = encoded(at.resource.unwrap_or(RESOURCE));
    let path = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}");
    let question = Question::get(format!("{}{path}", at.endpoint.unwrap_or(ADDRESS)))
        .header("metadata", Secret::new("true"));
    let reply = ask(means, &question, "Azure").await?;
    token(means, &reply, "Azure", "AZURE_ACCESS_TOKEN")
}

async fn ask(means: &Means, question: &Question, place: &str) -> Result<Reply, SecretError> {
    let line = Line {
        reach: Reach::Metadata,
        timeout: NEAR.min(means.line.timeout),
        connect_timeout: NEAR.min(means.line.connect_timeout),
        attempts_max: ATTEMPTS_MAX.min(means.line.attempts_max),
        throttles: Vec::new(),
        proxies: false,
        ..means.line.clone()
    };
    question.ask(&line, ANSWER_MAX).await.map_err(|error| {
        let remedy = "run on a machine of that cloud, or name another provider";
        SecretError::later(place, "the metadata service gives no answer", remedy).because(error)
    })
}

fn token(means: &Means, reply: &Reply, place: &str, name: &str) -> Result<Values, SecretError> {
    if !reply.is_success() {
        let what = format!("the metadata service answers {}", said(&reply.status.to_string()));
        let make = if reply.status >= 500 { SecretError::later } else { SecretError::mend };
        return Err(make(place, what, "give the machine an identity that may have a token"));
    }
    let token: Token = serde_json::from_slice(&reply.body).map_err(|error| {
        let what = format!("the answer holds no token: it {}", json_error(&error));
        SecretError::later(place, what, "check whose metadata service it is")
    })?;
    let seconds = token.expires_in.and_then(|Text(seconds)| seconds.reveal().parse().ok());
    let ends = seconds.map(|seconds| -> Time { means.line.clock.now() + Duration::from_secs(seconds) });
    let map = BTreeMap::from([(name.to_owned(), token.access_token.0)]);
    Ok(Values { map, ends, ..Values::default() })
}
