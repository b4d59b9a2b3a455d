//! Cachix for tests: its API as far as a pusher needs it, the place where parts go, and the binary cache that readers see.
//! In: calls in the documented shapes and no others. Out: narinfo files signed by whoever holds the key, and archives;
//! everything is a path of the server below. Nothing can be seen before an upload is complete. Faults are those of the
//! server below.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::http_cache::{Asked, Cache, Said, Stored, stored};

/// The cache's name.
pub const NAME: &str = "team";
/// Who may push.
pub const TOKEN: &str = "cachix-token-canary";
/// What only an address for a part holds.
pub const PART_SECRET: &str = "cachix-part-canary";
/// What completes an upload says of the path; `cSig` may be there besides.
const FIELDS: [&str; 8] = [
    "cStoreHash",
    "cStoreSuffix",
    "cNarHash",
    "cNarSize",
    "cFileHash",
    "cFileSize",
    "cReferences",
    "cDeriver",
];

/// Signs a fingerprint: base 64 without a name.
pub type Sign = Box<dyn Fn(&str) -> String + Send>;

/// A running service with one public cache, [`NAME`].
#[derive(Debug)]
pub struct Cachix {
    /// The server below: its objects, its faults, its log.
    pub cache: Cache,
    kept: Arc<Mutex<Kept>>,
}

/// What a test looks at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Uploads that were begun, and neither completed nor aborted.
    pub open: Vec<String>,
    /// Uploads that were aborted.
    pub aborted: u32,
    /// Paths that came with a signature.
    pub signed_by_client: u32,
    /// The most parts an upload had.
    pub parts_max: usize,
    /// Calls that were not as documented, or bytes that were not what was told.
    pub refused: Vec<String>,
}

struct Server {
    url: String,
    store_dir: String,
    sign: Sign,
    begun: u32,
    /// What the MD5 of each part is to be, by its path.
    expected: HashMap<String, String>,
    kept: Arc<Mutex<Kept>>,
}

impl Cachix {
    /// An empty cache for paths in `store_dir`.
    #[must_use]
    pub fn start(store_dir: &str, sign: Sign) -> Self {
        let (cache, kept) = (Cache::start(), Arc::<Mutex<Kept>>::default());
        let mut server = Server {
            url: cache.url(),
            store_dir: store_dir.into(),
            sign,
            begun: 0,
            expected: HashMap::new(),
            kept: Arc::clone(&kept),
        };
        cache.serve(Box::new(move |objects, asked| server.answer(objects, asked)));
        Self { cache, kept }
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

fn bad(why: &str) -> Said {
    (400, json!({ "error": why }).to_string())
}

impl Server {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&mut self, objects: &mut BTreeMap<String, Stored>, asked: &Asked<'_>) -> Option<Said> {
        let said = if asked.path.starts_with("/parts/") {
            match self.part(asked) {
                Ok(()) => return None, // the server below keeps it, and gives its tag
                Err(refusal) => Err(refusal),
            }
        } else {
            let call = asked.path.strip_prefix("/api/v1/cache/")?.to_owned();
            self.call(&call, objects, asked)
        };
        Some(said.unwrap_or_else(|refusal| {
            if refusal.0 == 400 {
                self.kept().refused.push(refusal.1.clone());
            }
            refusal
        }))
    }

    /// A part at its own address, which is all the permission there is.
    fn part(&self, asked: &Asked<'_>) -> Result<(), Said> {
        if asked.query("sig").as_deref() != Some(PART_SECRET) || asked.headers.contains_key("authorization") {
            return Err((403, "SignatureDoesNotMatch".into()));
        }
        let found = STANDARD.encode(Md5::digest(asked.body));
        let said = asked.headers.get("content-md5");
        let is_right =
            asked.method == "PUT" && said == Some(&found) && self.expected.get(&asked.path) == said;
        if is_right { Ok(()) } else { Err(bad("the part is not what was told")) }
    }

    fn call(
        &mut self,
        call: &str,
        objects: &mut BTreeMap<String, Stored>,
        asked: &Asked<'_>,
    ) -> Result<Said, Said> {
        if asked.headers.get("authorization").map(String::as_str) != Some(&format!("Bearer {TOKEN}")) {
            return Err((401, json!({ "error": "Unauthorized" }).to_string()));
        }
        let Some(below) = call.strip_prefix(NAME) else { return Err((404, "no such cache".into())) };
        let words: Vec<&str> = below.split('/').skip(1).collect();
        match (asked.method, words.as_slice()) {
            ("GET", []) => Ok((200, self.settings())),
            ("POST", ["narinfo"]) => Self::missing(objects, asked),
            ("POST", ["multipart-nar"]) => self.begin(asked),
            ("POST", ["multipart-nar", nar]) => self.place_of_part(nar, asked),
            ("POST", ["multipart-nar", nar, "complete"]) => self.complete(nar, objects, asked),
            ("POST", ["multipart-nar", nar, "abort"]) => {
                self.end(nar, asked)?;
                self.kept().aborted += 1;
                objects.retain(|path, _| !path.starts_with(&format!("/parts/{nar}/")));
                Ok((200, "{}".into()))
            }
            _ => Err((404, "no such call".into())),
        }
    }

    fn settings(&self) -> String {
        json!({
            "name": NAME, "uri": format!("{}/{NAME}", self.url), "isPublic": true, "publicSigningKeys": ["unused"],
            "githubUsername": "somebody", "permission": "Write", "preferredCompressionMethod": "ZSTD",
        })
        .to_string()
    }

    fn missing(objects: &BTreeMap<String, Stored>, asked: &Asked<'_>) -> Result<Said, Said> {
        let hashes: Vec<String> = serde_json::from_slice(asked.body).map_err(|_| bad("no list of hashes"))?;
        if hashes.iter().any(|hash| hash.len() != 32) {
            return Err(bad("no hash"));
        }
        let is_there = |hash: &String| objects.contains_key(&format!("/{NAME}/{hash}.narinfo"));
        let missing: Vec<&String> = hashes.iter().filter(|hash| !is_there(hash)).collect();
        Ok((200, json!(missing).to_string()))
    }

    fn begin(&mut self, asked: &Asked<'_>) -> Result<Said, Said> {
        if asked.query("compression").as_deref() != Some("zst") || !asked.body.is_empty() {
            return Err(bad("compression=zst and no body"));
        }
        self.begun += 1;
        let nar = format!("nar-{}", self.begun);
        self.kept().open.push(nar.clone());
        Ok((200, json!({ "narId": nar, "uploadId": format!("up/{nar}+=") }).to_string()))
    }

    fn is_open(&self, nar: &str, asked: &Asked<'_>) -> Result<(), Said> {
        let known = asked.query("uploadId") == Some(format!("up/{nar}+="));
        let open = self.kept().open.iter().any(|open| open == nar);
        if known && open { Ok(()) } else { Err((404, "no such upload".into())) }
    }

    fn end(&self, nar: &str, asked: &Asked<'_>) -> Result<(), Said> {
        self.is_open(nar, asked)?;
        self.kept().open.retain(|open| open != nar);
        Ok(())
    }

    fn place_of_part(&mut self, nar: &str, asked: &Asked<'_>) -> Result<Said, Said> {
        self.is_open(nar, asked)?;
        let number = asked.query("partNumber").and_then(|number| number.parse::<u32>().ok());
        let number = number.filter(|number| (1..=10_000).contains(number)).ok_or_else(|| bad("no number"))?;
        let told = object(asked.body, &["contentMD5"])?;
        let path = format!("/parts/{nar}/{number}");
        self.expected.insert(path.clone(), word(&told, "contentMD5")?.to_owned());
        Ok((200, json!({ "uploadUrl": format!("{}{path}?sig={PART_SECRET}", self.url) }).to_string()))
    }

    fn complete(
        &mut self,
        nar: &str,
        objects: &mut BTreeMap<String, Stored>,
        asked: &Asked<'_>,
    ) -> Result<Said, Said> {
        self.is_open(nar, asked)?;
        let told = object(asked.body, &["parts", "narInfoCreate"])?;
        let parts = told["parts"].as_array().ok_or_else(|| bad("no parts"))?;
        let mut bytes = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let number = place + 1;
            let there = objects.get(&format!("/parts/{nar}/{number}")).ok_or_else(|| bad("no such part"))?;
            if *part != json!({ "partNumber": number, "eTag": there.etag }) {
                return Err(bad("a part is not the one that was put"));
            }
            if number < parts.len() && there.bytes.len() < 5 << 20 {
                return Err(bad("a part is too small"));
            }
            bytes.extend_from_slice(&there.bytes);
        }
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let (key, narinfo) = self.narinfo(&told["narInfoCreate"], &hash, bytes.len())?;
        self.end(nar, asked)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.parts_max = kept.parts_max.max(parts.len());
        objects.retain(|path, _| !path.starts_with(&format!("/parts/{nar}/")));
        objects.insert(format!("/{NAME}/nar/{hash}.nar.zst"), stored(bytes));
        objects.insert(key, stored(narinfo.into_bytes()));
        Ok((200, "{}".into()))
    }

    fn narinfo(&self, told: &Value, hash: &str, size: usize) -> Result<(String, String), Said> {
        let mut told = told.as_object().ok_or_else(|| bad("no narInfoCreate"))?.clone();
        let by_client = told.remove("cSig");
        exactly(&told, &FIELDS)?;
        if told["cFileHash"] != hash || told["cFileSize"] != size {
            return Err(bad("the archive is not what was told"));
        }
        let (part, suffix) = (word(&told, "cStoreHash")?, word(&told, "cStoreSuffix")?);
        let nar_hash = word(&told, "cNarHash")?;
        let nar_size = told["cNarSize"].as_u64().ok_or_else(|| bad("cNarSize"))?;
        if nar_hash.len() != 59 || !nar_hash.starts_with("sha256:") {
            return Err(bad("cNarHash is not in base 32"));
        }
        let references = told["cReferences"].as_array().ok_or_else(|| bad("cReferences"))?;
        let references: Vec<&str> = references.iter().filter_map(Value::as_str).collect();
        if references.iter().any(|reference| reference.contains('/')) {
            return Err(bad("a reference is no base name"));
        }
        let path = format!("{}/{part}-{suffix}", self.store_dir);
        let full: Vec<String> = references.iter().map(|name| format!("{}/{name}", self.store_dir)).collect();
        let signature = match by_client {
            Some(signature) => {
                self.kept().signed_by_client += 1;
                signature.as_str().ok_or_else(|| bad("cSig"))?.to_owned()
            }
            None => (self.sign)(&format!("1;{path};{nar_hash};{nar_size};{}", full.join(","))),
        };
        let deriver = word(&told, "cDeriver")?;
        let deriver =
            if deriver == "unknown-deriver" { String::new() } else { format!("Deriver: {deriver}\n") };
        let text = format!(
            "StorePath: {path}\nURL: nar/{hash}.nar.zst\nCompression: zstd\nFileHash: sha256:{hash}\nFileSize: {size}\n\
             NarHash: {nar_hash}\nNarSize: {nar_size}\nReferences: {}\n{deriver}Sig: {NAME}.cachix.org-1:{signature}\n",
            references.join(" ")
        );
        Ok((format!("/{NAME}/{part}.narinfo"), text))
    }
}

fn object(text: &[u8], fields: &[&str]) -> Result<Map<String, Value>, Said> {
    let Ok(Value::Object(object)) = serde_json::from_slice(text) else { return Err(bad("no JSON object")) };
    exactly(&object, fields)?;
    Ok(object)
}

/// These fields and no others.
fn exactly(object: &Map<String, Value>, fields: &[&str]) -> Result<(), Said> {
    let found: Vec<&str> = object.keys().map(String::as_str).collect();
    let wrong = found.iter().any(|field| !fields.contains(field)) || found.len() != fields.len();
    if wrong { Err(bad(&format!("fields {found:?}, not {fields:?}"))) } else { Ok(()) }
}

fn word<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, Said> {
    object[name].as_str().ok_or_else(|| bad(name))
}
