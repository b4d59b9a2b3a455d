//! Who feeds which cache: `accept`, and the CI's claims on what it builds.

use hook_wire::{FieldTag, Source, Status, Trust};
use test_kit::wait;

use crate::frames::Frame;
use crate::nobody::{Nobody, UID};
use crate::world::{SOON, World, run};

/// Two caches for everybody, one for the CI alone, all held; and two builds without a hook, as (output, derivation).
fn stage(queue: &str) -> (World, [(String, String); 2]) {
    let caches = [
        World::command_cache("a", "", ""),
        World::command_cache("b", "", ""),
        World::command_cache("ci-only", "", "accept = [ \"ci\" ]"),
    ];
    stage_of(queue, &caches.concat())
}

/// These caches, all held; and two builds without a hook, as (output, derivation).
pub(super) fn stage_of(queue: &str, caches: &str) -> (World, [(String, String); 2]) {
    let mut world = World::with_queue(queue, caches);
    let no_hook = world.path("no-hook.sh");
    let expression = r#"[ (run "x" { } "echo x > $out") (run "y" { } "echo y > $out") ]"#;
    let said = world.build_with_hook(expression, &no_hook, "#!/bin/sh\n");
    assert_eq!(said.code, 0, "{said:?}");
    let built = ["-x", "-y"].map(|name| {
        let out = said.out.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
        let drv = world.tool("nix-store").args(["-q", "--deriver", &out]).output().unwrap();
        (out, String::from_utf8(drv.stdout).unwrap().trim().to_owned())
    });
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    (world, built)
}

/// Where deliveries are owed; they are forgotten after the look.
pub(super) fn taken(world: &World) -> Vec<String> {
    let rows = world.list(&[]);
    assert_eq!(world.ask(&["drop", "--all"]).code, 0);
    let mut to: Vec<String> =
        rows.iter().map(|row| row["destination"].as_str().unwrap().to_owned()).collect();
    to.sort();
    to
}

#[test]
fn each_cache_takes_from_the_sources_it_accepts() {
    let (world, [(out, _), _]) = stage("");
    assert_eq!(world.hook(&out, "").err, "");
    assert_eq!(taken(&world), ["a", "b"]);
    assert_eq!(Frame::enqueue(Source::Hydra).path(&out).send(&world).accepted, 2);
    assert_eq!(taken(&world), ["a", "b"]);
    assert_eq!(Frame::of_the_ci(Trust::TrustedPush).path(&out).send(&world).accepted, 3);
    assert_eq!(taken(&world), ["a", "b", "ci-only"]);

    let said = run(world.hook_command().args(["--destination", "ci-only", &out]), b"");
    assert_eq!(said.code, 0);
    assert!(said.err.contains("destination `ci-only` does not accept requests from `hook`"), "{said:?}");
    let said = run(world.hook_command().args(["--strict", "--destination", "typo", &out]), b"");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("destination `typo` is not configured; configured: a, b, ci-only"), "{said:?}");
    let answer = Frame::enqueue(Source::Cli).path(&out).send(&world);
    assert_eq!(answer.status, Status::Refused);
    assert!(answer.text.contains("use `eka-queue push`"), "{answer:?}");
    assert_eq!(taken(&world), [""; 0]);
}

#[test]
fn a_hooks_request_for_a_claimed_derivation_goes_only_where_the_claim_allows() {
    let (world, [(out, drv), (other, other_drv)]) = stage("");
    let claim = Frame::claim(b'1', Trust::ApprovedPr, 600)
        .with(FieldTag::Commit, "0123")
        .drv(&drv)
        .to("b")
        .to("ci-only");
    assert_eq!(claim.send(&world).accepted, 1);

    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), ["b"], "accept and claim both hold");
    assert_eq!(world.hook("", &drv).err, "");
    assert_eq!(taken(&world), ["b"], "Nix 2.8 names the derivation alone");
    assert_eq!(world.hook(&out, "").err, "");
    assert_eq!(taken(&world), ["b"], "the store remembers what built it");
    assert_eq!(world.hook(&out, &other_drv).err, "");
    assert_eq!(taken(&world), ["b"], "to name another derivation does not help");
    assert_eq!(run(world.hook_command().args(["--destination", "a", &out]), b"").err, "");
    assert_eq!(taken(&world), [""; 0], "nor to name the destination");
    assert_eq!(world.ask(&["push", &out]).code, 0);
    assert_eq!(
        taken(&world),
        ["b", "ci-only"],
        "people may use every cache, but the claim binds them as well"
    );
    assert_eq!(Frame::of_the_ci(Trust::TrustedPush).path(&out).drv(&drv).to("a").send(&world).accepted, 1);
    assert_eq!(taken(&world), ["a"], "the CI itself is not bound");
    assert_eq!(world.hook(&other, &other_drv).err, "");
    assert_eq!(taken(&world), ["a", "b"], "what is not claimed goes everywhere");

    assert_eq!(Frame::unclaim(b'1').send(&world).accepted, 1);
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), ["a", "b"]);
}

/// What a stranger's pull request built does not become the machine's own when its claim is over.
#[test]
fn a_backfill_is_bound_by_claims_that_are_over() {
    let (world, [(out, drv), _]) = stage("");
    assert_eq!(Frame::claim(b'1', Trust::UntrustedPr, 600).drv(&drv).send(&world).accepted, 1);
    assert_eq!(Frame::unclaim(b'1').send(&world).accepted, 1);
    let said = world.ask(&["push", "--all-valid"]);
    assert_eq!(said.code, 0, "{said:?}");
    let queued: Vec<(String, String)> = world
        .list(&[])
        .iter()
        .map(|row| {
            (row["path"].as_str().unwrap().to_owned(), row["destination"].as_str().unwrap().to_owned())
        })
        .collect();
    assert!(!queued.is_empty() && queued.iter().all(|(path, _)| *path != out), "{queued:?}");
    assert!(queued.iter().all(|(_, id)| id != "ci-only"), "it goes where a hook's would: {queued:?}");
    assert_eq!(world.ask(&["push", &out, "--to", "a"]).code, 0);
    assert_eq!(world.list(&["--destination", "a"]).iter().filter(|row| row["path"] == *out).count(), 1);
}

#[test]
fn a_claim_without_destinations_lets_nothing_through() {
    let (mut world, [(out, drv), (other, other_drv)]) = stage("");
    let nowhere = Frame::claim(b'1', Trust::UntrustedPr, 600).drv(&drv);
    assert_eq!(nowhere.send(&world).status, Status::Queued);
    assert_eq!(Frame::claim(b'2', Trust::TrustedPush, 600).drv(&other_drv).to("a").send(&world).accepted, 1);
    assert_eq!(world.hook(&format!("{out} {other}"), "").err, "");
    assert_eq!(taken(&world), ["a"], "each path has its own claim");
    // Two claims meet on one path: the narrower rules.
    assert_eq!(world.hook(&out, &other_drv).err, "");
    assert_eq!(taken(&world), [""; 0]);
    // A claim outlives the daemon that heard it.
    world.kill();
    world.start();
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), [""; 0]);
    // Only some derivations of a claim may be let go.
    assert_eq!(Frame::unclaim(b'1').drv(&other_drv).send(&world).accepted, 0);
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), [""; 0]);
    assert_eq!(Frame::unclaim(b'1').drv(&drv).send(&world).accepted, 1);
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), ["a", "b"]);
}

/// Two runs may build the same derivation; the end of one leaves the other's rules.
#[test]
fn the_claim_of_one_run_outlives_that_of_another() {
    let (world, [(out, drv), _]) = stage("");
    assert_eq!(Frame::claim(b'1', Trust::UntrustedPr, 600).drv(&drv).send(&world).accepted, 1);
    assert_eq!(
        Frame::claim(b'2', Trust::TrustedPush, 600).drv(&drv).to("a").to("b").send(&world).accepted,
        1
    );
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), [""; 0], "both hold: the narrower rules");
    assert_eq!(Frame::unclaim(b'2').send(&world).accepted, 1);
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), [""; 0], "the first run still builds it");
    assert_eq!(Frame::claim(b'2', Trust::TrustedPush, 600).drv(&drv).to("a").send(&world).accepted, 1);
    assert_eq!(Frame::unclaim(b'1').send(&world).accepted, 1);
    assert_eq!(Frame::unclaim(b'1').send(&world).accepted, 0, "it has ended already");
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), ["a"]);
}

/// The daemon is away while a claimed derivation is built, and hears that the claim has ended before it takes in what
/// the hook left in the spool.
#[test]
fn what_lay_in_the_spool_is_bound_by_the_claims_of_its_time() {
    let (mut world, [(out, drv), _]) = stage("");
    assert_eq!(Frame::claim(b'1', Trust::UntrustedPr, 600).drv(&drv).send(&world).accepted, 1);
    world.kill();
    assert_eq!(world.hook(&out, &drv).err, "");
    let mut spool = std::fs::read_dir(world.path("spool")).unwrap();
    let spooled = spool.next().expect("the hook left a file").unwrap().path();
    let aside = world.path("later.req");
    std::fs::rename(&spooled, &aside).unwrap();
    world.start();
    assert_eq!(Frame::unclaim(b'1').send(&world).accepted, 1);
    std::fs::rename(&aside, &spooled).unwrap();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert_eq!(taken(&world), [""; 0]);
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), ["a", "b"], "what is built from now on is free");
}

#[test]
fn a_claim_that_is_not_repeated_ends_by_itself() {
    let (world, [(out, drv), _]) = stage("");
    assert_eq!(Frame::claim(b'1', Trust::ApprovedPr, 5).drv(&drv).send(&world).accepted, 1);
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), [""; 0]);
    wait::until(SOON, || {
        assert_eq!(world.hook(&out, &drv).err, "");
        taken(&world) == ["a", "b"]
    });
}

#[test]
fn a_claim_for_a_cache_that_is_not_there_is_refused_whole() {
    let (world, [(out, drv), (_, other_drv)]) = stage("");
    let claim = Frame::claim(b'1', Trust::ApprovedPr, 600).drv(&drv).drv(&other_drv).to("b").to("typo");
    let answer = claim.send(&world);
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (Status::Refused, "destination `typo` is not configured")
    );
    let answer = Frame::claim(b'1', Trust::ApprovedPr, 600).drv(&drv).drv(&out).send(&world);
    assert_eq!(answer.status, Status::Refused, "an output is no derivation: {answer:?}");
    assert_eq!(world.hook(&out, &drv).err, "");
    assert_eq!(taken(&world), ["a", "b"], "nothing was claimed");
}

#[test]
fn only_the_ci_and_root_may_claim() {
    let group = format!("socket_group = \"{UID}\"");
    let (mut world, [(out, drv), _]) = stage(&group);
    let claim = Frame::claim(b'1', Trust::ApprovedPr, 600).drv(&drv);
    let Some(nobody) = Nobody::in_world(&world) else { return };
    let as_ci = Frame::of_the_ci(Trust::TrustedPush).path(&out);
    for frame in [&claim, &Frame::unclaim(b'1'), &as_ci] {
        let answer = nobody.says(frame);
        assert_eq!(answer.status, Status::Refused);
        assert_eq!(
            answer.text,
            format!("user {UID} may not speak for the CI; ci_users of [queue] decides that")
        );
    }
    assert_eq!(nobody.says(&Frame::enqueue(Source::Hook).path(&out)).accepted, 2, "a hook it may be");
    assert_eq!(taken(&world), ["a", "b"]);

    assert_eq!(world.stop(), 0);
    let caches = ["a", "b", "ci-only"].map(|id| World::command_cache(id, "", "")).concat();
    world.configure(&format!("{group}\nci_users = [ \"{UID}\" ]"), &caches);
    world.start();
    let nobody = Nobody::in_world(&world).unwrap();
    assert_eq!(nobody.says(&claim).accepted, 1);
    assert_eq!(nobody.says(&as_ci).accepted, 3);
    assert_eq!(nobody.says(&Frame::unclaim(b'1')).accepted, 1);
}
