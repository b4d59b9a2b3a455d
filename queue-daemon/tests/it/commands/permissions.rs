//! Whose builds go where: `permissions`, `allow_untrusted` and `allow_pull_requests`, for what a CI brings and for what
//! it claims.

use hook_wire::{FieldTag, Source, Status, Trust};
use test_kit::wait;

use super::claims::{stage_of, taken};
use crate::frames::{Answer, Frame};
use crate::world::{SOON, World};

const RESTRICTED: &str = "[caches.permissions]\nallow_all = false\nallowed_repos = [ \"myorg/*\" ]\n\
                          allowed_branches = [ \"main\", \"release/*\" ]";

/// A cache without rules, one that is restricted, and one for strangers; all held, and a build without a hook, as
/// (output, derivation).
fn stage(keys_of_restricted: &str) -> (World, (String, String)) {
    let caches = [
        World::command_cache("open", "", ""),
        World::command_cache("prod", "", &format!("{keys_of_restricted}\n{RESTRICTED}")),
        World::command_cache("pr", "", "allow_untrusted = true"),
    ];
    let (world, [build, _]) = stage_of("", &caches.concat());
    (world, build)
}

fn of(frame: Frame, repository: &str, branch: &str) -> Frame {
    frame.with(FieldTag::Repository, repository).with(FieldTag::Branch, branch).with(FieldTag::Commit, "0123")
}

/// Where such a request goes that names no destination.
fn by_default(world: &World, frame: Frame, out: &str) -> Vec<String> {
    let answer = frame.path(out).send(world);
    assert_eq!((answer.status, answer.refused), (Status::Queued, 0), "{answer:?}");
    taken(world)
}

fn refused(answer: &Answer) -> &str {
    assert_eq!((answer.status, answer.accepted), (Status::Refused, 0), "{answer:?}");
    &answer.text
}

#[test]
fn what_a_ci_brings_goes_where_its_build_is_let_in() {
    let (world, (out, _)) = stage("");
    let pushed = |repository, branch| of(Frame::of_the_ci(Trust::TrustedPush), repository, branch);
    assert_eq!(by_default(&world, pushed("myorg/app", "main"), &out), ["open", "pr", "prod"]);
    assert_eq!(by_default(&world, pushed("MyOrg/App", "release/1"), &out), ["open", "pr", "prod"]);
    for (repository, branch) in [("evil/app", "main"), ("myorg/app", "release-evil"), ("myorg/app", "Main")] {
        assert_eq!(by_default(&world, pushed(repository, branch), &out), ["open", "pr"]);
    }
    let approved = of(Frame::of_the_ci(Trust::ApprovedPr), "myorg/app", "main");
    assert_eq!(by_default(&world, approved, &out), ["open", "pr"], "its head may be called anything");
    let untrusted = || of(Frame::of_the_ci(Trust::UntrustedPr), "myorg/app", "main");
    assert_eq!(by_default(&world, untrusted(), &out), ["pr"]);
    assert_eq!(by_default(&world, of(Frame::enqueue(Source::Ci), "myorg/app", "main"), &out), ["pr"]);
    let as_a_hook = Frame::enqueue(Source::Hook).with(FieldTag::Trust, [Trust::UntrustedPr.number()]);
    assert_eq!(by_default(&world, as_a_hook, &out), ["pr"], "whoever brings it");

    // What no CI speaks of is for `accept`, which leaves hooks out where permissions restrict.
    assert_eq!(world.hook(&out, "").err, "");
    assert_eq!(taken(&world), ["open", "pr"]);
    assert_eq!(world.ask(&["push", &out]).code, 0);
    assert_eq!(taken(&world), ["open", "pr", "prod"], "people may use every cache");
}

#[test]
fn a_cache_that_keeps_a_build_out_is_named_with_the_reason_and_the_others_take_it() {
    let (world, (out, _)) = stage("");
    let dev = || of(Frame::of_the_ci(Trust::TrustedPush), "myorg/app", "dev").path(&out);
    let why = "destination `prod` does not take this: branch `dev` is not in allowed_branches";
    let answer = dev().to("prod").to("open").send(&world);
    assert_eq!(answer, Answer { status: Status::Partly, accepted: 1, refused: 1, text: why.into() });
    assert_eq!(taken(&world), ["open"]);
    assert_eq!(refused(&dev().to("prod").send(&world)), why);
    assert!(world.log().contains(why), "{}", world.log());

    let ci = |trust| Frame::of_the_ci(trust).path(&out);
    let no_class = Frame::enqueue(Source::Ci).path(&out).to("prod").send(&world);
    assert!(refused(&no_class).contains("without a trust class"), "{no_class:?}");
    let nowhere = ci(Trust::TrustedPush).with(FieldTag::Branch, "main").to("prod").send(&world);
    assert!(refused(&nowhere).ends_with("allowed_repos is set, and no repository is named"), "{nowhere:?}");
    let stranger = of(ci(Trust::UntrustedPr), "evil/app", "main").to("prod").to("open").send(&world);
    let both = refused(&stranger);
    assert!(both.contains("destination `prod`") && both.contains("destination `open`"), "{both}");
    assert!(both.contains("only to a cache with allow_untrusted = true"), "{both}");
    // An approval is for a commit.
    let approved = ci(Trust::ApprovedPr).with(FieldTag::Repository, "myorg/app");
    assert!(refused(&approved.to("open").send(&world)).contains("and, if approved, its commit"));
    assert_eq!(taken(&world), [""; 0]);
}

#[test]
fn a_claim_opens_no_cache_that_keeps_its_build_out() {
    let (world, (out, drv)) = stage("accept = [ \"hook\", \"ci\" ]");
    let claim = |trust, repository, branch| {
        let claim = of(Frame::claim(b'1', trust, 600), repository, branch).drv(&drv);
        assert_eq!(claim.to("open").to("prod").to("pr").send(&world).accepted, 1);
    };
    let by_hook = || {
        assert_eq!(world.hook(&out, &drv).err, "");
        taken(&world)
    };
    assert_eq!(by_hook(), ["open", "pr", "prod"], "nothing is claimed: `accept` decides");
    claim(Trust::TrustedPush, "myorg/app", "main");
    assert_eq!(by_hook(), ["open", "pr", "prod"]);
    claim(Trust::TrustedPush, "myorg/app", "dev");
    assert_eq!(by_hook(), ["open", "pr"]);
    claim(Trust::UntrustedPr, "myorg/app", "main");
    assert_eq!(by_hook(), ["pr"]);
    assert_eq!(world.ask(&["push", &out]).code, 0);
    assert_eq!(taken(&world), ["pr"], "people are bound as well");
    let untrusted = of(Frame::of_the_ci(Trust::UntrustedPr), "myorg/app", "main").path(&out).drv(&drv);
    assert_eq!(by_default(&world, untrusted, &out), ["pr"], "and so is the CI, by what it says itself");
}

#[test]
fn pull_requests_are_let_in_beside_a_list_of_branches() {
    let (world, (out, _)) = stage("allow_pull_requests = true");
    let pulled = |trust, repository| of(Frame::of_the_ci(trust), repository, "anything");
    assert_eq!(by_default(&world, pulled(Trust::ApprovedPr, "myorg/app"), &out), ["open", "pr", "prod"]);
    assert_eq!(by_default(&world, pulled(Trust::ApprovedPr, "evil/app"), &out), ["open", "pr"]);
    assert_eq!(by_default(&world, pulled(Trust::UntrustedPr, "myorg/app"), &out), ["pr"]);
}

/// The spool is no way around it.
#[test]
fn a_request_in_the_spool_is_judged_alike() {
    let (world, (out, _)) = stage("");
    let stranger = of(Frame::of_the_ci(Trust::UntrustedPr), "myorg/app", "main").path(&out).to("prod");
    std::fs::write(world.path("spool/.1.req"), stranger.bytes()).unwrap();
    std::fs::rename(world.path("spool/.1.req"), world.path("spool/1.req")).unwrap();
    wait::until(SOON, || world.log().contains("destination `prod` does not take this"));
    // It is moved aside after that was said.
    wait::until(SOON, || world.path("state/refused/1.req").exists());
    assert_eq!(taken(&world), [""; 0]);
}
