//! What stands before the parameters: the scheme and the rest come in, a place comes out in its one spelling, or a
//! sentence on what is wrong that shows nothing of the text.

use std::net::Ipv6Addr;

use zeroize::Zeroizing;

use super::{Login, Place, path_of, percent};

/// Most characters of a host's name.
const HOST_MAX: usize = 253;
/// Most characters of a bucket's name; AWS allows 63, others more.
const BUCKET_MAX: usize = 255;
/// Most bytes of a folder in a bucket; a key has at most 1024, with the folder.
const PREFIX_MAX: usize = 512;

/// A text that may be a URL with a login, for an error: without all that may belong to one.
pub(super) fn shown(text: &str) -> String {
    let is_scheme =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let hidden = match text.rfind('@') {
        None => text.to_owned(),
        Some(at) => match text[..at].split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
            Some((scheme, _)) => format!("{scheme}://***{}", &text[at..]),
            None => format!("***{}", &text[at..]),
        },
    };
    crate::text::shown(hidden.as_bytes())
}

pub(super) fn place(scheme: &str, rest: &str) -> Result<Place, &'static str> {
    match scheme {
        "file" => file(rest),
        "s3" => bucket(rest),
        _ => {
            let Server { base, login } = server(scheme, rest)?;
            Ok(Place::Http { base, login })
        }
    }
}

fn file(rest: &str) -> Result<Place, &'static str> {
    if !rest.starts_with('/') {
        return Err("write the absolute path of a folder with three slashes, as in file:///srv/cache");
    }
    let bytes = percent::decode(rest).ok_or("write %25 for a percent sign in the folder's name")?;
    if bytes.iter().any(u8::is_ascii_control) {
        return Err("the folder's name has a control character");
    }
    let mut root = Vec::new();
    for part in bytes.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        if part == b".." {
            return Err("write the folder's path without `..`");
        }
        root.push(b'/');
        root.extend_from_slice(part);
    }
    if root.is_empty() {
        return Err("name a folder below /, as in file:///srv/cache");
    }
    Ok(Place::File { root: path_of(&root) })
}

fn bucket(rest: &str) -> Result<Place, &'static str> {
    let (bucket, behind) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if bucket.contains(['@', ':']) {
        return Err(
            "write the bucket's name alone; the server belongs into endpoint=, who we are into profile=",
        );
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let begins = bucket.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || bucket.len() > BUCKET_MAX || !bucket.bytes().all(allowed) {
        return Err(
            "a bucket's name is made of letters, digits, `.`, `-` and `_`, and begins with one of the first two",
        );
    }
    let prefix = percent::decode(path(behind)?.trim_start_matches('/'));
    let prefix = prefix
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|prefix| prefix.len() <= PREFIX_MAX && !prefix.chars().any(char::is_control))
        // A slash may have been escaped.
        .filter(|prefix| {
            prefix.is_empty() || prefix.split('/').all(|part| !matches!(part, "" | "." | ".."))
        })
        .ok_or(
            "the folder behind the bucket's name is UTF-8 of at most 512 bytes, without empty parts and control characters",
        )?;
    Ok(Place::S3 { bucket: bucket.to_owned(), prefix })
}

/// A web server and a path on it.
pub(super) struct Server {
    /// `scheme://host[:port][/path]`
    pub(super) base: String,
    pub(super) login: Option<Login>,
}

/// Reads what stands behind `http://` or `https://`.
pub(super) fn server(scheme: &str, rest: &str) -> Result<Server, &'static str> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, authority) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let login = user.map(login).transpose()?;
    let end = if authority.starts_with('[') { authority.find(']').map_or(0, |at| at + 1) } else { 0 };
    let (host, port) = match authority[end..].find(':') {
        Some(colon) => (&authority[..end + colon], Some(&authority[end + colon + 1..])),
        None => (authority, None),
    };
    let mut base = format!("{scheme}://{}", self::host(host)?);
    if let Some(port) = port {
        let number: u16 = Some(port)
            .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|number| *number > 0)
            .ok_or("the port behind the host's name is no number from 1 to 65535")?;
        if !matches!((scheme, number), ("http", 80) | ("https", 443)) {
            base.push_str(&format!(":{number}"));
        }
    }
    base.push_str(&self::path(path)?);
    Ok(Server { base, login })
}

fn login(text: &str) -> Result<Login, &'static str> {
    let decoded = |part: &str| {
        let bytes = percent::decode(part).filter(|_| !part.contains('@'))?;
        String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
    };
    let (user, password) = text.split_once(':').map_or((text, None), |(user, word)| (user, Some(word)));
    let user = decoded(user).filter(|user| !user.contains(':'));
    let password = password.map(|word| decoded(word).map(Zeroizing::new).ok_or(())).transpose();
    match (user, password) {
        (Some(user), Ok(password)) => Ok(Login { user, password }),
        (Some(_) | None, _) => Err(
            "the login before the host's name must be user:password, with %25 for `%`, %40 for `@`, %2F for `/` and no `:` in the user",
        ),
    }
}

/// A name or an address, in lower case.
fn host(text: &str) -> Result<String, &'static str> {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "what stands in brackets is no IPv6 address")?;
        return Ok(format!("[{address}]"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > HOST_MAX || !text.bytes().all(allowed) || text.starts_with(['.', '-'])
    {
        return Err("there is no host's name behind the two slashes, or one that cannot be");
    }
    Ok(text.to_ascii_lowercase())
}

/// A path in its one spelling, without a slash at the end.
fn path(text: &str) -> Result<String, &'static str> {
    let text = text.trim_end_matches('/');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%/".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err("the path has a character that must be percent-encoded (%40 for `@`, say)");
    }
    for part in text.split('/').skip(1) {
        let decoded = percent::decode(part).ok_or("write %25 for a percent sign in the path")?;
        if matches!(decoded.as_slice(), b"" | b"." | b"..") || decoded.iter().any(u8::is_ascii_control) {
            return Err("write the path without empty parts, `.`, `..` and control characters");
        }
    }
    percent::normal(text).ok_or("write %25 for a percent sign in the path")
}
