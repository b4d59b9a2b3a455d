//! The services' own programs: their command lines as they are documented, and no token in them.

use std::fs;

use crate::native::stage::{Made, QUICK, delivered, made, queue};
use crate::world::{World, lines};

#[test]
fn a_batch_is_one_run_of_the_program_with_its_paths_and_no_token() {
    for (kind, destination, more, before) in [
        ("attic", "here:team", "", "push here:team"),
        ("cachix", "team", "config_file = \"$W/cachix.dhall\"", "--config $W/cachix.dhall push team"),
    ] {
        let mut world = World::new(&format!(
            "[[caches]]\nid = \"main\"\ncache_type = \"{kind}\"\ndestination = \"{destination}\"\ndriver = \"cli\"\n{more}\n{QUICK}\n"
        ));
        fs::write(world.path("cachix.dhall"), "{ authToken = \"file-canary\" }").unwrap();
        fs::create_dir(world.path("bin")).unwrap();
        let (program, log) = (world.path("bin").join(kind), world.path("argv.log"));
        let script = format!(
            "#!/bin/sh\necho \"$* token:$CACHIX_AUTH_TOKEN\" >> {0}\n[ -e {0}.failed ] || {{ touch {0}.failed; exit 69; }}\n",
            log.display()
        );
        test_kit::script::write(&program, &script);
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        world.start_with(|command| {
            command.env("PATH", path).env("CACHIX_AUTH_TOKEN", "env-canary");
        });
        let paths = made(&world, &[Made::new("a", "a", &[])]);
        queue(&world, &paths);
        delivered(&world, "60s");
        let before = before.replace("$W", world.path("").to_str().unwrap().trim_end_matches('/'));
        let run = format!("{before} {} token:env-canary", paths[0]);
        assert_eq!(lines(&log), [run.clone(), run], "one failed, one did not");
        assert_eq!(world.list(&[])[0]["receipt"]["kind"], kind);
        assert!(!world.log().contains("canary"), "{}", world.log());
    }
}
