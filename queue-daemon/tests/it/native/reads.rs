//! Real Nix reads what we write: closures of real builds come back from every kind of place with signatures checked,
//! and what we write is what `nix copy` writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::stage::{
    Place, QUICK, assert_signed, assert_whole, delivered, fetch, fields, files, hashes, key, narinfo_key,
    queue, second_store,
};
use crate::world::World;

/// Everything that a store path may be, built: every line is a derivation with its own traps.
const ODD: &str = r#"rec {
  multi = run "multi" { outputs = [ "out" "dev" "doc" ]; } ''
    ${bb} mkdir $out $dev; echo $dev > $out/dev; echo $out $dev > $doc'';
  self = run "self" { } "${bb} mkdir $out; echo $out > $out/me; ${bb} ln -s $out/me $out/link";
  links = run "links" { } ''
    ${bb} mkdir -p $out/a/b; ${bb} ln -s ../../nowhere $out/a/b/dangling; ${bb} ln -s ${self} $out/other
    ${bb} ln -s . $out/dot'';
  link = run "link" { } "${bb} ln -s ${multi.dev}/dev $out";
  files = run "files" { } ''
    ${bb} mkdir -p $out/empty-folder "$out/sp ace" $out/deep/er/still
    : > $out/empty; echo -n x > $out/one; ${bb} cp ${bb} $out/deep/er/still/program; ${bb} chmod +x $out/deep/er/still/program
    : > "$out/sp ace/it's \"quoted\" \$HOME & <more>"; : > "$out/-dash"; : > "$out/ends with dot."
    : > "$out/tab	and'newline
    "; : > "$out/Case"; : > "$out/case"; : > "$out/größe"'';
  bytes = run "bytes" { } ''${bb} mkdir $out; : > "$out/$(${bb} printf 'a\377b\001')"; ${bb} ln -s "$(${bb} printf '\376')" $out/l'';
  program = run "program" { } "${bb} cp ${bb} $out; ${bb} chmod 555 $out";
  fixed = run "fixed" { outputHashMode = "flat"; outputHashAlgo = "sha256";
    outputHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; } "echo hello > $out";
  "name+with-every_sign.that?may=be" = run "name+with-every_sign.that?may=be" { } "echo ${fixed} ${program} > $out";
  noise = run "noise" { } "${bb} dd if=/dev/urandom of=$out bs=1M count=9";
  top = run "top" { all = [ multi self links link files bytes program fixed noise ]; } "echo $all > $out";
}"#;

/// The outputs of a build that no hook sees, and everything they need.
fn built(world: &World, expression: &str) -> Vec<String> {
    let built = world.build_with_hook(expression, &world.path("no-hook.sh"), "#!/bin/sh\n");
    assert_eq!(built.code, 0, "{built:?}");
    let outputs: Vec<&str> = built.out.lines().collect();
    let all = world.tool("nix-store").args(["--query", "--requisites"]).args(outputs).output().unwrap();
    let mut paths: Vec<String> = String::from_utf8(all.stdout).unwrap().lines().map(str::to_owned).collect();
    paths.sort();
    paths
}

/// What `nix copy` makes of the same paths.
fn copied(world: &World, parameters: &str, paths: &[String]) -> BTreeMap<String, Vec<u8>> {
    let to = world.path("by-nix");
    let mut copy = world.tool("nix");
    copy.args(["--extra-experimental-features", "nix-command ca-derivations", "copy", "--to"]);
    copy.arg(format!("file://{}?{parameters}", to.display())).args(paths);
    let said = copy.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    files(&to)
}

/// Every line but those that name the archive.
fn lasting(narinfo: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut fields = fields(narinfo);
    for own in ["URL", "FileHash", "FileSize"] {
        fields.remove(own);
    }
    fields
}

/// All lines of all narinfo files, ours beside Nix' own.
#[track_caller]
fn assert_same_narinfos(
    ours: &BTreeMap<String, Vec<u8>>,
    theirs: &BTreeMap<String, Vec<u8>>,
    paths: &[String],
) {
    for path in paths {
        let key = narinfo_key(path);
        assert_eq!(lasting(&ours[&key]), lasting(&theirs[&key]), "{path}");
        let order = |text: &[u8]| -> Vec<String> {
            let lines = std::str::from_utf8(text).unwrap().lines();
            lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
        };
        assert_eq!(order(&ours[&key]), order(&theirs[&key]), "{path}");
    }
}

#[test]
fn odd_closures_come_back_from_every_place_with_every_codec() {
    let mut world = World::new("");
    let public = key(&world, "test-1");
    let other = key(&world, "test-2");
    let paths = built(&world, ODD);
    assert_eq!(paths.len(), 11, "{paths:?}");
    let places = Place::all(&world);
    let codecs = ["zstd", "none", "xz"];
    let caches: String = places
        .iter()
        .zip(codecs)
        .map(|(place, codec)| place.block(&format!("compression={codec}"), QUICK))
        .collect();
    world.configure("signing_key_files = [\"$W/test-1.sec\"]", &caches);
    world.start();
    queue(&world, &paths);
    delivered(&world, "300s"); // xz is slow where nothing is optimised
    let wanted = hashes(&world, None, &paths);
    let secret = world.path("test-1.sec");
    for (place, codec) in places.iter().zip(codecs) {
        let (kind, objects) = (place.kind(), place.objects());
        assert_eq!(assert_whole(&world, &objects), paths, "{kind}");
        assert_signed(&world, &objects, &paths, &public);
        assert!(objects["nix-cache-info"].starts_with(b"StoreDir: "), "{kind}");
        let into = second_store(&world, &format!("second-{kind}"));
        let refused = fetch(&world, &place.read_url(), &into, &other, &paths);
        assert!(!refused.status.success(), "{kind}: another key is trusted");
        let fetched = fetch(&world, &place.read_url(), &into, &public, &paths);
        assert!(fetched.status.success(), "{kind}: {fetched:?}");
        assert_eq!(hashes(&world, Some(&into), &paths), wanted, "{kind}");
        let _ = fs::remove_dir_all(world.path("by-nix")); // not there the first time
        let theirs = copied(&world, &format!("compression={codec}&secret-key={}", secret.display()), &paths);
        assert_same_narinfos(&objects, &theirs, &paths);
    }
    // The other way that Nix takes things from caches.
    let top = paths.iter().find(|path| path.ends_with("-top")).unwrap();
    let config = format!(
        "store = {}\nsubstituters = {}\ntrusted-public-keys = {public}\nrequire-sigs = true\nbuild-users-group =\n",
        second_store(&world, "third"),
        places[1].read_url()
    );
    let realised =
        world.tool("nix-store").args(["--realise", top]).env("NIX_CONFIG", config).output().unwrap();
    assert!(realised.status.success(), "{realised:?}");
    let there = world.path("third/nix/store").join(Path::new(top).file_name().unwrap());
    assert_eq!(fs::read(there).unwrap(), fs::read(top).unwrap());
    assert_eq!(world.stop(), 0);
}

/// Five hundred paths that need each other, built, pushed to every place and fetched again.
#[test]
fn five_hundred_paths_are_what_nix_copy_makes_of_them() {
    const COUNT: usize = 500;
    let mut world = World::new("");
    let public = key(&world, "test-1");
    let places = Place::all(&world);
    let caches: String = places.iter().map(|place| place.block("compression=zstd", QUICK)).collect();
    world.configure("signing_key_files = [\"$W/test-1.sec\"]", &caches);
    // Each needs those at half and a third of its number.
    let expression = format!(
        "let paths = builtins.genList (i: run \"p${{toString i}}\" {{ }} (\"echo ${{toString i}} \" + (if i == 0 then \"\" else \
         \"${{builtins.elemAt paths (i / 2)}} ${{builtins.elemAt paths (i / 3)}}\") + \" > $out\")) {COUNT}; in paths"
    );
    let paths = built(&world, &expression);
    assert_eq!(paths.len(), COUNT);
    world.start();
    queue(&world, &paths);
    delivered(&world, "120s");
    let wanted = hashes(&world, None, &paths);
    let parameters = format!("compression=zstd&secret-key={}", world.path("test-1.sec").display());
    let theirs = copied(&world, &parameters, &paths);
    for place in &places {
        let (kind, objects) = (place.kind(), place.objects());
        assert_eq!(assert_whole(&world, &objects), paths, "{kind}");
        assert_same_narinfos(&objects, &theirs, &paths);
        let into = second_store(&world, &format!("second-{kind}"));
        let fetched = fetch(&world, &place.read_url(), &into, &public, &paths);
        assert!(fetched.status.success(), "{kind}: {fetched:?}");
        assert_eq!(hashes(&world, Some(&into), &paths), wanted, "{kind}");
    }
}

/// Listings, the index of debug information, logs, and the cache's own file.
#[test]
fn what_goes_with_a_path_is_what_nix_makes_of_it() {
    let mut world = World::new("");
    let places = Place::all(&world);
    let parameters =
        "write-nar-listing=true&index-debug-info=true&compression=none&want-mass-query=false&priority=17";
    let keys = format!("{QUICK}\nupload_logs = true");
    let caches: String = places.iter().map(|place| place.block(parameters, &keys)).collect();
    world.configure("", &caches);
    world.start();
    let built = world.build(
        r#"[ (run "debug" { } ''
            id=$out/lib/debug/.build-id; ${bb} mkdir -p $id/ab $id/cd $out/bin; ${bb} cp ${bb} $out/bin/x
            echo one > $id/ab/000000000000000000000000000000000000cd.debug
            echo two > $id/cd/0123456789abcdef0123456789abcdef012345.debug
            echo none > $id/cd/short.debug; ${bb} ln -s bin $out/sbin; : > $out/empty
            echo this is said while it is built'')
          (run "quiet" { } "echo > $out") ]"#,
    );
    assert_eq!(built.code, 0, "{built:?}");
    delivered(&world, "60s");
    let paths: Vec<String> = built.out.lines().map(str::to_owned).collect();
    let theirs = copied(&world, "write-nar-listing=true&index-debug-info=true&compression=none", &paths);
    let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    let below = |objects: &BTreeMap<String, Vec<u8>>, folder: &str| -> Vec<String> {
        objects.keys().filter(|key| key.starts_with(folder)).cloned().collect()
    };
    for place in &places {
        let (kind, ours) = (place.kind(), place.objects());
        for path in &paths {
            let key = format!("{}.ls", narinfo_key(path).trim_end_matches(".narinfo"));
            assert_eq!(json(&ours[&key]), json(&theirs[&key]), "{kind}: {key}");
        }
        let debug = below(&ours, "debuginfo/");
        assert_eq!(debug, below(&theirs, "debuginfo/"), "{kind}");
        assert_eq!(debug.len(), 2, "{kind}");
        for key in debug {
            let (one, other) = (json(&ours[&key]), json(&theirs[&key]));
            assert_eq!(one["member"], other["member"], "{kind}: {key}");
            let archive = one["archive"].as_str().unwrap().strip_prefix("../").unwrap();
            assert!(ours.contains_key(archive), "{kind}: {archive}");
        }
        let info = String::from_utf8(ours["nix-cache-info"].clone()).unwrap();
        let store = world.path("nix/store");
        assert_eq!(
            info,
            format!("StoreDir: {}\nWantMassQuery: 0\nPriority: 17\n", store.display()),
            "{kind}"
        );
        assert!(info.starts_with(std::str::from_utf8(&theirs["nix-cache-info"]).unwrap()), "{kind}");
        let logs = below(&ours, "log/");
        assert_eq!(logs.len(), 2, "{kind}: each derivation has one: {logs:?}");
        let said = logs.iter().find(|key| key.ends_with("-debug.drv")).unwrap();
        assert_eq!(ours[said], b"this is said while it is built\n", "{kind}");
        // Another machine asks the cache for it.
        let drv = world.path("nix/store").join(said.strip_prefix("log/").unwrap());
        let mut read = world.tool("nix-store");
        read.args(["--option", "store", &place.read_url(), "--read-log"]).arg(drv);
        let log = read.output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&log.stdout),
            "this is said while it is built\n",
            "{kind}: {log:?}"
        );
    }
}

/// Paths that are named after their own contents, and what says which derivation made them.
#[test]
fn content_addressed_outputs_are_found_by_their_derivation() {
    let mut world = World::new("");
    let public = key(&world, "test-1");
    let places = Place::all(&world);
    let caches: String = places.iter().map(|place| place.block("compression=zstd", QUICK)).collect();
    world.configure("signing_key_files = [\"$W/test-1.sec\"]", &caches);
    let file = world.path("ca.nix");
    let text = r#"
      let bb = builtins.path { path = /usr/bin; name = "bb"; filter = p: t: baseNameOf p == "busybox"; } + "/busybox";
          ca = name: args: derivation ({ inherit name; system = builtins.currentSystem; builder = bb;
            __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; } // args);
          a = ca "a" { args = [ "sh" "-c" "${bb} mkdir $out; echo $out > $out/me" ]; };
      in ca "b" { outputs = [ "out" "dev" ]; args = [ "sh" "-c" "echo ${a} > $out; echo dev > $dev" ]; }"#;
    fs::write(&file, text).unwrap();
    let config = "sandbox = false\nbuild-users-group =\nsubstituters =\nexperimental-features = nix-command ca-derivations\n";
    let mut build = world.tool("nix-build");
    let built = build.arg(&file).arg("--no-out-link").env("NIX_CONFIG", config).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let drv = world.tool("nix-instantiate").arg(&file).env("NIX_CONFIG", config).output().unwrap();
    let drv = String::from_utf8(drv.stdout).unwrap().trim().to_owned();
    let out = String::from_utf8(built.stdout).unwrap().trim().to_owned();
    let mut copy = world.tool("nix");
    copy.arg("copy").arg("--to").env("NIX_CONFIG", config);
    copy.arg(format!(
        "file://{}?compression=zstd&secret-key={}",
        world.path("by-nix").display(),
        world.path("test-1.sec").display()
    ));
    let said = copy.arg(&drv).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let theirs = files(&world.path("by-nix"));
    let paths: Vec<String> = theirs
        .iter()
        .filter(|(key, _)| key.ends_with(".narinfo"))
        .map(|(_, text)| fields(text)["StorePath"][0].clone())
        .collect();
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    let realisations: Vec<&String> = theirs.keys().filter(|key| key.starts_with("realisations/")).collect();
    assert_eq!(realisations.len(), 3, "{:?}", theirs.keys());
    let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    for place in &places {
        let (kind, ours) = (place.kind(), place.objects());
        assert_same_narinfos(&ours, &theirs, &paths);
        for key in &realisations {
            let ours = ours.get(*key).unwrap_or_else(|| panic!("{kind}: no {key}"));
            // Nix leaves them unsigned, and takes ours.
            let (mut ours, theirs) = (json(ours), json(&theirs[*key]));
            let signatures = ours["signatures"].take();
            assert!(signatures[0].as_str().unwrap().starts_with("test-1:"), "{signatures}");
            ours["signatures"] = theirs["signatures"].clone();
            assert_eq!(ours, theirs, "{kind}: {key}");
        }
        // Another machine knows the derivation alone.
        let root = second_store(&world, &format!("second-{kind}"));
        let mut give = world.tool("nix");
        give.args(["copy", "--no-check-sigs", "--derivation", "--to", &root, &drv]);
        let given = give.env("NIX_CONFIG", config).output().unwrap();
        assert!(given.status.success(), "{given:?}");
        let config = format!(
            "{config}store = {root}\nsubstituters = {}\ntrusted-public-keys = {public}\nmax-jobs = 0\n",
            place.read_url()
        )
        .replace("substituters =\n", "");
        let realised =
            world.tool("nix-store").args(["--realise", &drv]).env("NIX_CONFIG", config).output().unwrap();
        assert!(realised.status.success(), "{kind}: {realised:?}");
        let realised = String::from_utf8_lossy(&realised.stdout).into_owned();
        assert!(realised.lines().any(|line| line == out), "{kind}: {out} is not in {realised}");
    }
}
