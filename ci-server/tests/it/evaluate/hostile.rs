//! Expressions that mean harm, evaluated as code that is not trusted.

use ci_model::attr::ErrorKind;
use ci_server::evaluate::Pass;

use super::support::{LIB, World};

/// None of these may read what lies outside of the checkout, or reach anybody.
#[tokio::test]
async fn what_is_not_trusted_reads_and_fetches_nothing_outside() {
    let world = World::new();
    std::fs::write(world.path("canary"), "sung").unwrap();
    let canary = world.path("canary");
    let canary = canary.display();
    world.write("inside.nix", "\"inside\"");
    world.write(
        "default.nix",
        &format!(
            r#"let {LIB} in {{
  absolute = drv (builtins.readFile "{canary}") {{ }};
  up = drv (builtins.readFile ../canary) {{ }};
  listed = drv (builtins.head (builtins.attrNames (builtins.readDir /tmp))) {{ }};
  imported = drv (import /etc/hostname) {{ }};
  copied = drv "copied" {{ src = /etc/hostname; }};
  path = drv "path" {{ src = builtins.path {{ path = "{canary}"; name = "x"; }}; }};
  process = drv (builtins.readFile "/proc/self/cmdline") {{ }};
  fetched = drv "fetched" {{ src = builtins.fetchurl "http://127.0.0.1:9/x"; }};
  tarball = drv "tarball" {{ src = builtins.fetchTarball "http://127.0.0.1:9/x.tar.gz"; }};
  git = drv "git" {{ src = builtins.fetchGit "file://{canary}"; }};
  built = drv (builtins.readFile (drv "ifd" {{ }})) {{ }};
  environment = drv "e${{builtins.getEnv "HOME"}}" {{ }};
  looked = drv "l${{toString (builtins.length builtins.nixPath)}}" {{ src = <nixpkgs>; }};
  exists = drv (if builtins.pathExists "{canary}" then "there" else "absent") {{ }};
  good = drv (import ./inside.nix) {{ src = ./inside.nix; }};
}}"#
        ),
    );
    let mut request = world.request();
    request.is_trusted = false;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.attrs["good"].name, "inside");
    assert_eq!(told.attrs["environment"].name, "e", "it saw our environment");
    for path in
        ["absolute", "up", "imported", "copied", "path", "process", "fetched", "tarball", "git", "built"]
    {
        let error = told.errors.get(path).unwrap_or_else(|| panic!("{path} is {:?}", told.attrs.get(path)));
        assert_eq!(error.kind, ErrorKind::Forbidden, "{path}: {error:?}");
    }
    // Newer releases show of what is around the checkout that it is there, and nothing beside it.
    let around = world.path("").file_name().unwrap().to_str().unwrap().to_owned();
    let is_forbidden = told.errors.get("listed").is_some_and(|error| error.kind == ErrorKind::Forbidden);
    assert!(is_forbidden || told.attrs["listed"].name == around, "{:?}", told.attrs.get("listed"));
    assert!(told.errors.contains_key("looked"));
    assert!(told.attrs.get("exists").is_none_or(|attr| attr.name == "absent"));
    assert!(!format!("{:?}", told.attrs).contains("sung"));
}

/// The pass without a store comes to the same paths as the one that writes them.
#[tokio::test]
async fn no_store_is_needed_to_know_the_paths() {
    let world = World::new();
    world.write("sub/file", "text");
    world.write("default.nix", &format!(r#"let {LIB} in {{ a = drv "a" {{ src = ./sub; dep = drv "dep" {{ }}; file = builtins.toFile "f" "x"; }}; }}"#));
    let mut request = world.request();
    let trusted = world.evaluate(&request, &Pass::Instantiate { only: None }).await;
    request.is_trusted = false;
    let bare = World::new();
    request.nix = bare.nix();
    // The same store folder, for its name is part of the paths; another state, so that nothing is known of it.
    request.nix.env.push(("NIX_STORE_DIR".into(), world.path("store").into_os_string()));
    let untrusted = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(untrusted.attrs, trusted.attrs, "{:?}", untrusted.errors);
}

/// What looks like our marks, and very much of it.
#[tokio::test]
async fn what_it_prints_is_noise_and_bounded() {
    let world = World::new();
    world.write("default.nix", &format!(r#"let {LIB}
  say = text: value: builtins.trace text value;
  endless = builtins.foldl' (all: n: say "noise ${{toString n}} {noise}" all) 0 (builtins.genList (n: n) 10000000);
in {{
  a = say "@deadbeef j 0 {{\"n\":\"x\"}}" (say "trace: @deadbeef z - \ntrace: @ z - \nerror: not me" (drv "a" {{ }}));
  b = endless;
  c = drv "c" {{ }};
  d = say "\u001b[2J${{"\t"}}" (throw "\u001b[31mred\nerror: second");
}}"#, noise = "x".repeat(1_000)));
    let mut request = world.request();
    request.limits.output_bytes = 1 << 20;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.paths(), ["a", "c"]);
    assert_eq!(told.errors["b"].kind, ErrorKind::TooLarge);
    assert_eq!(told.errors["b"].message, "it prints more than 1 MiB while it is evaluated");
    let trace = &told.errors["d"].trace;
    assert!(!trace.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{trace:?}");
}

/// Many that print a good deal each: none is blamed for what the others printed before it.
#[tokio::test]
async fn each_attribute_may_print_as_much_as_any() {
    let world = World::new();
    world.write("default.nix", &format!(r#"let {LIB}
  loud = value: builtins.foldl' (all: n: builtins.trace "noise ${{toString n}} {noise}" all) value (builtins.genList (n: n) 400);
in builtins.listToAttrs (builtins.genList (n: {{ name = "n${{toString n}}"; value = loud (drv "n${{toString n}}" {{ }}); }}) 12)"#,
        noise = "x".repeat(1_000)));
    let mut request = world.request();
    request.limits.output_bytes = 1 << 20;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.paths().len(), told.errors.len()), (12, 0), "{:?}", told.errors.keys());
}

/// A set that is different each time it is looked at ends, and nothing is told twice.
#[tokio::test]
async fn a_root_that_is_never_the_same_ends() {
    let world = World::new();
    world.write("default.nix", &format!(r#"let {LIB}
  now = toString builtins.currentTime;
in builtins.listToAttrs (builtins.genList (n: {{ name = "n${{toString n}}-${{now}}"; value = if n / 3 * 3 == n then abort "no" else drv "n" {{ }}; }}) 12)"#));
    let told = world.evaluate(&world.request(), &Pass::ReadOnly).await;
    assert!(told.attrs.len() + told.errors.len() >= 12, "{:?}", told.errors.keys());
}

/// Attributes that have one path as it is printed: nothing is told twice, and nothing is lost.
#[tokio::test]
async fn two_attributes_of_one_printed_path_are_both_told() {
    let world = World::new();
    let text = format!(
        r##"let {LIB}
  long = letter: size: builtins.concatStringsSep "" (builtins.genList (_: letter) size);
in {{
  "#3" = drv "literal" {{ }};
  "a@FF@" = drv "first" {{ }};
  "a@FE@" = drv "second" {{ }};
  ${{long "b" 5000}} = drv "stand-in" {{ }};
  ${{long "c" 3000}} = {{
    recurseForDerivations = true;
    ${{long "d" 2000}} = drv "d" {{ }};
    ${{long "e" 2000}} = drv "e" {{ }};
  }};
  "t@FF@" = throw "first";
  "t@FE@" = throw "second";
}}"##
    );
    let mut bytes = Vec::new();
    for piece in text.split_inclusive('@') {
        match piece {
            "FF@" => bytes.push(0xff),
            "FE@" => bytes.push(0xfe),
            piece => bytes.extend(piece.trim_end_matches('@').bytes()),
        }
    }
    std::fs::write(world.path("checkout/default.nix"), bytes).unwrap();
    let told = world.evaluate(&world.request(), &Pass::ReadOnly).await;
    let errors: Vec<_> = told.errors.keys().map(String::as_str).collect();
    assert_eq!(told.paths(), ["\"#3\"", "\"a\u{fffd}\""], "{:?}", told.errors);
    let wanted = ["", "\"#3#2\"", "\"a\u{fffd}#2\"", "\"t\u{fffd}\"", "\"t\u{fffd}#2\""];
    assert_eq!(errors, wanted, "{:?}", told.errors);
    let root = &told.errors[""];
    assert_eq!((root.kind, root.message.lines().count()), (ErrorKind::TooLarge, 2), "{root:?}");
}

/// Many attributes whose paths are too long to be told, and more than are looked at.
#[tokio::test]
async fn errors_at_one_path_are_one_error() {
    let world = World::new();
    world.write("default.nix", &format!(
        r#"let {LIB} long = n: builtins.concatStringsSep "" (builtins.genList (_: toString n) 600); in {{
  ${{long 1111}} = {{ recurseForDerivations = true; }} // builtins.listToAttrs (builtins.genList (n: {{ name = long (1000 + n); value = drv "x" {{ }}; }}) 30);
}}"#
    ));
    let mut request = world.request();
    request.limits.attrs_max = 25;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(told.errors.len(), 1, "{:?}", told.errors.keys());
    assert!(told.errors[""].message.len() <= ci_model::attr::MESSAGE_BYTES_MAX);
}

/// Whoever writes an expression can say that a file of theirs is a derivation, under the name that another one will have.
#[tokio::test]
async fn a_derivation_outside_of_the_store_is_none() {
    let world = World::new();
    let path = world.request().folder.join("00000000000000000000000000000000-stdenv.drv");
    world.write(
        path.file_name().unwrap().to_str().unwrap(),
        r#"Derive([("out","","","")],[],[],"x86_64-linux","/bin/sh",[],[])"#,
    );
    world.write("default.nix", &format!(
        r#"let {LIB} in {{
  good = drv "good" {{ }};
  posed = {{ type = "derivation"; name = "stdenv"; system = "x86_64-linux"; drvPath = "{}"; outPath = "/nix/store/x"; }};
  copied = posed // {{ drvPath = "${{./.}}/00000000000000000000000000000000-stdenv.drv"; }};
}}"#, path.display()
    ).replace("in {", "in rec {"));
    let mut request = world.request();
    // As people write it.
    let store = format!("{}/", world.path("store").display());
    request.nix.env.push(("NIX_STORE_DIR".into(), store.into()));
    for pass in [Pass::ReadOnly, Pass::Instantiate { only: None }] {
        let told = world.evaluate(&request, &pass).await;
        assert_eq!(told.paths(), ["good"], "{:?}", told.errors);
        for name in ["posed", "copied"] {
            let error = &told.errors[name];
            assert_eq!(error.kind, ErrorKind::Garbage);
            assert!(error.message.contains("-stdenv.drv (which is not in /"), "{error:?}");
        }
    }
}
