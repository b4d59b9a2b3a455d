//! No untrusted push. In: situations at random, as a forge would tell of them and as a careless or hostile client could
//! write them, and caches at random. Out: a failure where `may_push` and an oracle differ that shares no code with it: it
//! has tables where the policy has branches, and regular expressions where that has a matcher. `EKA_CHAOS_FACTOR=50`
//! makes 200,000 situations ten million.

use std::collections::HashMap;

use ci_model::{
    BranchPattern, CachePolicy, Change, RepositoryPattern, Situation, TrustClass, Written, may_push,
};
use test_kit::seed::{self, Rng};

use crate::fuzz::checks::as_regex;

const SITUATIONS: u64 = 200_000;

const REPOSITORY_PATTERNS: &[&str] = &[
    "*",
    "myorg/*",
    "MYORG/app",
    "myorg/pro*",
    "*/app",
    "myorg",
    "other/**",
    "my*/app",
    "/myorg/app",
    "fork/app",
];
const REPOSITORIES: &[&str] = &[
    "myorg/app",
    "MyOrg/App",
    "myorg/prod",
    "myorg/group/app",
    "myorg-evil/app",
    "fork/app",
    "other/x/y",
    "myorg",
    "myorg/",
];
const BRANCH_PATTERNS: &[&str] =
    &["*", "main", "release/*", "*/fix", "rel*", "users/*/wip", "users/**", "refs/heads/main", "main/"];
const BRANCHES: &[&str] = &[
    "main",
    "Main",
    "release/1",
    "release/1/fix",
    "release-evil",
    "release/",
    "users/ann/wip",
    "users/a/b/wip",
    "a/fix",
    "*",
];
const COMMITS: &[&str] = &["c1", "c2", "c3"];

/// How a name stands to a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    NoList = 0,
    Hit = 1,
    Miss = 2,
    NoName = 3,
}

/// Which pattern matches which name, by regular expressions alone.
struct Tables {
    repositories: HashMap<(&'static str, &'static str), bool>,
    branches: HashMap<(&'static str, &'static str), bool>,
}

impl Tables {
    fn new() -> Tables {
        let table = |patterns: &[&'static str], names: &[&'static str], any_case: bool| {
            let mut table = HashMap::new();
            for pattern in patterns {
                let regex = as_regex(pattern, any_case);
                for name in names {
                    let shaped = !name.contains('*') && name.split('/').all(|part| !part.is_empty());
                    let owned = !any_case || name.contains('/');
                    table.insert((*pattern, *name), shaped && owned && regex.is_match(name));
                }
            }
            table
        };
        Tables {
            repositories: table(REPOSITORY_PATTERNS, REPOSITORIES, true),
            branches: table(BRANCH_PATTERNS, BRANCHES, false),
        }
    }

    fn against(
        table: &HashMap<(&'static str, &'static str), bool>,
        list: Option<&Vec<&'static str>>,
        name: Option<&'static str>,
    ) -> Against {
        match (list, name) {
            (None, _) => Against::NoList,
            (Some(list), _) if list.is_empty() => Against::NoList,
            (Some(_), None) => Against::NoName,
            (Some(list), Some(name)) if list.iter().any(|pattern| table[&(*pattern, name)]) => Against::Hit,
            (Some(_), Some(_)) => Against::Miss,
        }
    }
}

/// A block of the configuration, as texts.
struct Block {
    allow_all: Option<bool>,
    repos: Option<Vec<&'static str>>,
    branches: Option<Vec<&'static str>>,
    allow_untrusted: bool,
    allow_pull_requests: bool,
}

/// What is said of a build; the class as a number: 0 none, 1 pushed, 2 approved, 3 untrusted.
#[derive(Debug, Clone, Copy)]
struct Told {
    repository: Option<&'static str>,
    branch: Option<&'static str>,
    commit: Option<&'static str>,
    class: usize,
    approved: &'static str,
}

/// Rows: repository no list, hit, miss, no name. Columns: branch the same.
const PUSHED: [&str; 4] = ["yynn", "yynn", "nnnn", "nnnn"];
/// The same for pull requests: without, and with `allow_pull_requests`.
const PULLED: [[&str; 4]; 2] = [["ynnn", "ynnn", "nnnn", "nnnn"], ["yyyy", "yyyy", "nnnn", "nnnn"]];

/// What the specification says, read as tables.
fn oracle(tables: &Tables, block: &Block, told: &Told) -> bool {
    let trusted = match told.class {
        1 => true,
        2 => told.commit == Some(told.approved),
        _ => false,
    };
    if !trusted && !block.allow_untrusted {
        return false;
    }
    let lists = [&block.repos, &block.branches];
    let entries: usize = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)).sum();
    let any_list = lists.iter().any(|list| list.is_some());
    match (block.allow_all, any_list, entries) {
        (Some(true), ..) | (None, false, _) => return true,
        (_, _, 0) => return false,
        _ => {}
    }
    let row = Tables::against(&tables.repositories, block.repos.as_ref(), told.repository) as usize;
    let column = Tables::against(&tables.branches, block.branches.as_ref(), told.branch) as usize;
    let table = if told.class == 1 { PUSHED } else { PULLED[usize::from(block.allow_pull_requests)] };
    table[row].as_bytes()[column] == b'y'
}

fn list(rng: &mut Rng, patterns: &[&'static str]) -> Option<Vec<&'static str>> {
    rng.chance(60).then(|| (0..rng.below(4)).map(|_| *rng.pick(patterns)).collect())
}

fn block(rng: &mut Rng) -> Block {
    Block {
        allow_all: *rng.pick(&[None, None, Some(false), Some(true)]),
        repos: list(rng, REPOSITORY_PATTERNS),
        branches: list(rng, BRANCH_PATTERNS),
        allow_untrusted: rng.chance(25),
        allow_pull_requests: rng.chance(40),
    }
}

fn policy(block: &Block) -> CachePolicy {
    let repositories = |list: &Vec<&str>| list.iter().map(|p| RepositoryPattern::parse(p).unwrap()).collect();
    let branches = |list: &Vec<&str>| list.iter().map(|p| BranchPattern::parse(p).unwrap()).collect();
    let written = Written {
        allow_all: block.allow_all,
        allowed_repos: block.repos.as_ref().map(repositories),
        allowed_branches: block.branches.as_ref().map(branches),
    };
    CachePolicy {
        permissions: written.meaning(),
        allow_untrusted: block.allow_untrusted,
        allow_pull_requests: block.allow_pull_requests,
    }
}

/// Anything a client could say.
fn told(rng: &mut Rng) -> Told {
    let some = |rng: &mut Rng, names: &[&'static str]| rng.chance(85).then(|| *rng.pick(names));
    Told {
        repository: some(rng, REPOSITORIES),
        branch: some(rng, BRANCHES),
        commit: some(rng, COMMITS),
        class: rng.index(4),
        approved: COMMITS[rng.index(COMMITS.len())],
    }
}

fn situation(told: &Told) -> Situation<'static> {
    let trust = match told.class {
        0 => None,
        1 => Some(TrustClass::TrustedPush),
        2 => Some(TrustClass::ApprovedPr(told.approved)),
        _ => Some(TrustClass::UntrustedPr),
    };
    Situation { repository: told.repository, branch: told.branch, commit: told.commit, trust }
}

/// How often each answer was given, to see that both are tried.
#[derive(Debug, Default)]
struct Counts {
    allowed: u64,
    refused: u64,
    outsiders: u64,
}

/// What a forge tells: a push, or a pull request from somewhere, by somebody, with approvals.
fn judge_event(rng: &mut Rng, tables: &Tables, block: &Block, policy: &CachePolicy, counts: &mut Counts) {
    let repository = *rng.pick(REPOSITORIES);
    let commit = *rng.pick(COMMITS);
    let approved: Vec<&str> = (0..rng.below(3)).map(|_| *rng.pick(COMMITS)).collect();
    let (is_push, branch) = (rng.chance(30), *rng.pick(BRANCHES));
    let (head, author_may_write) = (rng.chance(90).then(|| *rng.pick(REPOSITORIES)), rng.chance(50));
    let change = if is_push {
        Change::Push { branch }
    } else {
        Change::PullRequest { head_repository: head, author_may_write, approved: &approved }
    };
    let own = head.is_some_and(|head| head.to_lowercase() == repository.to_lowercase()) && author_may_write;
    let vouched = own || approved.contains(&commit);
    let told = Told {
        repository: Some(repository),
        branch: is_push.then_some(branch),
        commit: Some(commit),
        class: if is_push { 1 } else { 3 - usize::from(vouched) },
        approved: commit,
    };
    let allowed = may_push(policy, &Situation::of(repository, commit, &change)).is_ok();
    assert_eq!(allowed, oracle(tables, block, &told), "{policy:?}\n{change:?} of {repository} at {commit}");
    if !is_push && !vouched {
        counts.outsiders += 1;
        assert!(!allowed || block.allow_untrusted, "an untrusted push: {policy:?}\n{change:?}");
    }
}

#[test]
fn the_policy_is_the_oracles() {
    let factor = std::env::var("EKA_CHAOS_FACTOR");
    let factor: u64 = factor.map_or(1, |text| text.parse().expect("EKA_CHAOS_FACTOR is a whole number"));
    let mut seeded = seed::start();
    let rng = &mut seeded.rng;
    let tables = Tables::new();
    let mut counts = Counts::default();
    for _ in 0..SITUATIONS * factor / 2 {
        let block = block(rng);
        let policy = policy(&block);
        let told = told(rng);
        let allowed = may_push(&policy, &situation(&told)).is_ok();
        assert_eq!(allowed, oracle(&tables, &block, &told), "{policy:?}\n{told:?}");
        *if allowed { &mut counts.allowed } else { &mut counts.refused } += 1;
        judge_event(rng, &tables, &block, &policy, &mut counts);
    }
    println!("{} situations, of them {counts:?}", SITUATIONS * factor);
    let least = SITUATIONS * factor / 20;
    assert!(counts.allowed > least && counts.refused > least && counts.outsiders > least, "{counts:?}");
}
