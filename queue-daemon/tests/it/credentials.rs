//! Credentials of destinations: each source serves a push, what is changed is in use without a restart, whoever cannot be
//! asked holds nobody else up, and no value shows anywhere.

use std::fs;
use std::path::Path;

use test_kit::cloud::Metadata;
use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::vault::{Rules, Vault};
use test_kit::wait;

use crate::native::stage::{QUICK, block};
use crate::world::{SOON, World, lines};

/// A server that wants this header, and its `[[caches]]` block.
fn server(id: &str, wants: &str, credentials: &str) -> (Cache, String) {
    let cache = Cache::start();
    cache.require(wants);
    let keys = format!("credentials = {credentials}\ncredentials_ttl = \"1h\"\n{QUICK}");
    let text = block(id, &format!("{}/cache", cache.url()), &keys);
    (cache, text)
}

/// A command that writes down what it was given.
fn teller(id: &str, variables: &str, credentials: &str) -> String {
    let script = format!("echo {variables} >> $W/{id}.told");
    World::command_cache(id, &script, &format!("credentials = {credentials}\n{QUICK}"))
}

#[track_caller]
fn all_done(world: &World, ids: &[&str], count: u64) {
    for id in ids {
        wait::until(SOON, || {
            let dead = world.count(id, "dead");
            assert_eq!(dead, 0, "{id}: {:?}\n{}", world.list(&["--state", "dead"]), world.log());
            world.count(id, "done") == count
        });
    }
}

/// The keys of a bucket that is not AWS' have names of their own.
#[test]
fn a_bucket_takes_keys_by_other_names() {
    let bucket = Cache::start();
    let to = |id: &str, vars: &str| {
        let keys = format!("credentials = {{ env = {{ vars = [{vars}] }} }}\n{QUICK}");
        block(id, &format!("s3://cache/{id}?endpoint={}", bucket.url()), &keys)
    };
    let minio = to("minio", r#""MINIO_ACCESS_KEY", "MINIO_SECRET_KEY""#);
    let other = to("other", r#""R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY""#);
    let both = to("both", r#""AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MINIO_SECRET_KEY""#);
    let half = to("half", r#""MINIO_ACCESS_KEY""#);
    let mut world = World::new(&[minio, other, both, half].concat());
    let path = world.valid_paths(1).remove(0);
    world.start_with(|command| {
        command.env("MINIO_ACCESS_KEY", "MINIOADMIN").env("MINIO_SECRET_KEY", "s3cret");
        command.env("R2_ACCESS_KEY_ID", "R2ADMIN").env("R2_SECRET_ACCESS_KEY", "s3cret");
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "s3cret");
    });
    assert_eq!(world.hook(&path, "").err, "");
    all_done(&world, &["minio", "other", "both"], 1);
    for (id, key) in [("minio", "MINIOADMIN"), ("other", "R2ADMIN"), ("both", "AKIDEXAMPLE")] {
        let of_it = |seen: &&test_kit::http_cache::Seen| seen.target.starts_with(&format!("/cache/{id}/"));
        let by = |seen: &test_kit::http_cache::Seen| seen.headers["authorization"].clone();
        let log = bucket.log();
        let seen: Vec<String> = log.iter().filter(of_it).map(by).collect();
        assert!(!seen.is_empty() && seen.iter().all(|by| by.contains(&format!("Credential={key}/"))), "{id}");
    }
    wait::until(SOON, || world.log().contains("AWS_ACCESS_KEY_ID"));
    assert_eq!(world.count("half", "done") + world.count("half", "dead"), 0, "it waits for its second key");
}

/// Each of the ten, at its real part or its double.
#[test]
fn each_source_serves_a_push() {
    let (vault, google, manager) = (Vault::start(), Metadata::google(), Cache::start());
    vault.token("vault-token", Rules::renewable(3_600, 3_600));
    vault.write("", "secret", "team/cache", r#"{"USERNAME":"vera","PASSWORD":"from-the-vault"}"#);
    google.give("from-google");
    let answer = r#"{"SecretString":"{\"TOKEN\":\"from-the-manager\"}"}"#;
    manager.fault(Rule::always("POST", "", Fault::Answer(200, Vec::new(), answer.into())));
    let bucket = Cache::start();

    let mut world = World::new("");
    let here = world.path("").display().to_string();
    let servers = [
        server("env", "Bearer from-the-environment", r#"{ env = { vars = ["MY_TOKEN"] } }"#),
        server("file", "Basic YW5uOmZyb20tYS1maWxl", &format!("{{ file = {{ path = \"{here}/login\" }} }}")),
        server("systemd", "Bearer from-systemd", r#"{ systemd-credential = { name = "cache" } }"#),
        server(
            "vault",
            "Basic dmVyYTpmcm9tLXRoZS12YXVsdA==",
            &format!(
                "{{ vault = {{ address = \"{}\", secret_path = \"secret/data/team/cache\" }} }}",
                vault.url()
            ),
        ),
        server(
            "manager",
            "Bearer from-the-manager",
            &format!(
                "{{ aws-secrets-manager = {{ secret_name = \"cache\", region = \"eu-central-1\", endpoint = \"{}\" }} }}",
                manager.url()
            ),
        ),
        server(
            "instance",
            "Bearer from-google",
            &format!("{{ instance-metadata = {{ provider = \"gcp\", endpoint = \"{}\" }} }}", google.url()),
        ),
    ];
    let nobody = Cache::start();
    let mut caches: Vec<String> = servers.iter().map(|(_, block)| block.clone()).collect();
    caches.extend([
        block("none", &format!("{}/cache", nobody.url()), "credentials = \"none\""),
        block(
            "profile",
            &format!("s3://cache?endpoint={}", bucket.url()),
            "credentials = { aws-profile = { profile = \"pusher\" } }",
        ),
        teller("cachix", "$CACHIX_AUTH_TOKEN", r#"{ cachix-token = { env_var = "MY_CACHIX" } }"#),
        teller(
            "app",
            "$GITHUB_APP_ID ${#GITHUB_APP_PRIVATE_KEY}",
            &format!("{{ github-app-key-file = {{ app_id = \"42\", key_file = \"{here}/app.pem\" }} }}"),
        ),
    ]);
    world.configure("", &caches.concat());
    let secret_file = |name: &str, text: &str| fs::write(world.path(name), text).unwrap();
    secret_file("login", "CACHE_USER=ann\nCACHE_PASSWORD=from-a-file\n");
    secret_file("app.pem", "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n");
    secret_file("netrc", "machine 127.0.0.1 login wrong password wrong\n");
    for folder in ["handed-over", ".aws"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    secret_file("handed-over/cache", "from-systemd\n");
    secret_file(
        ".aws/credentials",
        "[pusher]\naws_access_key_id = AKIDPUSHER\naws_secret_access_key = s3cret\n",
    );
    let path = world.valid_paths(1).remove(0);
    let handed_over = world.path("handed-over");
    let netrc = world.path("netrc");
    world.start_with(|command| {
        command.env("MY_TOKEN", "from-the-environment").env("MY_CACHIX", "from-cachix");
        command.env("VAULT_TOKEN", "vault-token").env("CREDENTIALS_DIRECTORY", handed_over);
        // The manager's own keys; and a netrc that `none` does not look at.
        command
            .env("AWS_ACCESS_KEY_ID", "AKIDMANAGER")
            .env("AWS_SECRET_ACCESS_KEY", "s3cret")
            .env("NETRC", netrc);
    });
    assert_eq!(world.hook(&path, "").err, "");
    let ids = ["env", "file", "systemd", "vault", "manager", "instance", "none", "profile", "cachix", "app"];
    all_done(&world, &ids, 1);
    assert!(nobody.log().iter().all(|seen| !seen.headers.contains_key("authorization")));
    let signed = bucket.log();
    let by =
        |seen: &test_kit::http_cache::Seen| seen.headers.get("authorization").cloned().unwrap_or_default();
    assert!(!signed.is_empty() && signed.iter().all(|seen| by(seen).contains("Credential=AKIDPUSHER/")));
    assert!(manager.log().iter().all(|seen| by(seen).contains("Credential=AKIDMANAGER/")));
    assert_eq!(lines(&world.path("cachix.told")), ["from-cachix"]);
    assert!(lines(&world.path("app.told"))[0].starts_with("42 6"), "{:?}", lines(&world.path("app.told")));
}

/// The server and the file get another password while the daemon runs.
#[test]
fn what_is_changed_is_in_use_without_a_restart() {
    let (cache, text) = server("main", "Bearer first", r#"{ file = { path = "$W/token" } }"#);
    let mut world = World::new(&text);
    fs::write(world.path("token"), "TOKEN=first\n").unwrap();
    let paths = world.valid_paths(3);
    world.start();
    assert_eq!(world.hook(&paths[0], "").err, "");
    all_done(&world, &["main"], 1);
    cache.require("Bearer second");
    fs::write(world.path("token"), "TOKEN=second\n").unwrap();
    assert_eq!(world.hook(&paths[1], "").err, "");
    all_done(&world, &["main"], 2);
    let second = world.list(&["--state", "done"]).into_iter().find(|one| one["path"] == *paths[1]).unwrap();
    assert_eq!(second["attempts"], 0, "it was not refused once: {second}");
}

/// A source that is away: its destination waits, with the reason, and no attempt is counted; the others go on.
#[test]
fn whoever_cannot_be_asked_holds_up_no_other_and_gives_up_nothing() {
    let (_cache, text) = server("main", "Bearer word", r#"{ file = { path = "$W/token" } }"#);
    let told = teller("told", "$TOKEN", r#"{ file = { path = "$W/token" } }"#);
    let mut world = World::new(&[text, told, World::command_cache("other", "", "")].concat());
    let paths = world.valid_paths(8);
    let said = world.ask(&["check-config"]);
    let warned = said.out.matches("warning").count();
    assert!(said.code == 0 && warned == 2 && said.out.contains("/token"), "{said:?}");
    world.start();
    assert_eq!(world.hook(&paths.join(" "), "").err, "");
    all_done(&world, &["other"], 8);
    // More often than an attempt may fail.
    for id in ["main", "told"] {
        wait::until(SOON, || world.status()["destinations"][id]["breaker"] != "closed");
        let waiting = world.list(&["--destination", id]);
        let why: String = waiting.iter().map(|one| one["last_error"].to_string()).collect();
        assert!(why.contains("credentials of file") && why.contains("token"), "{id}: {why}");
    }
    assert_eq!(world.count("main", "dead") + world.count("told", "dead"), 0);
    fs::write(world.path("token"), "TOKEN=word\n").unwrap();
    all_done(&world, &["main", "told"], 8);
}

/// Everything that the daemon wrote, and what its commands say, without the canary.
#[track_caller]
fn assert_hidden(world: &World, canary: &str, said: &[String]) {
    let holds = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
    let mut looked_at = 0;
    let mut folders = vec![world.path("state"), world.path("spool")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                looked_at += 1;
                assert!(!holds(&bytes), "{} holds the canary", path.display());
            }
        }
    }
    assert!(looked_at > 0, "there is a database");
    for text in said {
        assert!(!holds(text.as_bytes()), "{text}");
    }
}

#[test]
fn a_command_that_prints_its_token_shows_it_to_nobody() {
    const CANARY: &str = "canary-0123456789";
    let script = "echo using $CACHE_TOKEN; printf 'no %s' $CACHE_TOKEN >&2; exit 65";
    let keys = format!("credentials = {{ file = {{ path = \"$W/token\" }} }}\n{QUICK}");
    let mut world = World::new(&World::command_cache("main", script, &keys));
    fs::write(world.path("token"), format!("CACHE_TOKEN={CANARY}\n")).unwrap();
    let path = world.valid_paths(1).remove(0);
    world.start_with(|command| {
        command.env("RUST_LOG", "trace");
    });
    assert_eq!(world.hook(&path, "").err, "");
    world.until("main", "dead", 1);
    let shown = world.ask(&["show", &path]);
    assert!(shown.out.contains("no ***") && shown.out.contains("using ***"), "{shown:?}");
    let argv = fs::read(Path::new("/proc").join(world.daemon_pid().to_string()).join("cmdline")).unwrap();
    let said =
        [shown.out, world.ask(&["list", "--json"]).out, world.log(), String::from_utf8_lossy(&argv).into()];
    assert_hidden(&world, CANARY, &said);
}

/// Of much output only the end is kept, and the cut may go through a value.
#[test]
fn a_token_that_is_cut_in_two_does_not_show_its_end() {
    let token: String = (0..600).map(|i| format!("{i:05}")).collect();
    let keys = format!("credentials = {{ file = {{ path = \"$W/token\" }} }}\n{QUICK}");
    // 4,096 bytes are kept: of this all but some hundred bytes of the token.
    let script = "echo $CACHE_TOKEN >&2; seq 1 400 >&2; exit 65";
    let mut world = World::new(&World::command_cache("main", script, &keys));
    fs::write(world.path("token"), format!("CACHE_TOKEN={token}\n")).unwrap();
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    world.until("main", "dead", 1);
    let shown = world.ask(&["show", &path]).out;
    assert!(shown.contains("\n400") || shown.contains(" 400"), "{shown}");
    for part in ["00599", "0050000501", "0030000301"] {
        assert_hidden(&world, part, &[shown.clone(), world.log()]);
    }
}

/// A server that says our own header back to us.
#[test]
fn a_server_that_quotes_our_token_shows_it_to_nobody() {
    const CANARY: &str = "canary-9876543210";
    let (cache, text) = server("main", &format!("Bearer {CANARY}"), r#"{ file = { path = "$W/token" } }"#);
    let echo = format!("who is Bearer {CANARY}?");
    cache.fault(Rule::always("PUT", "", Fault::Answer(400, Vec::new(), echo)));
    let mut world = World::new(&text);
    fs::write(world.path("token"), format!("TOKEN={CANARY}\n")).unwrap();
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    wait::until(SOON, || world.list(&[]).iter().any(|one| one["last_error"].to_string().contains("400")));
    let said = [world.ask(&["show", &path]).out, world.ask(&["list", "--json"]).out, world.log()];
    assert_hidden(&world, CANARY, &said);
}
