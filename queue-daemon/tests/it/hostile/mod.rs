//! Whatever comes to the queue's doors: nothing of it stops a build, loses a path of others, or ends the daemon.

mod destinations;
mod machine;
mod messages;
mod paths;
mod spool;
mod users;

use std::time::Duration;

use test_kit::wait;

use crate::world::{SOON, World};

/// How long a call of the hook may take on a machine that is busy with other tests; its own promise of 250 ms is
/// measured where nothing else runs.
const PROMPT: Duration = Duration::from_secs(10);

/// The daemon still does its work: a new path goes all the way to `main`.
#[track_caller]
fn assert_works(world: &World) {
    let path = world.valid_paths(1).remove(0);
    let said = world.hook(&path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    wait::until(SOON, || world.list(&[&path, "--destination", "main", "--state", "done"]).len() == 1);
}
