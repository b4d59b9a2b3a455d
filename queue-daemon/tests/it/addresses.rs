//! Whom the daemon speaks to: a cache that turns out to be in a private network gets not even a connection until the
//! configuration allows it, and no redirect leads to a metadata service.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::wait;

use crate::native::stage::{QUICK, block};
use crate::world::{SOON, World, may_mount, same_world};

/// Starts the daemon on a machine where `cache.test` and `proxy.test` are this one.
fn start_with_names(world: &mut World, proxy: Option<&str>) {
    fs::write(world.path("hosts"), "127.0.0.1 cache.test proxy.test\n").unwrap();
    let (hosts, log) = (world.path("hosts"), world.path("daemon.log"));
    world.start_with(|serve| {
        let daemon = serve.get_program().to_owned();
        let arguments: Vec<_> = serve.get_args().map(ToOwned::to_owned).collect();
        let mut inner: Command = same_world(serve, "unshare");
        let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
        inner.args(["--mount", "sh", "-c", &script]).arg(daemon).args(arguments);
        inner.stdin(Stdio::null()).stdout(Stdio::null());
        inner.stderr(fs::OpenOptions::new().append(true).open(&log).unwrap());
        // Names are looked up here, whatever proxies the tester has.
        for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
            inner.env_remove(variable);
        }
        inner.envs(proxy.map(|url| ("HTTP_PROXY", url)));
        *serve = inner;
    });
}

/// Waits until the delivery waits for this reason, its destination in doubt and no attempt counted.
#[track_caller]
fn waits_for(world: &World, reason: &str) {
    wait::until(SOON, || world.status()["destinations"]["main"]["breaker"] != "closed");
    // It waits, or is just being tried again.
    let owed = world.list(&["--destination", "main"]);
    assert!(owed.len() == 1 && owed[0]["last_error"].to_string().contains(reason), "{owed:?}");
    assert_eq!(owed[0]["attempts"], 0, "{owed:?}");
    for command in [&["list"][..], &["show", owed[0]["path"].as_str().unwrap()]] {
        let shown = world.ask(command).out;
        assert!(shown.contains(reason), "{command:?}: {shown}");
    }
}

#[test]
fn a_cache_that_turns_out_to_be_private_gets_nothing_until_it_is_allowed() {
    if !may_mount() {
        return;
    }
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let at = |port: u16| block("main", &format!("http://cache.test:{port}/cache"), QUICK);
    let port = canary.local_addr().unwrap().port();
    let mut world = World::new(&format!("[security]\nallow_private_cache_hosts = false\n{}", at(port)));
    let path = world.valid_paths(1).remove(0);
    let said = world.ask(&["check-config"]);
    assert_eq!(said.code, 0, "where a name leads is not known yet: {said:?}");
    start_with_names(&mut world, None);
    assert_eq!(world.hook(&path, "").err, "");
    waits_for(
        &world,
        "cache.test is at 127.0.0.1, an address of this machine itself; set [security] allow_private_",
    );
    assert_eq!(canary.accept().map_err(|error| error.kind()).unwrap_err(), ErrorKind::WouldBlock);
    assert_eq!(world.stop(), 0);

    let cache = Cache::start();
    world.configure(
        "",
        &format!("[security]\nallow_private_cache_hosts = true\n{}", at(cache.address().port())),
    );
    start_with_names(&mut world, None);
    world.until("main", "done", 1);
    assert!(!cache.log().is_empty());
    assert_eq!(canary.accept().map_err(|error| error.kind()).unwrap_err(), ErrorKind::WouldBlock);
}

#[test]
fn a_cache_that_sends_us_to_a_metadata_service_is_not_followed() {
    let cache = Cache::start();
    let to = vec![("location".to_owned(), "http://169.254.169.254/latest/meta-data/".to_owned())];
    for method in ["GET", "HEAD", "PUT"] {
        cache.fault(Rule::always(method, "", Fault::Answer(307, to.clone(), String::new())));
    }
    let mut world = World::new(&block("main", &format!("{}/cache", cache.url()), QUICK));
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    waits_for(&world, "169.254.169.254 is the address of a cloud's metadata service; ");
    cache.heal();
    world.until("main", "done", 1);
}

/// The environment's proxy may be private, and is asked for what it alone looks up.
#[test]
fn a_proxy_in_a_private_network_is_the_operators_choice() {
    if !may_mount() {
        return;
    }
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let port = proxy.local_addr().unwrap().port();
    let caches = block("main", "http://cache.invalid/cache", QUICK);
    // The proxy takes a connection and says nothing: the attempt would be waited for.
    let security = "[security]\nallow_private_cache_hosts = false\n";
    let mut world = World::with_queue("stop_timeout = \"100ms\"", &format!("{security}{caches}"));
    let path = world.valid_paths(1).remove(0);
    start_with_names(&mut world, Some(&format!("http://proxy.test:{port}")));
    assert_eq!(world.hook(&path, "").err, "");
    wait::until(SOON, || proxy.accept().is_ok());
    assert_eq!(world.stop(), 0);

    // But it is no cache by that.
    world.configure(
        "",
        &format!(
            "[security]\nallow_private_cache_hosts = false\n{}",
            block("main", &format!("http://proxy.test:{port}/cache"), QUICK)
        ),
    );
    start_with_names(&mut world, Some("http://proxy.test:1"));
    waits_for(&world, "proxy.test is a proxy of the environment; set [security] allow_private_cache_hosts");
}
