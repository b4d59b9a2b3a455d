//! What operators are told about their configuration file, before anything is started with it.
//!
//! Each snapshot is a page of small files, each followed by what `check-config` says of it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use eka_queue::config::Config;

use crate::world::{Said, may_mount, queue_program, run, tool};

/// The smallest block of a destination, for files that are about something else.
pub(crate) const CACHE: &str =
    "[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"file:///srv/cache\"\n";

/// `check-config` over this text, in an empty folder, which it must leave as it was.
pub(crate) fn check(text: impl AsRef<[u8]>, flags: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ekaci.toml"), text).unwrap();
    let mut command = tool(queue_program());
    command.current_dir(folder.path()).args(["check-config", "--config-file", "ekaci.toml"]).args(flags);
    let said = run(&mut command, b"");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "check-config makes nothing");
    said
}

/// A page of files and what is said of them; none of them may be good.
pub(crate) fn page(files: &[&str]) -> String {
    let mut page = String::new();
    for text in files {
        let said = check(text, &[]);
        assert_eq!((said.code, said.err.as_str()), (1, ""), "{text}\n{said:?}");
        for (number, line) in (1..).zip(text.lines()) {
            writeln!(page, "{number:>3} | {line}").unwrap();
        }
        writeln!(page, "{}", said.out).unwrap();
    }
    page
}

/// Files that differ in one line of `[queue]`.
fn queue_lines(lines: &[&str]) -> String {
    let files: Vec<String> = lines.iter().map(|line| format!("[queue]\n{line}\n")).collect();
    page(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Files that differ in one line of a `[[caches]]` block.
pub(crate) fn cache_lines(lines: &[&str]) -> String {
    let files: Vec<String> = lines.iter().map(|line| format!("{CACHE}{line}\n")).collect();
    page(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn mistyped_names_are_answered_with_their_line_and_the_nearest_known_name() {
    insta::assert_snapshot!(page(&[
        "[queue]\nsokcet = \"/run/q.sock\"\nspool-dir = \"/s\"\nfavourite_colour = \"blue\"\n",
        "[[cache]]\nid = \"main\"\n",
        "[queues]\n",
        "soket_path = \"/run/s\"\n",
        "[[caches]]\nid = \"main\"\ncache_typ = \"nix-copy\"\nurl = \"file:///srv\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"nix-copy\"\ndestination = \"file:///srv\"\nbackoff = { mni = \"1s\" }\n[caches.breaker]\nfailuers = 3\n",
        "[security]\nallow_insecure_webhook = true\n",
    ]));
}

#[test]
fn files_that_are_no_toml_or_have_another_shape() {
    insta::assert_snapshot!(page(&[
        "[queue]\nsocket = /run/q.sock\n",
        "[queue]\nsocket = \"/a\"\nsocket = \"/b\"\n",
        "[queue\n",
        "queue = 3\n",
        "[caches]\nid = \"main\"\n",
        "caches = [ 1, \"two\" ]\n",
        "[[queue]]\n",
        "[queue]\nsocket = 7\nallowed_users = \"root\"\nsign_store = \"yes\"\nquota_per_uid = 1.5\nsigning_key_files = [ 3 ]\n",
    ]));
}

#[test]
fn values_of_the_queue_section_that_cannot_be_meant() {
    insta::assert_snapshot!(queue_lines(&[
        "state_dir = \"state\"",
        "spool_dir = \"~/spool\"",
        "socket = \"$XDG_RUNTIME_DIR/q.sock\"",
        "socket = \"/run/one\"\ncontrol_socket = \"/run/one\"",
        "quota_per_uid = 0",
        "stop_timeout = 30",
        "keep_done = \"two weeks\"",
        "keep_dead = \"99999999d\"",
        "durability = \"fulll\"",
        "metrics_address = \":9190\"",
        "default_destinations = [ \"main\" ]",
        "default_destinations = [ \"no/such id\" ]",
        "sign_store = true",
        "bandwidth_limit = \"0 MiB\"",
        "cpu_limit = 0",
    ]));
}

#[test]
fn blocks_of_caches_that_name_no_usable_destination() {
    insta::assert_snapshot!(page(&[
        "[[caches]]\n",
        "[[caches]]\nid = \"a b\"\ncache_type = \"nix-copy\"\ndestination = \"file:///srv\"\n",
        "[[caches]]\nid = \"local-store\"\ncache_type = \"command\"\ncommand = [ \"true\" ]\n",
        &format!("{CACHE}{CACHE}"),
        "[[caches]]\nid = \"a\"\ncache_type = \"nixcopy\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"nix-copy\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"nix-copy\"\ndestination = \"\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"nix-copy\"\ndestination = \"--option\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"nix-copy\"\ndestination = \"file:///srv\"\ncommand = [ \"true\" ]\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"attic\"\nupload_logs = true\nssh_key_file = \"/k\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"attic\"\ndestination = \"https://u:p@host/cache\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"cachix\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"cachix\"\ndestination = \"https://a.cachix.org\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"command\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = []\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = \"push.sh --all\"\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = [ \"true\" ]\ndestination = \"file:///srv\"\nssh_key_file = \"/key\"\n",
    ]));
}

#[test]
fn values_of_caches_that_cannot_be_meant() {
    insta::assert_snapshot!(cache_lines(&[
        "concurrency = 0",
        "attempts_max = 0",
        "timeout = \"10ms\"",
        "presence_ttl = \"7 days\"",
        "accept = [ \"hooks\" ]",
        "backoff = { min = \"1h\", max = \"1m\" }",
        "backoff = { min = \"0\" }",
        "backoff = \"1s\"",
        "breaker = { failures = 0, probe = \"0s\" }",
        "exclude = [ \"*-spec.json\", \"[\" ]",
        "exclude_regex = [ \"(\" ]",
        "max_nar_size = \"lots\"",
        "fod = \"sometimes\"",
        "ssh_key_file = \"/root/.ssh/id\"",
        "bandwidth_limit = \"0\"",
        "bandwidth_limit = \"fast\"",
        "upload_logs = \"yes\"",
    ]));
}

#[test]
fn keys_and_parameters_that_a_destination_of_this_kind_does_not_take() {
    let two = "signing_key_files = [ \"/a\", \"/b\" ]\n";
    let one = "signing_key_files = [ \"/a\" ]\n";
    let other =
        "[[caches]]\nid = \"other\"\ncache_type = \"nix-copy\"\ndestination = \"local?root=/srv/x\"\n";
    let ssh = "[[caches]]\nid = \"far\"\ncache_type = \"nix-copy\"\ndestination = \"ssh://far\"\n";
    let with = |parameter: &str| ssh.replace("ssh://far", &format!("ssh://far?{parameter}"));
    insta::assert_snapshot!(page(&[
        &format!("[queue]\n{two}{other}"),
        &format!("[queue]\n{one}{other}"),
        &format!("{other}ssh_key_file = \"/k\"\nbandwidth_limit = \"1MiB/s\"\n"),
        &format!("{}ssh_key_file = \"/k\"\n", with("ssh-key=/other")),
        &with("remote-stor=/x"),
        &with("store=/x"),
        &with("max-connections=0"),
        &ssh.replace("ssh://far", "ssh-ng://far/path"),
        &ssh.replace("ssh://far", "ssh-ng://-oProxyCommand=x"),
        &CACHE.replace("/srv/cache", "/srv/cache?compresion=zstd"),
        &CACHE.replace("/srv/cache", "/srv/cache?compression=bzip2"),
        &CACHE.replace("/srv/cache", "/srv/cache?region=eu"),
        &format!("{ssh}bandwidth_limit = \"0MiB/s\"\nupload_logs = true\n"),
    ]));
}

#[test]
fn credentials_that_cannot_be_meant() {
    let ssh = CACHE.replace("file:///srv/cache", "ssh://far");
    let http = CACHE.replace("file:///srv/cache", "https://ann:word@host/cache");
    let s3 = CACHE.replace("file:///srv/cache", "s3://cache?profile=p");
    let env = "credentials = { env = { vars = [\"A\"] } }\n";
    insta::assert_snapshot!(page(&[
        &format!("{CACHE}{env}"),
        &format!("{ssh}{env}"),
        &format!("{http}{env}"),
        &format!("{s3}{env}"),
        &format!("{CACHE}credentials_ttl = \"5s\"\n"),
        &format!("{CACHE}credentials = \"nobody\"\n"),
        &format!("{CACHE}credentials = {{ valut = {{ address = \"https://h\" }} }}\n"),
    ]));
}

/// An address that is written in a destination is judged with the file; what a name stands for, when it is connected to.
#[test]
fn destinations_in_private_networks_are_refused_by_their_line() {
    let at = |url: &str| CACHE.replace("file:///srv/cache", url);
    let urls = [
        "http://127.0.0.1:8080/cache",
        "http://localhost/cache",
        "https://[::ffff:10.1.2.3]/cache",
        "http://2130706433/cache",
        "s3://cache?endpoint=192.168.1.5:9000",
        "s3://cache?endpoint=http://localhost:9000&region=r",
        "http://169.254.169.254/latest",
        "http://0.0.0.0/cache",
    ];
    let files: Vec<String> = urls.iter().map(|url| at(url)).collect();
    let (private, never) = files.split_at(6);
    let allow = |file: &String| format!("[security]\nallow_private_cache_hosts = true\n{file}");
    let still: Vec<String> = never.iter().map(allow).collect();
    insta::assert_snapshot!(page(&files.iter().chain(&still).map(String::as_str).collect::<Vec<_>>()));
    for file in private.iter().map(allow) {
        assert_eq!(check(&file, &[]).out, "ekaci.toml: good\n", "{file}");
    }
    for url in ["https://cache.example.org", "http://1.1.1.1/cache", "s3://cache?endpoint=minio.lan:9000"] {
        let said = check(at(url), &[]);
        assert_eq!((said.code, said.out.as_str()), (0, "ekaci.toml: good\n"), "{url}");
    }
}

/// Keys of one kind of destination are refused at another: never is one taken and passed over.
#[test]
fn keys_of_services_mean_nothing_elsewhere() {
    let caches = cache_lines(&["driver = \"cli\"", "config_file = \"/etc/cachix.dhall\""]);
    insta::assert_snapshot!(caches);
}

/// The text is fine, but what it points to is not: `check-config` says so, of what is only absent in warnings, and
/// `serve` does not start.
#[test]
fn what_the_values_point_to_is_looked_at_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("public", "cache-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    file("noise", "no key at all\n");
    file("not-executable", "#!/bin/sh\n");
    let text = format!(
        "[queue]\nsign_store = true\nsigning_key_files = [ \"$F/absent\", \"$F/public\", \"$F/noise\", \"$F\" ]\n\
         allowed_users = [ \"nobody-of-that-name\" ]\nci_users = [ \"nor-that\" ]\n\
         allowed_groups = [ \"no-such-group\" ]\nsocket_group = \"nor-this-group\"\n\
         state_dir = \"$F/state\"\nspool_dir = \"$F/spool\"\nsocket = \"$F/e\"\ncontrol_socket = \"$F/c\"\n\
         {}{}{}",
        "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = [ \"$F/not-executable\" ]\n",
        "[[caches]]\nid = \"b\"\ncache_type = \"command\"\ncommand = [ \"no-such-program-anywhere\" ]\n",
        "[[caches]]\nid = \"c\"\ncache_type = \"nix-copy\"\ndestination = \"ssh://far\"\nssh_key_file = \"$F/absent\"\n",
    );
    let text = text.replace("$F", folder.path().to_str().unwrap());
    let said = check(&text, &[]);
    assert_eq!(said.code, 1);
    let shown = said.out.replace(folder.path().to_str().unwrap(), "$F");
    insta::assert_snapshot!(shown);

    let elsewhere = check(&text, &["--file-only"]);
    assert_eq!(
        (elsewhere.code, elsewhere.out.as_str()),
        (0, "ekaci.toml: good\n"),
        "its values are another machine's"
    );
    assert_eq!(check("[queue]\nsokcet = \"/s\"\n", &["--file-only"]).code, 1, "the file itself is checked");

    file("ekaci.toml", &text);
    let mut serve = tool(queue_program());
    let served = run(serve.arg("serve").arg("--config-file").arg(folder.path().join("ekaci.toml")), b"");
    assert_eq!(served.code, 78);
    assert!(served.err.contains("no-such-program-anywhere is not on PATH"), "{served:?}");
    assert!(!folder.path().join("state").exists(), "it did not begin to start");
}

/// A file may be looked at on another machine than the one it is for, where nothing that it names is there.
#[test]
fn what_is_only_absent_leaves_the_file_good_and_the_daemon_unstarted() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[queue]\nstate_dir = \"$F/state\"\nspool_dir = \"$F/spool\"\nsocket = \"$F/e\"\ncontrol_socket = \"$F/c\"\n\
         sign_store = true\nsigning_key_files = [ \"$F/absent\" ]\n{}{}{}{}",
        CACHE.replace("file:///srv/cache", "https://host/cache?secret-key=$F/absent-too"),
        "credentials = { file = { path = \"$F/absent-token\" } }\n",
        "[[caches]]\nid = \"a\"\ncache_type = \"command\"\ncommand = [ \"$F/no-program\" ]\n\
         credentials = { env = { vars = [ \"NOT_SET_ANYWHERE\" ] } }\n",
        "[[caches]]\nid = \"c\"\ncache_type = \"nix-copy\"\ndestination = \"ssh://far\"\nssh_key_file = \"$F/absent-key\"\n",
    );
    let text = text.replace("$F", folder.path().to_str().unwrap());
    let said = check(&text, &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    insta::assert_snapshot!(said.out.replace(folder.path().to_str().unwrap(), "$F"));

    fs::write(folder.path().join("ekaci.toml"), &text).unwrap();
    let mut serve = tool(queue_program());
    let served = run(serve.arg("serve").arg("--config-file").arg(folder.path().join("ekaci.toml")), b"");
    assert_eq!(served.code, 78, "{served:?}");
    for name in
        ["/absent cannot be read", "absent-too cannot", "no-program is not there", "absent-key cannot"]
    {
        assert!(served.err.contains(name), "{name}: {served:?}");
    }
}

/// Keys that everybody can read are nobody's secret.
#[test]
fn keys_that_are_open_to_others_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, mode: u32| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    let key = format!("cache-1:{}==\n", "A".repeat(86));
    ["open", "open-too"].iter().for_each(|name| put(name, &key, 0o644));
    put("open-ssh", "a key\n", 0o604);
    put("closed", &key, 0o640);
    let text = format!(
        "[queue]\nsign_store = true\nsigning_key_files = [ \"$F/open\", \"$F/closed\" ]\n{}{}",
        CACHE.replace("/srv/cache", "/srv/cache?secret-key=$F/open-too"),
        "[[caches]]\nid = \"c\"\ncache_type = \"nix-copy\"\ndestination = \"ssh://far\"\nssh_key_file = \"$F/open-ssh\"\n",
    );
    let said = check(text.replace("$F", folder.path().to_str().unwrap()), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let shown = said.out.replace(folder.path().to_str().unwrap(), "$F");
    let warned = |name: &str| shown.contains(&format!("everybody on this machine can read $F/{name}; chmod"));
    assert!(warned("open") && warned("open-too") && warned("open-ssh") && !warned("closed"), "{shown}");
}

/// A machine whose lists of users and groups are away: whether a name is good cannot be told there.
#[test]
fn a_look_up_that_fails_is_not_called_a_wrong_name() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ekaci.toml");
    let names = "allowed_users = [ \"somebody\", \"77\" ]\nsocket_group = \"some\"";
    fs::write(&file, format!("[queue]\n{names}\n{CACHE}")).unwrap();
    let mut command = tool("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /etc && exec \"$0\" \"$@\""]);
    let said = run(command.arg(queue_program()).arg("check-config").arg("--config-file").arg(&file), b"");
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    let shown = said.out.replace(folder.path().to_str().unwrap(), "$F");
    insta::assert_snapshot!(shown);
}

#[test]
fn warnings_leave_the_file_good() {
    let files = [
        "".to_owned(),
        format!("[queue]\ndurability = \"normal\"\nmetrics_address = \"0.0.0.0:9190\"\n{CACHE}"),
    ];
    let mut page = String::new();
    for text in &files {
        let said = check(text, &[]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        writeln!(page, "{}", said.out).unwrap();
    }
    insta::assert_snapshot!(page);
}

#[test]
fn programs_get_the_same_as_json() {
    let said = check("[queue]\nsokcet = \"/s\"\ndurability = \"off\"\n", &["--json"]);
    assert_eq!(said.code, 1);
    let object: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&object).unwrap());
    let good: serde_json::Value = serde_json::from_str(&check(CACHE, &["--json"]).out).unwrap();
    assert_eq!((&good["ok"], good["problems"].as_array().unwrap().len()), (&true.into(), 0));
}

/// The same problems end every other command with the code for "no usable configuration".
#[test]
fn no_command_runs_with_a_bad_file_or_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("ekaci.toml");
    fs::write(&bad, "[queue]\nsokcet = \"/s\"\n").unwrap();
    for subcommand in ["serve", "status", "list"] {
        let with =
            |file: &Path| run(tool(queue_program()).arg(subcommand).arg("--config-file").arg(file), b"");
        let said = with(&bad);
        assert_eq!(said.code, 78, "{said:?}");
        assert!(
            said.err.contains("ekaci.toml:2: [queue] sokcet: unknown key; did you mean socket?"),
            "{said:?}"
        );
        let said = with(&folder.path().join("absent.toml"));
        assert_eq!(said.code, 78, "{said:?}");
        assert!(said.err.contains("absent.toml (named by --config-file) cannot be used"), "{said:?}");
    }
    let mut nowhere = tool(queue_program());
    nowhere
        .arg("status")
        .env_remove("EKA_CI_CONFIG_FILE")
        .env_remove("XDG_CONFIG_HOME")
        .env("HOME", folder.path());
    let said = run(&mut nowhere, b"");
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.err.contains("/etc/ekaci/ekaci.toml"), "it says where it looked: {said:?}");
}

#[test]
fn files_that_cannot_be_read_as_text() {
    let said = check(b"[queue]\n# \xff\n", &[]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("ekaci.toml: is not UTF-8 at byte 10; save it as UTF-8"), "{said:?}");
    let said = check(vec![b'#'; (1 << 20) + 1], &[]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("is larger than 131072 bytes"), "{said:?}");
    let folder = tempfile::tempdir().unwrap();
    let said = run(tool(queue_program()).arg("check-config").arg("--config-file").arg(folder.path()), b"");
    assert_eq!(said.code, 1);
    assert!(said.out.contains("cannot be read: Is a directory"), "{said:?}");
}

/// What users copy from the documentation first.
const MINIMAL: &str = r#"
[queue]
state_dir = "/var/lib/eka-queue"                 # database, GC roots
socket = "/run/eka-queue/enqueue.sock"           # eka-hook and eka-ci-server write here
control_socket = "/run/eka-queue/control.sock"   # eka-queue's other subcommands
spool_dir = "/var/lib/eka-queue/spool"           # eka-hook's fallback
signing_key_files = ["/etc/nix/key.private"]     # optional; several sign each path several times
metrics_address = "127.0.0.1:9190"               # optional

[[caches]]
id = "main"
cache_type = "nix-copy"
destination = "s3://example-nix-cache?region=eu-central-1"

[[caches]]
id = "notify"
cache_type = "command"
command = ["/usr/local/bin/announce"]
"#;

/// The same with every served key written out at its documented default.
const EVERY_DEFAULT: &str = r#"
[queue]
state_dir = "/var/lib/eka-queue"
socket = "/run/eka-queue/enqueue.sock"
control_socket = "/run/eka-queue/control.sock"
spool_dir = "/var/lib/eka-queue/spool"
signing_key_files = ["/etc/nix/key.private"]
metrics_address = "127.0.0.1:9190"
allowed_users = []
allowed_groups = []
ci_users = []
quota_per_uid = 100000
sign_store = false
stop_timeout = "30s"
keep_done = "14d"
keep_dead = "90d"
durability = "full"

[[caches]]
id = "main"
cache_type = "nix-copy"
destination = "s3://example-nix-cache?region=eu-central-1"
accept = ["hook", "ci"]
permissions = { allow_all = true }
allow_untrusted = false
allow_pull_requests = false
concurrency = 8
attempts_max = 25
backoff = {
  min = "1s",
  max = "15m",
}
breaker = { failures = 5, probe = "1m" }
timeout = "10m"
presence_ttl = "7d"
exclude = []
exclude_regex = []
fod = "both"
skip_signed_by = []

[[caches]]
id = "notify"
cache_type = "command"
command = ["/usr/local/bin/announce"]
"#;

#[test]
fn the_documented_configuration_loads_and_the_documented_defaults_are_the_defaults() {
    let load = |text: &str| Config::parse(Path::new("ekaci.toml"), text).unwrap();
    let minimal = load(MINIMAL);
    assert_eq!(format!("{minimal:?}"), format!("{:?}", load(EVERY_DEFAULT)));
    assert!(minimal.warnings.is_empty());
    let bare =
        "[queue]\nsigning_key_files = [\"/etc/nix/key.private\"]\nmetrics_address = \"127.0.0.1:9190\"\n";
    let caches = &MINIMAL[MINIMAL.find("[[caches]]").unwrap()..];
    assert_eq!(format!("{minimal:?}"), format!("{:?}", load(&format!("{bare}{caches}"))), "the folders too");
}

/// One file serves both programs: what belongs to the CI server is not ours to judge.
#[test]
fn the_servers_sections_and_keys_are_passed_over() {
    let text = format!(
        "db_path = \"/var/lib/ci.db\"\nrequire_approval = \"anything\"\n[web]\naddress = 3\n\
         [[github_apps]]\nid = \"x\"\n[rebuild]\n[security]\naudit_hooks = true\nwebhook_secret = \"w\"\n{CACHE}"
    );
    let said = check(&text, &[]);
    assert_eq!((said.code, said.out.as_str()), (0, "ekaci.toml: good\n"));
}
