//! Every parameter Nix knows for a binary cache, what it sets, and for which kinds: the query of a URL comes in, the
//! parameters come out. Documented for Nix up to 2.35.

use std::collections::BTreeSet;
use std::time::Duration;

use near_name::nearest;

use super::error::CacheUrlError;
use super::params::{AddressingStyle, Codec, Encoding, Params, Scheme};
use super::value::Value;
use super::{Kind, address, percent};
use crate::text::is_word;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const RETRY_ATTEMPTS_MAX: u32 = 1000;
/// S3's own limits for a part, in bytes.
const PART_BYTES: std::ops::RangeInclusive<u64> = 5 << 20..=5 << 30;

type Read<T> = Result<T, CacheUrlError>;
type Set = fn(&mut Params, &Value) -> Read<()>;

struct Known {
    name: &'static str,
    kinds: &'static [Kind],
    set: Set,
}

const ANY: &[Kind] = &[Kind::File, Kind::Http, Kind::S3];
const REMOTE: &[Kind] = &[Kind::Http, Kind::S3];
const S3: &[Kind] = &[Kind::S3];

const fn known(name: &'static str, kinds: &'static [Kind], set: Set) -> Known {
    Known { name, kinds, set }
}

static KNOWN: &[Known] = &[
    known("compression", ANY, |p, v| put(&mut p.compression, codec(v))),
    known("compression-level", ANY, |p, v| put(&mut p.compression_level, level(v))),
    known("parallel-compression", ANY, |p, v| some(&mut p.parallel_compression, v.flag())),
    known("secret-key", ANY, |p, v| v.path().map(|key| p.secret_keys.push(key))),
    known("secret-keys", ANY, |p, v| v.paths().map(|keys| p.secret_keys.extend(keys))),
    known("write-nar-listing", ANY, |p, v| put(&mut p.write_nar_listing, v.flag())),
    known("index-debug-info", ANY, |p, v| put(&mut p.index_debug_info, v.flag())),
    known("want-mass-query", ANY, |p, v| some(&mut p.want_mass_query, v.flag())),
    known("priority", ANY, |p, v| some(&mut p.priority, small(v, u32::MAX, "a number from 0 up"))),
    known("store", ANY, |p, v| some(&mut p.store_dir, store_dir(v))),
    known("local-nar-cache", ANY, |p, v| ignore(p, v, v.path())),
    known("path-info-cache-size", ANY, |p, v| ignore(p, v, v.number(u64::MAX, "a number"))),
    known("system-features", ANY, |p, v| ignore(p, v, Ok(()))),
    known("trusted", ANY, |p, v| ignore(p, v, v.flag())),
    known("narinfo-compression", REMOTE, |p, v| put(&mut p.transport.narinfo_compression, encoding(v))),
    known("ls-compression", REMOTE, |p, v| put(&mut p.transport.ls_compression, encoding(v))),
    known("log-compression", REMOTE, |p, v| put(&mut p.transport.log_compression, encoding(v))),
    known("tls-certificate", REMOTE, |p, v| some(&mut p.transport.tls_certificate, v.path())),
    known("tls-private-key", REMOTE, |p, v| some(&mut p.transport.tls_private_key, v.path())),
    known("retry-attempts", REMOTE, |p, v| some(&mut p.transport.retry.attempts, attempts(v))),
    known("retry-delay", REMOTE, |p, v| some(&mut p.transport.retry.delay, wait(v))),
    known("retry-delay-rate-limited", REMOTE, |p, v| {
        some(&mut p.transport.retry.delay_rate_limited, wait(v))
    }),
    known("retry-max-delay", REMOTE, |p, v| some(&mut p.transport.retry.max_delay, wait(v))),
    known("profile", S3, |p, v| some(&mut p.s3.profile, v.text().map(str::to_owned))),
    known("region", S3, |p, v| put(&mut p.s3.region, region(v))),
    known("scheme", S3, |p, v| put(&mut p.s3.scheme, scheme(v))),
    // As it was written; `read` completes it when it knows the scheme.
    known("endpoint", S3, |p, v| some(&mut p.s3.endpoint, v.text().map(str::to_owned))),
    known("addressing-style", S3, |p, v| put(&mut p.s3.addressing_style, style(v))),
    known("multipart-upload", S3, |p, v| ignore(p, v, v.flag())),
    known("multipart-chunk-size", S3, |p, v| some(&mut p.s3.multipart_chunk_bytes, part_bytes(v))),
    known(OLD_CHUNK_SIZE, S3, |p, v| some(&mut p.s3.multipart_chunk_bytes, part_bytes(v))),
    known("multipart-threshold", S3, |p, v| ignore(p, v, v.size(BYTES))),
    known("storage-class", S3, |p, v| some(&mut p.s3.storage_class, storage_class(v))),
    known("versionId", S3, |p, v| ignore(p, v, v.text())),
];

/// The name `multipart-chunk-size` had before.
const OLD_CHUNK_SIZE: &str = "buffer-size";
const BYTES: &str = "a number of bytes, or of KiB, MiB, GiB with K, M, G behind it";

/// Reads what stands behind the question mark.
pub(super) fn read(query: &str, kind: Kind) -> Read<Params> {
    let mut params = Params::default();
    let mut seen = BTreeSet::new();
    let mut endpoint = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or(pair);
        let no_value = || CacheUrlError::NoValue { name: address::shown(name) };
        let (name, value) = pair.split_once('=').ok_or_else(no_value)?;
        let decoded = percent::decode(name).ok_or_else(no_value)?;
        let known = KNOWN
            .iter()
            .find(|known| known.name.as_bytes() == decoded)
            .ok_or_else(|| unknown(&decoded, kind))?;
        let value = Value { name: known.name, bytes: percent::decode(value).ok_or_else(no_value)? };
        if !known.kinds.contains(&kind) {
            return Err(CacheUrlError::OtherKind { name: known.name, kind });
        }
        let field = if known.name == OLD_CHUNK_SIZE { "multipart-chunk-size" } else { known.name };
        if !seen.insert(field) {
            return Err(CacheUrlError::Twice { name: field });
        }
        (known.set)(&mut params, &value)?;
        if known.name == "endpoint" {
            endpoint = Some(value);
        }
    }
    if let Some(value) = endpoint {
        let scheme = seen.contains("scheme").then_some(params.s3.scheme);
        params.s3.endpoint = Some(self::endpoint(&value, scheme)?);
    }
    let mut keys = BTreeSet::new();
    params.secret_keys.retain(|key| keys.insert(key.clone()));
    Ok(params)
}

fn unknown(name: &[u8], kind: Kind) -> CacheUrlError {
    let name = String::from_utf8_lossy(name);
    let of_kind = KNOWN.iter().filter(|known| known.kinds.contains(&kind)).map(|known| known.name);
    CacheUrlError::Unknown { near: nearest(&name, of_kind), name: address::shown(&name) }
}

fn put<T>(slot: &mut T, value: Read<T>) -> Read<()> {
    *slot = value?;
    Ok(())
}

fn some<T>(slot: &mut Option<T>, value: Read<T>) -> Read<()> {
    put(slot, value.map(Some))
}

/// A value that is good and means nothing here.
fn ignore<T>(params: &mut Params, value: &Value, read: Read<T>) -> Read<()> {
    read.map(|_| params.ignored.push(value.name))
}

fn codec(value: &Value) -> Read<Codec> {
    match value.bytes.as_slice() {
        b"zstd" => Ok(Codec::Zstd),
        b"xz" => Ok(Codec::Xz),
        b"none" => Ok(Codec::None),
        _ => {
            Err(value.fail("zstd, xz or none: archives are written in these alone, and Nix reads all three"))
        }
    }
}

/// The level; `None` for Nix' own word for the usual one, -1.
fn level(value: &Value) -> Read<Option<i32>> {
    if value.bytes == b"-1" {
        return Ok(None);
    }
    let level = value.number(99, "a level, or -1 for the usual one")?;
    Ok(i32::try_from(level).ok())
}

fn encoding(value: &Value) -> Read<Encoding> {
    match value.bytes.as_slice() {
        b"" | b"none" => Ok(Encoding::None),
        b"gzip" => Ok(Encoding::Gzip),
        _ => Err(value.fail("gzip or none; not every reader undoes another one")),
    }
}

fn small(value: &Value, max: u32, wanted: &'static str) -> Read<u32> {
    u32::try_from(value.number(u64::from(max), wanted)?).map_err(|_| value.fail(wanted))
}

fn attempts(value: &Value) -> Read<u32> {
    let wanted = "a number from 1 to 1000";
    match small(value, RETRY_ATTEMPTS_MAX, wanted)? {
        0 => Err(value.fail(wanted)),
        attempts => Ok(attempts),
    }
}

fn wait(value: &Value) -> Read<Duration> {
    value.number(DAY_MS, "a number of milliseconds, at most a day").map(Duration::from_millis)
}

fn store_dir(value: &Value) -> Read<String> {
    let wanted = "the absolute path of a store's folder, such as /nix/store";
    let folder = value.text()?.trim_end_matches('/');
    let parts_good = folder.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    let good = is_word(folder) && folder.starts_with('/') && parts_good;
    if good { Ok(folder.to_owned()) } else { Err(value.fail(wanted)) }
}

fn region(value: &Value) -> Read<String> {
    let text = value.text()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = text.len() <= 64 && text.bytes().all(allowed);
    if good { Ok(text.to_owned()) } else { Err(value.fail("a region's name, such as eu-central-1")) }
}

fn scheme(value: &Value) -> Read<Scheme> {
    match value.bytes.as_slice() {
        b"http" => Ok(Scheme::Http),
        b"https" => Ok(Scheme::Https),
        _ => Err(value.fail("http or https")),
    }
}

fn style(value: &Value) -> Read<AddressingStyle> {
    match value.bytes.as_slice() {
        b"auto" => Ok(AddressingStyle::Auto),
        b"path" => Ok(AddressingStyle::Path),
        b"virtual" => Ok(AddressingStyle::Virtual),
        _ => Err(value.fail("auto, path or virtual")),
    }
}

fn part_bytes(value: &Value) -> Read<u64> {
    let size = value.size(BYTES)?;
    if PART_BYTES.contains(&size) { Ok(size) } else { Err(value.fail("5 MiB to 5 GiB, as S3 asks")) }
}

fn storage_class(value: &Value) -> Read<String> {
    let text = value.text()?;
    let good = text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !good {
        return Err(value.fail("the name of a storage class, such as STANDARD_IA"));
    }
    if matches!(text, "GLACIER" | "DEEP_ARCHIVE") {
        return Err(
            value.fail("a class whose objects can be read at once; nobody could substitute from this one")
        );
    }
    Ok(text.to_owned())
}

/// `host[:port]`, or a whole URL, as `scheme://host[:port][/path]`.
fn endpoint(value: &Value, scheme: Option<Scheme>) -> Read<String> {
    let wanted = "a host, host:port, or an http or https URL without login and parameters";
    let text = value.text()?;
    let (name, rest) = match text.split_once("://") {
        Some((name @ ("http" | "https"), rest)) => (name, rest),
        Some(_) => return Err(value.fail(wanted)),
        None => (scheme.unwrap_or_default().name(), text),
    };
    if scheme.is_some_and(|scheme| scheme.name() != name) {
        return Err(CacheUrlError::Together {
            what: "scheme and the beginning of endpoint say different things; remove scheme",
        });
    }
    let server = address::server(name, rest).map_err(|_| value.fail(wanted))?;
    if server.login.is_some() { Err(value.fail(wanted)) } else { Ok(server.base) }
}

#[cfg(test)]
pub(super) fn names(kind: Kind) -> impl Iterator<Item = &'static str> {
    KNOWN.iter().filter(move |known| known.kinds.contains(&kind)).map(|known| known.name)
}
