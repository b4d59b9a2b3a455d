//! The example repository, with Nix alone: it evaluates, offline and without nixpkgs, but for what shall not; its change
//! applies to it and does what its README says.

use std::collections::BTreeMap;

use crate::program::ekaci;
use crate::stage::{Stage, marked, page, repository};

/// The commands that the README prints, up to the last one, which is `ekaci` itself.
pub(crate) fn made(stage: &Stage) {
    let commands = marked(&page("examples/README.md"), "run it");
    let (making, _) = commands.split_once("\nekaci").unwrap();
    stage.script("", making);
}

/// The derivation of every attribute of a system, as Nix says; without those that do not evaluate.
fn evaluated(stage: &Stage, commit: &str) -> BTreeMap<String, String> {
    let expression =
        "system: let set = removeAttrs (import ./default.nix).${system} [ \"recurseForDerivations\" ]; in
        builtins.mapAttrs (_: package: let tried = builtins.tryEval package.drvPath;
          in if tried.success then tried.value else \"\") set";
    let script = format!(
        "rm -rf ../at && git clone --quiet . ../at && cd ../at && git checkout --quiet {commit}
        nix-instantiate --eval --strict --json -E '({expression}) \"x86_64-linux\"'"
    );
    let said = stage.script("my-packages", &script);
    serde_json::from_str::<BTreeMap<String, String>>(&said.out).unwrap()
}

#[test]
fn the_change_does_what_the_readme_says() {
    let stage = Stage::new();
    made(&stage);
    let commit =
        "git add . && git -c user.name=me -c user.email=me@example.org commit --quiet --message change";
    stage.script("my-packages", commit);
    let (base, head) = (evaluated(&stage, "main~1"), evaluated(&stage, "main"));

    let failing = |set: &BTreeMap<String, String>| {
        set.iter().filter(|(_, drv)| drv.is_empty()).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (base.len(), failing(&base), failing(&head)),
        (29, vec!["rlogin".into()], vec!["rlogin".into(), "vim".into()])
    );
    assert_eq!(base["jq"], head["jq"], "only its meta differs");
    assert_eq!(base["rg"], head["ripgrep"], "only its name differs");
    assert!(!head.contains_key("telnet") && !head.contains_key("rg") && head.contains_key("zstd"));
    let both = head.iter().filter(|(name, drv)| !drv.is_empty() && base.contains_key(*name));
    let (same, rebuilt): (Vec<_>, Vec<_>) = both.partition(|(name, drv)| base[*name] == **drv);
    let rebuilt: Vec<_> = rebuilt.into_iter().map(|(name, _)| name.as_str()).collect();
    let needs_zlib =
        ["curl", "git", "libxml2", "nginx", "postgresql", "python", "rsync", "site", "wget", "zlib"];
    assert_eq!((rebuilt, same.len()), (needs_zlib.to_vec(), 15));
}

#[test]
fn the_checks_evaluate_too() {
    let stage = Stage::new();
    made(&stage);
    let said = stage.script("my-packages", "nix-instantiate --quiet --eval --strict -E 'map (check: check.name) (builtins.attrValues (import ./checks.nix))'");
    assert_eq!(said.out.trim(), r#"[ "git-clones" "python-imports" "site-answers" ]"#);
}

#[test]
fn its_configuration_is_good() {
    let said = ekaci(&repository().join("examples/packages"), &["check-config"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}
