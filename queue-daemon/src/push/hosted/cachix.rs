//! Cachix' HTTP API, version 1.
//!
//! In flow paths; out flow their archives, compressed, in parts that go where the server says, and at the end what they
//! came to: only then is there anything to be seen. The narinfo is the server's; we sign it when we hold the cache's
//! key, else the server does. What fails is aborted; what a killed daemon leaves is never completed by anybody.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use nix_store::PathInfo;
use nix_types::cache_url::Codec;
use nix_types::{NarInfo, SecretKey, Sha256, StorePath};
use object_kit::{Api, Call, Line, MIN_PART, Secret};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cachix_file::{Login, bare, login, usual_file};
use super::whose::{Clients, Whose, parsed, read_narinfo, unreachable};
use super::{Cache, Fault, Hands, Service, Work, faults};
use crate::delivery::FaultClass;
use crate::pack::{Job, Packed, Piece, Reader, Recipe};
use crate::progress::Transfer;
use crate::push::credentials::Credentials;
use crate::push::native::upload::body_size;

/// Paths that are asked for in one question.
const ASKED_MAX: usize = 10_000;
/// Most bytes of an answer of the API.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What the answers are expected of.
const SERVER: &str = "Cachix";

/// How archives are compressed: as for binary caches, so that one compression serves all.
pub(crate) fn recipe() -> Recipe {
    Recipe { codec: Codec::Zstd, level: None, parallel: None }
}

/// A cache of Cachix.
pub(crate) struct Cachix {
    name: String,
    /// `cachix.dhall`, when it is named.
    file: Option<PathBuf>,
    whose: Arc<Whose>,
    clients: Clients,
}

#[derive(Debug, Deserialize)]
struct Settings {
    uri: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    nar_id: String,
    upload_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartPlace {
    /// It carries its own permission.
    upload_url: String,
}

impl Cachix {
    /// A cache by its name; nothing is asked yet.
    pub(crate) fn new(
        name: &str,
        file: Option<PathBuf>,
        credentials: Option<Arc<Credentials>>,
        line: Line,
    ) -> Self {
        let shown = file.clone().unwrap_or_else(usual_file);
        let remedy = format!(
            "set CACHIX_AUTH_TOKEN, authToken in {}, or a source in `credentials`, to a token that may write to the cache \
             `{name}`",
            shown.display()
        );
        let whose = Arc::new(Whose::new(credentials, remedy));
        Self { name: name.to_owned(), file, whose, clients: Clients::new(line) }
    }

    /// Who we are: by the credentials that are configured, else as Cachix' own client finds out.
    async fn login(&self) -> Result<Login, Fault> {
        let credentials = self.whose.configured();
        let file = match (&self.file, credentials) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => None, // nothing of it is needed
            (None, None) => Some(usual_file()),
        };
        let name = self.name.clone();
        let read = tokio::task::spawn_blocking(move || login(&name, file.as_deref())).await;
        let mut login = read.expect("reading a file does not panic: it returns its errors")?;
        if let Some(credentials) = credentials {
            let (token, key) = credentials.token_and_signing_key().await?;
            (login.token, login.signing_key) = (token, key.map(|key| bare(key.reveal())));
        }
        Ok(login)
    }

    async fn open_cache(&self) -> Result<Arc<dyn Cache>, Fault> {
        let login = self.login().await?;
        let key = login.signing_key.map(|key| self.key(&key)).transpose()?;
        let api = self.clients.at(&format!("{}/api/v1", login.host))?;
        let call = Call {
            method: "GET",
            path: format!("cache/{}", self.name),
            tried: "ask for the cache's settings",
            headers: Vec::new(),
            token: login.token.clone(),
        };
        let said = api.call(&call, Bytes::new(), ANSWER_BYTES_MAX).await;
        let Some(said) = said.map_err(|error| unreachable(self.whose.fault_of(&error)))? else {
            let why = format!(
                "{} has no cache `{}`, or does not show it to this token; {}",
                login.host,
                self.name,
                self.whose.remedy()
            );
            return Err(Fault::failed(FaultClass::Unreachable, why));
        };
        let settings: Settings = parsed(&said, &call, api.place(), SERVER).map_err(unreachable)?;
        let is_safe = !login.host.starts_with("https://") || settings.uri.starts_with("https://");
        Ok(Arc::new(Open {
            read: self.clients.at(&settings.uri)?,
            read_token: login.token.clone().filter(|_| is_safe),
            api,
            name: self.name.clone(),
            token: login.token,
            key,
            whose: Arc::clone(&self.whose),
        }))
    }

    fn key(&self, base64: &Secret) -> Result<SecretKey, Fault> {
        let text = format!("{}.cachix.org-1:{}", self.name, base64.reveal());
        SecretKey::parse(&text).map_err(|error| {
            let why = format!(
                "nothing is sent unsigned: the signing key of the cache `{}` (CACHIX_SIGNING_KEY, or secretKey in \
                 cachix.dhall) is of no use: {error}",
                self.name
            );
            Fault::failed(FaultClass::Unreachable, why)
        })
    }
}

impl Service for Cachix {
    fn kind(&self) -> &'static str {
        "cachix"
    }

    fn whose(&self) -> &Whose {
        &self.whose
    }

    fn open(&self) -> Work<'_, Result<Arc<dyn Cache>, Fault>> {
        Box::pin(self.open_cache())
    }
}

/// A cache that answered.
struct Open {
    api: Arc<Api>,
    /// Where readers go.
    read: Arc<Api>,
    name: String,
    token: Option<Secret>,
    read_token: Option<Secret>,
    key: Option<SecretKey>,
    whose: Arc<Whose>,
}

impl Open {
    /// Posts something below the cache.
    async fn post(
        &self,
        below: &str,
        tried: &'static str,
        body: Option<Value>,
    ) -> Result<(Bytes, Call), Fault> {
        let (path, token) = (format!("cache/{}/{below}", self.name), self.token.clone());
        let headers = vec![("content-type", "application/json".to_owned())];
        let call = Call { method: "POST", path, tried, headers, token };
        let body = body.map_or(Bytes::new(), |body| body.to_string().into());
        let said = self.api.call(&call, body, ANSWER_BYTES_MAX).await;
        match said.map_err(|error| self.whose.fault_of(&error))? {
            Some(said) => Ok((said, call)),
            None => {
                let why = format!("{tried} at {}: the server answers 404", self.api.place());
                Err(Fault::failed(FaultClass::Failed, why))
            }
        }
    }

    async fn ask_missing(&self, paths: &[&StorePath]) -> Result<HashSet<String>, Fault> {
        let mut missing = HashSet::new();
        for some in paths.chunks(ASKED_MAX) {
            let hashes: Vec<&str> = some.iter().map(|path| path.hash_part()).collect();
            let (said, call) = self.post("narinfo", "ask for missing paths", Some(json!(hashes))).await?;
            missing.extend(parsed::<Vec<String>>(&said, &call, self.api.place(), SERVER)?);
        }
        Ok(missing)
    }

    async fn upload(&self, info: &PathInfo, hands: &Hands) -> Result<u64, Fault> {
        let nar_hash = Sha256::parse(&info.nar_hash).map_err(|error| {
            let why = format!("Nix registered {} with a hash this program cannot check: {error}", info.path);
            Fault::failed(FaultClass::Corrupt, why)
        })?;
        let (path, nar_size) = (info.path.clone(), info.nar_size);
        let job = Job { path, nar_hash, nar_size, recipe: recipe(), listing: false };
        let at_most = body_size(&job).at_most;
        let part_bytes = object_kit::part_bytes(MIN_PART, at_most);
        // A part that is filled, and the one that leaves.
        let _bytes = hands.memory_for(&job, part_bytes.saturating_mul(2).min(at_most)).await;
        let _slot = hands.slots.acquire().await.expect("the slots of an engine are never closed");
        let transfer = hands.progress.begin(&info.path, info.nar_size);
        let mut parts = Parts::new(hands.packer.open(&job, !job.is_small()), part_bytes);
        // Of a small archive this is all, and it is proved before anything is begun.
        let first = parts.next().await?;
        let (said, call) = self.post("multipart-nar?compression=zst", "begin an upload", None).await?;
        let upload: Upload = parsed(&said, &call, self.api.place(), SERVER)?;
        let sent = self.send(info, &upload, first, &mut parts, &transfer).await;
        if sent.is_err() {
            self.abort(&upload).await;
        }
        let packed = sent?;
        hands.progress.packed(packed.nar_size, packed.file_size);
        Ok(transfer.sent())
    }

    async fn send(
        &self,
        info: &PathInfo,
        upload: &Upload,
        first: Part,
        parts: &mut Parts,
        transfer: &Transfer,
    ) -> Result<Arc<Packed>, Fault> {
        let (mut sent, mut part) = (Vec::new(), first);
        loop {
            if !part.bytes.is_empty() {
                let number = sent.len() + 1;
                let tag = self.send_part(upload, number, part.bytes, transfer).await?;
                sent.push(json!({ "partNumber": number, "eTag": tag }));
            }
            if let Some(packed) = part.end {
                let body = json!({ "parts": sent, "narInfoCreate": self.narinfo_create(info, &packed) });
                self.post(&below(upload, "/complete", ""), "complete an upload", Some(body)).await?;
                return Ok(packed);
            }
            part = parts.next().await?;
        }
    }

    async fn send_part(
        &self,
        upload: &Upload,
        number: usize,
        bytes: Bytes,
        transfer: &Transfer,
    ) -> Result<String, Fault> {
        let md5 = STANDARD.encode(Md5::digest(&bytes));
        let below = below(upload, "", &format!("&partNumber={number}"));
        let body = json!({ "contentMD5": md5 });
        let (said, call) = self.post(&below, "ask where a part goes", Some(body)).await?;
        let place: PartPlace = parsed(&said, &call, self.api.place(), SERVER)?;
        let headers = vec![("content-md5", md5), ("content-type", "application/octet-stream".to_owned())];
        let put = self.api.put_at(&Secret::new(place.upload_url), &headers, bytes, transfer.ear()).await;
        put.map_err(|error| faults::of_object(&error))
    }

    /// What the server makes a narinfo of.
    fn narinfo_create(&self, info: &PathInfo, packed: &Packed) -> Value {
        let references: Vec<&str> = info.references.iter().map(StorePath::base_name).collect();
        let nar_hash = Sha256::parse(&info.nar_hash).map(|hash| hash.nix32()).unwrap_or_default();
        let mut create = json!({
            "cStoreHash": info.path.hash_part(), "cStoreSuffix": info.path.name(),
            "cNarHash": format!("sha256:{nar_hash}"), "cNarSize": packed.nar_size,
            "cFileHash": packed.file_hash.hex(), "cFileSize": packed.file_size, "cReferences": references,
            "cDeriver": info.deriver.as_ref().map_or("unknown-deriver", StorePath::base_name),
        });
        if let Some(key) = &self.key
            && let Ok(hash) = Sha256::parse(&info.nar_hash)
        {
            let print =
                nix_types::signature::fingerprint(&info.path, &hash, packed.nar_size, &info.references);
            let signature = key.sign(&print).to_string();
            create["cSig"] = json!(signature.rsplit(':').next());
        }
        create
    }

    /// Nothing depends on it: what is not completed is never seen.
    async fn abort(&self, upload: &Upload) {
        if let Err(fault) = self.post(&below(upload, "/abort", ""), "abort an upload", None).await {
            tracing::debug!("an upload to the cache `{}` is left where it is: {fault:?}", self.name);
        }
    }
}

impl Cache for Open {
    fn place(&self) -> &str {
        self.api.place()
    }

    fn upstream_keys(&self) -> &[String] {
        &[]
    }

    fn missing<'a>(&'a self, paths: &'a [&'a StorePath]) -> Work<'a, Result<HashSet<String>, Fault>> {
        Box::pin(self.ask_missing(paths))
    }

    fn bring<'a>(&'a self, info: &'a PathInfo, hands: &'a Hands) -> Work<'a, Result<u64, Fault>> {
        Box::pin(async move {
            let brought = self.upload(info, hands).await;
            brought.map_err(|fault| faults::unless_gone(fault, &info.path, &*hands.store))
        })
    }

    fn narinfo<'a>(&'a self, path: &'a StorePath) -> Work<'a, Result<Option<NarInfo>, Fault>> {
        Box::pin(read_narinfo(&self.read, self.read_token.as_ref(), path, &self.whose))
    }
}

/// Where an upload is, below the cache.
fn below(upload: &Upload, what: &str, query: &str) -> String {
    let Upload { nar_id, upload_id } = upload;
    format!("multipart-nar/{}{what}?uploadId={}{query}", quoted(nar_id), quoted(upload_id))
}

/// A word of the server's as a part of an address.
fn quoted(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A part of an archive, and what the archive came to when it is the last one.
struct Part {
    bytes: Bytes,
    end: Option<Arc<Packed>>,
}

/// An archive cut into parts.
struct Parts {
    reader: Reader,
    part_bytes: usize,
    filled: BytesMut,
}

impl Parts {
    fn new(reader: Reader, part_bytes: u64) -> Self {
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        Self { reader, part_bytes, filled: BytesMut::new() }
    }

    /// The next part; all but the last have the same size.
    async fn next(&mut self) -> Result<Part, Fault> {
        while self.filled.len() < self.part_bytes {
            match self.reader.next().await.map_err(|error| faults::of_read(&error))? {
                Piece::Chunk(chunk) => self.filled.extend_from_slice(&chunk),
                Piece::End(packed) => {
                    return Ok(Part { bytes: std::mem::take(&mut self.filled).freeze(), end: Some(packed) });
                }
            }
        }
        Ok(Part { bytes: self.filled.split_to(self.part_bytes).freeze(), end: None })
    }
}
