//! From the URL of a store on another machine to the command that reaches it: pure. The system's own `ssh`, so that its
//! configuration, agent, jump hosts and known hosts are those of the user the daemon runs as; for `localhost` the program
//! itself, as Nix has it. Nothing is given to a shell here; the shell of the other machine gets the program's name as
//! the URL has it and everything else quoted.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use nix_types::SshUrl;

use crate::process::Spec;

/// How long ssh may take to connect, and how long a connection may be dead before it is noticed, in seconds.
pub(super) const CONNECT_SECONDS: u32 = 15;
/// The name under which the only key that is believed is known to ssh.
const PINNED: &str = "eka-queue-destination";

/// The line of a known-hosts file with the one key the URL names.
pub(super) fn known_hosts_line(url: &SshUrl) -> Option<String> {
    url.params.host_key.as_ref().map(|key| format!("{PINNED} {key}\n"))
}

/// The command. `known_hosts` holds [`known_hosts_line`]; `options` are those of `NIX_SSHOPTS`.
pub(super) fn command(url: &SshUrl, known_hosts: Option<&Path>, options: &OsStr) -> Spec {
    if url.is_here() {
        return here(url);
    }
    let mut args: Vec<OsString> = ["-x", "-a", "-T", "-oBatchMode=yes"].map(OsString::from).into();
    // ssh takes the first value it is given for an option: what the URL pins comes before what the operator set, and
    // that before what is good for most.
    if let Some(file) = known_hosts {
        let mut option = OsString::from("-oUserKnownHostsFile=\"");
        option.push(file);
        option.push("\"");
        args.push(option);
        args.extend(
            ["-oGlobalKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=yes", "-oUpdateHostKeys=no"]
                .map(OsString::from),
        );
        args.push(format!("-oHostKeyAlias={PINNED}").into());
    }
    args.extend(words(options));
    if let Some(key) = &url.params.ssh_key {
        args.extend(["-i".into(), key.as_os_str().to_owned(), "-oIdentitiesOnly=yes".into()]);
    }
    args.push(format!("-oConnectTimeout={CONNECT_SECONDS}").into());
    args.push(format!("-oServerAliveInterval={CONNECT_SECONDS}").into());
    if url.params.compress {
        args.push("-C".into());
    }
    if let Some(port) = url.port {
        args.push(format!("-p{port}").into());
    }
    if let Some(user) = &url.user {
        args.push(format!("-l{user}").into());
    }
    args.extend(["--".into(), OsString::from(&url.host), line(url).into()]);
    Spec::new("ssh").args(args)
}

/// The words of `NIX_SSHOPTS`, which Nix splits at white space and nowhere else.
fn words(options: &OsStr) -> Vec<OsString> {
    let text = options.to_string_lossy();
    text.split_ascii_whitespace().map(OsString::from).collect()
}

fn here(url: &SshUrl) -> Spec {
    let (program, args) = url.speech.program();
    let mut words = url.params.remote_program.as_deref().unwrap_or(program).split_ascii_whitespace();
    let spec = Spec::new(words.next().unwrap_or(program)).args(words).args(args);
    match &url.params.remote_store {
        Some(store) => spec.args(["--store", store]),
        None => spec,
    }
}

/// The line for the other machine's shell.
fn line(url: &SshUrl) -> String {
    let (program, args) = url.speech.program();
    let mut line = url.params.remote_program.clone().unwrap_or_else(|| program.to_owned());
    for arg in args {
        line.push(' ');
        line.push_str(arg);
    }
    if let Some(store) = &url.params.remote_store {
        line.push_str(" --store ");
        line.push_str(&quoted(store));
    }
    line
}

/// As one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str, options: &str) -> Vec<String> {
        let spec = command(&SshUrl::parse(url).unwrap(), None, OsStr::new(options));
        spec.args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_command_of_ssh() {
        let want = [
            "-x",
            "-a",
            "-T",
            "-oBatchMode=yes",
            "-F",
            "/f",
            "-i",
            "/my key",
            "-oIdentitiesOnly=yes",
            "-oConnectTimeout=15",
            "-oServerAliveInterval=15",
            "-C",
            "-p22",
            "-lme",
            "--",
            "far",
            "sudo nix-daemon --stdio --store '/a'\\''b c'",
        ];
        let url = "ssh-ng://me@far:22?ssh-key=/my%20key&compress=1&remote-program=sudo%20nix-daemon&remote-store=/a'b%20c";
        assert_eq!(args(url, " -F\t/f "), want);
        assert_eq!(args("ssh://far", "").last().unwrap(), "nix-store --serve --write");
    }

    #[test]
    fn here_there_is_no_ssh() {
        let url = SshUrl::parse("ssh://localhost?remote-program=/a%20b&remote-store=/x%20y").unwrap();
        let spec = command(&url, None, OsStr::new("-v"));
        assert_eq!(
            (spec.program.to_str(), spec.args),
            (Some("/a"), ["b", "--serve", "--write", "--store", "/x y"].map(OsString::from).into())
        );
    }

    #[test]
    fn a_pinned_key_is_the_only_one() {
        let url =
            SshUrl::parse("ssh://far?base64-ssh-public-host-key=c3NoLWVkMjU1MTkgQUFBQSByb290QGgK").unwrap();
        assert_eq!(known_hosts_line(&url).unwrap(), "eka-queue-destination ssh-ed25519 AAAA\n");
        let spec = command(&url, Some(Path::new("/s c/known")), OsStr::new("-oStrictHostKeyChecking=no"));
        let at = |text: &str| spec.args.iter().position(|arg| arg == text).unwrap();
        assert!(at("-oStrictHostKeyChecking=yes") < at("-oStrictHostKeyChecking=no"));
        assert_eq!(at("-oUserKnownHostsFile=\"/s c/known\""), 4);
    }
}
