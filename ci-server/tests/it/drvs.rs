//! Closures of derivations that a real Nix wrote, read by us and by Nix itself.
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use ci_model::drv::DrvRecord;
use ci_server::drvs::{DrvsError, Walked, walk_with};
use nix_types::DrvPath;
use serde_json::Value;

const EXPRESSION: &str = r#"
let
  system = "x86_64-linux";
  drv = name: extra: derivation ({ inherit name system; builder = "/bin/sh"; args = [ "-c" "\t\"quoted\" \\ $out\n" ]; } // extra);
  source = drv "source" { outputHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; outputHashAlgo = "sha256"; outputHashMode = "flat"; };
  lib = drv "lib" { outputs = [ "out" "dev" ]; src = source; plain = ./plain.txt; };
  picky = drv "picky" { requiredSystemFeatures = [ "kvm" "big-parallel" ]; preferLocalBuild = true; allowSubstitutes = false; inherit (lib) dev; };
  structured = drv "structured" {
    __structuredAttrs = true; requiredSystemFeatures = [ "kvm" ]; allowSubstitutes = false;
    deps = [ lib picky.out ]; nested.deep = [ 1 2.5 null true "ü\n" ];
  };
  chain = builtins.foldl' (before: i: drv "chain-${toString i}" { inherit before; }) lib (builtins.genList (i: i) 300);
in drv "top" { all = [ structured chain ]; }
"#;

/// A store of its own, below the test's folder.
struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let conf = format!("{}experimental-features = nix-command\n", test_kit::nix::SETTINGS);
        fs::write(dir.path().join("etc/nix.conf"), conf).unwrap();
        fs::write(dir.path().join("plain.txt"), "plain").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn nix(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .args(args)
            .envs(test_kit::nix::variables(self.dir.path()))
            .env_remove("NIX_REMOTE")
            .output()
            .unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn instantiate(&self, expression: &str) -> DrvPath {
        let file = self.path("expression.nix");
        fs::write(&file, expression).unwrap();
        self.nix("nix-instantiate", &[file.to_str().unwrap()]).trim().parse().unwrap()
    }
}

fn walk(root: &DrvPath, threads: usize) -> Result<Walked, DrvsError> {
    walk_with(threads, std::slice::from_ref(root), &|_| false, &AtomicBool::new(false))
}

/// What Nix says of the closure, by derivation.
fn by_nix(store: &Store, root: &DrvPath) -> BTreeMap<String, Value> {
    let said = store.nix("nix", &["show-derivation", "-r", root.as_str()]);
    let mut said: Value = serde_json::from_str(&said).unwrap();
    let Some(newer) = said.get_mut("derivations").map(Value::take) else {
        return serde_json::from_value(said).unwrap();
    };
    let newer: BTreeMap<String, Value> = serde_json::from_value(newer).unwrap();
    newer.into_iter().map(|(name, drv)| (in_store(store, &name), as_before(store, drv))).collect()
}

fn in_store(store: &Store, name: &str) -> String {
    store.path("store").join(name).to_str().unwrap().to_owned()
}

/// A derivation of version 4 of Nix's form as it was before: there paths are without the store's folder, inputs are
/// together, and structured attributes are by themselves.
fn as_before(store: &Store, mut drv: Value) -> Value {
    assert_eq!(drv["version"], 4);
    let env = drv["env"].clone();
    for (name, output) in drv["outputs"].as_object_mut().unwrap() {
        // One with a hash has no path by itself.
        let path = output.get("path").map(|path| in_store(store, path.as_str().unwrap()).into());
        output["path"] = path.unwrap_or_else(|| env[name].clone());
    }
    let inputs = drv["inputs"]["drvs"].take();
    let inputs = inputs.as_object().unwrap().iter().map(|(name, of)| (in_store(store, name), of.clone()));
    drv["inputDrvs"] = inputs.collect::<serde_json::Map<_, _>>().into();
    if let Some(structured) = drv.get("structuredAttrs") {
        drv["env"]["__json"] = structured.to_string().into();
    }
    drv
}

fn inputs_of(said: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let outputs = |of: &Value| match of {
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        newer => newer["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    };
    said["inputDrvs"].as_object().unwrap().iter().map(|(drv, of)| (drv.clone(), outputs(of))).collect()
}

fn agrees(record: &DrvRecord, said: &Value) {
    let name = &record.path;
    assert_eq!(record.system.as_str(), said["system"].as_str().unwrap(), "{name}");
    let outputs: BTreeMap<String, String> = record
        .outputs
        .iter()
        .map(|(name, path)| (name.clone(), path.as_ref().unwrap().to_string()))
        .collect();
    let theirs = said["outputs"].as_object().unwrap().iter();
    let theirs = theirs.map(|(name, output)| (name.clone(), output["path"].as_str().unwrap().to_owned()));
    assert_eq!(outputs, theirs.collect(), "{name}");
    let inputs: BTreeMap<String, BTreeSet<String>> =
        record.inputs.iter().map(|(drv, outputs)| (drv.to_string(), outputs.clone())).collect();
    assert_eq!(inputs, inputs_of(said), "{name}");
}

#[test]
fn a_closure_is_read_as_nix_reads_it() {
    let store = Store::new();
    let root = store.instantiate(EXPRESSION);
    let said = by_nix(&store, &root);
    for threads in [1, 4] {
        let walked = walk(&root, threads).unwrap();
        assert_eq!(walked.drvs.len(), said.len(), "each once");
        let mut seen = HashSet::new();
        for record in &walked.drvs {
            agrees(record, &said[record.path.as_str()]);
            assert!(record.inputs.keys().all(|input| seen.contains(input)), "inputs come before users");
            seen.insert(record.path.clone());
        }
        let of = |name: &str| walked.drvs.iter().find(|drv| drv.path.drv_name() == name).unwrap();
        assert!(of("source").traits.is_fod);
        assert_eq!(of("picky").traits.required_features, ["big-parallel", "kvm"]);
        assert!(of("picky").traits.prefers_local && of("picky").traits.forbids_substitutes);
        assert_eq!(of("structured").traits.required_features, ["kvm"]);
        assert!(of("structured").traits.forbids_substitutes);
        assert_eq!(of("lib").outputs.keys().collect::<Vec<_>>(), ["dev", "out"]);
    }
}

/// The bytes Nix wrote are read whole, and the owned reading writes them again.
#[test]
fn every_file_of_a_closure_is_written_again_byte_by_byte() {
    let store = Store::new();
    let root = store.instantiate(EXPRESSION);
    for record in walk(&root, 2).unwrap().drvs {
        let bytes = fs::read(record.path.as_str()).unwrap();
        let read = nix_types::derivation::parse(&bytes).unwrap();
        assert_eq!(read.print(), bytes, "{}", record.path);
        let said = &by_nix(&store, &record.path)[record.path.as_str()];
        let env: BTreeMap<String, String> = read
            .env
            .iter()
            .map(|(name, value)| {
                (String::from_utf8(name.clone()).unwrap(), String::from_utf8(value.clone()).unwrap())
            })
            .collect();
        let theirs: BTreeMap<String, String> = serde_json::from_value(said["env"].clone()).unwrap();
        // One text of these is as good as another.
        let parsed = |env: BTreeMap<String, String>| -> BTreeMap<String, Value> {
            let value = |name: &str, text: String| match name {
                "__json" => serde_json::from_str(&text).unwrap(),
                _ => Value::String(text),
            };
            env.into_iter().map(|(name, text)| (name.clone(), value(&name, text))).collect()
        };
        assert_eq!(parsed(env), parsed(theirs), "{}", record.path);
        if record.path.drv_name().starts_with("chain") {
            break; // they are alike
        }
    }
}

#[test]
fn what_is_known_is_not_read_again_nor_what_is_below_it() {
    let store = Store::new();
    let root = store.instantiate(EXPRESSION);
    let all = walk(&root, 2).unwrap().drvs;
    let known = all.iter().find(|drv| drv.path.drv_name() == "chain-150").unwrap().path.clone();
    let rest = walk_with(2, std::slice::from_ref(&root), &|drv| *drv == known, &AtomicBool::new(false))
        .unwrap()
        .drvs;
    assert!(rest.iter().all(|drv| drv.path != known));
    assert!(!rest.iter().any(|drv| drv.path.drv_name() == "chain-149"));
    assert!(rest.iter().any(|drv| drv.path.drv_name() == "chain-151"));
    let none = walk_with(2, &[known], &|_| true, &AtomicBool::new(false)).unwrap();
    assert_eq!((none.drvs.len(), none.bytes), (0, 0));
}

fn break_one(store: &Store, root: &DrvPath, name: &str, how: impl Fn(&Path)) -> DrvPath {
    let victim =
        walk(root, 1).unwrap().drvs.into_iter().find(|drv| drv.path.drv_name() == name).unwrap().path;
    store.nix("chmod", &["u+w", victim.as_str(), store.path("store").to_str().unwrap()]);
    how(Path::new(victim.as_str()));
    victim
}

#[test]
fn what_is_gone_or_damaged_is_named() {
    let store = Store::new();
    let root = store.instantiate(EXPRESSION);
    let gone = break_one(&store, &root, "chain-7", |file| fs::remove_file(file).unwrap());
    match walk(&root, 2).unwrap_err() {
        DrvsError::Gone(drv) => assert_eq!(drv, gone),
        other => panic!("{other}"),
    }
    // Evaluating again does not write what the database says is there; collecting does away with that.
    store.nix("nix-store", &["--gc"]);
    assert_eq!(store.instantiate(EXPRESSION), root);
    let cut = break_one(&store, &root, "picky", |file| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    });
    let walked = walk(&root, 2).unwrap();
    let [unusable] = &walked.unusable[..] else { panic!("{:?}", walked.unusable) };
    assert_eq!(unusable.drv, cut);
    assert!(matches!(&unusable.why, DrvsError::Parse { drv, .. } if *drv == cut), "{}", unusable.why);
    assert_eq!(left_out(&walked), [("picky", "picky"), ("structured", "picky"), ("top", "picky")]);
    assert_eq!(walked.drvs.len(), 302, "lib, its source and the whole chain are there");
}

/// What was left out, and because of what, by name.
fn left_out(walked: &Walked) -> Vec<(&str, &str)> {
    let at_fault = |why: &usize| walked.unusable[*why].drv.drv_name();
    let mut names: Vec<_> =
        walked.left_out.iter().map(|(drv, why)| (drv.drv_name(), at_fault(why))).collect();
    names.sort_unstable();
    names
}

/// Files that are like those of Nix in all but their hashes.
struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> DrvPath {
        let path = self.0.path().join(format!("00000000000000000000000000000000-{name}.drv"));
        path.to_str().unwrap().parse().unwrap()
    }

    fn write(&self, name: &str, inputs: &[&str], system: &str, env: &str) -> DrvPath {
        let mut inputs: Vec<String> =
            inputs.iter().map(|input| format!(r#"("{}",["out"])"#, self.path(input))).collect();
        inputs.sort_unstable();
        let text = format!(
            r#"Derive([("out","","","")],[{}],[],"{system}","/bin/sh",[],[{env}])"#,
            inputs.join(",")
        );
        let path = self.path(name);
        fs::write(path.as_str(), text).unwrap();
        path
    }
}

#[test]
fn what_cannot_be_used_takes_nothing_away_but_what_needs_it() {
    let files = Files(tempfile::tempdir().unwrap());
    let good = "x86_64-linux";
    files.write("good", &[], good, "");
    files.write("system", &["good"], "x86_64 linux", "");
    let features = (0..65).map(|n| format!("f{n}")).collect::<Vec<_>>().join(" ");
    files.write("features", &[], good, &format!(r#"("requiredSystemFeatures","{features}")"#));
    files.write("json", &[], good, r#"("__json","none")"#);
    fs::write(files.path("dynamic").as_str(), r#"DrvWithVersion("xp-dyn-drv",[],[],[],"","",[],[])"#)
        .unwrap();
    fs::create_dir(files.path("folder").as_str()).unwrap();
    files.write("circle-a", &["circle-b", "good"], good, "");
    files.write("circle-b", &["circle-a"], good, "");
    files.write("itself", &["itself"], good, "");
    let bad = ["dynamic", "features", "folder", "json", "system", "circle-a", "itself"];
    let users = bad.map(|bad| files.write(&format!("user-{bad}"), &[bad, "good"], good, ""));
    let top = files.write("top", &["user-system", "user-json", "circle-b"], good, "");
    let fine = files.write("fine", &["good"], good, "");
    let roots: Vec<DrvPath> = users.into_iter().chain([top, fine]).collect();
    for threads in [1, 4] {
        let walked = walk_with(threads, &roots, &|_| false, &AtomicBool::new(false)).unwrap();
        let mut names: Vec<&str> = walked.drvs.iter().map(|drv| drv.path.drv_name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["fine", "good"], "{:?}", walked.unusable);
        let unusable: Vec<&str> = walked.unusable.iter().map(|unusable| unusable.drv.drv_name()).collect();
        assert_eq!(unusable, bad);
        let kinds: Vec<&str> = walked.unusable.iter().map(|unusable| kind(&unusable.why)).collect();
        assert_eq!(kinds, ["parse", "record", "read", "record", "record", "cycle", "cycle"]);
        let mut expected: Vec<(String, &str)> =
            bad.iter().flat_map(|bad| [((*bad).to_owned(), *bad), (format!("user-{bad}"), *bad)]).collect();
        expected.extend([("circle-b".into(), "circle-a"), ("top".into(), "circle-a")]);
        expected.sort_unstable();
        let found = left_out(&walked);
        assert_eq!(found, expected.iter().map(|(drv, why)| (drv.as_str(), *why)).collect::<Vec<_>>());
        let why: Vec<String> = walked.unusable.iter().map(|unusable| said(&unusable.why)).collect();
        assert!(why[0].contains("made at build time"), "{why:?}");
        assert!(why[2].contains("this user may read it"), "{why:?}");
        assert!(why[4].contains("x86_64 linux") && why[4].contains("correct the code"), "{why:?}");
        assert!(why[5].contains("--repair"), "{why:?}");
    }
}

fn kind(error: &DrvsError) -> &'static str {
    match error {
        DrvsError::Gone(_) => "gone",
        DrvsError::Read { .. } => "read",
        DrvsError::Parse { .. } => "parse",
        DrvsError::Record { .. } => "record",
        DrvsError::Cycle(_) => "cycle",
        DrvsError::TooMany => "too many",
        DrvsError::TooLarge => "too large",
        DrvsError::Cancelled => "cancelled",
    }
}

fn said(error: &DrvsError) -> String {
    let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
    format!("{error}{why}")
}

#[test]
fn a_walk_that_is_cancelled_ends() {
    let store = Store::new();
    let root = store.instantiate(EXPRESSION);
    let error = walk_with(2, &[root], &|_| false, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, DrvsError::Cancelled));
}
