//! What an evaluator said before it ended comes in; the kind of the error, its message and its trace, clean and
//! bounded, come out.

use ci_model::attr::{AttrError, ErrorKind, MESSAGE_BYTES_MAX, TRACE_BYTES_MAX};
use nix_types::AttrPath;

/// Most lines of a message.
const MESSAGE_LINES_MAX: usize = 8;
/// What is said of an error whose message was not asked for.
const HIDDEN: &str = "it throws; its message is shown when it is evaluated by itself";

/// An error from what an evaluator said. `kind` is how it ended where that is known from elsewhere; else the text tells.
pub(crate) fn error(path: AttrPath, kind: Option<ErrorKind>, said: &str) -> AttrError {
    let said = clean(said);
    let message = last_error(&said);
    let (kind, message) = match (kind, builds(&message)) {
        (None, Some(drv)) => (
            ErrorKind::Forbidden,
            format!(
                "it builds '{drv}' during evaluation, for which 'allow-import-from-derivation' must be on"
            ),
        ),
        (None, None) => (kind_of(&said, &message), message),
        (Some(kind), _) => (kind, message),
    };
    AttrError {
        path,
        kind,
        message: cut(&message, MESSAGE_BYTES_MAX),
        trace: cut_front(&said, TRACE_BYTES_MAX),
    }
}

/// An error in our own words.
pub(crate) fn ours(path: AttrPath, kind: ErrorKind, message: &str) -> AttrError {
    AttrError { path, kind, message: cut(&clean(message), MESSAGE_BYTES_MAX), trace: String::new() }
}

/// What throws, with a message that was not asked for.
pub(crate) fn hidden(path: AttrPath) -> AttrError {
    ours(path, ErrorKind::Thrown, HIDDEN)
}

/// Was the message of this error not asked for? [`super::explain_all`] asks for it. An author who writes the same words
/// is not taken for us: what was asked for has a trace.
#[must_use]
pub fn is_hidden(error: &AttrError) -> bool {
    error.kind == ErrorKind::Thrown && error.trace.is_empty() && error.message == HIDDEN
}

/// The error at the root of what was not looked at in time.
pub(crate) fn too_long(wall: std::time::Duration) -> AttrError {
    let text = format!("the evaluation took longer than {wall:?}; attributes are missing");
    ours(AttrPath::root(), ErrorKind::TimedOut, &text)
}

/// Did a pass that writes nothing end for want of what it had not written: a copy of a source, made and read again, or,
/// where that is allowed, what was to be built in between?
pub(crate) fn needs_store(said: &str, store: &str, may_build: bool) -> bool {
    let message = last_error(&clean(said));
    let is_absent = ["No such file or directory", "does not exist", "is not valid"];
    message.contains(&format!("{store}/"))
        && is_absent.iter().any(|words| message.contains(words))
        && (may_build || builds(&message).is_none())
}

/// What a pass that writes nothing would have built to go on.
fn builds(message: &str) -> Option<&str> {
    message.strip_prefix("path '")?.strip_suffix("' is not valid").filter(|path| path.ends_with(".drv"))
}

/// Did it end because it got no more memory?
pub(crate) fn is_out_of_memory(said: &str) -> bool {
    said.lines().any(|line| line == "error: out of memory" || line.starts_with("GC Warning: Out of Memory!"))
}

/// What an evaluator said of a machine that failed it, if that is why it ended. Only Nix's own words count: each error that
/// it ended with begins as Nix's does and ends as the system's does, so that an author's text never passes for one. It
/// is not to be asked where nothing catches what an expression throws: there an author's text is all that is printed.
pub(crate) fn machine(said: &str) -> Option<String> {
    let said = clean(said);
    let is_own = final_errors(&said).all(is_of_machine);
    let message = last_error(&said);
    (is_own && is_of_machine(&message)).then(|| cut(&message, MESSAGE_BYTES_MAX))
}

/// Is this how Nix says that the machine failed it?
fn is_of_machine(message: &str) -> bool {
    const DOES: [&str; 15] = [
        "writing to file",
        "opening file '",
        "opening lock file '",
        "opening directory '",
        "creating file '",
        "creating directory '",
        "creating pipe",
        "creating temporary file",
        "creating symlink ",
        "renaming ",
        "executing SQLite ",
        "cannot open SQLite database '",
        "starting transaction",
        "committing transaction",
        "unable to fork",
    ];
    const FAILS: [&str; 6] = [
        "No space left on device",
        "database or disk is full",
        "Disk quota exceeded",
        "Read-only file system",
        "Too many open files",
        "Too many open files in system",
    ];
    let message = message.lines().next().unwrap_or_default();
    // Behind what failed, some releases say in which file.
    let cause = message.split(" (in '").next().unwrap_or_default();
    message.starts_with("cannot connect to daemon at '")
        || message.starts_with("cannot connect to socket at '")
        || DOES.iter().any(|does| message.starts_with(does))
            && FAILS.iter().any(|fails| cause.ends_with(fails))
}

/// The texts of all errors of what was printed last. Whatever an author writes may look like one of them, but Nix's own
/// is always among them.
fn final_errors(said: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.iter().rposition(|line| line.starts_with("error:")).unwrap_or(0);
    let errors = lines.into_iter().skip(from).filter_map(|line| line.trim_start().strip_prefix("error:"));
    errors.map(str::trim).filter(|text| !text.is_empty())
}

/// May this error be gone the next time, with the same code? So it is with what the machine, the network or the
/// settings of Nix did to the evaluator; where the kind does not tell, Nix's own words do.
#[must_use]
pub fn may_pass(error: &AttrError) -> bool {
    match error.kind {
        ErrorKind::TimedOut | ErrorKind::OutOfMemory | ErrorKind::Crashed | ErrorKind::Garbage => true,
        ErrorKind::Fatal => is_passing(&error.message),
        ErrorKind::Thrown | ErrorKind::Forbidden | ErrorKind::StackOverflow | ErrorKind::TooLarge => false,
    }
}

/// Is this how Nix says that it could not get something, or that it was not set up for it? What an expression says by
/// itself begins in other ways.
pub(crate) fn is_passing(message: &str) -> bool {
    const BEGINS: [&str; 20] = [
        "unable to download '",
        "cannot download ",
        "failed to fetch ",
        "Failed to fetch ",
        "cannot connect to ",
        "cannot open connection to ",
        "failed to start SSH connection",
        "unexpected end-of-file",
        "Nix daemon disconnected unexpectedly",
        "interrupted by the user",
        "SQLite database '",
        "experimental Nix feature '",
        "experimental feature '",
        // Why, these said before.
        "program 'git' failed",
        "program 'hg' failed",
        "program 'ssh' failed",
        "fatal: unable to access '",
        "Could not resolve host",
        "Couldn't resolve host",
        "failed to resolve address",
    ];
    BEGINS.iter().any(|begins| message.starts_with(begins)) || is_of_machine(message)
}

fn kind_of(said: &str, message: &str) -> ErrorKind {
    let is_refused = [
        "is forbidden in restricted mode",
        "in restricted mode",
        "allow-import-from-derivation",
        "in pure eval mode",
        "in pure evaluation mode",
    ];
    if message.contains("stack overflow") || message.contains("max-call-depth") {
        ErrorKind::StackOverflow
    } else if is_out_of_memory(said) {
        ErrorKind::OutOfMemory
    } else if is_refused.iter().any(|words| message.contains(words)) {
        ErrorKind::Forbidden
    } else {
        ErrorKind::Fatal
    }
}

/// The text of the last `error:`, up to where it tells the place. Where there is none, the last line.
fn last_error(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.iter().rposition(|line| line.trim_start().starts_with("error:"));
    let Some(last) = last else {
        return lines
            .iter()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or(&"it said nothing")
            .trim()
            .into();
    };
    let rest = lines[last..].iter().map(|line| line.trim());
    let ends = ["at ", "…", "(use '--show-trace'", "(stack trace truncated"];
    let is_about_place = |line: &&str| line.is_empty() || ends.iter().any(|end| line.starts_with(end));
    // Some releases put an empty line, or nothing, behind `error:` itself.
    let mut rest = rest.enumerate().skip_while(|(at, line)| *at > 0 && line.is_empty()).map(|(_, line)| line);
    let first = rest.next().unwrap_or_default().trim_start_matches("error:").trim_start();
    let more = rest.take_while(|line| !is_about_place(line)).take(MESSAGE_LINES_MAX - 1);
    std::iter::once(first).chain(more).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Without the sequences that colour terminals, and without other control characters.
pub(crate) fn clean(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                // Up to the letter that ends it; whatever follows a broken one is text.
                while chars.next_if(|c| c.is_ascii_digit() || matches!(c, ';' | '?')).is_some() {}
                chars.next_if(char::is_ascii_alphabetic);
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// The end of a text: there the evaluator says what it was.
fn cut_front(text: &str, bytes: usize) -> String {
    text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_the_message() {
        for (said, want, kind) in [
            (
                "error: undefined variable 'x'\n\n       at /a.nix:1:1:\n\n  1| x\n",
                "undefined variable 'x'",
                ErrorKind::Fatal,
            ),
            ("\u{1b}[31;1merror:\u{1b}[0m a\nb\n\n at", "a\nb", ErrorKind::Fatal),
            ("error:\n       … while x\n\n       error: deep\n       at /x:1", "deep", ErrorKind::Fatal),
            (
                "warning: a\nerror: stack overflow (possible infinite recursion)\n",
                "stack overflow (possible infinite recursion)",
                ErrorKind::StackOverflow,
            ),
            (
                "GC Warning: Out of Memory! Heap\nerror: out of memory\n",
                "out of memory",
                ErrorKind::OutOfMemory,
            ),
            (
                "error: access to absolute path '/etc' is forbidden in restricted mode\n",
                "access to absolute path '/etc' is forbidden in restricted mode",
                ErrorKind::Forbidden,
            ),
            ("one\n\n", "one", ErrorKind::Fatal),
            ("", "it said nothing", ErrorKind::Fatal),
        ] {
            let error = error(AttrPath::root(), None, said);
            assert_eq!((error.message.as_str(), error.kind), (want, kind), "{said:?}");
        }
    }

    #[test]
    fn only_nix_says_that_the_machine_failed() {
        for said in [
            "error: writing to file: No space left on device\n",
            "warning: x\nerror:\n       … while evaluating\n\n       error: writing to file: No space left on device\n",
            "error: cannot connect to daemon at '/nix/var/nix/daemon-socket/socket': Connection refused",
            "error: executing SQLite statement 'insert': database or disk is full (in '/nix/var/nix/db/db.sqlite')",
            "error: opening file '/nix/store/x.lock': Too many open files",
        ] {
            assert!(machine(said).is_some(), "{said}");
        }
        for said in [
            "error: No space left on device",
            "error: evaluation aborted with the following error message: 'No space left on device'",
            "error: evaluation aborted with the following error message: '\n       error: writing to file: No space left on device'",
            "error: attribute 'x\n       error: writing to file: No space left on device' missing",
            "error:\n       … x\n       error: writing to file: No space left on device\n\n       error: undefined variable 'x'",
            "error: opening file '/checkout/No space left on device': No such file or directory",
            "trace: error: writing to file: No space left on device",
            "error: undefined variable 'x'",
            "",
        ] {
            assert_eq!(machine(said), None, "{said}");
        }
    }

    #[test]
    fn what_may_pass_is_no_fault_of_the_code() {
        let fatal = |text: &str| may_pass(&error(AttrPath::root(), None, text));
        for said in [
            "error: unable to download 'https://example.org/x': Couldn't resolve host name (6)",
            "fatal: unable to access 'https://example.org/': Could not resolve host: example.org\nerror: program 'git' failed with exit code 128",
            "error:\n       … while fetching the input 'github:a/b'\n\n       error: Failed to fetch git repository https://example.org/x : failed to resolve address",
            "error: cannot connect to daemon at '/nix/var/nix/daemon-socket/socket': Connection refused",
            "error: experimental Nix feature 'flakes' is disabled; use '--extra-experimental-features flakes' to override",
            "error: writing to file: No space left on device",
        ] {
            assert!(fatal(said), "{said}");
        }
        for said in [
            "error: attribute 'Could not resolve host' missing",
            "error: evaluation aborted with the following error message: 'unable to download 'x''",
            "error: path '/unable to download 'x'' does not exist",
            "error: undefined variable 'experimental'",
            "error: access to URI 'https://example.org' is forbidden in restricted mode",
            "error: stack overflow (possible infinite recursion)",
        ] {
            assert!(!fatal(said), "{said}");
        }
        for kind in ErrorKind::ALL {
            let passes =
                [ErrorKind::TimedOut, ErrorKind::OutOfMemory, ErrorKind::Crashed, ErrorKind::Garbage];
            assert_eq!(may_pass(&ours(AttrPath::root(), kind, "x")), passes.contains(&kind), "{kind}");
        }
        assert!(!may_pass(&ours(AttrPath::root(), ErrorKind::Thrown, "unable to download 'x'")));
    }

    #[test]
    fn what_an_attacker_writes_is_harmless_and_bounded() {
        let text = format!("error: \u{1b}]0;title\u{7}\u{1b}[2J\u{9b}{}", "ü".repeat(40_000));
        let error = error(AttrPath::root(), None, &text);
        assert!(error.message.len() <= MESSAGE_BYTES_MAX && error.trace.len() <= TRACE_BYTES_MAX);
        assert!(!error.message.chars().any(|c| c.is_control()), "{:?}", error.message);
    }
}
