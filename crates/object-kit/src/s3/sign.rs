//! Signatures of AWS, version 4. In: a request's method, address, headers and the hash of its body; keys; the time.
//! Out: the headers that prove who sent it. Every header that is there is signed.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use service_kit::clock::Time;
use sha2::{Digest, Sha256};

use crate::aws::Keys;
use crate::date;
use crate::error::Fault;

/// For whom and when a signature holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) now: Time,
}

#[derive(Debug, thiserror::Error)]
#[error("the {0} holds characters that no header can")]
struct HeaderError(&'static str);

/// Signs a request: adds `x-amz-date`, `x-amz-content-sha256`, `x-amz-security-token` and `authorization`.
pub(crate) fn sign(
    headers: &mut HeaderMap,
    method: &Method,
    url: &Url,
    body_sha256: &str,
    keys: &Keys,
    scope: Scope<'_>,
) -> Result<(), Fault> {
    let stamp = date::amz(scope.now);
    put(headers, "x-amz-date", &stamp, "time", false)?;
    put(headers, "x-amz-content-sha256", body_sha256, "hash", false)?;
    if let Some(session) = &keys.session {
        put(headers, "x-amz-security-token", session.reveal(), "session token", true)?;
    }
    let signed = signed_headers(headers, url);
    let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical =
        format!("{method}\n{}\n{}\n{lines}\n{names}\n{body_sha256}", url.path(), canonical_query(url));
    let day = stamp.get(..8).unwrap_or_default();
    let scope_line = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope_line}\n{}", sha256_hex(canonical.as_bytes()));
    let mut key = format!("AWS4{}", keys.secret.reveal()).into_bytes();
    for part in [day, scope.region, scope.service, "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    let signature = hex(&hmac(&key, to_sign.as_bytes()));
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope_line},SignedHeaders={names},Signature={signature}",
        keys.id
    );
    put(headers, "authorization", &text, "access key's id", true)
}

fn put(
    headers: &mut HeaderMap,
    name: &'static str,
    text: &str,
    what: &'static str,
    sensitive: bool,
) -> Result<(), Fault> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Fault::local(HeaderError(what)))?;
    value.set_sensitive(sensitive);
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

/// Names and values, by name, the host among them.
fn signed_headers(headers: &HeaderMap, url: &Url) -> Vec<(String, String)> {
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut signed = vec![(HOST.as_str().to_owned(), host)];
    for (name, value) in headers.iter().filter(|(name, _)| **name != AUTHORIZATION) {
        let value = String::from_utf8_lossy(value.as_bytes());
        signed.push((name.as_str().to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    signed.sort();
    signed
}

/// The query's parts in their order. They are encoded already.
fn canonical_query(url: &Url) -> String {
    let mut parts: Vec<(&str, &str)> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .collect();
    parts.sort_unstable();
    parts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    /// The examples of the S3 documentation: their keys, bucket and day.
    fn signature(
        method: &Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> String {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session: None,
        };
        let url = Url::parse(&format!("https://examplebucket.s3.amazonaws.com{path}")).unwrap();
        let pairs = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut headers = HeaderMap::from_iter(pairs);
        let now = "2013-05-24T00:00:00Z".parse().unwrap();
        let scope = Scope { region: "us-east-1", service: "s3", now };
        sign(&mut headers, method, &url, &sha256_hex(body.as_bytes()), &keys, scope).unwrap();
        let text = headers[AUTHORIZATION].to_str().unwrap().to_owned();
        assert!(headers[AUTHORIZATION].is_sensitive());
        text.split_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_published_examples_come_out() {
        assert_eq!(
            signature(&Method::GET, "/test.txt", &[("range", "bytes=0-9")], ""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(
            signature(
                &Method::PUT,
                "/test%24file.text",
                &[("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                "Welcome to Amazon S3."
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature(&Method::GET, "/?lifecycle", &[], ""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature(&Method::GET, "/?prefix=J&max-keys=2", &[], ""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }
}
