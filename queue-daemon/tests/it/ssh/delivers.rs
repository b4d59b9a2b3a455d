//! What is built here arrives there, whole and signed, over one connection.

use test_kit::wait;

use super::stage::{Far, SCHEMES, closure, told};
use crate::native::stage::{delivered, key, queue};
use crate::world::{SOON, World};

const SET: &str = r#"
let
  base = run "base" {} "echo base > $out";
  both = run "both" { inherit base; } "mkdir $out; ln -s $base $out/base; echo $out > $out/self; head -c 3000000 /dev/zero > $out/large";
in run "top" { inherit both base; } "echo $both $base > $out"
"#;

#[test]
fn a_build_and_all_it_needs_arrives_signed_and_further_batches_take_the_same_connection() {
    for scheme in SCHEMES {
        let mut world = World::new("");
        let public = key(&world, "here-1");
        // The other side takes nothing that nobody it trusts has signed.
        let far = Far::new(&world, &format!("require-sigs = true\ntrusted-public-keys = {public}"));
        let keys = format!("signing_key_files = [ \"{}\" ]", world.path("here-1.sec").display());
        world.configure(&keys, &far.block(scheme, "", ""));
        far.start_daemon(&mut world);
        let built = world.build(SET);
        assert_eq!(built.code, 0, "{built:?}");
        let top = built.out.trim().to_owned();
        delivered(&world, "60s");
        let all = closure(&world, &top);
        assert!(all.len() >= 3, "{all:?}");
        far.assert_whole(&world, &all);
        for path in &all {
            assert!(far.signatures(&world, path).contains("here-1:"), "{scheme}: {path}");
        }
        let row = &world.list(&["--state", "done"])[0];
        let receipt = &row["receipt"];
        assert_eq!(
            (&receipt["asked"], &receipt["signed_by"][0]),
            (&"path-info".into(), &"here-1".into()),
            "{row}"
        );
        assert!(receipt["nar_hash"].as_str().unwrap().starts_with("sha256:"), "{row}");

        // More of it, one after the other.
        for _ in 0..3 {
            let paths = world.valid_paths(2);
            queue(&world, &paths);
            delivered(&world, "60s");
            far.assert_whole(&world, &paths);
        }
        assert_eq!(far.logins(), 1, "{scheme}: {}", far.log());

        // What was there before is not sent again, and the operator can ask.
        assert_eq!(world.ask(&["verify", "--json"]).code, 0);
        assert_eq!(far.logins(), 1, "{scheme}: {}", far.log());
        // Its collector keeps what it was sent as long as the connection lasts.
        far.cut();
        let deleted = far.nix_store(&world, &["--delete", &top]);
        assert_eq!(deleted.code, 0, "{deleted:?}");
        assert_eq!(world.ask(&["verify"]).code, 1, "{scheme}: one is missing");
        wait::until(SOON, || far.has(&world, &top));
        assert_eq!(world.stop(), 0);
    }
}

#[test]
fn a_connection_that_died_between_two_batches_is_opened_anew_at_once() {
    for scheme in SCHEMES {
        let mut world = World::new("");
        let far = Far::new(&world, "require-sigs = false");
        // The key the machine has is named in the URL, and no other file is asked.
        far.know("other-host");
        world.configure("", &far.block(scheme, &far.pin("host"), ""));
        far.start_daemon(&mut world);
        for round in 1..=3 {
            let paths = world.valid_paths(2);
            queue(&world, &paths);
            delivered(&world, "60s");
            far.assert_whole(&world, &paths);
            assert_eq!(far.logins(), round, "{scheme}: {}", far.log());
            far.cut();
        }
        let failed = world.list(&[]).iter().filter(|row| row["attempts"] != 0).count();
        assert_eq!(failed, 0, "{scheme}: {:?}", world.list(&[]));
    }
}

#[test]
fn a_machine_that_is_down_is_unreachable_and_gets_all_when_it_is_back() {
    for scheme in SCHEMES {
        let mut world = World::new("");
        let mut far = Far::new(&world, "require-sigs = false");
        world.configure("", &far.block(scheme, "", "breaker = { failures = 1, probe = \"200ms\" }\nbackoff = { min = \"50ms\", max = \"100ms\" }"));
        far.stop();
        far.start_daemon(&mut world);
        let paths = world.valid_paths(3);
        queue(&world, &paths);
        wait::until(SOON, || world.status()["destinations"][scheme]["breaker"] == "open");
        let rows = world.list(&["--destination", scheme]);
        assert!(rows.iter().all(|row| row["attempts"] == 0), "{rows:?}");
        told(&world, scheme, &["Connection refused", &format!("{scheme}://")]);
        far.start();
        delivered(&world, "60s");
        far.assert_whole(&world, &paths);
    }
}

/// Nix runs the program itself for this machine, and so do we.
#[test]
fn another_store_of_this_machine_needs_no_ssh() {
    for scheme in SCHEMES {
        let mut world = World::new("");
        let store = world.path("second");
        let block = format!(
            "[[caches]]\nid = \"here\"\ncache_type = \"nix-copy\"\ndestination = \"{scheme}://localhost?remote-store={}\"\n",
            store.display()
        );
        let public = key(&world, "here-1");
        let keys = format!("signing_key_files = [ \"{}\" ]", world.path("here-1.sec").display());
        world.configure(&keys, &block);
        world.start_with(|command| {
            command.env(
                "NIX_CONFIG",
                format!("substituters =\nbuild-users-group =\ntrusted-public-keys = {public}"),
            );
        });
        let paths = world.valid_paths(5);
        queue(&world, &paths);
        delivered(&world, "60s");
        let there =
            world.tool("nix-store").arg("--store").arg(&store).arg("--verify-path").args(&paths).status();
        assert!(there.unwrap().success(), "{scheme}");
    }
}
