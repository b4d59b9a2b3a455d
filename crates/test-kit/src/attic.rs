//! An Attic server for tests: its API as far as a pusher needs it, and the binary cache that readers see. In: calls in the
//! documented shapes and no others. Out: narinfo files signed by the server, and archives; everything is a path of the
//! server below. A path is taken only with an archive of the hash and size that was told, and the same archive is kept
//! once. Faults are those of the server below.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::http_cache::{Asked, Cache, Said, Stored, stored};

/// From this size on what is said of a path has to be in the body, in bytes.
const HEADER_BYTES: usize = 4 << 10;
/// What may be said of a path at most, in bytes.
const PREAMBLE_BYTES_MAX: usize = 1 << 20;
/// The cache's name.
pub const NAME: &str = "team";
/// Who may push.
pub const TOKEN: &str = "attic-token-canary";
/// Who may only pull.
pub const PULL_TOKEN: &str = "attic-pull-token-canary";
/// What every upload has to say, and nothing else.
const FIELDS: [&str; 10] = [
    "ca",
    "cache",
    "deriver",
    "nar_hash",
    "nar_size",
    "references",
    "sigs",
    "store_path",
    "store_path_hash",
    "system",
];

/// Signs a fingerprint: `name:base64`.
pub type Sign = Box<dyn Fn(&str) -> String + Send>;

/// A running server with one public cache, [`NAME`].
#[derive(Debug)]
pub struct Attic {
    /// The server below: its objects, its faults, its log.
    pub cache: Cache,
    kept: Arc<Mutex<Kept>>,
    token: Arc<Mutex<String>>,
}

/// What a test looks at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Uploads whose archive was there already.
    pub deduplicated: u32,
    /// Uploads that were described in their bodies.
    pub preambles: u32,
    /// Calls that were not as documented, or archives that were not what was told.
    pub refused: Vec<String>,
}

struct Server {
    url: String,
    store_dir: String,
    upstream: Vec<String>,
    sign: Sign,
    kept: Arc<Mutex<Kept>>,
    /// Of who may push.
    token: Arc<Mutex<String>>,
}

impl Attic {
    /// An empty cache for paths in `store_dir`; paths signed by keys of the names `upstream` need not be sent.
    #[must_use]
    pub fn start(store_dir: &str, upstream: &[&str], sign: Sign) -> Self {
        let (cache, kept) = (Cache::start(), Arc::<Mutex<Kept>>::default());
        let token = Arc::new(Mutex::new(TOKEN.to_owned()));
        let server = Server {
            url: cache.url(),
            store_dir: store_dir.into(),
            upstream: upstream.iter().map(|name| (*name).to_owned()).collect(),
            sign,
            kept: Arc::clone(&kept),
            token: Arc::clone(&token),
        };
        cache.serve(Box::new(move |objects, asked| server.answer(objects, asked)));
        Self { cache, kept, token }
    }

    /// From now on another token may push, and the one before is nobody's.
    pub fn change_token(&self, token: &str) {
        token.clone_into(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was counted so far.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where readers find the cache.
    #[must_use]
    pub fn read_url(&self) -> String {
        format!("{}/{NAME}", self.cache.url())
    }
}

fn error(status: u16, name: &str, message: &str) -> Said {
    (status, json!({ "code": status, "error": name, "message": message }).to_string())
}

impl Server {
    fn answer(&self, objects: &mut BTreeMap<String, Stored>, asked: &Asked<'_>) -> Option<Said> {
        let call = asked.path.strip_prefix("/_api/v1/")?;
        let said = self.call(call, objects, asked);
        Some(said.unwrap_or_else(|refusal| {
            if refusal.0 == 400 {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.refused.push(refusal.1.clone());
            }
            refusal
        }))
    }

    fn call(
        &self,
        call: &str,
        objects: &mut BTreeMap<String, Stored>,
        asked: &Asked<'_>,
    ) -> Result<Said, Said> {
        let token = asked.headers.get("authorization").map_or("", String::as_str);
        let token = token.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let may_push = match token {
            Some((_, token))
                if token == self.token.lock().unwrap_or_else(PoisonError::into_inner).as_str() =>
            {
                true
            }
            Some((_, PULL_TOKEN)) => false,
            _ => return Err(error(401, "Unauthorized", "Unauthorized.")),
        };
        match (asked.method, call) {
            ("GET", _) if call.starts_with("cache-config/") => self.settings(call),
            ("POST", "get-missing-paths") => Self::missing(objects, asked),
            ("PUT", "upload-path") if may_push => self.upload(objects, asked),
            ("PUT", "upload-path") => Err(error(403, "PermissionDenied", "The token may not push.")),
            _ => Err(error(404, "NotFound", "No such call.")),
        }
    }

    fn settings(&self, call: &str) -> Result<Said, Said> {
        if call != format!("cache-config/{NAME}") {
            return Err(no_such_cache());
        }
        let said = json!({
            "substituter_endpoint": format!("{}/{NAME}", self.url), "api_endpoint": format!("{}/", self.url),
            "public_key": "unused", "is_public": true, "store_dir": self.store_dir, "priority": 41,
            "upstream_cache_key_names": self.upstream, "retention_period": "Global",
        });
        Ok((200, said.to_string()))
    }

    fn missing(objects: &BTreeMap<String, Stored>, asked: &Asked<'_>) -> Result<Said, Said> {
        let question = object(asked.body, &["cache", "store_path_hashes"])?;
        if question["cache"] != NAME {
            return Err(no_such_cache());
        }
        let hashes = question["store_path_hashes"].as_array().ok_or_else(|| bad("no list of hashes"))?;
        let mut missing = Vec::new();
        for hash in hashes {
            let hash = hash.as_str().filter(|hash| hash.len() == 32).ok_or_else(|| bad("no hash"))?;
            if !objects.contains_key(&format!("/{NAME}/{hash}.narinfo")) {
                missing.push(hash);
            }
        }
        Ok((200, json!({ "missing_paths": missing }).to_string()))
    }

    fn upload(&self, objects: &mut BTreeMap<String, Stored>, asked: &Asked<'_>) -> Result<Said, Said> {
        let header = asked.headers.get("x-attic-nar-info");
        let length = asked.headers.get("x-attic-nar-info-preamble-size");
        let (told, nar) = match (header, length) {
            (Some(text), None) if text.len() < HEADER_BYTES => (text.as_bytes(), asked.body),
            (None, Some(length)) => {
                let length: usize = length.parse().map_err(|_| bad("no length of a preamble"))?;
                if length > PREAMBLE_BYTES_MAX || length > asked.body.len() {
                    return Err(bad("the preamble is too long"));
                }
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).preambles += 1;
                asked.body.split_at(length)
            }
            _ => return Err(bad("one of the two headers, and a short one")),
        };
        let told = object(told, &FIELDS)?;
        if told["cache"] != NAME {
            return Err(no_such_cache());
        }
        let hash: String = Sha256::digest(nar).iter().map(|byte| format!("{byte:02x}")).collect();
        if told["nar_hash"] != format!("sha256:{hash}") || told["nar_size"] != nar.len() {
            return Err(error(400, "RequestError", "Bad NAR hash or size"));
        }
        let narinfo = self.narinfo(&told, &hash, nar.len())?;
        let (key, part) = (format!("/{NAME}/nar/{hash}.nar"), word(&told, "store_path_hash")?);
        let there = objects.insert(key, stored(nar.to_vec())).is_some();
        objects.insert(format!("/{NAME}/{part}.narinfo"), stored(narinfo.into_bytes()));
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).deduplicated += u32::from(there);
        let kind = if there { "Deduplicated" } else { "Uploaded" };
        Ok((200, json!({ "kind": kind, "file_size": nar.len(), "frac_deduplicated": null }).to_string()))
    }

    fn narinfo(&self, told: &Map<String, Value>, hash: &str, size: usize) -> Result<String, Said> {
        let path = word(told, "store_path")?;
        let name = path.strip_prefix(&format!("{}/", self.store_dir)).ok_or_else(|| bad("another store"))?;
        if !name.starts_with(&format!("{}-", word(told, "store_path_hash")?)) {
            return Err(bad("the hash is not the path's"));
        }
        let list = |name: &str| told[name].as_array().ok_or_else(|| bad(name));
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| bad("no text"));
        let references: Vec<String> = list("references")?.iter().map(text).collect::<Result<_, _>>()?;
        if references.iter().any(|reference| reference.contains('/')) {
            return Err(bad("a reference is no base name"));
        }
        let _: Vec<String> = list("sigs")?.iter().map(text).collect::<Result<_, _>>()?;
        let full: Vec<String> = references.iter().map(|name| format!("{}/{name}", self.store_dir)).collect();
        let print = format!("1;{path};sha256:{};{size};{}", nix32(hash), full.join(","));
        let deriver = told["deriver"].as_str().map_or(String::new(), |name| format!("Deriver: {name}\n"));
        let ca = told["ca"].as_str().map_or(String::new(), |ca| format!("CA: {ca}\n"));
        Ok(format!(
            "StorePath: {path}\nURL: nar/{hash}.nar\nCompression: none\nFileHash: sha256:{hash}\nFileSize: {size}\n\
             NarHash: sha256:{hash}\nNarSize: {size}\nReferences: {}\n{deriver}{ca}Sig: {}\n",
            references.join(" "),
            (self.sign)(&print)
        ))
    }
}

fn bad(message: &str) -> Said {
    error(400, "RequestError", message)
}

fn no_such_cache() -> Said {
    error(404, "NoSuchCache", "The requested cache does not exist.")
}

/// An object with exactly these fields.
fn object(text: &[u8], fields: &[&str]) -> Result<Map<String, Value>, Said> {
    let Ok(Value::Object(object)) = serde_json::from_slice(text) else { return Err(bad("no JSON object")) };
    let found: Vec<&str> = object.keys().map(String::as_str).collect();
    let wrong = found.iter().any(|field| !fields.contains(field)) || found.len() != fields.len();
    if wrong { Err(bad(&format!("fields {found:?}, not {fields:?}"))) } else { Ok(object) }
}

fn word<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, Said> {
    object[name].as_str().ok_or_else(|| bad(name))
}

/// Nix' base 32 of a hash in base 16.
fn nix32(hex: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let byte = |place: usize| {
        hex.get(place * 2..place * 2 + 2).map_or(0, |two| u8::from_str_radix(two, 16).unwrap_or(0))
    };
    let bytes: Vec<u8> = (0..32).map(byte).collect();
    (0..52)
        .rev()
        .map(|digit| {
            let (place, shift) = (digit * 5 / 8, digit * 5 % 8);
            let low = u16::from(bytes[place]) >> shift;
            let high = bytes.get(place + 1).map_or(0, |next| u16::from(*next) << (8 - shift));
            char::from(DIGITS[usize::from((low | high) & 31)])
        })
        .collect()
}
