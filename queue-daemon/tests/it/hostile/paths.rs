//! What a hook can be given in place of store paths, through the real hook to the real daemon.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use test_kit::wait;

use super::{PROMPT, assert_works};
use crate::chaos::{factor, registered_paths};
use crate::world::{SOON, World, run};

/// For work that grows with a hundred thousand paths, on a busy machine.
const LONG: Duration = Duration::from_secs(600);

fn stage(valid: usize) -> (World, Vec<String>) {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(valid);
    world.start();
    (world, paths)
}

#[test]
fn odd_words_are_named_once_and_the_path_beside_them_is_queued() {
    let (world, paths) = stage(1);
    let long = [b"/nix/store/00000000000000000000000000000000-".as_slice(), &[b'x'; 5_000]].concat();
    let odd: [&[u8]; 13] = [
        b"/etc/passwd",
        b"-rf",
        b"--option",
        b"/nix/store/*",
        b"/nix/store/[0-9a-z]*-hello",
        b"$(reboot)",
        b"`reboot`;reboot&&reboot|reboot",
        b"/nix/store/../../etc/shadow",
        b"nix/store/00000000000000000000000000000000-relative",
        b"/nix/store/\xff\xfe\xfd-non-utf8",
        "/nix/store/00000000000000000000000000000000-\u{202e}txt.exe".as_bytes(),
        b"/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-letters-no-hash-has",
        &long,
    ];
    for word in odd {
        let both = [word, b" ", paths[0].as_bytes()].concat();
        let said = run(world.hook_command().env("OUT_PATHS", OsStr::from_bytes(&both)), b"");
        assert_eq!((said.code, said.err.lines().count()), (0, 1), "{said:?}");
        assert!(
            said.err.starts_with("eka-hook: '") && said.err.contains("is no store path and is not queued"),
            "{said:?}"
        );
        assert!(said.err.trim_end().chars().all(hook_wire::is_printable), "{said:?}");
        assert!(world.list(&[&paths[0]]).len() == 1, "the path beside it is queued");
        world.ask(&["wait", &paths[0], "--timeout", "30s"]);
        world.ask(&["drop", "--all"]);
    }
    // As arguments they need not be one word.
    let said = run(world.hook_command().args(["--", "-x", "", "a\nb", &paths[0]]), b"");
    assert_eq!((said.code, said.err.lines().count()), (0, 3), "{said:?}");
    assert_eq!(world.list(&[]).len(), 1);
}

#[test]
fn blanks_and_line_ends_part_paths_and_nothing_else() {
    let (world, paths) = stage(3);
    let list = format!("\n {}\t{}\r\n\n{} ", paths[0], paths[1], paths[2]);
    let said = world.hook(&list, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    world.until("main", "done", 3);
}

#[test]
fn nothing_at_all_is_said_and_is_no_failure() {
    let (world, _) = stage(0);
    let said = world.hook("", "");
    assert_eq!(said.code, 0);
    assert!(said.err.contains("nothing to queue: no path was given"), "{said:?}");
    assert_eq!(world.hook(" \n\t ", "").code, 0);
    assert_eq!(world.list(&[]).len(), 0);
}

/// Well formed, but Nix does not know them.
#[test]
fn paths_that_are_not_valid_are_refused_by_name() {
    let (world, paths) = stage(1);
    let unknown = format!("{}-and-more", paths[0]);
    let foreign = "/nix/store/00000000000000000000000000000000-elsewhere";
    let said = world.hook(&format!("{unknown} {foreign} {}", paths[0]), "");
    assert_eq!(said.code, 0);
    assert!(said.err.contains(&format!("{unknown} is not valid in the Nix database")), "{said:?}");
    assert!(said.err.contains(&format!("{foreign} is not in this machine's store")), "{said:?}");
    world.until("main", "done", 1);
    assert_eq!(world.list(&[]).len(), 1);
    let said = world.hook("", &format!("{unknown}.drv"));
    assert_eq!(said.code, 0);
    assert!(said.err.contains("has no valid output in the store; nothing to queue"), "{said:?}");
    wait::until(SOON, || world.status()["gc_roots"] == 0);
}

/// While the daemon was away the garbage collector was not: the path is gone, and that is said in every place.
#[test]
fn a_path_collected_between_spool_and_intake_is_gone_and_said() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(2);
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    let deleted = world.tool("nix-store").args(["--delete", &paths[0]]).output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    world.start();
    world.until("main", "done", 1);
    let gone = world.list(&["--state", "gone"]);
    assert_eq!((gone.len(), &gone[0]["path"]), (1, &paths[0].as_str().into()));
    assert_eq!(gone[0]["last_error"], "the path is no longer valid in the store");
    wait::until(SOON, || world.log().contains(&format!("{} vanished from the store before", paths[0])));
    assert_eq!(world.ask(&["wait", "--all"]).code, 1);
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    // Built again, it is asked for again and delivered.
    let text = fs::read_to_string(&paths[1]).unwrap();
    let name = paths[0].rsplit('-').next().unwrap();
    let again = world.path(name);
    fs::write(&again, text.rsplit_once('-').unwrap().0.to_owned() + "-" + name.trim_start_matches('p'))
        .unwrap();
    let added = world.tool("nix-store").arg("--add").arg(&again).output().unwrap();
    assert_eq!(String::from_utf8(added.stdout).unwrap().trim(), paths[0]);
    assert_eq!(world.hook(&paths[0], "").err, "");
    world.until("main", "done", 2);
}

/// More paths on standard input than fit a message: one file of the spool, taken in by chunks, while other hooks are
/// answered at once; and a kill in the middle of it loses and doubles nothing. The long run has 100,000 of them.
#[test]
fn a_list_too_long_for_a_message() {
    let count = if factor() > 1 { 100_000 } else { 3_000 };
    let mut world = World::in_memory(&World::command_cache("main", "", ""));
    let paths = registered_paths(&world, "huge", count);
    let small = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.stop(), 0);
    let said = run(world.hook_command().args(["--tag", "huge", "-"]), paths.join("\n").as_bytes());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let in_spool = || fs::read_dir(world.path("spool")).unwrap().count();
    assert_eq!(in_spool(), 1);
    world.start();
    wait::until(LONG, || world.list(&["--limit", "1"]).len() == 1);
    let call = world.hook(&small, "");
    assert_eq!((call.code, call.err.as_str()), (0, ""));
    assert!(call.took < PROMPT, "{call:?}");
    world.kill();
    world.start();
    let in_spool = || fs::read_dir(world.path("spool")).unwrap().count();
    wait::until(LONG, || in_spool() == 0);
    assert_eq!(world.count("main", "queued"), count as u64 + 1);
    let tally = world.ask(&["wait", "--tag", "huge", "--timeout", "1ms", "--json"]);
    assert!(tally.out.contains(&format!("\"queued\":{count}")), "{tally:?}");
    assert_eq!(world.status()["gc_roots"], count + 1);
    let dropped = world.ask(&["drop", "--tag", "huge"]);
    assert_eq!((dropped.code, dropped.out), (0, format!("{count} dropped\n")));
    assert_eq!(world.status()["gc_roots"], 1);
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", 1);
    assert_works(&world);
}
