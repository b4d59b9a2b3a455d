//! Where a bucket is. In: bucket, region, endpoint in one of its spellings, addressing. Out: the URL of a key.

use reqwest::Url;

use super::Addressing;
use crate::key::{encoded, encoded_query};

/// A bucket's address, region aside.
#[derive(Debug, Clone)]
pub(super) struct Address {
    bucket: String,
    /// None: AWS' own, which has one per region.
    endpoint: Option<Url>,
    path_style: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("`{0}` is no bucket: a bucket has 1 to 255 letters, digits, dots, dashes and underscores")]
    Bucket(String),
    #[error(
        "`{0}` is no endpoint: write HOST, HOST:PORT, or http(s)://HOST[:PORT][/PATH], without credentials and query"
    )]
    Endpoint(String),
    #[error("`{0}` is no region")]
    Region(String),
}

impl Address {
    pub(super) fn new(
        bucket: &str,
        endpoint: Option<&str>,
        https: bool,
        addressing: Addressing,
    ) -> Result<Self, AddressError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let dots = bucket.split('.').all(|part| !part.is_empty());
        if bucket.len() > 255 || !bucket.bytes().all(good) || !dots {
            return Err(AddressError::Bucket(crate::error::said(bucket)));
        }
        let endpoint = match endpoint.filter(|text| !text.is_empty()) {
            Some(text) => Some(parse(text, https).ok_or(AddressError::Endpoint(crate::error::said(text)))?),
            None => None,
        };
        let path_style = match addressing {
            Addressing::Path => true,
            Addressing::Virtual => false,
            // A name with dots matches no wildcard certificate, and endpoints of one's own seldom have a wildcard name.
            Addressing::Auto => {
                let of_aws = endpoint.as_ref().is_none_or(|url| {
                    url.host_str().is_some_and(|host| {
                        host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
                    })
                });
                !of_aws || bucket.contains('.')
            }
        };
        Ok(Self { bucket: bucket.to_owned(), endpoint, path_style })
    }

    pub(super) fn https(&self) -> bool {
        self.endpoint.as_ref().is_none_or(|url| url.scheme() == "https")
    }

    /// `s3://BUCKET`, and at which endpoint when that is not AWS.
    pub(super) fn shown(&self, prefix: &str) -> String {
        let at = self.endpoint.as_ref().map(|url| format!(" at {}", url.as_str().trim_end_matches('/')));
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("s3://{}{slash}{prefix}{}", self.bucket, at.unwrap_or_default())
    }

    /// The URL of a key, or of the bucket itself.
    pub(super) fn url(
        &self,
        region: &str,
        key: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Url, AddressError> {
        let wrong = || AddressError::Region(crate::error::said(region));
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if region.is_empty() || !region.bytes().all(good) {
            return Err(wrong());
        }
        let mut url = match &self.endpoint {
            Some(url) => url.clone(),
            None => {
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                Url::parse(&format!("https://s3.{region}.amazonaws.com{china}/")).map_err(|_| wrong())?
            }
        };
        let mut path = url.path().trim_end_matches('/').to_owned();
        if self.path_style {
            path = format!("{path}/{}", self.bucket);
        } else {
            let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(|_| AddressError::Bucket(self.bucket.clone()))?;
        }
        match key {
            Some(key) => path = format!("{path}/{}", encoded(key)),
            None if path.is_empty() => path.push('/'),
            None => {}
        }
        url.set_path(&path);
        if !query.is_empty() {
            let part =
                |(name, value): &(&str, &str)| format!("{}={}", encoded_query(name), encoded_query(value));
            url.set_query(Some(&query.iter().map(part).collect::<Vec<_>>().join("&")));
        }
        Ok(url)
    }
}

fn parse(text: &str, https: bool) -> Option<Url> {
    let scheme = if https { "https" } else { "http" };
    let text = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    Url::parse(&text).ok().filter(|url| {
        let plain = url.query().is_none() && url.fragment().is_none();
        let bare = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && plain && bare
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(bucket: &str, endpoint: Option<&str>, addressing: Addressing) -> String {
        let address = Address::new(bucket, endpoint, true, addressing).unwrap();
        address.url("eu-west-1", Some("nar/a+b"), &[]).unwrap().to_string()
    }

    #[test]
    fn each_kind_of_address() {
        use Addressing::{Auto, Path, Virtual};
        assert_eq!(url("bkt", None, Auto), "https://bkt.s3.eu-west-1.amazonaws.com/nar/a%2Bb");
        assert_eq!(url("my.bkt", None, Auto), "https://s3.eu-west-1.amazonaws.com/my.bkt/nar/a%2Bb");
        assert_eq!(url("bkt", None, Path), "https://s3.eu-west-1.amazonaws.com/bkt/nar/a%2Bb");
        assert_eq!(url("bkt", Some("minio:9000"), Auto), "https://minio:9000/bkt/nar/a%2Bb");
        assert_eq!(url("bkt", Some("http://h:1/base/"), Auto), "http://h:1/base/bkt/nar/a%2Bb");
        assert_eq!(url("bkt", Some("http://h:1"), Virtual), "http://bkt.h:1/nar/a%2Bb");
        let china = Address::new("b", None, true, Auto).unwrap().url("cn-north-1", None, &[("a/", "b c")]);
        assert_eq!(china.unwrap().as_str(), "https://b.s3.cn-north-1.amazonaws.com.cn/?a%2F=b%20c");
        for bad in ["", "a/b", "a b", "..", "a..b"] {
            assert!(Address::new(bad, None, true, Auto).is_err(), "{bad}");
        }
        for bad in ["ftp://x", "http://u:p@x", "http://x?y", "http://"] {
            assert!(Address::new("b", Some(bad), true, Auto).is_err(), "{bad}");
        }
        assert!(Address::new("b", None, true, Auto).unwrap().url("e/u", None, &[]).is_err());
    }
}
