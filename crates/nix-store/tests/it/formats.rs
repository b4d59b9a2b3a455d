//! The files of binary caches as `nix-types` reads and writes them, beside those the real Nix makes: byte for byte the
//! same, signatures included, and taken by Nix when they are ours.

use std::fs;
use std::path::{Path, PathBuf};

use nix_types::cache_info::CACHE_INFO;
use nix_types::{
    CacheInfo, CacheUrl, NarInfo, PublicKey, Realisation, SecretKey, Sha256, StorePath, cache_url, nix32,
};
use test_kit::seed;

use crate::nix::Nix;

/// A key pair of Nix' own making, under this name.
fn key(nix: &Nix, name: &str) -> (PathBuf, SecretKey, PublicKey) {
    let (secret, public) = (nix.path(name), nix.path(&format!("{name}.pub")));
    let files = [secret.to_str().unwrap(), public.to_str().unwrap()];
    nix.run("nix-store", &["--generate-binary-cache-key", name, files[0], files[1]]);
    let key = SecretKey::parse(&fs::read_to_string(&secret).unwrap()).unwrap();
    let public = PublicKey::parse(&fs::read_to_string(&public).unwrap()).unwrap();
    (secret, key, public)
}

/// Copies paths into a new cache and gives its folder.
fn cache(nix: &Nix, name: &str, parameters: &str, paths: &[StorePath]) -> PathBuf {
    let folder = nix.path(name);
    let url = format!("file://{}?{parameters}", folder.display());
    let CacheUrl { place, .. } = CacheUrl::parse(&url).unwrap();
    assert_eq!(place, cache_url::Place::File { root: folder.clone() });
    let mut args = vec!["copy", "--to", &url];
    args.extend(paths.iter().map(StorePath::as_str));
    nix.run("nix", &args);
    folder
}

/// The files of a folder whose names end so, with their texts.
fn files(folder: &Path, end: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = entries
        .filter(|path| name(path).ends_with(end))
        .map(|path| (name(&path), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn store_dir(nix: &Nix) -> String {
    nix.path("store").to_str().unwrap().to_owned()
}

#[test]
fn keys_narinfo_and_signatures_are_those_of_nix() {
    let nix = Nix::new();
    let (second_file, second, _) = key(&nix, "a-second");
    let (file, first, public) = key(&nix, "cache.example.org-1");
    assert_eq!(first.public(), public);
    assert_eq!(public.to_string(), fs::read_to_string(nix.path("cache.example.org-1.pub")).unwrap());
    let paths = nix.build(&["a", "b", "c", "fod", "ca", "user"]);
    let a = paths[0].as_str();
    nix.run("nix", &["store", "sign", "-k", second_file.to_str().unwrap(), a]);
    let dir = store_dir(&nix);
    let mut seen = 0;
    for codec in ["none", "xz", "zstd"] {
        let folder =
            cache(&nix, codec, &format!("compression={codec}&secret-key={}", file.display()), &paths);
        for (name, text) in files(&folder, ".narinfo") {
            let info = NarInfo::parse(&text, &dir).unwrap();
            assert_eq!(info.to_text(), text);
            assert_eq!((NarInfo::key_of(&info.store_path), info.compression.as_str()), (name, codec));
            let own = first.sign(&info.fingerprint());
            assert!(info.signatures.contains(&own) && public.verify(&info.fingerprint(), &own));
            assert!(text.contains(&format!("\nSig: {own}\n")), "{text}");
            assert_eq!(
                info.signatures.contains(&second.sign(&info.fingerprint())),
                info.store_path.as_str() == a
            );
            assert!(info.deriver.is_some() && info.file_hash.is_some());
            let unsigned = NarInfo { signatures: Vec::new(), ..info.clone() };
            let mut signed = unsigned.clone();
            signed.sign(&second);
            signed.sign(&first);
            assert_eq!(signed == info, info.store_path.as_str() == a, "both keys, in Nix' order");
            assert!(!unsigned.to_text().contains("Sig"));
            seen += 1;
        }
        let info = fs::read_to_string(folder.join(CACHE_INFO)).unwrap();
        let read = CacheInfo::parse(&info).unwrap();
        assert_eq!((read.store_dir.as_ref(), read.to_text()), (Some(&dir), info));
    }
    assert!(seen >= 3 * 6, "{seen}");
}

#[test]
fn realisations_are_those_of_nix() {
    let nix = Nix::new();
    let (file, key, _) = key(&nix, "k-1");
    let set = nix.path("set.nix");
    let signing = ["--option", "secret-key-files", file.to_str().unwrap()];
    let args = ["--no-out-link", set.to_str().unwrap(), "-A", "user"];
    let user = nix.run("nix-build", &[&args[..], &signing[..]].concat());
    let user = StorePath::parse_str(&user[0]).unwrap();
    // Named by what built them, so that the records go with the paths.
    let folder = nix.path("cache");
    let url = format!("file://{}", folder.display());
    nix.run("nix", &["copy", "--to", &url, "-f", set.to_str().unwrap(), "user"]);
    let records = files(&folder.join("realisations"), "");
    let mut of_user = 0;
    for (name, text) in &records {
        let read = Realisation::parse(text, &store_dir(&nix)).unwrap();
        assert_eq!((&read.to_json(), read.id.key()), (text, format!("realisations/{name}")));
        assert!(!read.signatures.is_empty(), "{text}");
        let mut signed = Realisation { signatures: Vec::new(), ..read.clone() };
        signed.sign(&key);
        assert_eq!(signed, read);
        of_user += usize::from(read.out_path == user && read.dependencies.len() == 1);
    }
    assert!(records.len() >= 2 && of_user == 1, "{records:?}");
}

#[test]
fn nix_takes_what_we_write() {
    let nix = Nix::new();
    let (_, key, public) = key(&nix, "ours-1");
    let (c, a) = (nix.one("c"), nix.one("a"));
    let folder = cache(&nix, "cache", "compression=none", std::slice::from_ref(&c));
    for (name, text) in files(&folder, ".narinfo") {
        let mut info = NarInfo::parse(&text, &store_dir(&nix)).unwrap();
        // Named by what is known before it is compressed, and without what is known only afterwards.
        let url = format!("nar/{}.nar", info.nar_hash.nix32());
        fs::rename(folder.join(&info.url), folder.join(&url)).unwrap();
        info = NarInfo { url, file_hash: None, file_size: None, signatures: Vec::new(), ..info };
        info.sign(&key);
        fs::write(folder.join(name), info.to_text()).unwrap();
    }
    let info = CacheInfo { store_dir: Some(store_dir(&nix)), want_mass_query: Some(true), priority: Some(7) };
    fs::write(folder.join(CACHE_INFO), info.to_text()).unwrap();
    nix.collect_garbage();
    assert!(!Path::new(c.as_str()).exists());
    let url = format!("file://{}", folder.display());
    let copy = |trusted: &str| {
        let mut command = nix.command("nix");
        command.args(["copy", "--from", &url, "--option", "trusted-public-keys", trusted, c.as_str()]);
        command.output().unwrap().status.success()
    };
    assert!(!copy(&format!("ours-1:{}=", "A".repeat(43))), "signatures are looked at");
    assert!(copy(&public.to_string()));
    assert!(Path::new(c.as_str()).exists() && Path::new(a.as_str()).exists(), "with what it refers to");
    nix.run("nix-store", &["--verify-path", c.as_str(), a.as_str()]);
}

#[test]
fn hashes_are_written_as_nix_writes_them() {
    let nix = Nix::new();
    let mut seeded = seed::start();
    for _ in 0..5 {
        let hash = Sha256::of(&seeded.rng.next_u64().to_le_bytes());
        let converted = nix.run("nix", &["hash", "to-base32", "--type", "sha256", &hash.hex()]);
        assert_eq!(converted, [hash.nix32()]);
        let sri = nix.run("nix", &["hash", "to-sri", "--type", "sha256", &hash.nix32()]);
        assert_eq!(Sha256::parse(&sri[0]), Ok(hash));
    }
    // Lengths that end within a character: Nix' other algorithms.
    let file = nix.path("file");
    fs::write(&file, "content").unwrap();
    for (algorithm, digits) in [("md5", 32), ("sha1", 40), ("sha512", 128)] {
        let of = |form: &[&str]| {
            nix.run(
                "nix-hash",
                &[&["--flat", "--type", algorithm][..], form, &[file.to_str().unwrap()]].concat(),
            )
        };
        let (hex, nix32) = (of(&[]), of(&["--base32"]));
        let bytes: Vec<u8> =
            (0..digits).step_by(2).map(|at| u8::from_str_radix(&hex[0][at..at + 2], 16).unwrap()).collect();
        assert_eq!(nix32, [nix32::encode(&bytes)], "{algorithm}");
        assert_eq!(nix32::decode(&nix32[0]), Ok(bytes), "{algorithm}");
    }
}
