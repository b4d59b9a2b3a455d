//! What a `permissions` block means, and what people read when a build is kept out.

use ci_model::{
    BranchPattern, CachePolicy, Change, Permissions, RepositoryPattern, Situation, TrustClass, Written,
    may_push,
};

fn written(allow_all: Option<bool>, repos: Option<&[&str]>, branches: Option<&[&str]>) -> Written {
    let repositories =
        |list: &[&str]| list.iter().map(|text| RepositoryPattern::parse(text).unwrap()).collect();
    Written {
        allow_all,
        allowed_repos: repos.map(repositories),
        allowed_branches: branches
            .map(|list| list.iter().map(|text| BranchPattern::parse(text).unwrap()).collect()),
    }
}

fn policy(repos: &[&str], branches: &[&str]) -> CachePolicy {
    CachePolicy {
        permissions: written(None, Some(repos), Some(branches)).meaning(),
        ..CachePolicy::default()
    }
}

/// A push of `commit` to this branch.
fn push<'a>(repository: &'a str, branch: &'a str) -> Situation<'a> {
    Situation::of(repository, "commit", &Change::Push { branch })
}

fn said(policy: &CachePolicy, situation: &Situation<'_>) -> String {
    may_push(policy, situation).map_or_else(|refusal| refusal.to_string(), |()| "yes".into())
}

#[test]
fn a_block_means_what_its_keys_say_together() {
    let all = Permissions::Everything;
    assert_eq!(written(None, None, None).meaning(), all, "absent, or empty");
    assert_eq!(written(Some(true), None, None).meaning(), all);
    assert_eq!(written(Some(true), Some(&["a/b"]), Some(&["main"])).meaning(), all, "written, so it counts");
    assert!(matches!(written(None, Some(&["a/b"]), None).meaning(), Permissions::Listed { .. }));
    assert!(matches!(written(Some(false), None, Some(&["main"])).meaning(), Permissions::Listed { .. }));
    assert!(matches!(written(Some(false), Some(&["a/b"]), Some(&[])).meaning(), Permissions::Listed { .. }));
    for nothing in [
        written(Some(false), None, None),
        written(Some(false), Some(&[]), Some(&[])),
        written(None, Some(&[]), None),
    ] {
        assert_eq!(nothing.meaning(), Permissions::Nothing);
    }
}

#[test]
fn people_read_which_key_decides() {
    let listed = policy(&["myorg/*"], &["main", "release/*"]);
    assert_eq!(said(&listed, &push("myorg/app", "release/1")), "yes");
    assert_eq!(said(&listed, &push("MyOrg/app", "main")), "yes", "forges do not tell cases of owners apart");
    assert_eq!(said(&listed, &push("myorg/app", "Main")), "branch `Main` is not in allowed_branches");
    assert_eq!(
        said(&listed, &push("myorg/app", "release-evil")),
        "branch `release-evil` is not in allowed_branches"
    );
    assert_eq!(said(&listed, &push("evil/app", "main")), "repository `evil/app` is not in allowed_repos");
    let unnamed = Situation { branch: None, ..push("myorg/app", "") };
    assert_eq!(said(&listed, &unnamed), "allowed_branches is set, and no branch is named");
    let nowhere = Situation { repository: None, ..push("", "main") };
    assert_eq!(said(&listed, &nowhere), "allowed_repos is set, and no repository is named");
    let nothing = CachePolicy { permissions: Permissions::Nothing, ..CachePolicy::default() };
    assert_eq!(said(&nothing, &push("myorg/app", "main")), "its permissions allow no repository");
    let hostile = said(&listed, &push(&format!("x/\u{1b}[2J{}", "y".repeat(500)), "main"));
    assert!(hostile.contains("\\u{1b}") && hostile.contains("…`") && hostile.len() < 250, "{hostile}");
}

#[test]
fn a_pull_request_is_on_no_branch() {
    let change = |approved: &'static [&'static str]| Change::PullRequest {
        head_repository: Some("fork/app"),
        author_may_write: false,
        approved,
    };
    let approved = Situation::of("myorg/app", "commit", &change(&["commit"]));
    assert_eq!(approved.branch, None);
    let named = Situation { branch: Some("main"), ..approved };
    let mut listed = policy(&["myorg/*"], &["main"]);
    let kept_out = "allowed_branches is set, and a pull request is on no branch of it; \
                    allow_pull_requests = true lets it in";
    assert_eq!(said(&listed, &named), kept_out, "its head may be called anything");
    listed.allow_pull_requests = true;
    assert_eq!(said(&listed, &approved), "yes");
    assert_eq!(said(&policy(&["myorg/*"], &[]), &approved), "yes", "no branches are listed");

    let untrusted = Situation::of("myorg/app", "commit", &change(&["another"]));
    assert_eq!(untrusted.trust, Some(TrustClass::UntrustedPr));
    let needs = "outputs of an untrusted pull request go only to a cache with allow_untrusted = true";
    assert_eq!(said(&listed, &untrusted), needs);
    assert_eq!(
        said(&CachePolicy::default(), &untrusted),
        needs,
        "allow_all is about repositories and branches"
    );
    listed.allow_untrusted = true;
    assert_eq!(said(&listed, &untrusted), "yes");
    listed.allow_pull_requests = false;
    assert_eq!(said(&listed, &untrusted), kept_out, "it may no more than an approved one");
}

#[test]
fn what_is_not_known_is_not_trusted() {
    let open = CachePolicy::default();
    let unknown = Situation { trust: None, ..push("myorg/app", "main") };
    assert!(said(&open, &unknown).starts_with("without a trust class"), "{}", said(&open, &unknown));
    let other = Situation { trust: Some(TrustClass::ApprovedPr("another")), ..push("myorg/app", "main") };
    assert!(said(&open, &other).starts_with("approved was commit `another`"), "{}", said(&open, &other));
    let nameless = Situation { commit: None, ..other };
    assert!(may_push(&open, &nameless).is_err());
    let lenient = CachePolicy { allow_untrusted: true, ..open };
    assert_eq!(may_push(&lenient, &unknown), Ok(()));
}

#[test]
fn an_own_branch_is_as_good_as_its_author() {
    let class = |head_repository, author_may_write, approved: &'static [&'static str]| {
        TrustClass::of("myorg/app", "c", &Change::PullRequest { head_repository, author_may_write, approved })
    };
    let (approved, untrusted) = (TrustClass::ApprovedPr("c"), TrustClass::UntrustedPr);
    assert_eq!(class(Some("MyOrg/App"), true, &[]), approved);
    assert_eq!(class(Some("myorg/app"), false, &[]), untrusted);
    assert_eq!(class(Some("fork/app"), true, &[]), untrusted, "the fork's branch is not the repository's");
    assert_eq!(class(None, true, &[]), untrusted);
    assert_eq!(class(None, false, &["b", "c"]), approved);
    assert_eq!(class(Some("fork/app"), false, &["b"]), untrusted, "what was approved is older");
}
