//! No secret shows, end to end: ten sources of credentials, a canary in each, and a session of pushes, refusals in every
//! spelling, commands that print, a kill and a stop. In: one world. Out: a failure for each place outside of the sources
//! that holds a canary. Leaves out the daemon's own environment (it is a source) and the variables that a `command` is
//! given or inherits from the daemon.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use test_kit::cloud::Metadata;
use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::vault::{Rules, Vault};
use test_kit::wait;

use crate::native::stage::{QUICK, block};
use crate::world::{SOON, World, tool};

/// The part of a canary that no way of writing it but base 64, hexadecimal and whole escapes changes.
fn core(name: &str) -> String {
    format!("cnry{name}0x7Qz93KfWb")
}

/// With characters around that each way of writing changes.
fn canary(name: &str) -> String {
    format!("q+/&<{}>=Z", core(name))
}

const NAMES: [&str; 13] = [
    "Env",
    "File",
    "Systemd",
    "VaultToken",
    "Vault",
    "ManagerKey",
    "ManagerToken",
    "Manager",
    "Instance",
    "Netrc",
    "ProfileKey",
    "ProfileToken",
    "Cachix",
];
const APP: &str = "App";
fn escaped(text: &str, each: impl Fn(u8) -> String) -> String {
    text.bytes().map(each).collect()
}

/// Every way of writing a canary that is looked for, and what it looks like around.
fn needles(name: &str) -> Vec<String> {
    let core = core(name);
    let mut found = vec![
        core.clone(),
        escaped(&core, |byte| format!("{byte:02x}")),
        escaped(&core, |byte| format!("{byte:02X}")),
        escaped(&core, |byte| format!("%{byte:02x}")),
        escaped(&core, |byte| format!("%{byte:02X}")),
        escaped(&core, |byte| format!("\\u{byte:04x}")),
        escaped(&core, |byte| format!("&#{byte};")),
    ];
    for before in 0..3_usize {
        let bytes = [vec![0; before], core.clone().into_bytes()].concat();
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            found.push(text[first..end].to_owned());
        }
    }
    found
}

/// The ways in which servers quote.
fn spellings(secret: &str) -> [String; 7] {
    [
        secret.to_owned(),
        escaped(secret, |byte| {
            if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") }
        }),
        escaped(secret, |byte| {
            if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02x}") }
        }),
        secret.replace('/', "\\/").replace('<', "\\u003c").replace('+', "\\u002B"),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&#62;").replace('+', "&#x2B;"),
        STANDARD_NO_PAD.encode(secret),
        STANDARD_NO_PAD.encode(format!("user:{secret}")),
    ]
}

/// Which canaries some bytes hold.
fn held(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let of =
        |name: &&str| needles(name).into_iter().filter(|needle| text.contains(needle.as_str())).collect();
    NAMES.iter().chain([&APP]).flat_map(|name: &&str| -> Vec<String> { of(name) }).collect()
}

/// Where below a folder canaries are, but for the sources themselves; and how many files were looked at.
fn search(world: &World, below: &str) -> (usize, Vec<String>) {
    const SOURCES: [&str; 5] = ["login", "app.pem", "netrc", "handed-over", ".aws"];
    let sources = SOURCES.map(|name| world.path(name));
    let (mut looked_at, mut found, mut folders) = (0, Vec::new(), vec![world.path(below)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if sources.contains(&path) {
                continue;
            } else if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file()
                && let Ok(bytes) = fs::read(&path)
            {
                looked_at += 1;
                found.extend(held(&bytes).into_iter().map(|one| format!("{}: {one}", path.display())));
            }
        }
    }
    (looked_at, found)
}

#[track_caller]
fn assert_clean(world: &World, when: &str) {
    let (looked_at, found) = search(world, "");
    assert!(looked_at > 5 && found.is_empty(), "{when}, {looked_at} files: {found:#?}");
}

/// A server that takes everything, or refuses what is put with the secret in one spelling after the other.
struct Parrot {
    cache: Cache,
    said: Arc<AtomicUsize>,
}

impl Parrot {
    fn start(secret: &str, refuses: &Arc<AtomicBool>) -> Self {
        let (cache, said) = (Cache::start(), Arc::new(AtomicUsize::new(0)));
        let (words, refuses, count) = (spellings(secret), Arc::clone(refuses), Arc::clone(&said));
        cache.serve(Box::new(move |_, asked| {
            if asked.method != "PUT" || !refuses.load(Ordering::Relaxed) {
                return None;
            }
            let word = &words[count.fetch_add(1, Ordering::Relaxed) % words.len()];
            Some((
                400,
                format!("<Error><Code>InvalidRequest</Code><Message>no {word} here</Message></Error>"),
            ))
        }));
        Self { cache, said }
    }
}

/// A command that prints its secret in two pieces and in base 64, and fails once `$W/refuse` is there.
fn printer(id: &str, variable: &str, credentials: &str) -> String {
    let script = format!(
        "rest=${{{variable}#??????????}}; printf %s ${{{variable}%$rest}} >&2; printf %s\\\\n $rest >&2; \
         printf %s ${variable} | base64 -w 0 >&2; echo ${variable}; \
         if test -e $W/hold; then : > $W/held; read x < $W/gate; fi; if test -e $W/refuse; then exit 65; fi"
    );
    World::command_cache(id, &script, &format!("credentials = {credentials}\n{QUICK}"))
}

/// What is written of the daemon's children: command lines, and variables without those that they are given as documented.
fn children(daemon: u32) -> (usize, Vec<String>) {
    let mut family = vec![daemon];
    let (mut seen, mut found) = (0, Vec::new());
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|one| one.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut at = 0;
    while at < family.len() {
        let of = family[at];
        family.extend(all.iter().filter(|pid| parent(**pid) == Some(of)));
        at += 1;
    }
    for pid in &family[1..] {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        seen += 1;
        found.extend(held(&read("cmdline")).into_iter().map(|one| format!("cmdline of {pid}: {one}")));
        // What the destination's own source gives it.
        let given = ["CACHIX_AUTH_TOKEN=", "GITHUB_APP_PRIVATE_KEY="];
        let environ = read("environ");
        for variable in environ
            .split(|byte| *byte == 0)
            .filter(|one| !given.iter().any(|name| one.starts_with(name.as_bytes())))
        {
            found.extend(held(variable).into_iter().map(|one| format!("environ of {pid}: {one}")));
        }
    }
    found.extend(held(&fs::read(format!("/proc/{daemon}/cmdline")).unwrap()));
    (seen, found)
}

fn get(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer); // an answer that is cut off is judged below
    answer
}

/// What every command and both doors of the metrics say.
fn everything_said(world: &World, port: u16, paths: &[String]) -> Vec<String> {
    let mut said = Vec::new();
    let commands: [&[&str]; 9] = [
        &["status"],
        &["status", "--json"],
        &["list"],
        &["list", "--json"],
        &["watch", "--once"],
        &["check-config"],
        &["check-config", "--json"],
        &["audit"],
        &["audit", "--verify"],
    ];
    for command in commands {
        let one = world.ask(command);
        assert_eq!(one.code, 0, "{command:?}: {one:?}");
        said.push(one.out + &one.err);
    }
    for path in paths {
        said.extend(
            [world.ask(&["show", path]), world.ask(&["show", "--json", path])].map(|one| one.out + &one.err),
        );
    }
    let control = UnixStream::connect(world.path("control.sock")).unwrap();
    for metrics in [get(TcpStream::connect(("127.0.0.1", port)).unwrap()), get(control)] {
        assert!(metrics.contains("eka_queue_"), "{metrics}");
        said.push(metrics);
    }
    said
}

#[track_caller]
fn assert_silent(said: &[String]) {
    for text in said {
        let found = held(text.as_bytes());
        assert!(found.is_empty(), "{found:?} in {text}");
    }
}

fn sources_in_files(world: &World) {
    let write = |name: &str, text: String| fs::write(world.path(name), text).unwrap();
    write("login", format!("CACHE_USER=ann\nCACHE_PASSWORD={}\n", canary("File")));
    write(
        "app.pem",
        format!("-----BEGIN RSA PRIVATE KEY-----\nMIIB{}\n-----END RSA PRIVATE KEY-----\n", core(APP)),
    );
    write("netrc", format!("machine 127.0.0.1 login wrong password {}\n", canary("Netrc")));
    for folder in ["handed-over", ".aws"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    write("handed-over/cache", format!("{}\n", canary("Systemd")));
    let (key, token) = (canary("ProfileKey"), canary("ProfileToken"));
    let keys = format!(
        "aws_access_key_id = AKIDPUSHER\naws_secret_access_key = {key}\naws_session_token = {token}\n"
    );
    write(".aws/credentials", format!("[pusher]\n{keys}"));
}

fn daemon(world: &World) -> impl Fn(&mut Command) + use<> {
    let (handed_over, netrc) = (world.path("handed-over"), world.path("netrc"));
    move |command| {
        command.args(["--log", "debug"]);
        command.env("MY_TOKEN", canary("Env")).env("MY_CACHIX", canary("Cachix"));
        command.env("VAULT_TOKEN", canary("VaultToken")).env("CREDENTIALS_DIRECTORY", &handed_over);
        command.env("AWS_ACCESS_KEY_ID", "AKIDMANAGER").env("AWS_SECRET_ACCESS_KEY", canary("ManagerKey"));
        command.env("AWS_SESSION_TOKEN", canary("ManagerToken")).env("NETRC", &netrc);
    }
}

#[test]
fn ten_canaries_show_nowhere_in_a_whole_session() {
    let refuses = Arc::new(AtomicBool::new(false));
    let (vault, google, manager) = (Vault::start(), Metadata::google(), Cache::start());
    vault.token(&canary("VaultToken"), Rules::renewable(3_600, 3_600));
    vault.write(
        "",
        "secret",
        "team/cache",
        &format!(r#"{{"USERNAME":"vera","PASSWORD":"{}"}}"#, canary("Vault")),
    );
    google.give(&canary("Instance"));
    let value = serde_json::json!({ "SecretString": format!(r#"{{"TOKEN":"{}"}}"#, canary("Manager")) });
    manager.fault(Rule::always("POST", "", Fault::Answer(200, Vec::new(), value.to_string())));

    let port = test_kit::port::free();
    let mut world = World::new("");
    let here = world.path("").display().to_string();
    let sources = [
        ("env", "Env", r#"{ env = { vars = ["MY_TOKEN"] } }"#.to_owned()),
        ("file", "File", format!("{{ file = {{ path = \"{here}/login\" }} }}")),
        ("systemd", "Systemd", r#"{ systemd-credential = { name = "cache" } }"#.to_owned()),
        (
            "vault",
            "Vault",
            format!(
                "{{ vault = {{ address = \"{}\", secret_path = \"secret/data/team/cache\" }} }}",
                vault.url()
            ),
        ),
        (
            "manager",
            "Manager",
            format!(
                "{{ aws-secrets-manager = {{ secret_name = \"cache\", region = \"eu-central-1\", endpoint = \"{}\" }} }}",
                manager.url()
            ),
        ),
        (
            "instance",
            "Instance",
            format!("{{ instance-metadata = {{ provider = \"gcp\", endpoint = \"{}\" }} }}", google.url()),
        ),
        ("none", "Netrc", "\"none\"".to_owned()),
    ];
    let mut parrots = Vec::new();
    let mut caches = String::new();
    for (id, name, credentials) in &sources {
        let parrot = Parrot::start(&canary(name), &refuses);
        let keys = format!("credentials = {credentials}\ncredentials_ttl = \"1h\"\n{QUICK}");
        caches += &block(id, &format!("{}/cache", parrot.cache.url()), &keys);
        parrots.push((*id, parrot));
    }
    // Nobody told this one: what it says is no secret of the destination.
    let (_, silent) = parrots.pop().unwrap();
    silent.cache.serve(Box::new(|_, _| None));
    let bucket = Parrot::start(&canary("ProfileToken"), &refuses);
    let keys = format!("credentials = {{ aws-profile = {{ profile = \"pusher\" }} }}\n{QUICK}");
    caches += &block("profile", &format!("s3://cache?endpoint={}", bucket.cache.url()), &keys);
    parrots.push(("profile", bucket));
    caches += &printer("cachix", "CACHIX_AUTH_TOKEN", r#"{ cachix-token = { env_var = "MY_CACHIX" } }"#);
    let app = format!("{{ github-app-key-file = {{ app_id = \"42\", key_file = \"{here}/app.pem\" }} }}");
    caches += &World::command_cache(
        "app",
        "echo $GITHUB_APP_PRIVATE_KEY >&2; if test -e $W/refuse; then exit 65; fi",
        &format!("credentials = {app}\n{QUICK}"),
    );
    world.configure(&format!("metrics_address = \"127.0.0.1:{port}\""), &caches);
    sources_in_files(&world);
    assert!(tool("mkfifo").arg(world.path("gate")).status().unwrap().success());
    let paths = world.valid_paths(5);
    let with = daemon(&world);
    world.start_with(&with);

    // Good ones, while a command waits with its secret.
    fs::write(world.path("hold"), "").unwrap();
    assert_eq!(world.hook(&paths[0], "").err, "");
    // The other command has run by then: between fork and exec a child is a copy of the daemon.
    let other = || world.count("app", "done") == 1;
    wait::until(SOON, || world.path("held").exists() && other());
    let (seen, found) = children(world.daemon_pid());
    assert!(seen > 0 && found.is_empty(), "{seen} children: {found:#?}");
    fs::remove_file(world.path("hold")).unwrap();
    fs::write(world.path("gate"), "on\n").unwrap();
    let ids = ["env", "file", "systemd", "vault", "manager", "instance", "none", "profile", "cachix", "app"];
    for id in ids {
        world.until(id, "done", 1);
    }
    for (id, parrot) in &parrots {
        let asked = parrot.cache.log();
        assert!(
            asked.iter().any(|seen| seen.headers.contains_key("authorization")),
            "{id} got its credential"
        );
    }
    assert!(silent.cache.log().iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert_silent(&everything_said(&world, port, &paths[..1]));
    assert_clean(&world, "after good pushes");

    // Refused ones, in every spelling.
    refuses.store(true, Ordering::Relaxed);
    fs::write(world.path("refuse"), "").unwrap();
    for path in &paths[1..] {
        assert_eq!(world.hook(path, "").err, "");
    }
    for (id, parrot) in &parrots {
        let all = wait::comes_true(SOON, || parrot.said.load(Ordering::Relaxed) >= 7);
        assert!(all, "{id}: {} refusals\n{}", parrot.said.load(Ordering::Relaxed), world.log());
    }
    for id in ["cachix", "app"] {
        world.until(id, "dead", 4);
    }
    for (id, _) in parrots
        .iter()
        .map(|(id, parrot)| (*id, parrot))
        .chain([("cachix", &parrots[0].1), ("app", &parrots[0].1)])
    {
        let stars = || {
            world.list(&["--destination", id]).iter().any(|one| one["last_error"].to_string().contains("***"))
        };
        assert!(wait::comes_true(SOON, stars), "{id}: {:?}", world.list(&["--destination", id]));
    }
    assert_silent(&everything_said(&world, port, &paths));
    assert_clean(&world, "after refusals");

    // Killed and started again, with a manager that quotes the token it was asked with.
    world.kill();
    assert_clean(&world, "after kill -9");
    manager.heal();
    let echo = format!(r#"{{"__type":"X","message":"who is {}?"}}"#, canary("ManagerToken"));
    manager.fault(Rule::always("POST", "", Fault::Answer(400, Vec::new(), echo)));
    world.start_with(&with);
    assert_eq!(world.ask(&["retry", "--all"]).code, 0);
    wait::until(SOON, || {
        world
            .list(&["--destination", "manager"])
            .iter()
            .any(|one| one["last_error"].to_string().contains("who is"))
    });
    assert_silent(&everything_said(&world, port, &paths));
    assert_eq!(world.stop(), 0);
    assert!(world.log().contains(" DEBUG ") || world.log().contains("DEBUG"), "the log is a full one");
    assert_clean(&world, "after the stop");
    for folder in [std::env::current_dir().unwrap(), world.path("")] {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with("core.")), "no core files");
    }
}

/// The judge is judged: whatever the spelling, the place and what stands around, a planted canary is found.
#[test]
fn the_search_finds_a_canary_that_was_planted() {
    let world = World::new("");
    fs::create_dir_all(world.path("state/roots")).unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        fs::write(world.path(name), "nothing").unwrap();
    }
    assert_clean(&world, "before");
    for name in NAMES.iter().chain([&APP]) {
        let secret = canary(name);
        let more = [
            escaped(&secret, |byte| format!("{byte:02x}")),
            escaped(&secret, |byte| format!("%{byte:02X}")),
            escaped(&secret, |byte| format!("\\u{byte:04x}")),
            URL_SAFE_NO_PAD.encode(format!("x{secret}")),
            serde_json::Value::from(secret.as_str()).to_string(),
        ];
        for text in spellings(&secret).into_iter().chain(more) {
            let file = world.path("state/roots/planted");
            fs::write(&file, [b"\0\xff".as_slice(), text.as_bytes(), b"\xfe"].concat()).unwrap();
            let (_, found) = search(&world, "state");
            assert!(found.iter().any(|one| one.contains("planted")), "{name}: {text}");
            fs::remove_file(&file).unwrap();
        }
    }
}
