//! Another user of the machine: uid and gid 65534, in no other group. Only root can become it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use test_kit::proc::this_test_binary;

use crate::frames::{Answer, Frame};
use crate::world::{World, hook_program, run};

/// Its uid and gid.
pub(crate) const UID: u32 = 65_534;

/// The user, in a world whose folder it may enter.
pub(crate) struct Nobody<'w> {
    world: &'w World,
}

/// A machine with one destination, `main`, whose enqueue socket and spool are open to the user; `queue` are further
/// keys.
pub(crate) fn world_of(queue: &str) -> World {
    World::with_queue(&format!("socket_group = \"{UID}\"\n{queue}"), &World::command_cache("main", "", ""))
}

impl<'w> Nobody<'w> {
    /// `None` when we are not root; says so.
    pub(crate) fn in_world(world: &'w World) -> Option<Nobody<'w>> {
        if fs::metadata(world.path("")).unwrap().uid() != 0 {
            eprintln!("skipped: only root can act as another user");
            return None;
        }
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        Some(Nobody { world })
    }

    /// The hook, called by this user.
    pub(crate) fn hook(&self) -> Command {
        let mut command = self.command(&hook_program());
        command.env_remove("OUT_PATHS").env_remove("DRV_PATH");
        command.arg("--config-file").arg(self.world.hook_conf());
        command
    }

    /// A message to the enqueue socket from this user.
    pub(crate) fn says(&self, frame: &Frame) -> Answer {
        let child = this_test_binary("nobody::child_sends_a_message");
        let mut command = self.command(Path::new(child.get_program()));
        command.args(child.get_args()).env(WORLD, self.world.path(""));
        let said = run(&mut command, &frame.bytes());
        let line = said.out.lines().find_map(|line| line.split_once(HEARD));
        let (_, answer) = line.unwrap_or_else(|| panic!("no answer: {said:?}"));
        serde_json::from_str::<(u8, u32, u32, String)>(answer).map(Answer::from).unwrap()
    }

    /// A program of ours lies where only root may look, perhaps: a copy of it does not.
    fn command(&self, program: &Path) -> Command {
        let copy: PathBuf = self.world.path(program.file_name().unwrap().to_str().unwrap());
        if !copy.exists() {
            copy_program(program, &copy);
        }
        let mut command = self.world.tool("setpriv");
        command.args([&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups"]).arg(copy);
        command
    }
}

/// Copies a program in a process of its own: were it open for writing here, any child that another test starts
/// meanwhile would hold it open, and it could not be run.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    test_kit::script::copy(from, to);
}

const WORLD: &str = "EKA_TEST_WORLD";
const HEARD: &str = "heard: ";

#[test]
#[ignore = "the child of Nobody::says"]
fn child_sends_a_message() {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).unwrap();
    let socket = PathBuf::from(std::env::var_os(WORLD).unwrap()).join("enqueue.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    std::io::Write::write_all(&mut stream, &bytes).unwrap();
    let answer = crate::frames::hear(&mut stream).unwrap();
    println!("{HEARD}{}", serde_json::to_string(&answer.parts()).unwrap());
}
