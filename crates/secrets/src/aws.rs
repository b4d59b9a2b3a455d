//! Sources at AWS: keys of a profile or of the machine, and secrets of Secrets Manager that keys open. In: where to look.
//! Out: values, or what AWS said, by its own word for it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use object_kit::Class as ObjectClass;
use object_kit::ask::Question;
use object_kit::aws::{ChainSettings, Keys, Loaded, Look, find, region};
use serde::Deserialize;

use crate::error::said;
use crate::file::CONTENT_MAX;
use crate::local::unreadable;
use crate::parse::{Text, json_error};
use crate::reader::Means;
use crate::{Class, ManagedSecret, Redactor, Secret, SecretError, Values, parse_or_raw};

/// Most bytes of an answer: a secret in base64 or as escaped JSON, and what stands around it.
const ANSWER_MAX: usize = 2 * CONTENT_MAX;
const SERVICE: &str = "secretsmanager";

/// What AWS' own ways to keys find in these places.
pub(crate) fn chain(means: &Means, look: Look) -> ChainSettings {
    ChainSettings {
        lookup: means.lookup.clone(),
        look,
        runner: means.runner.clone(),
        line: means.line.clone(),
    }
}

/// Keys as values.
pub(crate) async fn keys(settings: &ChainSettings, place: &str) -> Result<Values, SecretError> {
    let Loaded { keys, expires } = loaded(settings, place).await?;
    let mut map = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), Secret::new(keys.id)),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), keys.secret),
    ]);
    map.extend(keys.session.map(|session| ("AWS_SESSION_TOKEN".to_owned(), session)));
    Ok(Values { map, ends: expires, ..Values::default() })
}

async fn loaded(settings: &ChainSettings, place: &str) -> Result<Loaded, SecretError> {
    find(settings).await.map_err(|error| {
        let passing = matches!(
            error.class,
            ObjectClass::Unreachable | ObjectClass::Stuck | ObjectClass::Busy | ObjectClass::Server
        );
        let class = if passing { Class::Later } else { Class::Mend };
        let remedy = "set keys, a profile or a role where the daemon runs";
        SecretError { class, ..SecretError::mend(place, "there are no keys", remedy) }.because(error)
    })
}

/// A secret of Secrets Manager, read with the keys that are found there.
pub(crate) async fn managed(settings: &ChainSettings, secret: &ManagedSecret) -> Result<Values, SecretError> {
    let place = format!("the secret {}", secret.name);
    let named = match &secret.region {
        Some(region) => Some(region.clone()),
        None => region(settings).map_err(|error| {
            SecretError::mend(place.clone(), "has no region", "write region").because(error)
        })?,
    };
    let fits = |region: &String| region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let region = named.filter(fits).ok_or_else(|| {
        let remedy = "write region, or set AWS_REGION or the profile's region";
        SecretError::mend(place.clone(), "has no region", remedy)
    })?;
    let keys = loaded(settings, &place).await?.keys;
    let reply = ask(settings, secret, &region, &keys, &place).await?;
    let map = parse_or_raw(reply.reveal(), &secret.name).map_err(|error| unreadable(&place, &error))?;
    Ok(Values::lasting(map))
}

fn endpoint(settings: &ChainSettings, secret: &ManagedSecret, region: &str) -> String {
    let named = ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"];
    let of_environment =
        || named.iter().find_map(|name| (settings.lookup)(name).filter(|url| !url.is_empty()));
    secret.endpoint.clone().or_else(of_environment).unwrap_or_else(|| {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://{SERVICE}.{region}.amazonaws.com{china}")
    })
}

/// The secret's content.
async fn ask(
    settings: &ChainSettings,
    secret: &ManagedSecret,
    region: &str,
    keys: &Keys,
    place: &str,
) -> Result<Secret, SecretError> {
    let url = endpoint(settings, secret, region);
    let body = serde_json::json!({ "SecretId": secret.name }).to_string();
    let question = Question::post(format!("{}/", url.trim_end_matches('/')), Bytes::from(body))
        .header("content-type", Secret::new("application/x-amz-json-1.1"))
        .header("x-amz-target", Secret::new("secretsmanager.GetSecretValue"))
        .signed(keys.clone(), region, SERVICE);
    let reply = question.ask(&settings.line, ANSWER_MAX).await.map_err(|error| {
        let what = "AWS Secrets Manager gives no answer";
        SecretError::later(place, what, "check the network, the region and the endpoint").because(error)
    })?;
    if !reply.is_success() {
        return Err(refusal(reply.status, &reply.body, keys, place, region));
    }
    content(&reply.body, place)
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "SecretString")]
    text: Option<Text>,
    #[serde(rename = "SecretBinary")]
    binary: Option<Text>,
}

fn content(body: &[u8], place: &str) -> Result<Secret, SecretError> {
    let no = |what: String| SecretError::later(place, what, "check the endpoint");
    let content: Content = serde_json::from_slice(body)
        .map_err(|error| no(format!("the answer makes no sense: it {}", json_error(&error))))?;
    match (content.text, content.binary) {
        (Some(Text(text)), _) => Ok(text),
        (None, Some(Text(binary))) => {
            let bytes = STANDARD.decode(binary.reveal()).map(zeroize::Zeroizing::new).ok();
            let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
            let wrong = || SecretError::mend(place, "is binary and no text", "store text");
            text.map(Secret::new).ok_or_else(wrong)
        }
        (None, None) => Err(no("the answer has no secret".to_owned())),
    }
}

#[derive(Deserialize, Default)]
struct Refused {
    #[serde(rename = "__type", default)]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

fn refusal(status: u16, body: &[u8], keys: &Keys, place: &str, region: &str) -> SecretError {
    let refused: Refused = serde_json::from_slice(body).unwrap_or_default();
    let code = refused.code.rsplit('#').next().unwrap_or_default();
    let mut redactor = Redactor::new([Some(&keys.secret), keys.session.as_ref()].into_iter().flatten());
    let told = said(&redactor.text(&format!("{status} {code} {}", refused.message)));
    let what = format!("AWS Secrets Manager in {region} answers {told}");
    match (status, code) {
        (408 | 429 | 500.., _) | (_, "ThrottlingException") => {
            SecretError::later(place, what, "it is asked again")
        }
        (_, "ResourceNotFoundException") => {
            SecretError::mend(place, what, "correct secret_name or region, or create the secret")
        }
        (_, "AccessDeniedException") => {
            SecretError::mend(place, what, "allow secretsmanager:GetSecretValue on it")
        }
        _ => SecretError::mend(place, what, "check keys, secret_name and region"),
    }
}
