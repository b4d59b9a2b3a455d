//! The inner half: what our own program does inside the namespaces, before the program that is confined begins. In:
//! words on the command line, from [`super::Sandbox::confine`] alone. Out: the confined program, in the place of this one,
//! with limits, another user, no capabilities and no way to get any. Nothing of the outsider's has run until then, and
//! any step that fails ends it: it is never less confined than was asked. Before the namespaces, where there is a control
//! group, our program enters that in the same manner and becomes bubblewrap.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

mod filter;
mod sys;

use super::DOOR;
use super::proxy::hand_over;
use sys::Resource;

/// The first argument by which our program knows that it is meant.
pub const WORD: &str = "inside-the-sandbox";
/// The word after it when there is nothing to do: the sandbox is tried.
pub(super) const TRIAL: &str = "trial";
/// The word after it before the entrances of control groups; then `--` and what comes next.
const ENTER: &str = "enter";
/// The exit code when the inner half could not do its part; bubblewrap's own failures have 1.
pub const FAILED: i32 = 119;

/// What the inner half is to do, as words of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Orders {
    /// Bounds by name; see [`LIMITS`].
    pub(super) limits: Vec<(String, u64)>,
    /// Which user and group to become; `None` when the namespaces have seen to it.
    pub(super) become_user: Option<u32>,
    /// On which port of its loopback the proxy is to be; `None` for no proxy.
    pub(super) proxy: Option<u16>,
    /// The program and its arguments.
    pub(super) command: Vec<OsString>,
}

/// The names of limits on the command line.
const LIMITS: [(&str, Resource); 6] = [
    ("address-space", Resource::AddressSpace),
    ("data", Resource::Data),
    ("processes", Resource::Processes),
    ("files", Resource::Files),
    ("file-size", Resource::FileSize),
    ("cpu", Resource::Cpu),
];

/// Why the confined program did not begin.
#[derive(Debug, thiserror::Error)]
enum InsideError {
    #[error("{0:?} is not among the words this understands: it is started by the sandbox alone")]
    Word(OsString),
    #[error("no program to start")]
    NoProgram,
    #[error("the sandbox cannot {what}")]
    Step {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot start {program:?} inside the sandbox")]
    Start {
        program: OsString,
        #[source]
        source: io::Error,
    },
}

/// Takes over when the command line says that this process is the inner half: then it does not come back. A program
/// that is given to [`super::Helper::ourselves`] calls this first in `main`, before it has a second thread.
pub fn take_over_if_meant() {
    let mut args = std::env::args_os();
    if args.nth(1).as_deref() != Some(OsStr::new(WORD)) {
        return;
    }
    let mut args = args.peekable();
    if args.next_if(|word| word == TRIAL).is_some() {
        std::process::exit(0);
    }
    let enter = args.next_if(|word| word == ENTER).is_some();
    let Err(error) = if enter { enter_groups(args) } else { run(args) };
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    // When nobody listens, the exit code says it as well.
    let _ = writeln!(io::stderr(), "{error}{}", source.unwrap_or_default());
    std::process::exit(FAILED);
}

fn run(args: impl Iterator<Item = OsString>) -> Result<Infallible, InsideError> {
    let orders = Orders::parse(args)?;
    if let Some(user) = orders.become_user {
        step("become another user", sys::become_user(user, user))?;
        step("enter a user namespace", own_user_namespace(user))?;
    }
    if let Some(port) = orders.proxy {
        step("hand a listener to the proxy", open_way_out(port))?;
    }
    // After the namespace: in one that is made under such a limit all that its user has outside counts as well.
    for (name, value) in &orders.limits {
        let known = LIMITS.iter().find(|(known, _)| known == name);
        let (_, resource) = known.ok_or_else(|| InsideError::Word(name.into()))?;
        sys::limit(*resource, *value).map_err(|source| InsideError::Step { what: "set limits", source })?;
    }
    step("forbid core files", sys::limit(Resource::Core, 0))?;
    step("give up capabilities", sys::drop_capabilities())?;
    step("forbid new privileges", sys::no_new_privileges())?;
    if let Some(program) = filter::program() {
        step("filter system calls", sys::filter(&program))?;
    }
    begin(&orders.command)
}

/// The words for entering groups first.
pub(super) fn entering(groups: &[PathBuf], command: Vec<OsString>) -> Vec<OsString> {
    let mut words = vec![OsString::from(WORD), ENTER.into()];
    words.extend(groups.iter().map(|group| group.clone().into_os_string()));
    words.push("--".into());
    words.extend(command);
    words
}

fn enter_groups(mut args: impl Iterator<Item = OsString>) -> Result<Infallible, InsideError> {
    for entrance in args.by_ref().take_while(|word| word != "--") {
        step("enter its control group", fs::write(entrance, "0"))?;
    }
    begin(&args.collect::<Vec<_>>())
}

fn step(what: &'static str, done: io::Result<()>) -> Result<(), InsideError> {
    done.map_err(|source| InsideError::Step { what, source })
}

/// Root gave up its user before, so that the namespace knows no other one of the host's.
fn own_user_namespace(user: u32) -> io::Result<()> {
    sys::unshare_user()?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("{user} {user} 1\n"))
}

/// Gives a listener of this network namespace to the proxy outside. Our end of the connection stays open, in the confined
/// program too, until the last of its processes is gone: by that the proxy knows.
fn open_way_out(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let door = UnixStream::connect(DOOR)?;
    hand_over(&door, &listener)?;
    rustix::io::fcntl_setfd(&door, rustix::io::FdFlags::empty())?;
    let _ = door.into_raw_fd(); // on purpose: it is closed with the process
    Ok(())
}

fn begin(command: &[OsString]) -> Result<Infallible, InsideError> {
    let (program, args) = command.split_first().ok_or(InsideError::NoProgram)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "it replaces this process, which the door to children started"
    )]
    let source = Command::new(program).args(args).exec();
    Err(InsideError::Start { program: program.clone(), source })
}

impl Orders {
    /// As arguments.
    pub(super) fn words(self) -> Vec<OsString> {
        let mut words = vec![OsString::from(WORD)];
        words.extend(self.limits.iter().map(|(name, value)| format!("{name}={value}").into()));
        words.extend(self.proxy.map(|port| format!("proxy={port}").into()));
        words.extend(self.become_user.map(|user| format!("user={user}").into()));
        words.push("--".into());
        words.extend(self.command);
        words
    }

    /// From what comes after [`WORD`].
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, InsideError> {
        let mut orders = Self { limits: Vec::new(), become_user: None, proxy: None, command: Vec::new() };
        loop {
            let word = args.next().ok_or(InsideError::NoProgram)?;
            if word == "--" {
                break;
            }
            let read = word.to_str().and_then(|text| text.split_once('='));
            let Some((name, value)) = read else { return Err(InsideError::Word(word)) };
            let Ok(number) = value.parse::<u64>() else { return Err(InsideError::Word(word)) };
            match (name, u32::try_from(number), u16::try_from(number)) {
                ("user", Ok(user), _) => orders.become_user = Some(user),
                ("proxy", _, Ok(port)) => orders.proxy = Some(port),
                _ => orders.limits.push((name.to_owned(), number)),
            }
        }
        orders.command = args.collect();
        Ok(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_from_their_words() {
        let orders = Orders {
            limits: vec![("data".into(), 7), ("cpu".into(), 9)],
            become_user: Some(65534),
            proxy: Some(3128),
            command: vec!["/bin/x".into(), "--".into(), "user=0".into()],
        };
        let words = orders.clone().words();
        assert_eq!(words[0], WORD);
        assert_eq!(Orders::parse(words.into_iter().skip(1)).unwrap(), orders);
    }

    #[test]
    fn other_words_are_refused() {
        for words in [&["data"][..], &["data=x"], &["data=1"], &[]] {
            assert!(Orders::parse(words.iter().map(OsString::from)).is_err(), "{words:?}");
        }
    }
}
