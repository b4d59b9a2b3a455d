//! Which configuration holds for a checkout.

use ci_model::config::{Files, JobSource, NotLocated, PATHS, locate, locate_or_default};

const ONE: &[u8] = br#"{"jobs": {"one": {"file": "x.nix"}}}"#;
const TWO: &[u8] = br#"{"jobs": {"two": {"file": "x.nix"}}}"#;

#[test]
fn the_first_path_wins() {
    for (configs, origin, job, warnings) in [
        ([Some(ONE), None], PATHS[0], "one", 0),
        ([None, Some(TWO)], PATHS[1], "two", 0),
        ([Some(ONE), Some(TWO)], PATHS[0], "one", 1),
        ([Some(ONE), Some(b"no JSON")], PATHS[0], "one", 1),
    ] {
        let files = Files { configs, flake_nix: true, default_nix: true };
        for located in [locate(files), locate_or_default(files, &["x86_64-linux".parse().unwrap()])] {
            let located = located.unwrap();
            assert_eq!((located.origin, located.is_default), (origin, false));
            assert!(located.config.jobs.keys().all(|name| name.as_str() == job));
            assert_eq!(located.warnings.len(), warnings, "{:?}", located.warnings);
        }
    }
}

#[test]
fn a_file_that_is_refused_is_not_passed_over() {
    let files = Files { configs: [Some(b"{"), Some(TWO)], ..Files::default() };
    let NotLocated::Refused { path, refused } = locate(files).unwrap_err() else { panic!("it is taken") };
    assert_eq!((path, refused.problems.len(), refused.warnings.len()), (PATHS[0], 1, 1));
}

#[test]
fn a_checkout_without_one_is_built_by_its_flake_or_default() {
    let systems = ["x86_64-linux", "aarch64-linux"].map(|system| system.parse().unwrap());
    let flake = locate_or_default(Files { flake_nix: true, default_nix: true, ..Files::default() }, &systems)
        .unwrap();
    assert_eq!((flake.origin, flake.is_default), ("flake.nix", true));
    let jobs = flake.config.all_jobs();
    assert_eq!(
        jobs.keys().map(ci_model::JobName::as_str).collect::<Vec<_>>(),
        ["flake.checks", "flake.packages"]
    );
    assert!(jobs.values().all(|job| job.systems.as_deref() == Some(&systems[..])));

    let plain = locate_or_default(Files { default_nix: true, ..Files::default() }, &systems).unwrap();
    assert_eq!((plain.origin, plain.is_default), ("default.nix", true));
    let jobs = plain.config.all_jobs();
    let job = &jobs[&"default".parse().unwrap()];
    assert!(matches!(&job.source, JobSource::File { file, .. } if file.as_str() == "default.nix"), "{job:?}");
    assert!(job.caches.is_empty());

    assert_eq!(locate_or_default(Files::default(), &systems), Err(NotLocated::Nothing));
    assert_eq!(locate(Files { flake_nix: true, ..Files::default() }), Err(NotLocated::Absent));
}
