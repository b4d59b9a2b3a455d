//! What the walk finds, and what it says of it.

use ci_model::attr::ErrorKind;
use ci_server::evaluate::Pass;

use super::support::{LIB, World};

#[tokio::test]
async fn a_file_becomes_jobs_with_all_that_is_said_of_them() {
    let world = World::new();
    world.write("default.nix", &format!(r#"
let {LIB} in {{ greeting ? "hello" }}: {{
  hello = drv "hello-2.12" {{ pname = greeting; version = "2.12"; requiredSystemFeatures = [ "kvm" "big-parallel" ]; preferLocalBuild = true; outputs = [ "out" "dev" ]; }} // {{
    meta = {{
      description = "greets";
      license = [ {{ spdxId = "MIT"; shortName = "mit"; free = true; }} "own" ];
      maintainers = [ {{ name = "A"; github = "a"; githubId = 7; email = "a@example.org"; }} "B" ];
      broken = false;
    }};
  }};
  no = throw "not today";
  gone = {{ }}.gone;
}}"#));
    let told = world.evaluate(&world.request(), &Pass::ReadOnly).await;
    assert_eq!(told.paths(), ["hello"]);
    let hello = &told.attrs["hello"];
    assert_eq!(
        (hello.name.as_str(), hello.pname.as_deref(), hello.version.as_deref()),
        ("hello-2.12", Some("hello"), Some("2.12"))
    );
    assert_eq!(hello.outputs.keys().collect::<Vec<_>>(), ["dev", "out"]);
    assert!(hello.outputs.values().all(Option::is_some));
    let traits = hello.traits.as_ref().unwrap();
    assert_eq!(
        (&traits.required_features[..], traits.prefers_local),
        (&["big-parallel".to_owned(), "kvm".to_owned()][..], true)
    );
    assert_eq!(hello.meta.description.as_deref(), Some("greets"));
    assert_eq!(hello.meta.licenses.iter().map(|one| one.shown()).collect::<Vec<_>>(), ["MIT", "own"]);
    assert_eq!(hello.meta.maintainers.iter().map(|one| one.github_id).collect::<Vec<_>>(), [Some(7), None]);
    let position = hello.meta.position.as_ref().unwrap();
    assert_eq!((position.file.as_str(), position.line), ("default.nix", 7));
    let errors: Vec<_> =
        told.errors.iter().map(|(path, error)| (path.as_str(), error.kind, error.message.as_str())).collect();
    assert_eq!(
        errors,
        [("gone", ErrorKind::Fatal, "attribute 'gone' missing"), ("no", ErrorKind::Thrown, "not today")]
    );
    assert!(told.cost.engine.starts_with("walker (Nix 2"), "{}", told.cost.engine);
    assert!(world.drvs().is_empty(), "a read-only pass wrote something");
}

#[tokio::test]
async fn what_is_bad_of_a_meta_takes_nothing_else_away() {
    let world = World::new();
    world.write(
        "default.nix",
        &format!(
            r#"let {LIB} in {{
  a = drv "a" {{ requiredSystemFeatures = throw "no"; }} // {{
    outPath = "/out";
    drvPath = (drv "a" {{ }}).drvPath;
    meta = {{
      description = throw "no";
      license = [ {{ shortName = "mit"; free = throw "no"; }} (throw "no") 5 (x: x) {{ shortName = x: x; fullName = "own"; }} ];
      maintainers = 7;
      broken = true;
    }};
  }};
  b = drv "b" {{ }} // {{ meta = {{ description = "b"; license = x: x; maintainers = [ {{ name = ./b; github = "b"; }} 8 ]; }}; }};
}}"#
        ),
    );
    let told = world.evaluate(&world.request(), &Pass::ReadOnly).await;
    assert_eq!(told.paths(), ["a", "b"], "{:?}", told.errors);
    let (a, b) = (&told.attrs["a"], &told.attrs["b"]);
    assert_eq!((&a.meta.description, &a.traits, a.meta.broken), (&None, &None, true));
    assert_eq!(
        a.meta.licenses.iter().map(|one| (one.shown(), one.free)).collect::<Vec<_>>(),
        [("mit", None), ("own", None)]
    );
    assert_eq!(
        (b.meta.description.as_deref(), b.meta.licenses.len(), b.traits.is_some()),
        (Some("b"), 0, true)
    );
    assert_eq!(
        b.meta.maintainers.iter().map(|one| (one.name.as_deref(), one.github.as_deref())).collect::<Vec<_>>(),
        [(None, Some("b"))]
    );
    assert_eq!(told.cost.processes, 1, "a type ended an evaluator");
}

/// Nix prints some control characters, and some not; they come back whatever it does.
#[tokio::test]
async fn a_name_may_hold_any_text() {
    let world = World::new();
    let names =
        ["\u{1}\u{8}\u{1f}", "\u{1b}[1ma\u{1b}[0m", "a\u{7}\u{7f}", "a\u{9b}31m", "\\\"", "\t\r\n", "$"];
    let quoted = names.map(|name| name.replace('\\', "\\\\").replace('"', "\\\"").replace('\r', "\\r"));
    let text: String = quoted.iter().map(|name| format!("  \"{name}\" = drv \"a\" {{ }};\n")).collect();
    world.write("default.nix", &format!("let {LIB} in {{\n{text}}}"));
    let told = world.evaluate(&world.request(), &Pass::ReadOnly).await;
    assert!(told.errors.is_empty(), "{:?}", told.errors);
    let mut found: Vec<_> = told.attrs.values().map(|attr| attr.path.components().concat()).collect();
    found.sort_unstable();
    let mut wanted = names;
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

/// Most of what a pass that writes nothing cannot know, it does not have to: the others are evaluated by one that does.
#[tokio::test]
async fn both_passes_come_to_the_same_and_one_of_them_writes() {
    let world = World::new();
    world.write("sub/answer.nix", "\"answer\"");
    world.write(
        "default.nix",
        &format!(
            r#"let {LIB} in {{
  a = drv "a" {{ src = ./sub; text = builtins.toFile "t" "text"; }};
  b = {{ recurseForDerivations = true; c = drv "c" {{ dep = (drv "dep" {{ }}).outPath; }}; }};
  copied = drv (import "${{./sub}}/answer.nix") {{ }};
  unused = drv "unused" {{ }};
}}"#
        ),
    );
    let request = world.request();
    let read = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(read.paths(), ["a", "b.c", "copied", "unused"], "{:?}", read.errors);
    let only = ["a", "b.c"].map(|path| path.parse().unwrap());
    let some = world.evaluate(&request, &Pass::Instantiate { only: Some(only.to_vec()) }).await;
    assert_eq!(some.paths(), ["a", "b.c"]);
    assert!(some.attrs.values().all(|attr| std::fs::exists(attr.drv.as_str()).unwrap()));
    assert!(!std::fs::exists(read.attrs["unused"].drv.as_str()).unwrap());
    let all = world.evaluate(&request, &Pass::Instantiate { only: None }).await;
    assert_eq!(all.attrs, read.attrs);
    for (path, attr) in &some.attrs {
        assert_eq!(read.attrs[path], *attr);
    }
}

/// What is built to be evaluated is built where that is allowed, also when all that a pass is for is to look.
#[tokio::test]
async fn building_in_between_is_a_permission() {
    let world = World::new();
    let text = |root: &str| {
        format!(
            r#"let {LIB} name = import (derivation {{ name = "name.nix"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo '\"built\"' > $out" ]; }}); in {root}"#
        )
    };
    let mut request = world.request();
    for (root, paths) in [
        ("{ a = drv name { }; b = drv \"b\" { }; }", &["a", "b"][..]),
        ("{ ${name} = drv \"b\" { }; }", &["built"]),
    ] {
        world.write("default.nix", &text(root));
        request.allow_ifd = true;
        let told = world.evaluate(&request, &Pass::ReadOnly).await;
        assert_eq!(told.paths(), paths, "{:?}", told.errors);
        assert!(
            !std::fs::exists(told.attrs[paths[paths.len() - 1]].drv.as_str()).unwrap() || paths.len() == 1
        );
        request.allow_ifd = false;
        let told = world.evaluate(&request, &Pass::ReadOnly).await;
        assert!(told.errors.values().all(|error| error.kind == ErrorKind::Forbidden), "{:?}", told.errors);
        assert_eq!(told.errors.len(), 1);
    }
}
