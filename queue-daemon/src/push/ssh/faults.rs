//! From what ssh and another Nix say to what it means for deliveries: pure.
//!
//! In flow errors and last words; out flow faults that name the destination, repeat the most telling line and say what
//! to do. Before a conversation has begun no path is to blame, whatever the reason. Later it is the path in hand when the
//! other Nix said no, and the way when that broke.

use std::io::ErrorKind;
use std::time::Duration;

use nix_store::daemon::DaemonError;
use nix_store::process::Exit;
use nix_store::remote::{LastWords, OpenError};
use nix_types::SshUrl;
use service_kit::telemetry::chain;

use crate::delivery::FaultClass;
use crate::push::{Fault, printable};

/// With which exit code ssh says that it was ssh itself that failed.
const SSH_FAILED: i32 = 255;
/// With which exit code a shell says that there is no such program, or that it may not be run.
const NO_PROGRAM: [i32; 2] = [126, 127];

/// Words of ssh and Nix, and what to do about them.
const REMEDIES: [(&str, &str); 9] = [
    (
        "Permission denied",
        "let the user there take our key: ssh_key_file here, its public half in authorized_keys there",
    ),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", KNOWN_HOSTS),
    ("Host key verification failed", KNOWN_HOSTS),
    ("host key is known", KNOWN_HOSTS),
    ("signature", "set [queue] signing_key_files here and its public key in trusted-public-keys there"),
    ("is not allowed", "let the user there write to its store"),
    ("not in the Nix store", "the store there is for paths below another folder than ours"),
    ("No space left on device", "make room there"),
    (
        "Could not resolve hostname",
        "correct the machine's name in the destination, or in ssh's configuration",
    ),
];
const KNOWN_HOSTS: &str =
    "if it is the right machine, put its key into /etc/ssh/ssh_known_hosts or base64-ssh-public-host-key=";

/// There is no connection.
pub(super) fn of_open(url: &SshUrl, error: &OpenError) -> Fault {
    let why = match error {
        OpenError::Failed { exit: Some(Exit::Exited(code)), fault, .. } if NO_PROGRAM.contains(code) => {
            let program = url.speech.program().0;
            let remedy = format!("install Nix there, or name its {program} with remote-program=");
            format!("cannot run {program} for {url}: {}; {remedy}", fault.line)
        }
        // Somebody spoke, but no Nix: what came tells more than the last words.
        OpenError::Failed { source: source @ DaemonError::Protocol { .. }, .. } => {
            format!(
                "{source}; nothing there may print anything before Nix does, such as a greeting of the login shell"
            )
        }
        OpenError::Failed { fault, .. } | OpenError::Slow { fault, .. } => {
            with_remedy(&error.to_string(), &fault.line)
        }
        OpenError::Start { .. } | OpenError::Prepare { .. } => chain(error),
    };
    Fault::failed(FaultClass::Unreachable, why)
}

/// A conversation broke off, and this was said on its way.
pub(super) fn of_broken(url: &SshUrl, error: &DaemonError, words: &LastWords, silent: Duration) -> Fault {
    let LastWords { exit, fault, text } = words;
    let (class, why) = match error {
        DaemonError::Broken { source, .. } if is_silence(source.kind()) => {
            (FaultClass::Stuck, format!("nothing moved to or from {url} for {silent:?}"))
        }
        DaemonError::Broken { source, .. } => match exit {
            Exit::Exited(code) if *code != 0 && *code != SSH_FAILED => {
                let said = format!("Nix at {url} gave up ({exit}): {}", fault.line);
                (FaultClass::Failed, with_remedy(&said, &fault.line))
            }
            _ if text.trim().is_empty() => {
                (FaultClass::Unreachable, format!("the connection to {url} was lost ({exit}): {source}"))
            }
            _ => (
                FaultClass::Unreachable,
                format!("the connection to {url} was lost ({exit}): {}", fault.line),
            ),
        },
        DaemonError::Refused { message, .. } => (FaultClass::Failed, refusal(url, message)),
        DaemonError::Protocol { .. } | DaemonError::Connect { .. } => (FaultClass::Failed, chain(error)),
    };
    Fault::Failed { class, why, output: printable(text) }
}

/// The other Nix does not want a path.
pub(super) fn of_refusal(url: &SshUrl, message: &str) -> Fault {
    Fault::failed(FaultClass::Failed, refusal(url, message))
}

fn refusal(url: &SshUrl, message: &str) -> String {
    let line: String = message.chars().take(nix_store::copy::LINE_MAX).collect();
    with_remedy(&format!("Nix at {url} refused: {line}"), &line)
}

fn with_remedy(what: &str, line: &str) -> String {
    match REMEDIES.iter().find(|(words, _)| line.contains(words)) {
        Some((_, remedy)) => format!("{what}; {remedy}"),
        None => what.to_owned(),
    }
}

fn is_silence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
