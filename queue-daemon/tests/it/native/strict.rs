//! An S3 that others wrote and that checks every signature: what arrives there is read by the real Nix from its folder.
//! Installed by `scripts/test-tools`; without it this says that it is skipped.

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;

use test_kit::proc::Guard;
use test_kit::wait;

use super::stage::{
    Made, Place, QUICK, assert_signed, assert_whole, block, delivered, fetch, hashes, key, made, noise,
    queue, second_store,
};
use crate::world::{SOON, World, tool};

#[test]
fn a_strict_s3_takes_a_closure_and_nix_reads_it() {
    let exe = std::env::current_exe().unwrap();
    let program = exe.ancestors().nth(3).unwrap().join("tools/bin/s3s-fs");
    if !program.exists() {
        println!("skipped: {} is not there, scripts/test-tools installs it", program.display());
        return;
    }
    let mut world = World::new("");
    let public = key(&world, "test-1");
    fs::create_dir_all(world.path("s3/bucket")).unwrap();
    let port = test_kit::port::free();
    let mut server = tool(program);
    server.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", "AKIDEXAMPLE"]);
    server.args(["--secret-key", "a secret/with+signs"]).arg(world.path("s3"));
    let mut server =
        Guard::spawn(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    wait::until(SOON, || {
        assert!(server.child().try_wait().unwrap().is_none(), "s3s-fs ended");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let home = world.path(".aws");
    fs::create_dir_all(&home).unwrap();
    let profile = |secret: &str| {
        let text = format!("[work]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {secret}\n");
        fs::write(home.join("credentials"), text).unwrap();
    };
    profile("another");
    let url =
        format!("s3://bucket?endpoint=127.0.0.1:{port}&scheme=http&profile=work&write-nar-listing=true");
    world.configure("signing_key_files = [\"$W/test-1.sec\"]", &block("s3", &url, QUICK));
    let mut set = vec![Made::new("base", "base", &[]), Made::new("large", noise(1, 30 << 20), &[0])];
    set.extend((0..100).map(|i| Made::new(&format!("p+{i}=x?y"), noise(i, 1_000), &[0, 1])));
    let paths = made(&world, &set);
    world.start();
    queue(&world, &paths);
    wait::until(SOON, || {
        let rows = world.list(&[]);
        rows.iter()
            .any(|row| row["last_error"].as_str().is_some_and(|why| why.contains("SignatureDoesNotMatch")))
    });
    assert!(!world.log().contains("another"));
    // The right ones are read without a restart.
    profile("a secret/with+signs");
    delivered(&world, "60s");
    let place = Place::Folder(world.path("s3/bucket"));
    let objects = place.objects();
    assert_eq!(assert_whole(&world, &objects), paths);
    assert_signed(&world, &objects, &paths, &public);
    let into = second_store(&world, "second");
    let fetched = fetch(&world, &place.read_url(), &into, &public, &paths);
    assert!(fetched.status.success(), "{fetched:?}");
    assert_eq!(hashes(&world, Some(&into), &paths), hashes(&world, None, &paths));
}
