//! What the suites of the native engine share: places of every kind, stores full of made paths, keys, and the judgement
//! whether a cache is whole. Knows nothing of any one promise.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nix_types::{NarInfo, Sha256};
use sha2::Digest;
use test_kit::http_cache::Cache;

use crate::world::World;

/// Three attempts, quickly; a destination in doubt is asked again soon.
pub(crate) const QUICK: &str = "attempts_max = 3\nbackoff = { min = \"20ms\", max = \"50ms\" }\n\
                                breaker = { failures = 5, probe = \"200ms\" }";

/// A place that caches can be at.
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A server of plain HTTP; the cache is at `/cache`.
    Http(Cache),
    /// S3, without the check of signatures; the bucket is `cache`.
    S3(Cache),
}

impl Place {
    /// One of each kind. S3 is spoken to with the keys of the world's own `.aws/credentials`.
    pub(crate) fn all(world: &World) -> [Place; 3] {
        s3_keys(world);
        [Place::Folder(world.path("cache")), Place::Http(Cache::start()), Place::S3(Cache::start())]
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Place::Folder(_) => "folder",
            Place::Http(_) => "http",
            Place::S3(_) => "s3",
        }
    }

    /// The server, if it is one.
    pub(crate) fn server(&self) -> Option<&Cache> {
        match self {
            Place::Folder(_) => None,
            Place::Http(cache) | Place::S3(cache) => Some(cache),
        }
    }

    /// Its URL with these parameters, such as `compression=xz`.
    pub(crate) fn url(&self, parameters: &str) -> String {
        let and = if parameters.is_empty() { "" } else { "?" };
        match self {
            Place::Folder(root) => format!("file://{}{and}{parameters}", root.display()),
            Place::Http(cache) => format!("{}/cache{and}{parameters}", cache.url()),
            Place::S3(cache) => format!("s3://cache?endpoint={}&{parameters}", cache.url()),
        }
    }

    /// Where a Nix that knows no S3 reads it.
    pub(crate) fn read_url(&self) -> String {
        match self {
            Place::Folder(_) | Place::Http(_) => self.url(""),
            Place::S3(cache) => format!("{}/cache", cache.url()),
        }
    }

    /// The `[[caches]]` block of a destination here, named after the kind.
    pub(crate) fn block(&self, parameters: &str, keys: &str) -> String {
        block(self.kind(), &self.url(parameters), keys)
    }

    /// Everything that is there for readers, by key.
    pub(crate) fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        match self {
            Place::Folder(root) => files(root),
            Place::Http(cache) | Place::S3(cache) => {
                let objects = cache.objects().into_iter();
                objects
                    .filter_map(|(path, s)| Some((path.strip_prefix("/cache/")?.to_owned(), s.bytes)))
                    .collect()
            }
        }
    }
}

/// Keys for S3 in the world's home.
pub(crate) fn s3_keys(world: &World) {
    fs::create_dir_all(world.path(".aws")).unwrap();
    let text = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = not-a-secret\n";
    fs::write(world.path(".aws/credentials"), text).unwrap();
}

/// A `[[caches]]` block of a binary cache.
pub(crate) fn block(id: &str, url: &str, keys: &str) -> String {
    format!("[[caches]]\nid = \"{id}\"\ncache_type = \"nix-copy\"\ndestination = \"{url}\"\n{keys}\n")
}

/// Files below a folder that have their names; what is half written has another.
pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(key, fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// Makes a pair of keys; gives the public one. The secret one is in `$W/NAME.sec`.
pub(crate) fn key(world: &World, name: &str) -> String {
    let (secret, public) = (world.path(&format!("{name}.sec")), world.path(&format!("{name}.pub")));
    let mut generate = world.tool("nix-store");
    generate.arg("--generate-binary-cache-key").arg(name).args([&secret, &public]);
    assert!(generate.status().unwrap().success());
    fs::read_to_string(public).unwrap().trim().to_owned()
}

/// The key of a path's narinfo.
pub(crate) fn narinfo_key(path: &str) -> String {
    format!("{}.narinfo", &path.rsplit('/').next().unwrap()[..32])
}

/// Lines of a narinfo by their names.
pub(crate) fn fields(text: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::str::from_utf8(text).unwrap().lines() {
        let (name, value) = line.split_once(": ").or(line.split_once(':')).unwrap();
        fields.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    fields
}

/// A file to be made into a store path.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    /// Of the same set, by their places before this one.
    pub(crate) references: Vec<usize>,
}

impl Made {
    pub(crate) fn new(name: &str, text: impl Into<Vec<u8>>, references: &[usize]) -> Made {
        Made { name: name.to_owned(), text: text.into(), references: references.to_vec() }
    }
}

/// Bytes that no compressor makes smaller.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = test_kit::seed::Rng::new(seed);
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    noise.truncate(bytes);
    noise
}

/// What a NAR of one plain file has before and behind its contents.
fn around(bytes: u64) -> (Vec<u8>, Vec<u8>) {
    let word = |word: &str| {
        let mut out = (word.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(word.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let mut head: Vec<u8> =
        ["nix-archive-1", "(", "type", "regular", "contents"].into_iter().flat_map(word).collect();
    head.extend_from_slice(&bytes.to_le_bytes());
    let padding = usize::try_from(bytes.next_multiple_of(8) - bytes).unwrap();
    (head, [vec![0; padding], word(")")].concat())
}

/// Puts files into the world's store and registers all of them at once: a hundred times quicker than building them.
pub(crate) fn made(world: &World, set: &[Made]) -> Vec<String> {
    made_with_sizes(world, set, true)
}

/// The same; what is made has no `NarSize` unless it is to be noted.
pub(crate) fn made_with_sizes(world: &World, set: &[Made], noted: bool) -> Vec<String> {
    let path =
        |place: usize| format!("{}/{place:032}-{}", world.path("nix/store").display(), set[place].name);
    let mut records = String::new();
    for (place, made) in set.iter().enumerate() {
        fs::write(path(place), &made.text).unwrap();
        let (head, tail) = around(made.text.len() as u64);
        let nar = [head, made.text.clone(), tail].concat();
        let references: String = made.references.iter().map(|place| path(*place) + "\n").collect();
        let size = if noted { nar.len() } else { 0 };
        let (hash, count) = (Sha256::of(&nar).hex(), made.references.len());
        records.push_str(&format!("{}\nsha256:{hash}\n{size}\n\n{count}\n{references}", path(place)));
    }
    register(world, &records);
    (0..set.len()).map(path).collect()
}

/// A file of so many zeros that takes no room.
pub(crate) fn sparse(world: &World, bytes: u64) -> String {
    let path = format!("{}/{:032}-sparse", world.path("nix/store").display(), 9);
    fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    let (head, tail) = around(bytes);
    let mut hasher = sha2::Sha256::new();
    hasher.update(&head);
    let block = vec![0; 1 << 20];
    let mut left = usize::try_from(bytes).unwrap();
    while left > 0 {
        hasher.update(&block[..left.min(block.len())]);
        left -= left.min(block.len());
    }
    hasher.update(&tail);
    let hash = Sha256::from_bytes(hasher.finalize().into()).hex();
    let size = bytes + (head.len() + tail.len()) as u64;
    register(world, &format!("{path}\nsha256:{hash}\n{size}\n\n0\n"));
    path
}

fn register(world: &World, records: &str) {
    let mut load = world.tool("nix-store");
    let mut load = load.arg("--load-db").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    load.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success(), "nix-store --load-db");
}

/// Queues paths in one request, so that they share batches.
#[track_caller]
pub(crate) fn queue(world: &World, paths: &[String]) {
    queue_with(world, &[], paths);
}

/// The same with further flags of `push`.
#[track_caller]
pub(crate) fn queue_with(world: &World, flags: &[&str], paths: &[String]) {
    let said = world.ask_with_input(&[&["push", "-"], flags].concat(), paths.join("\n").as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
}

/// What a counter of the daemon stands at; 0 when it has not counted anything.
#[track_caller]
pub(crate) fn metric(world: &World, series: &str) -> u64 {
    let mut socket = UnixStream::connect(world.path("control.sock")).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or("0").parse().unwrap()
}

/// Waits until everything queued has been delivered.
#[track_caller]
pub(crate) fn delivered(world: &World, within: &str) {
    let waited = world.ask(&["wait", "--all", "--timeout", within]);
    assert_eq!(waited.code, 0, "{waited:?}\n{:?}\n{}", world.list(&["--state", "dead"]), world.log());
}

/// What the archive of an object is before compression.
pub(crate) fn unpacked(codec: &str, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match codec {
        "none" => plain.extend_from_slice(bytes),
        "zstd" => drop(zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut plain).unwrap()),
        "xz" => drop(liblzma::read::XzDecoder::new(bytes).read_to_end(&mut plain).unwrap()),
        other => panic!("no codec of ours: {other}"),
    }
    plain
}

/// A cache is whole: each narinfo's archive is there and is what it says, byte for byte, and so is each of its
/// references. Gives the store paths.
#[track_caller]
pub(crate) fn assert_whole(world: &World, objects: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let store = world.path("nix/store");
    let mut paths = Vec::new();
    for (key, text) in objects.iter().filter(|(key, _)| key.ends_with(".narinfo")) {
        let info = NarInfo::parse(std::str::from_utf8(text).unwrap(), store.to_str().unwrap()).unwrap();
        assert_eq!(*key, NarInfo::key_of(&info.store_path));
        let file = objects.get(&info.url).unwrap_or_else(|| panic!("{key}: no {}", info.url));
        assert_eq!(info.file_size, Some(file.len() as u64), "{key}");
        assert_eq!(info.file_hash, Some(Sha256::of(file)), "{key}");
        let nar = unpacked(&info.compression, file);
        assert_eq!((nar.len() as u64, Sha256::of(&nar)), (info.nar_size, info.nar_hash), "{key}");
        for reference in &info.references {
            assert!(objects.contains_key(&NarInfo::key_of(reference)), "{key}: {reference} is absent");
        }
        paths.push(info.store_path.as_str().to_owned());
    }
    paths
}

/// Every path's narinfo is there and has a signature by this public key.
#[track_caller]
pub(crate) fn assert_signed(world: &World, objects: &BTreeMap<String, Vec<u8>>, paths: &[String], key: &str) {
    let key = nix_types::PublicKey::parse(key).unwrap();
    let store = world.path("nix/store");
    for path in paths {
        let text = objects.get(&narinfo_key(path)).unwrap_or_else(|| panic!("{path} is absent"));
        let info = NarInfo::parse(std::str::from_utf8(text).unwrap(), store.to_str().unwrap()).unwrap();
        let print = info.fingerprint();
        assert!(info.signatures.iter().any(|sig| key.verify(&print, sig)), "{path}: {:?}", info.signatures);
    }
}

/// A second store that takes what is signed by `key` alone.
pub(crate) fn second_store(world: &World, name: &str) -> String {
    format!("local?root={}", world.path(name).display())
}

/// `nix copy --from` a cache into a second store, with signatures checked.
pub(crate) fn fetch(world: &World, from: &str, into: &str, key: &str, paths: &[String]) -> Output {
    let config = format!(
        "substituters =\ntrusted-public-keys = {key}\nrequire-sigs = true\nbuild-users-group =\nsandbox = false\n\
         experimental-features = nix-command\n"
    );
    let mut copy = world.tool("nix");
    copy.args(["copy", "--from", from, "--to", into]).args(paths).env("NIX_CONFIG", config);
    copy.output().unwrap()
}

/// Hashes that a store has registered, by path.
#[track_caller]
pub(crate) fn hashes(world: &World, store: Option<&str>, paths: &[String]) -> Vec<String> {
    let mut query = world.tool("nix-store");
    if let Some(store) = store {
        query.args(["--option", "store", store]);
    }
    let said = query.args(["--query", "--hash"]).args(paths).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Pushes the same paths through two daemons at once, until each has delivered all of them.
pub(crate) fn both_deliver(worlds: [&World; 2], paths: &[String]) {
    std::thread::scope(|scope| {
        for world in worlds {
            scope.spawn(|| queue(world, paths));
        }
    });
    for world in worlds {
        delivered(world, "120s");
    }
}
