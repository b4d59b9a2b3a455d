//! The pages of `docs/howto`, followed as they are written. In: their commands and settings, with the paths and
//! addresses of a test's own machine in the place of theirs; files as Hydra writes them. Out: a failure where the real
//! programs do not do what the page says. Leaves out what needs root, systemd or NixOS.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use test_kit::http_cache::Cache;

use crate::native::stage::files;
use crate::pages::{blocks, page, script, type_in};
use crate::world::{Said, World, hook_program, run};

/// The destination that the pages are written with.
const BUCKET: &str = "s3://example-nix-cache?region=eu-central-1";

/// A world's own settings for the hook, as `/etc/eka/hook.conf` has them for everybody.
fn with_hook(world: &World, command: &mut std::process::Command) {
    command.env("EKA_HOOK_SOCKET", world.path("enqueue.sock")).env("EKA_HOOK_SPOOL", world.path("spool"));
}

/// What the queue has, by the names of the paths.
fn queued(world: &World) -> BTreeSet<String> {
    let name = |row: &Value| row["path"].as_str().unwrap().split_once('-').unwrap().1.to_owned();
    world.list(&[]).iter().map(name).collect()
}

/// The first block of a page's section with this info string; without a heading, of the page.
fn block_of(name: &str, heading: &str, info: &str) -> String {
    let page = page(name);
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or(("", &page));
    assert!(section.len() < page.len() || heading.is_empty(), "{name} has {heading}");
    let found = blocks(section).into_iter().find(|block| block.info == info);
    found.unwrap_or_else(|| panic!("{name} has no {info} in {heading}")).text
}

/// The caches of Hydra's page, in a folder.
fn caches_of_hydra(world: &World) -> String {
    let caches = block_of("docs/howto/hydra.md", "The global hook", "toml");
    assert!(caches.contains(BUCKET) && caches.contains("exclude"), "{caches}");
    caches.replace(BUCKET, &format!("file://{}", world.path("cache").display()))
}

/// Runs what the page puts into `hydra.conf`, as Hydra does: by a shell, with the file's name in a variable.
fn run_command(world: &World, json: &str) -> Said {
    fs::write(world.path("hydra.json"), json).unwrap();
    let block = block_of("docs/howto/hydra.md", "RunCommand", "text");
    let line = block.lines().find_map(|line| line.trim().strip_prefix("command = ")).unwrap();
    let line = line.replace("/usr/local/bin/eka-hook", hook_program().to_str().unwrap());
    let mut shell = world.tool("sh");
    with_hook(world, &mut shell);
    run(shell.args(["-c", &line]).env("HYDRA_JSON", world.path("hydra.json")), b"")
}

/// A build with two outputs that no hook has heard of: its derivation and its outputs by name.
fn built_unseen(world: &World, name: &str) -> (String, String, String) {
    let expression = format!(
        "(run \"{name}\" {{ outputs = [ \"out\" \"dev\" ]; }} \"echo dev > $dev; echo $dev > $out\").all"
    );
    let said = world.build_with_hook(&expression, &world.path("nothing.sh"), "#!/bin/sh\n");
    assert_eq!(said.code, 0, "{said:?}");
    let path = |end: &str| said.out.lines().find(|line| line.ends_with(end)).unwrap().to_owned();
    let (out, dev) = (path(&format!("-{name}")), path("-dev"));
    let drv = run(world.tool("nix-store").args(["--query", "--deriver", &out]), b"");
    (drv.out.trim().to_owned(), out, dev)
}

fn filled(recorded: &str, (drv, out, dev): &(String, String, String)) -> String {
    recorded.replace("@DRV@", drv).replace("@OUT@", out).replace("@DEV@", dev)
}

#[test]
fn hydra_hands_its_builds_over_by_run_command() {
    let finished = include_str!("fixtures/hydra-finished.json");
    let failed = include_str!("fixtures/hydra-failed.json");
    let mut world = World::new("");
    world.configure("", &caches_of_hydra(&world));
    world.start();
    let build = built_unseen(&world, "hello");
    assert_eq!(queued(&world), BTreeSet::new());

    let said = run_command(&world, &filled(failed, &build));
    let line = "eka-hook: nothing to queue from Hydra: the build's status is 6\n";
    assert_eq!((said.code, said.err.as_str(), queued(&world).len()), (0, line, 0));
    let started = finished.replace("buildFinished", "buildStarted").replace(": true", ": false");
    let said = run_command(&world, &filled(&started, &build));
    assert_eq!((said.code, queued(&world).len()), (0, 0), "{said:?}");

    let said = run_command(&world, &filled(finished, &build));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(world.ask(&["wait", "--tag", "home:mybuild:hello", "--timeout", "60s"]).code, 0);
    let rows = world.list(&[]);
    assert!(rows.iter().all(|row| row["drv"] == build.0.as_str() && row["state"] == "done"), "{rows:?}");
    assert_eq!(queued(&world), ["hello", "hello-dev"].map(str::to_owned).into());

    // The specification of a declarative project, built by a job of its own.
    let said = run_command(&world, &filled(finished, &built_unseen(&world, "spec.json")));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!queued(&world).contains("spec.json"), "{:?}", queued(&world));
}

#[test]
fn the_global_hook_leaves_specifications_out() {
    let mut world = World::new("");
    world.configure("", &caches_of_hydra(&world));
    world.start();
    let built = world.build(
        r#"map (name: run name { } "echo ${name} > $out") [ "spec.json" "home-spec.json" "app" "a-spec.json.gz" ]"#,
    );
    assert_eq!((built.code, built.out.lines().count()), (0, 4), "{built:?}");
    assert_eq!(world.ask(&["wait", "--all", "--timeout", "60s"]).code, 0);
    assert_eq!(queued(&world), ["app", "a-spec.json.gz"].map(str::to_owned).into(), "{}", world.log());
    assert!(world.log().contains("is not queued for main"), "and it says so");
}

/// Other paths and addresses for those that a page is written with.
fn at_home(world: &World, text: &str, bucket: &str) -> String {
    let here = |below: &str| world.path(below).display().to_string();
    let folders = format!(
        "[security]\nallow_private_cache_hosts = true\n\n[queue]\nstate_dir = \"{}\"\nsocket = \"{}\"\ncontrol_socket = \"{}\"\nspool_dir = \"{}\"\n",
        here("state"),
        here("enqueue.sock"),
        here("control.sock"),
        here("spool")
    );
    text.replace("/etc/ekaci/ekaci.toml", &here("ekaci.toml"))
        .replace("/etc/ekaci/", &here("etc/ekaci/"))
        .replace("/etc/nix/", &here("etc/nix/"))
        .replace("[queue]\n", &folders)
        .replace(BUCKET, bucket)
}

/// What `<nixpkgs>` is needed for.
const NIXPKGS: &str = r#"{ }: {
  writeText = name: text: derivation {
    inherit name text;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "echo \"$text\" > $out" ];
  };
}"#;

#[test]
fn a_first_cache_as_it_is_written() {
    let page = page("docs/howto/first-cache.md");
    let server = Cache::start();
    let mut world = World::new("");
    for folder in ["etc/nix", "etc/ekaci", "nixpkgs", "nix/etc"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    fs::write(world.path("nixpkgs/default.nix"), NIXPKGS).unwrap();
    let keys = "AWS_ACCESS_KEY_ID=AKIDFIRST\nAWS_SECRET_ACCESS_KEY=s3cret\n";
    fs::write(world.path("etc/ekaci/bucket"), keys).unwrap();
    let follow = |world: &World, part: &str| {
        let bucket = format!("s3://example-nix-cache?endpoint={}", server.url());
        let typed = format!("set -eu\n{}", at_home(world, &script(&page, part), &bucket));
        let said = type_in(world, &world.path("work"), &typed, |shell| {
            with_hook(world, shell);
            shell.env("EKA_CI_CONFIG_FILE", world.config_file());
            shell.env("NIX_CONFIG", "sandbox = false\nbuild-users-group =\n");
            shell.env("NIX_PATH", format!("nixpkgs={}", world.path("nixpkgs").display()));
        });
        assert_eq!(said.code, 0, "{part}: {said:?}\n{}", world.log());
        said
    };

    let key = follow(&world, "key").out;
    let said = follow(&world, "configuration");
    assert!(said.out.ends_with(": good\n"), "{said:?}");
    world.start();
    // A Nix that knows no S3 reads a public bucket by its address.
    let conf = blocks(&page).into_iter().find(|block| block.info == "ini").unwrap().text;
    let printed = conf.lines().find_map(|line| line.strip_prefix("extra-trusted-public-keys = ")).unwrap();
    let conf =
        conf.replace(printed, key.trim()).replace(BUCKET, &format!("{}/example-nix-cache", server.url()));
    let hook = hook_program();
    let conf = format!("substituters =\n{conf}post-build-hook = {}\n", hook.display());
    fs::write(world.path("nix/etc/nix.conf"), conf).unwrap();
    let said = follow(&world, "build");
    assert!(said.out.contains("1 delivered"), "{said:?}");
    assert!(said.err.contains("copying path") && said.err.contains("from 'http"), "{said:?}");
    let signed = |seen: &test_kit::http_cache::Seen| {
        !(seen.method == "PUT" && seen.target.contains("nar"))
            || seen.headers["authorization"].contains("Credential=AKIDFIRST/")
    };
    assert!(server.log().iter().all(signed), "written with the keys of the file");
}

/// The switch from another tool: what the old hook brought, what it lost, and what is built while both are there.
#[test]
fn the_order_of_a_migration_loses_no_path() {
    let mut world = World::new("");
    let place = format!("file://{}", world.path("cache").display());
    let build = |world: &World, name: &str, hook: &str| {
        let said = world.build_with_hook(
            &format!("run \"{name}\" {{ }} \"echo {name} > $out\""),
            &world.path("old.sh"),
            hook,
        );
        assert_eq!(said.code, 0, "{said:?}");
    };
    let upload = block_of("docs/howto/migrate/from-upload-script.md", "", "sh");
    let upload = upload.replace("s3://example-nix-cache", &place);
    // Nix 2.8 leaves the paths out.
    let outputs = "${OUT_PATHS:-$(nix-store --query --outputs \"$DRV_PATH\")}";
    let upload = upload.replace("$OUT_PATHS", outputs);
    let upload = upload.replace("exec nix", "exec nix --extra-experimental-features nix-command");
    build(&world, "brought", &upload);
    build(&world, "lost", "#!/bin/sh\n");
    let before: Vec<String> = files(&world.path("cache")).into_keys().collect();
    assert!(before.iter().any(|key| key.ends_with(".narinfo")), "{before:?}");
    let written = |world: &World| -> Vec<_> {
        let file = |key: &String| fs::metadata(world.path("cache").join(key)).unwrap();
        before.iter().map(|key| (key.clone(), file(key).mtime(), file(key).mtime_nsec())).collect()
    };
    let times = written(&world);

    // The daemon, then the hook.
    world.configure(
        "",
        &format!("[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"{place}\"\n"),
    );
    world.start();
    let built = world.build("run \"new\" { } \"echo new > $out\"");
    assert_eq!(built.code, 0, "{built:?}");
    let order = block_of("docs/howto/migrate/index.md", "The order", "sh");
    let said = type_in(&world, &world.path("work"), &format!("set -eu\n{order}"), |shell| {
        shell.env("EKA_CI_CONFIG_FILE", world.config_file());
    });
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(queued(&world), ["brought", "lost", "new"].map(str::to_owned).into());
    assert_eq!(world.count("main", "done"), 3);
    assert_eq!(written(&world), times, "what was there is as it was");
}

/// The programs of other tools, run as the pages say: each gets every path, and its token from where it
/// looks for it.
#[test]
fn programs_of_others_are_called_as_the_pages_say() {
    const PLAYED: &str = "#!/bin/sh\necho \"$0 $* $CACHIX_AUTH_TOKEN $NIKS3_AUTH_TOKEN_FILE\" >> \"$TOLD\"\n";
    let mut world = World::new("");
    let niks3 = page("docs/howto/migrate/from-niks3.md");
    let scripts: Vec<_> =
        blocks(&niks3).into_iter().filter(|block| block.text.starts_with("#!/bin/sh")).collect();
    assert_eq!(scripts.len(), 1);
    let programs = [
        ("push-to-niks3", scripts[0].text.as_str()),
        ("niks3", PLAYED),
        ("cachix", PLAYED),
        ("attic", PLAYED),
    ];
    fs::create_dir(world.path("bin")).unwrap();
    for (name, text) in programs {
        let file = world.path("bin").join(name);
        test_kit::script::write(&file, text);
    }
    let caches: String = ["from-niks3", "from-cachix-watch-store", "from-attic-watch-store"]
        .iter()
        .flat_map(|name| blocks(&page(&format!("docs/howto/migrate/{name}.md"))))
        .filter(|block| {
            let runs = ["cache_type = \"command\"", "driver = \"cli\""];
            block.info == "toml" && runs.iter().any(|runs| block.text.contains(runs))
        })
        .map(|block| block.text.replace("/usr/local/bin", world.path("bin").to_str().unwrap()))
        .collect();
    assert_eq!(caches.matches("[[caches]]").count(), 3, "{caches}");
    world.configure("", &caches);
    let path = std::env::var("PATH").unwrap();
    let (bin, told) = (world.path("bin"), world.path("told"));
    world.start_with(|daemon| {
        daemon.env("PATH", format!("{}:{path}", bin.display())).env("TOLD", told);
        daemon.env("CACHIX_AUTH_TOKEN", "a-token");
    });
    let built = built_by_hook(&world);
    assert_eq!(world.ask(&["wait", "--all", "--timeout", "60s"]).code, 0, "{}", world.log());
    let told = fs::read_to_string(world.path("told")).unwrap();
    for (call, paths) in [
        ("niks3 push ", &built[..]),
        ("cachix push my-cache ", &built[..]),
        ("attic push my-server:my-cache ", &built[..1]),
    ] {
        let line = told.lines().find(|line| line.contains(call)).unwrap_or_else(|| panic!("{call}: {told}"));
        assert!(paths.iter().all(|path| line.contains(path.as_str())), "{call} {paths:?}: {line}");
        assert_eq!(
            line.contains("a-token"),
            call.starts_with("cachix"),
            "its token is nobody else's: {line}"
        );
        assert_eq!(line.contains("/etc/ekaci/niks3-token"), call.starts_with("niks3"), "{line}");
    }
    assert!(told.lines().all(|line| !line.contains("attic") || !line.contains("-source")), "{told}");
}

/// An output, and one that the page about attic leaves out.
fn built_by_hook(world: &World) -> [String; 2] {
    let said = world
        .build(r#"run "app" { outputs = [ "out" "source" ]; } "echo source > $source; echo $source > $out""#);
    assert_eq!(said.code, 0, "{said:?}");
    let drv = said.out.trim().to_owned();
    let outputs = run(world.tool("nix-store").args(["--query", "--deriver", &drv]), b"");
    let outputs = run(world.tool("nix-store").args(["--query", "--outputs", outputs.out.trim()]), b"");
    let path = |end: &str| outputs.out.lines().find(|line| line.ends_with(end)).unwrap().to_owned();
    [path("-app"), path("-source")]
}
