//! What somebody from outside cannot change by what he writes into the configuration.

use ci_model::flow::{Trust, Verdict};

use super::{CONFIG, PACKAGES, World};

/// An outsider's own configuration says what is built. Whether it is looked at at all, and what may fail, is not theirs.
#[test]
fn an_outsiders_configuration_grants_nothing_wherever_the_base_says_nothing() {
    const OWN: &str = r#"{ "jobs": { "all": { "file": "default.nix", "allow_eval_failures": true } },
      "change_set": [ { "paths": ["**"], "effect": "no-op" } ] }"#;
    for base in [None, Some("{ this is none }"), Some(CONFIG)] {
        let world = World::new();
        match base {
            None => world.git(&["rm", "-q", ".ekaci/config.json"]),
            Some(text) => world.write(".ekaci/config.json", &format!("{text}\n")),
        }
        world.commit("what the base says");
        world.write(".ekaci/config.json", OWN);
        world.write("default.nix", &PACKAGES.replace("rec {", "rec { bad = throw \"no\";"));
        world.write("README.md", "read me");
        let run = |trust| world.run(|request| request.trust = trust).unwrap();
        let outsider = run(Trust::UntrustedPr);
        assert_eq!(outsider.verdict, Verdict::Bad, "{base:?}: {:?}", outsider.reasons);
        assert!(outsider.jobs.iter().all(|job| !job.allows_failures), "{base:?}");
        let notice = |text: &str| outsider.warnings.iter().any(|warning| warning.starts_with(text));
        assert!(notice("change_set: taken from the base branch"), "{base:?}: {:?}", outsider.warnings);
        // The same as one's own code.
        assert_eq!(run(Trust::TrustedPush).verdict, Verdict::Good, "{base:?}");
    }
}

#[test]
fn an_outsider_who_takes_the_configuration_away_takes_no_job_away() {
    let world = World::new();
    world.git(&["rm", "-q", ".ekaci/config.json"]);
    let outsider = world.run(|request| request.trust = Trust::UntrustedPr).unwrap();
    let jobs: Vec<_> = outsider.jobs.iter().map(|job| job.job.as_str()).collect();
    assert_eq!(jobs, ["all"], "{:?}", outsider.warnings);
    assert!(outsider.warnings.iter().any(|warning| warning.starts_with("jobs.all: still there")));
}
