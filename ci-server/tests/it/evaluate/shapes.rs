//! Where jobs can lie, and what is looked into.

use ci_model::attr::ErrorKind;
use ci_server::evaluate::{Pass, What};

use super::support::{LIB, Told, World};

async fn told(world: &World, body: &str, attr_path: &str) -> Told {
    world.write("default.nix", &format!("let {LIB}\n d = name: drv name {{ }}; in {body}"));
    let mut request = world.request();
    request.what = What::File { path: "default.nix".into(), attr_path: attr_path.parse().unwrap() };
    world.evaluate(&request, &Pass::ReadOnly).await
}

#[tokio::test]
async fn roots_of_all_shapes() {
    let world = World::new();
    for (body, attr_path, want) in [
        (r#"d "a""#, "", &[""][..]),
        (r#"{ }: { a = d "a"; }"#, "", &["a"]),
        (r#"{ ... }: { a = d "a"; }"#, "", &["a"]),
        (r#"{ x ? "b" }@all: { a = d x; }"#, "", &["a"]),
        (r#"x: { a = d "a"; }"#, "", &[]),
        (r#"{ x }: { a = d "a"; }"#, "", &[]),
        ("{ }", "", &[]),
        ("5", "", &[]),
        ("[ ]", "", &[]),
        (r#"[ (d "a") { b = d "b"; c.d = d "c"; } [ (d "e") ] 5 ]"#, "", &["0", "1.b", "2.0"]),
        (
            r#"{ a = [ (d "a") ]; b.c = d "c"; e = { recurseForDerivations = true; f = d "f"; }; }"#,
            "",
            &["e.f"],
        ),
        (r#"{ a.b = { x ? 1 }: { c = d "c"; e.f = d "f"; }; }"#, "a.b", &["c"]),
        (r#"{ a.b = d "b"; }"#, "a.b", &[""]),
        (r#"{ "a.b" = [ { c = d "c"; } ]; }"#, "\"a.b\".0", &["c"]),
        (
            r#"{ a = { recurseForDerivations = false; b = d "b"; }; c = { recurseForDerivations = 5; b = d "b"; }; }"#,
            "",
            &[],
        ),
    ] {
        let told = told(&world, body, attr_path).await;
        assert_eq!(told.paths(), want, "{body}");
        assert!(told.errors.is_empty(), "{body}: {:?}", told.errors);
    }
}

#[tokio::test]
async fn roots_that_cannot_be_evaluated() {
    let world = World::new();
    for (body, attr_path, kind, text) in [
        ("throw \"no\"", "", ErrorKind::Thrown, "no"),
        ("throw \"\"", "", ErrorKind::Thrown, "thrown with an empty message"),
        ("{ a = throw \" \"; }", "a", ErrorKind::Thrown, "thrown with an empty message"),
        ("abort \"no\"", "", ErrorKind::Fatal, "no"),
        ("{ }", "a.b", ErrorKind::Fatal, "attribute 'a' missing"),
        ("{ a = 5; }", "a.b", ErrorKind::Fatal, "while a set was expected|expected a set but found"),
        ("{", "", ErrorKind::Fatal, "syntax error"),
    ] {
        let told = told(&world, body, attr_path).await;
        let error = &told.errors[""];
        let is_said = text.split('|').any(|text| error.message.contains(text));
        assert!(error.kind == kind && is_said, "{body}: {error:?}");
        assert_eq!((told.errors.len(), told.attrs.len()), (1, 0), "{body}");
    }
}

#[tokio::test]
async fn what_is_skipped_is_not_looked_at() {
    let world = World::new();
    world.write(
        "default.nix",
        &format!("let {LIB} in {{ a = drv \"a\" {{ }}; b = abort \"b\"; s = {{ recurseForDerivations = true; \"odd \\\"\" = throw \"o\"; c = drv \"c\" {{ }}; }}; }}"),
    );
    let mut request = world.request();
    request.skip = ["b", "s.\"odd \\\"\""].map(|path| path.parse().unwrap()).into();
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.paths(), told.errors.len(), told.cost.processes), (vec!["a", "s.c"], 0, 1));
}

#[tokio::test]
async fn a_file_outside_of_the_checkout_is_refused() {
    let world = World::new();
    world.write("default.nix", "{ }");
    std::fs::write(world.path("secret.nix"), "{ }").unwrap();
    std::os::unix::fs::symlink(world.path("secret.nix"), world.path("checkout/link.nix")).unwrap();
    for path in ["../secret.nix", "link.nix", "absent.nix", "/etc/passwd"] {
        let mut request = world.request();
        request.what = What::File { path: path.into(), attr_path: nix_types::AttrPath::root() };
        let error = world.try_evaluate(&request, &Pass::ReadOnly).await.err().expect(path).to_string();
        assert!(error.contains(path), "{error}");
    }
}

/// More than anybody has: found, told, and within the memory of one.
#[tokio::test]
async fn two_hundred_thousand_attributes() {
    let world = World::new();
    world.write(
        "default.nix",
        "builtins.listToAttrs (builtins.genList (n: { name = \"n${toString n}\"; value = if n == 123456 then throw \"here\" else n; }) 200000)",
    );
    let mut request = world.request();
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!((told.begun.len(), told.errors["n123456"].message.as_str()), (200_000, "here"));
    assert!(told.begun.values().all(|times| *times == 1));
    request.limits.attrs_max = 1_000;
    let told = world.evaluate(&request, &Pass::ReadOnly).await;
    assert!(told.errors[""].message.contains("more than 1000 attributes"), "{:?}", told.errors[""]);
    assert!(told.begun.len() < 2_000);
}

#[tokio::test]
async fn a_flake_is_evaluated_without_a_network() {
    let world = World::new();
    let systems = r#"{ x86_64-linux = true; aarch64-linux = true; }"#;
    world.write(
        "flake.nix",
        &format!(
            r#"{{ outputs = {{ self }}: let {LIB}
  each = of: builtins.mapAttrs (system: _: of system) {systems};
  d = name: system: drv name {{ inherit system; src = self; }} // {{ meta.description = "d"; }}; in {{
  packages = each (system: {{ default = d "default" system; broken = throw "broken"; deep.inner = d "inner" system; }});
  checks = each (system: {{ test = d "test" system; }});
  other = throw "not asked for";
}}; }}"#
        ),
    );
    let mut request = world.request();
    request.what = What::Flake { outputs: ["packages", "checks", "absent"].map(str::to_owned).into() };
    request.systems = Some(vec!["x86_64-linux".parse().unwrap()]);
    for is_trusted in [true, false] {
        request.is_trusted = is_trusted;
        let told = world.evaluate(&request, &Pass::ReadOnly).await;
        assert_eq!(
            told.paths(),
            ["checks.x86_64-linux.test", "packages.x86_64-linux.default"],
            "{:?}",
            told.errors
        );
        assert_eq!(told.errors["packages.x86_64-linux.broken"].message, "broken");
        assert_eq!(
            told.attrs["packages.x86_64-linux.default"].meta.position.as_ref().unwrap().file,
            "flake.nix"
        );
        let written = world.evaluate(&request, &Pass::Instantiate { only: None }).await;
        assert_eq!(written.attrs, told.attrs);
    }
}

#[tokio::test]
async fn an_outsiders_flake_is_evaluated_purely_and_its_derivations_are_the_same() {
    let world = World::new();
    world.write("text", "of its own");
    let outside = world.path("outside");
    std::fs::write(&outside, "of somebody else").unwrap();
    let (outside, own) = (outside.display(), world.path("checkout/text"));
    world.write(
        "flake.nix",
        &format!(
            r#"{{ outputs = {{ self }}: let {LIB}
  d = name: text: drv name {{ inherit text; src = self; }}; in {{ packages.x86_64-linux = {{
  own = d "own" (builtins.readFile ./text);
  clock = d "clock" (toString builtins.currentTime);
  system = d "system" builtins.currentSystem;
  outside = d "outside" (builtins.readFile "{outside}");
  checkout = d "checkout" (builtins.readFile "{}");
  store = d "store" (builtins.storePath self.outPath);
}}; }}; }}"#,
            own.display()
        ),
    );
    let mut request = world.request();
    request.what = What::Flake { outputs: vec!["packages".to_owned()] };
    let trusted = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(trusted.attrs.len(), 6, "{:?}", trusted.errors);
    request.is_trusted = false;
    let outsiders = world.evaluate(&request, &Pass::ReadOnly).await;
    assert_eq!(outsiders.paths(), ["packages.x86_64-linux.own"], "{:?}", outsiders.errors);
    let own = "packages.x86_64-linux.own";
    assert_eq!(outsiders.attrs[own].drv, trusted.attrs[own].drv);
    for attr in ["outside", "checkout"] {
        let error = &outsiders.errors[&format!("packages.x86_64-linux.{attr}")];
        assert_eq!(error.kind, ErrorKind::Forbidden, "{error:?}");
    }
}
