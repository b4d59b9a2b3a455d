//! Attic's HTTP API, version 1.
//!
//! In flow paths; out flow their archives as they are, uncompressed: the server hashes, cuts into chunks, compresses and
//! signs. It is told of a path in a header, or, where that grows too long, before the archive in the same body. It
//! compares the archive with the hash it was told, so that one that is cut off or is another never becomes a path.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use nix_store::PathInfo;
use nix_types::cache_url::Codec;
use nix_types::{NarInfo, Sha256, StorePath};
use object_kit::{Api, Body, BodyError, BodySize, Call, Chunks, Class, Line, ObjectError, Secret, Sending};
use serde::Deserialize;
use serde_json::json;

use super::token::{AtticPlace, Login, attic_file, attic_login};
use super::whose::{Clients, Whose, parsed, read_narinfo, unreachable};
use super::{Cache, Fault, Hands, Service, Work, faults};
use crate::delivery::FaultClass;
use crate::pack::{Job, Piece, Recipe, SMALL_BYTES};
use crate::push::credentials::Credentials;
use crate::push::native::upload::Streamed;

/// From this size on what is said of a path goes into the body.
const HEADER_BYTES: usize = 4 << 10;
/// Paths that are asked for in one question.
const ASKED_MAX: usize = 10_000;
/// Most bytes of an answer of the API.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What the answers are expected of.
const SERVER: &str = "an Attic server";

/// Attic takes archives as they are.
pub(crate) fn recipe() -> Recipe {
    Recipe { codec: Codec::None, level: None, parallel: None }
}

/// A cache of Attic.
pub(crate) struct Attic {
    place: AtticPlace,
    /// Where Attic's client keeps its servers.
    servers_file: PathBuf,
    whose: Arc<Whose>,
    clients: Clients,
}

/// What a server says of a cache, as far as it matters here.
#[derive(Debug, Deserialize)]
struct CacheSettings {
    #[serde(default)]
    substituter_endpoint: Option<String>,
    #[serde(default)]
    api_endpoint: Option<String>,
    #[serde(default)]
    store_dir: Option<String>,
    #[serde(default)]
    upstream_cache_key_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Missing {
    missing_paths: Vec<String>,
}

impl Attic {
    /// A cache at a place; nothing is asked yet.
    pub(crate) fn new(place: AtticPlace, credentials: Option<Arc<Credentials>>, line: Line) -> Self {
        let servers_file = attic_file();
        let remedy = format!(
            "put a token that may pull from and push to the cache `{}` into {} (`attic login`), or name a source in \
             `credentials`",
            place.cache(),
            servers_file.display()
        );
        let whose = Arc::new(Whose::new(credentials, remedy));
        Self { place, servers_file, whose, clients: Clients::new(line) }
    }

    /// Where the server is, and the token.
    async fn login(&self) -> Result<(String, Option<Secret>), Fault> {
        let known = match (&self.place, self.whose.configured()) {
            (AtticPlace::Url { .. }, Some(_)) => None, // nothing of the file is needed
            _ => attic_login(self.place.clone(), self.servers_file.clone()).await?,
        };
        let (endpoint, token) = match (&self.place, known) {
            (AtticPlace::Url { endpoint, .. }, known) => {
                (endpoint.clone(), known.and_then(|login| login.token))
            }
            (AtticPlace::Server { .. }, Some(Login { endpoint, token })) => (endpoint, token),
            (AtticPlace::Server { server, .. }, None) => return Err(self.is_unknown(server)),
        };
        match self.whose.configured() {
            Some(credentials) => Ok((endpoint, credentials.token().await?)),
            None => Ok((endpoint, token)),
        }
    }

    fn is_unknown(&self, server: &str) -> Fault {
        let file = self.servers_file.display();
        let why = format!(
            "no server `{server}` in {file}; run `attic login {server} URL TOKEN` as the daemon's user"
        );
        Fault::failed(FaultClass::Unreachable, why)
    }

    async fn open_cache(&self) -> Result<Arc<dyn Cache>, Fault> {
        let (endpoint, token) = self.login().await?;
        let (first, cache) = (self.clients.at(&endpoint)?, self.place.cache().to_owned());
        let call = Call {
            method: "GET",
            path: format!("_api/v1/cache-config/{cache}"),
            tried: "ask for the cache's settings",
            headers: Vec::new(),
            token: token.clone(),
        };
        let said = first.call(&call, Bytes::new(), ANSWER_BYTES_MAX).await;
        let Some(said) = said.map_err(|error| unreachable(self.whose.fault_of(&error)))? else {
            let why = format!(
                "{endpoint} has no cache `{cache}`, or does not show it to this token; {}",
                self.whose.remedy()
            );
            return Err(Fault::failed(FaultClass::Unreachable, why));
        };
        let settings: CacheSettings = parsed(&said, &call, &endpoint, SERVER).map_err(unreachable)?;
        // What was promised secret does not leave in the open because a server says so.
        let may_tell = |base: &str| !endpoint.starts_with("https://") || base.starts_with("https://");
        let api = settings.api_endpoint.unwrap_or_else(|| endpoint.clone());
        let read = settings.substituter_endpoint.unwrap_or_else(|| format!("{endpoint}/{cache}"));
        if !may_tell(&api) {
            let why = format!(
                "{endpoint} names {api}, without TLS, as its API; correct api-endpoint of the server"
            );
            return Err(Fault::failed(FaultClass::Unreachable, why));
        }
        Ok(Arc::new(Open {
            api: self.clients.at(&api)?,
            read_token: token.clone().filter(|_| may_tell(&read)),
            read: self.clients.at(&read)?,
            cache,
            token,
            whose: Arc::clone(&self.whose),
            store_dir: settings.store_dir,
            upstream_keys: settings.upstream_cache_key_names,
        }))
    }
}

impl Service for Attic {
    fn kind(&self) -> &'static str {
        "attic"
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
    cache: String,
    token: Option<Secret>,
    read_token: Option<Secret>,
    whose: Arc<Whose>,
    store_dir: Option<String>,
    upstream_keys: Vec<String>,
}

impl Open {
    fn call(&self, method: &'static str, path: &str, tried: &'static str) -> Call {
        Call { method, path: path.to_owned(), tried, headers: Vec::new(), token: self.token.clone() }
    }

    async fn ask_missing(&self, paths: &[&StorePath]) -> Result<HashSet<String>, Fault> {
        let mut missing = HashSet::new();
        for some in paths.chunks(ASKED_MAX) {
            self.is_of_our_store(some[0])?;
            let hashes: Vec<&str> = some.iter().map(|path| path.hash_part()).collect();
            let body = json!({ "cache": self.cache, "store_path_hashes": hashes }).to_string();
            let mut call = self.call("POST", "_api/v1/get-missing-paths", "ask for missing paths");
            call.headers.push(("content-type", "application/json".into()));
            let said = self.api.call(&call, body.into(), ANSWER_BYTES_MAX).await;
            let Some(said) = said.map_err(|error| self.whose.fault_of(&error))? else {
                return Err(self.is_gone());
            };
            let said: Missing = parsed(&said, &call, self.api.place(), SERVER)?;
            missing.extend(said.missing_paths);
        }
        Ok(missing)
    }

    fn is_of_our_store(&self, path: &StorePath) -> Result<(), Fault> {
        match &self.store_dir {
            Some(theirs) if theirs != path.store_dir() => {
                let why = format!(
                    "the cache `{}` at {} is for paths in {theirs}, and this store is {}; use another cache",
                    self.cache,
                    self.api.place(),
                    path.store_dir()
                );
                Err(Fault::failed(FaultClass::Unreachable, why))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_gone(&self) -> Fault {
        let why =
            format!("{} has no cache `{}` (any more); {}", self.api.place(), self.cache, self.whose.remedy());
        Fault::failed(FaultClass::Unreachable, why)
    }

    async fn upload(&self, info: &PathInfo, hands: &Hands) -> Result<u64, Fault> {
        let mut job = job(info)?;
        if job.nar_size == 0 {
            job.nar_size = measure(&job, hands).await?; // an old Nix did not note it
        }
        let _bytes = hands.memory_for(&job, 0).await;
        let _slot = hands.slots.acquire().await.expect("the slots of an engine are never closed");
        let transfer = hands.progress.begin(&info.path, job.nar_size);
        let (headers, preamble) = told(&self.cache, info, &job);
        let mut call = self.call("PUT", "_api/v1/upload-path", "upload a path");
        call.headers = headers;
        let before = preamble.len() as u64;
        let size = BodySize::exact(before.saturating_add(job.nar_size));
        let mut archive = archive(&job, hands).await?;
        let mut body = Prefixed { before: Some(preamble), archive: &mut *archive };
        let sending = Sending { body: &mut body, size, moved: Some(transfer.ear()) };
        let sent = self.api.send(&call, sending, ANSWER_BYTES_MAX).await;
        sent.map_err(|error| self.of_upload(&error, info))?;
        hands.progress.packed(job.nar_size, job.nar_size);
        Ok(transfer.sent())
    }

    fn of_upload(&self, error: &ObjectError, info: &PathInfo) -> Fault {
        match self.whose.fault_of(error) {
            Fault::Failed { class: FaultClass::Refused, why, output } if error.class == Class::TooLarge => {
                let why = format!(
                    "{why}; {} is larger than the server takes: raise its limit, or leave it out by max_nar_size",
                    info.path
                );
                Fault::Failed { class: FaultClass::Refused, why, output }
            }
            fault => fault,
        }
    }
}

impl Cache for Open {
    fn place(&self) -> &str {
        self.api.place()
    }

    fn upstream_keys(&self) -> &[String] {
        &self.upstream_keys
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

/// What the server is told of a path: in a header, or what comes before the archive and a header with its length.
fn told(cache: &str, info: &PathInfo, job: &Job) -> (Vec<(&'static str, String)>, Bytes) {
    let references: Vec<&str> = info.references.iter().map(StorePath::base_name).collect();
    let text = json!({
        "cache": cache, "store_path_hash": info.path.hash_part(), "store_path": info.path.as_str(),
        "references": references, "system": null, "deriver": info.deriver.as_ref().map(StorePath::base_name),
        "sigs": info.signatures, "ca": info.ca, "nar_hash": format!("sha256:{}", job.nar_hash.hex()),
        "nar_size": job.nar_size,
    })
    .to_string();
    let mut headers = vec![("content-type", "application/x-nix-nar".to_owned())];
    if text.len() < HEADER_BYTES && text.is_ascii() {
        headers.push(("x-attic-nar-info", text));
        return (headers, Bytes::new());
    }
    headers.push(("x-attic-nar-info-preamble-size", text.len().to_string()));
    (headers, text.into())
}

fn job(info: &PathInfo) -> Result<Job, Fault> {
    let nar_hash = Sha256::parse(&info.nar_hash).map_err(|error| {
        let why = format!("Nix registered {} with a hash this program cannot check: {error}", info.path);
        Fault::failed(FaultClass::Corrupt, why)
    })?;
    Ok(Job { path: info.path.clone(), nar_hash, nar_size: info.nar_size, recipe: recipe(), listing: false })
}

/// An archive as a body. A small one is proved before its first byte leaves; a large one is packed for this destination
/// alone, and its body fails when it turns out not to be what was registered.
async fn archive(job: &Job, hands: &Hands) -> Result<Box<dyn Body>, Fault> {
    if !job.is_small() {
        return Ok(Box::new(Streamed { reader: hands.packer.open(job, true), packed: None }));
    }
    let (mut reader, mut chunks) = (hands.packer.open(job, false), Vec::new());
    loop {
        match reader.next().await.map_err(|error| faults::of_read(&error))? {
            Piece::Chunk(chunk) => chunks.push(chunk),
            Piece::End(_) => return Ok(Box::new(Chunks::new(chunks))),
        }
    }
}

/// The size of an archive in bytes, by reading it.
async fn measure(job: &Job, hands: &Hands) -> Result<u64, Fault> {
    let _bytes = hands.memory_for(&Job { nar_size: SMALL_BYTES + 1, ..job.clone() }, 0).await;
    let mut reader = hands.packer.open(job, true);
    loop {
        match reader.next().await.map_err(|error| faults::of_read(&error))? {
            Piece::Chunk(_) => {}
            Piece::End(packed) => return Ok(packed.nar_size),
        }
    }
}

/// Something before an archive.
struct Prefixed<'a> {
    before: Option<Bytes>,
    archive: &'a mut dyn Body,
}

impl Body for Prefixed<'_> {
    fn next<'a>(&'a mut self) -> object_kit::Work<'a, Option<Result<Bytes, BodyError>>> {
        match self.before.take() {
            Some(before) => Box::pin(std::future::ready(Some(Ok(before)))),
            None => self.archive.next(),
        }
    }
}
