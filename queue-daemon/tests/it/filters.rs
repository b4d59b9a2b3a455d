//! What a filter keeps out, and what goes along all the same.

use crate::world::{FOLDER_CACHE, SOON, World};
use test_kit::wait;

/// A filter chooses what is queued. What a queued path refers to is sent with it, or nobody could substitute it.
#[test]
fn a_filtered_path_that_a_queued_one_needs_is_sent_with_a_warning() {
    let mut world = World::new(&format!("{FOLDER_CACHE}exclude = [ \"lib*\", \"alone*\" ]\n"));
    world.start();
    let built = world.build(
        r#"rec {
          alone = run "alone" { } "echo alone > $out";
          lib = run "lib" { } "echo lib > $out";
          app = run "app" { } "echo ${lib} > $out";
        }"#,
    );
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(world.ask(&["wait", "--all", "--timeout", "60s"]).code, 0, "{}", world.log());
    let rows = world.list(&[]);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0]["path"].as_str().unwrap().ends_with("-app") && rows[0]["state"] == "done");
    let path = |name: &str| built.out.lines().find(|line| line.ends_with(name)).unwrap();
    let narinfo =
        |name: &str| world.path(&format!("cache/{}.narinfo", &path(name).rsplit('/').next().unwrap()[..32]));
    assert!(narinfo("-app").exists() && narinfo("-lib").exists() && !narinfo("-alone").exists());
    wait::until(SOON, || !world.log().is_empty());
    let log = world.log();
    assert!(log.contains(&format!("{} is sent to main although", path("-lib"))), "{log}");
    assert!(log.contains(&format!("{} is not queued for main", path("-alone"))), "{log}");
    assert!(!log.contains(&format!("{} is sent", path("-alone"))), "{log}");
}
