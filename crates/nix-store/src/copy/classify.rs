//! What a failed Nix command said on stderr comes in; what kind of failure it was and its most telling line come out.
//! The texts are Nix' and ssh's own, of several versions, so a text that is not known is an ordinary failure.

use std::collections::VecDeque;

use nix_types::StorePath;

use super::words::Words;

/// Longest line kept, in characters.
pub const LINE_MAX: usize = 500;

/// Why a copy failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFault {
    /// What kind of failure.
    pub class: FaultClass,
    /// The line that says most, without colours, escaped, at most [`LINE_MAX`] characters.
    pub line: String,
}

/// Kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// Nobody answers there: refused, unknown name, no route, time-out. Passes when the destination is back.
    Unreachable,
    /// A path to be sent is not in the store any more, as far as Nix says; another Nix on the way may have said it of
    /// its own store, so look before believing it.
    PathGone(StorePath),
    /// Credentials, permissions or configuration: stays until somebody changes them.
    Refused,
    /// Anything else. May pass.
    Failed,
}

/// Texts of a destination that does not answer.
const UNREACHABLE: [&str; 14] = [
    "Couldn't connect to server",
    "Could not connect to server",
    "Failed to connect to",
    "Couldn't resolve host name",
    "Could not resolve host",
    "Could not resolve hostname",
    "Connection refused",
    "Connection timed out",
    "Connection timeout",
    "Operation timed out",
    "Timeout was reached",
    "No route to host",
    "Network is unreachable",
    "Name or service not known",
];

/// Texts of one that does not want to, or of a configuration that cannot work.
const REFUSED: [&str; 13] = [
    "Permission denied",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "HTTP error 401",
    "HTTP error 403",
    "HTTP error 407",
    "Access denied",
    "AccessDenied",
    "key is corrupt",
    "don't know how to open Nix store",
    "does not appear to be a binary cache",
    "Read-only file system",
    "lacks a signature by a trusted key",
];

/// Texts around a path that is not there; the path stands between the two.
const GONE: [(&str, &str); 5] = [
    ("path '", "' is not valid"),
    ("path '", "' does not exist"),
    ("path '", "' is required, but there is no substituter that can build it"),
    ("path '", "' is required, but it has no substitute"),
    ("getting status of '", "': No such file or directory"),
];

/// Says what a failed command's stderr, in Nix' JSON form or plain, means.
#[must_use]
pub fn classify(stderr: &[u8]) -> CopyFault {
    let mut words = Words::default();
    for line in String::from_utf8_lossy(stderr).split('\n') {
        words.hear(line, &mut |_| {});
    }
    words.fault()
}

/// [`classify`] for plain lines that are safe to print.
pub(super) fn classify_lines(lines: &VecDeque<String>) -> CopyFault {
    // A warning is about something Nix then tried again.
    let telling = |line: &&String| !line.starts_with("warning:");
    let last = |found: &dyn Fn(&str) -> bool| lines.iter().rev().filter(telling).find(|line| found(line));
    let has = |texts: &'static [&'static str]| move |line: &str| texts.iter().any(|text| line.contains(text));

    if let Some((line, path)) = lines.iter().rev().filter(telling).find_map(|line| Some((line, gone(line)?)))
    {
        return CopyFault { class: FaultClass::PathGone(path), line: bounded(line) };
    }
    for (class, texts) in [(FaultClass::Refused, &REFUSED[..]), (FaultClass::Unreachable, &UNREACHABLE[..])] {
        if let Some(line) = last(&has(texts)) {
            return CopyFault { class, line: bounded(line) };
        }
    }
    let error = last(&|line: &str| line.strip_prefix("error:").is_some_and(|rest| !rest.trim().is_empty()));
    let line = error.or_else(|| last(&|_| true)).or_else(|| lines.back());
    let line = line.map_or_else(|| "it said nothing".to_owned(), |line| bounded(line));
    CopyFault { class: FaultClass::Failed, line }
}

fn gone(line: &str) -> Option<StorePath> {
    GONE.iter().find_map(|(before, behind)| {
        let (start, _) = line.split_once(behind)?;
        let (_, path) = start.rsplit_once(before)?;
        // Newer Nix puts a slash before or behind a path that is registered, but not there.
        let path = path.strip_prefix('/').filter(|path| path.starts_with('/')).unwrap_or(path);
        StorePath::parse_str(path.strip_suffix('/').unwrap_or(path)).ok()
    })
}

/// A line of bounded length.
fn bounded(line: &str) -> String {
    match line.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GONE_PATH: &str = "/srv/s/store/00000000000000000000000000000000-x";

    fn class(stderr: &str) -> FaultClass {
        classify(stderr.as_bytes()).class
    }

    fn gone_path() -> FaultClass {
        FaultClass::PathGone(StorePath::parse_str(GONE_PATH).unwrap())
    }

    /// Recorded from Nix 2.8.0 and OpenSSH 9.2.
    #[test]
    fn texts_of_nix_2_8() {
        let http = "warning: error: unable to download 'http://127.0.0.1:9/nix-cache-info': Couldn't connect to server (7); retrying in 295 ms\n\
            error: unable to download 'http://127.0.0.1:9/nix-cache-info': Couldn't connect to server (7)\n";
        let fault = classify(http.as_bytes());
        assert_eq!(fault.class, FaultClass::Unreachable);
        assert!(fault.line.starts_with("error: unable to download"), "{fault:?}");
        let name = "error: unable to download 'http://nohost.invalid/nix-cache-info': Couldn't resolve host name (6)\n";
        assert_eq!(class(name), FaultClass::Unreachable);
        let ssh = "ssh: connect to host 127.0.0.1 port 22: Connection refused\r\nerror: cannot connect to '127.0.0.1'\n";
        let fault = classify(ssh.as_bytes());
        assert_eq!(fault.class, FaultClass::Unreachable);
        assert_eq!(fault.line, "ssh: connect to host 127.0.0.1 port 22: Connection refused");
        let ng = "ssh: connect to host 127.0.0.1 port 9: Connection refused\r\n\
            error: cannot open connection to remote store 'ssh-ng://127.0.0.1': error: unexpected end-of-file\n";
        assert_eq!(class(ng), FaultClass::Unreachable);
        let lookup = "ssh: Could not resolve hostname nohost.invalid: Name or service not known\r\nerror: cannot connect to 'nohost.invalid'\n";
        assert_eq!(class(lookup), FaultClass::Unreachable);
        let banner = "Connection timed out during banner exchange\r\nConnection to 10.255.255.1 port 22 timed out\r\nerror: cannot connect to '10.255.255.1'\n";
        assert_eq!(class(banner), FaultClass::Unreachable);
    }

    /// Recorded with `--log-format internal-json` from Nix 2.8.0, 2.26.3 and 2.34.8, without results and activities
    /// that are told apart by nothing; store paths and ports are shortened.
    #[test]
    fn texts_in_nix_json_form() {
        use FaultClass::{Failed, Refused, Unreachable};
        for (said, class, line) in [
            (
                include_str!("recorded/http-closed-port-2.8"),
                Unreachable,
                "error: unable to download 'http://127.0.0.1:9/nix-cache-info': Couldn't connect to server (7)",
            ),
            (
                include_str!("recorded/http-closed-port-2.26"),
                Unreachable,
                "error: unable to download 'http://127.0.0.1:9/nix-cache-info': Could not connect to server (7) Failed to connect to 127.0.0.1 port 9 after 0 ms: Could not connect to server",
            ),
            (
                include_str!("recorded/http-closed-port-2.34"),
                Unreachable,
                "error: unable to download 'http://127.0.0.1:9/nix-cache-info': Could not connect to server (7) Failed to connect to 127.0.0.1:9 after 0 ms: Could not connect to server",
            ),
            (
                include_str!("recorded/http-unknown-host-2.8"),
                Unreachable,
                "error: unable to download 'http://nohost.invalid/nix-cache-info': Couldn't resolve host name (6)",
            ),
            (
                include_str!("recorded/http-unknown-host-2.34"),
                Unreachable,
                "error: unable to download 'http://nohost.invalid/nix-cache-info': Could not resolve hostname (6) Could not resolve host: nohost.invalid",
            ),
            (
                include_str!("recorded/ssh-closed-port-2.8"),
                Unreachable,
                "ssh: connect to host 127.0.0.1 port 9: Connection refused",
            ),
            (
                include_str!("recorded/ssh-ng-closed-port-2.8"),
                Unreachable,
                "ssh: connect to host 127.0.0.1 port 9: Connection refused",
            ),
            (
                include_str!("recorded/ssh-ng-closed-port-2.34"),
                Unreachable,
                "ssh: connect to host 127.0.0.1 port 9: Connection refused",
            ),
            (
                include_str!("recorded/no-such-path-2.8"),
                gone_path(),
                "error: path '/srv/s/store/00000000000000000000000000000000-x' is required, but there is no substituter that can build it",
            ),
            (
                include_str!("recorded/no-such-path-2.26"),
                gone_path(),
                "error: path '/srv/s/store/00000000000000000000000000000000-x' is required, but there is no substituter that can build it",
            ),
            (
                include_str!("recorded/file-moved-away-2.8"),
                gone_path(),
                "error: getting status of '/srv/s/store/00000000000000000000000000000000-x': No such file or directory",
            ),
            (
                include_str!("recorded/file-moved-away-2.26"),
                gone_path(),
                "error: path '//srv/s/store/00000000000000000000000000000000-x' does not exist",
            ),
            (
                include_str!("recorded/file-moved-away-2.34"),
                gone_path(),
                "error: path '/srv/s/store/00000000000000000000000000000000-x/' does not exist",
            ),
            (include_str!("recorded/corrupt-key-2.8"), Refused, "error: secret key is corrupt"),
            (include_str!("recorded/corrupt-key-2.26"), Refused, "error: key is corrupt"),
            (include_str!("recorded/corrupt-key-2.34"), Refused, "error: key is corrupt"),
            (
                include_str!("recorded/unknown-scheme-2.34"),
                Refused,
                "error: don't know how to open Nix store with scheme 'gopher'",
            ),
            (include_str!("recorded/not-a-folder-2.8"), Failed, "error: '/tmp/file' is not a directory"),
            (
                include_str!("recorded/not-a-folder-2.34"),
                Failed,
                "error: creating directory \"/tmp/file/nar\": Not a directory",
            ),
            (
                include_str!("recorded/http-403-2.8"),
                Refused,
                "error: while uploading to HTTP binary cache at 'http://127.0.0.1:8090/403': error: unable to upload 'http://127.0.0.1:8090/403/nar/09kx.nar.xz': HTTP error 403 ('Forbidden')",
            ),
            (
                include_str!("recorded/http-403-2.34"),
                Refused,
                "error: unable to upload 'http://127.0.0.1:8090/403/nar/09kx.nar.xz': HTTP error 403",
            ),
            (
                include_str!("recorded/http-500-2.26"),
                Failed,
                "error: while uploading to HTTP binary cache at 'http://127.0.0.1:8090/500': error: unable to upload 'http://127.0.0.1:8090/500/nar/09kx.nar.xz': Failed to open/read local data from file/application (26) client read function EOF fail, only 0/124 of needed bytes read",
            ),
            (
                include_str!("recorded/http-500-2.34"),
                Failed,
                "error: unable to upload 'http://127.0.0.1:8090/500/nar/09kx.nar.xz': HTTP error 500",
            ),
        ] {
            assert_eq!(classify(said.as_bytes()), CopyFault { class, line: line.into() });
        }
    }

    /// What a server answered before Nix tried again is not why it failed.
    #[test]
    fn all_lines_of_a_warning_are_one() {
        let said = include_str!("recorded/http-500-2.26").replace("nope", "Permission denied");
        let warning = said.lines().find(|line| line.contains("retrying")).unwrap();
        assert_eq!(classify(warning.as_bytes()).class, FaultClass::Failed);
    }

    #[test]
    fn paths_that_are_gone() {
        for text in [
            format!("error: path '{GONE_PATH}' is required, but there is no substituter that can build it\n"),
            format!(
                "don't know how to build these paths:\n  {GONE_PATH}\nerror: path '{GONE_PATH}' is not valid\n"
            ),
            format!(
                "copying 3 paths...\nerror: getting status of '{GONE_PATH}': No such file or directory\n"
            ),
            format!("error: path '{GONE_PATH}' does not exist in the store\n"),
            format!("\u{1b}[31;1merror:\u{1b}[0m path '\u{1b}[35;1m{GONE_PATH}\u{1b}[0m' is not valid\n"),
        ] {
            assert_eq!(class(&text), gone_path(), "{text}");
        }
        let drv = format!("error: path '{GONE_PATH}.drv' is not a valid store path\n");
        assert_eq!(class(&drv), FaultClass::Failed, "whose store it misses, the text does not say");
    }

    #[test]
    fn a_reference_missing_at_the_destination_is_not_our_path_gone() {
        let text = format!(
            "error: cannot add '/nix/store/00000000000000000000000000000001-y' to the binary cache because the reference '{GONE_PATH}' is not valid\n"
        );
        assert_eq!(class(&text), FaultClass::Failed);
        assert_eq!(
            class("error: getting status of '/etc/key': No such file or directory\n"),
            FaultClass::Failed
        );
    }

    #[test]
    fn refusals() {
        for text in [
            "error: secret key is corrupt\n",
            "error: don't know how to open Nix store 's3://b?region=x'\n",
            "error: 'http://127.0.0.1:8765' does not appear to be a binary cache\n",
            "error: creating directory '/c/nar': Read-only file system\n",
            "me@host: Permission denied (publickey).\r\nerror: cannot connect to 'host'\n",
            "Host key verification failed.\r\nerror: cannot connect to 'host'\n",
            "error: while uploading to HTTP binary cache at 'http://127.0.0.1:8765/403': error: unable to upload 'http://127.0.0.1:8765/403/nar/0kwn.nar.xz': HTTP error 403 ('Forbidden')\n",
        ] {
            assert_eq!(class(text), FaultClass::Refused, "{text}");
        }
    }

    #[test]
    fn the_rest_fails_with_its_last_error() {
        let full = "copying 1 paths...\nerror: writing to file: No space left on device\n(use '--show-trace' to show detailed location information)\n";
        let fault = classify(full.as_bytes());
        assert_eq!(
            fault,
            CopyFault {
                class: FaultClass::Failed,
                line: "error: writing to file: No space left on device".into()
            }
        );
        let trace = "error:\n       … while copying\n\n       error: no luck\n";
        assert_eq!(classify(trace.as_bytes()).line, "error: no luck");
        assert_eq!(classify(b"").line, "it said nothing");
        assert_eq!(classify(b"warning: x\n").line, "warning: x");
        assert_eq!(classify(b"only words\n").line, "only words");
    }

    #[test]
    fn lines_are_safe_to_print() {
        let fault = classify(b"\x1b[31merror:\x1b[0m a\x07b\x1b]0;title\x07c\x1b]8;;u\x1b\\d \xff\n");
        assert_eq!(fault.line, "error: a\\u{7}bcd \u{fffd}");
        assert_eq!(
            classify(format!("error: {}", "ü".repeat(5000)).as_bytes()).line.chars().count(),
            LINE_MAX + 1
        );
    }

    #[test]
    fn other_answers_of_a_server_may_pass() {
        for code in ["404 ('Not Found')", "413 ('Request Entity Too Large')", "500 ('')", "507 ('')"] {
            let text = format!("error: unable to upload 'http://h/nar/0.nar.xz': HTTP error {code}\n");
            assert_eq!(class(&text), FaultClass::Failed, "{code}");
        }
    }

    proptest! {
        #[test]
        fn any_output_gives_one_safe_line(stderr in prop::collection::vec(any::<u8>(), 0..300)) {
            let fault = classify(&stderr);
            prop_assert!(!fault.line.chars().any(char::is_control));
            prop_assert!(fault.line.chars().count() <= LINE_MAX + 1);
        }
    }
}
