//! What an evaluator said before it ended comes in; the kind of the error, its message and its trace, clean and
//! bounded, come out.

use ci_model::attr::{AttrError, ErrorKind, MESSAGE_BYTES_MAX, TRACE_BYTES_MAX};
use nix_types::{AttrPath, StorePath};

mod way;

use way::{with_assertion, without_own_steps};

/// Most lines of a message.
const MESSAGE_LINES_MAX: usize = 8;
/// What is said of an error whose message was not asked for.
const HIDDEN: &str = "it throws; its message is shown when it is evaluated by itself";

/// What is said of an error that has no text, as `throw ""` makes one.
const EMPTY: &str = "it is thrown with an empty message";
/// Nix's advice below an error.
const ADVICE: &str = "(use '--show-trace'";
/// How lines begin that tell where an error comes from, and no more what it is.
const PLACES: [&str; 4] = ["at ", "…", ADVICE, "(stack trace truncated"];

/// An error from what an evaluator said. `kind` is how it ended where that is known from elsewhere; else the text tells.
pub(crate) fn error(path: AttrPath, kind: Option<ErrorKind>, said: &str) -> AttrError {
    let said = without_own_steps(&with_statements_short(clean(said)));
    let message = last_error(&said);
    let (kind, message) = match (kind, builds(&message)) {
        (None, Some(drv)) => (
            ErrorKind::Forbidden,
            format!(
                "it builds '{drv}' during evaluation, for which 'allow-import-from-derivation' must be on"
            ),
        ),
        (None, None) => match kind_of(&said, &message) {
            ErrorKind::Fatal => (ErrorKind::Fatal, with_place(with_assertion(message, &said), &said)),
            kind => (kind, message),
        },
        (Some(kind), _) => (kind, message),
    };
    AttrError {
        path,
        kind,
        message: cut(&message, MESSAGE_BYTES_MAX),
        trace: cut_front(&said, TRACE_BYTES_MAX),
    }
}

/// The message with the place, where it says too little without: nobody finds the `;` in a whole repository.
fn with_place(message: String, said: &str) -> String {
    let is_short =
        ["syntax error, ", "undefined variable '"].iter().any(|begins| message.starts_with(begins));
    let mut lines = said.lines().map(str::trim).rev().take_while(|line| !line.starts_with("error:"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_place = |place: &&str| {
        let mut parts = place.rsplitn(3, ':');
        parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number) && parts.next().is_some()
    };
    // The place of the error itself stands first below it.
    let places = lines.by_ref().filter_map(|line| line.strip_prefix("at ")?.strip_suffix(':'));
    match places.filter(is_place).last() {
        Some(place) if is_short => format!("{message} at {place}"),
        _ => message,
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
/// where that is allowed, what was to be built in between; or what it fetched, with nowhere to put it?
pub(crate) fn needs_store(said: &str, store: &str, may_build: bool) -> bool {
    let message = last_error(&clean(said));
    if message.starts_with("operation '") && message.contains("' is not supported by store 'dummy") {
        return true; // outsiders' code has no store in that pass
    }
    let is_absent = ["No such file or directory", "does not exist", "is not valid"];
    (message.contains(&format!("{store}/")) || names_without_store(&message, store))
        && match (builds(&message), message.ends_with(NOT_BUILT)) {
            (None, false) => is_absent.iter().any(|words| message.contains(words)),
            (Some(_), _) | (None, true) => may_build,
        }
}

/// As newer releases say that there is no such path: without the store's folder.
fn names_without_store(message: &str, store: &str) -> bool {
    let name = message.strip_prefix("path '").and_then(|rest| rest.strip_suffix("' is not valid"));
    name.is_some_and(|name| StorePath::in_store(store, name).is_ok())
}

/// How a pass that writes nothing ends what it says of an output whose derivation is there already.
const NOT_BUILT: &str = "' - no write access to the Nix store";

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
    let said = with_statements_short(clean(said));
    let is_own = final_errors(&said).all(is_of_machine);
    let message = last_error(&said);
    (is_own && is_of_machine(&message)).then(|| cut(&message, MESSAGE_BYTES_MAX))
}

/// Is this how Nix says that the machine failed it?
fn is_of_machine(message: &str) -> bool {
    const DOES: [&str; 34] = [
        "aborting transaction",
        "acquiring write lock on '",
        "acquiring/releasing lock",
        "binding argument",
        "cannot open SQLite database '",
        "changing permissions on '",
        "committing transaction",
        "creating directory '",
        "creating file '",
        "creating log file '",
        "creating pipe",
        "creating statement '",
        "creating symlink ",
        "creating temporary file",
        "executing SQLite ",
        "getting status of '",
        "linking '",
        "opening directory '",
        "opening file '",
        "opening global GC lock '",
        "opening lock file '",
        "opening temporary roots file '",
        "querying journal mode",
        "renaming ",
        "setting autocheckpoint interval",
        "setting journal mode",
        "setting permissions on '",
        "setting synchronous mode",
        "setting time of symlink '",
        "setting timeout",
        "starting transaction",
        "unable to fork",
        "writing file '",
        "writing to file",
    ];
    const FAILS: [&str; 10] = [
        "No space left on device",
        "database or disk is full",
        "disk I/O error",
        "unable to open database file",
        "attempt to write a readonly database",
        "database disk image is malformed",
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

/// The same with a statement of Nix's own that was printed over many lines, as the last error of all, in one: what became of
/// it stands behind its last line.
fn with_statements_short(said: String) -> String {
    const BEGINS: &str = "error: executing SQLite ";
    let lines: Vec<&str> = said.lines().collect();
    let last_error = lines.iter().rposition(|line| line.starts_with("error:"));
    let Some((at, first)) = last_error.map(|at| (at, lines[at])) else { return said };
    let end = lines.iter().rposition(|line| !line.trim().is_empty()).unwrap_or(at);
    match lines[end].trim_start().strip_prefix("': ") {
        Some(why) if first.starts_with(BEGINS) && end > at => {
            let before: String = lines[..at].iter().flat_map(|line| [*line, "\n"]).collect();
            format!("{before}{first}…': {why}\n")
        }
        _ => said,
    }
}

/// The texts of all errors of what was printed last. Whatever an author writes may look like one of them, but Nix's own
/// is always among them.
fn final_errors(said: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.iter().rposition(|line| line.starts_with("error:")).unwrap_or(0);
    let errors = lines.into_iter().skip(from).filter_map(|line| line.trim_start().strip_prefix("error:"));
    errors.map(str::trim).filter(|text| !text.is_empty())
}

/// Did another Nix get in the way, in the store's database or in making a new store? That is soon over.
#[must_use]
pub fn is_busy(error: &AttrError) -> bool {
    let message = error.message.trim_end();
    let of_database = message.starts_with("SQLite database '") && message.ends_with("is busy");
    let of_new_store = message.starts_with("creating symlink from '") && message.ends_with("File exists");
    error.kind == ErrorKind::Fatal && (of_database || of_new_store)
}

/// May this error be gone the next time, with the same code? So it is with what the machine, the network or the
/// settings of Nix did to the evaluator; where the kind does not tell, Nix's own words do.
#[must_use]
pub fn may_pass(error: &AttrError) -> bool {
    match error.kind {
        ErrorKind::TimedOut | ErrorKind::OutOfMemory | ErrorKind::Crashed => true,
        // Of all of it, it is a Nix that does not work; of an attribute, it is what its code says.
        ErrorKind::Garbage => error.path.is_root(),
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
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let Some(last) = lines.iter().rposition(|line| line.starts_with("error:")) else {
        return last_line(&lines).to_owned();
    };
    let is_text = |line: &&str| !line.is_empty() && !PLACES.iter().any(|begins| line.starts_with(begins));
    let first = Some(lines[last].trim_start_matches("error:").trim_start()).filter(|line| !line.is_empty());
    // Some releases put empty lines behind `error:` itself, and so does an author.
    let more = lines[last + 1..].iter().copied();
    let more = more.skip_while(|line| first.is_none() && line.is_empty()).take_while(is_text);
    let text: Vec<&str> = first.into_iter().chain(more).take(MESSAGE_LINES_MAX).collect();
    if text.is_empty() { EMPTY.to_owned() } else { text.join("\n") }
}

/// The last line of what was said that is neither Nix's advice nor something it said on the way. `throw ""` makes Nix print
/// nothing but an empty line, and perhaps its advice.
fn last_line<'a>(lines: &[&'a str]) -> &'a str {
    let on_the_way = |line: &str| ["warning:", "trace:"].iter().any(|begins| line.starts_with(begins));
    let mut texts = lines.iter().rev().filter(|line| !line.is_empty() && !line.starts_with(ADVICE));
    let ends_with_text = lines.last().is_some_and(|line| !line.is_empty() && !line.starts_with(ADVICE));
    match texts.clone().find(|line| !on_the_way(line)).or_else(|| texts.next().filter(|_| ends_with_text)) {
        Some(line) => line,
        None if lines.is_empty() => "it said nothing",
        None => EMPTY,
    }
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
                "undefined variable 'x' at /a.nix:1:1",
                ErrorKind::Fatal,
            ),
            (
                "error:\n       … while x\n         at /a.nix:9:9:\n\n       error: syntax error, unexpected ';'\n       at /b c.nix:1:5:\n            1| { a ; }\n             |     ^\n",
                "syntax error, unexpected ';' at /b c.nix:1:5",
                ErrorKind::Fatal,
            ),
            ("error: syntax error, unexpected ';'\n", "syntax error, unexpected ';'", ErrorKind::Fatal),
            (
                "error: attribute 'x' missing\n\n       at /a.nix:1:1:\n",
                "attribute 'x' missing",
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
            ("error: at large\n\n       at /x:1", "at large", ErrorKind::Fatal),
            ("error:\n\n       a\n       b\n\n       at /x:1", "a\nb", ErrorKind::Fatal),
            ("one\n\n", "one", ErrorKind::Fatal),
            ("warning: dying\n", "warning: dying", ErrorKind::Fatal),
            ("", "it said nothing", ErrorKind::Fatal),
        ] {
            let error = error(AttrPath::root(), None, said);
            assert_eq!((error.message.as_str(), error.kind), (want, kind), "{said:?}");
        }
    }

    #[test]
    fn an_empty_message_is_said_to_be_one() {
        // As Nix 2.8 prints `throw ""`, in a set, with a trace, and below a context; and as newer ones do.
        for said in [
            "\n",
            "warning: the group 'nixbld' specified in 'build-users-group' does not exist\n\n",
            "trace: x\n\n(use '--show-trace' to show detailed location information)\n",
            "\n(use '--show-trace' to show detailed location information)\n",
            "error:\n\n       … while evaluating 'f'\n\n       at «string»:1:9:\n\n            1| let f = x: throw \"\"; in f 1\n",
            "error:\n\n       … ctx\n",
            "error:\n       … while calling the 'throw' builtin\n         at /a.nix:1:1:\n\n       error: \n",
        ] {
            assert_eq!(error(AttrPath::root(), None, said).message, EMPTY, "{said:?}");
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
            // Recorded from Nix 2.8 in a new store on a full disk, but for most of the statement.
            "error: executing SQLite statement '\n       create table if not exists ValidPaths (\n\n       );\n\n       create index if not exists I on D(path);\n       ': database or disk is full (in '/nix/var/nix/db/db.sqlite')\n",
            "error: setting journal mode: database or disk is full (in '/nix/var/nix/db/db.sqlite')",
            "error: executing SQLite statement 'pragma synchronous = normal': disk I/O error (in '/nix/var/nix/db/db.sqlite')",
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
            "error: executing SQLite statement '\n       select\n       ': no such table: x (in '/nix/var/nix/db/db.sqlite')\n",
            "error: evaluation aborted with the following error message: '\n       error: executing SQLite statement '\n       ': database or disk is full (in ''",
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

    #[test]
    fn what_was_not_written_is_named_with_the_stores_folder_or_without() {
        const PATH: &str = "1fqwhwwlw8lxkbdg0451rgjbwvg8b5g9-sub";
        for path in [PATH.to_owned(), format!("/nix/store/{PATH}")] {
            let said = format!("error:\n       … while x\n\n       error: path '{path}' is not valid\n");
            assert!(needs_store(&said, "/nix/store", false), "{said}");
            let built = said.replace("-sub", "-sub.drv");
            assert!(needs_store(&built, "/nix/store", true) && !needs_store(&built, "/nix/store", false));
            assert_eq!(error(AttrPath::root(), None, &built).kind, ErrorKind::Forbidden);
        }
        for other in
            ["sub", "/other/1fqwhwwlw8lxkbdg0451rgjbwvg8b5g9-sub", "1fqwhwwlw8lxkbdg0451rgjbwvg8b5g9"]
        {
            let said = format!("error: path '{other}' is not valid\n");
            assert!(!needs_store(&said, "/nix/store", false), "{said}");
        }
    }

    #[test]
    fn what_was_fetched_with_nowhere_to_put_it_needs_a_store() {
        for said in [
            "error: operation 'addToStore' is not supported by store 'dummy'\n",
            "warning: a\nerror:\n       error: operation 'addToStoreFromDump' is not supported by store 'dummy://'\n",
        ] {
            assert!(needs_store(said, "/nix/store", false), "{said}");
        }
        for said in ["error: operation 'x' is not supported by store 'https://a'\n", "error: store 'dummy'\n"]
        {
            assert!(!needs_store(said, "/nix/store", false), "{said}");
        }
    }
}
