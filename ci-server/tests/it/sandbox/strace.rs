//! What strace saw. In: the log of a tree of processes. Out: its calls, one each, also where another process came between
//! a call's beginning and its end; and what of them breaks out.

use std::collections::HashMap;
use std::path::Path;

use nix_store::process::Spec;

/// The calls that are looked at. Whatever opens, reads or connects is among them.
const CALLS: &str = "trace=open,openat,openat2,creat,name_to_handle_at,open_by_handle_at,execve,read,pread64,readv,preadv,\
                     sendfile,splice,copy_file_range,mmap,readlink,readlinkat,connect,getsockopt,sendto,sendmsg,sendmmsg,recvfrom,recvmsg";

/// The child, and all that it starts, seen by strace.
pub(crate) fn traced(spec: &Spec, log: &Path) -> Spec {
    let mut traced = spec.clone();
    traced.program = "/usr/bin/strace".into();
    let options = ["-f", "--seccomp-bpf", "-qq", "-y", "-x", "-s", "4096", "-e", CALLS, "-o"];
    traced.args = options.map(Into::into).into();
    traced.args.extend([log.into(), "--".into(), spec.program.clone()]);
    traced.args.extend(spec.args.iter().cloned());
    traced
}

/// One call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
    pub(crate) result: String,
}

/// All calls of a log.
pub(crate) fn calls(log: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(process, first);
            continue;
        }
        let whole = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, second)) => format!("{}{second}", begun.remove(process).unwrap_or_default()),
            None => rest.to_owned(),
        };
        // "+++ exited" and "--- SIGCHLD" are no calls.
        let Some((name, rest)) = whole.split_once('(') else { continue };
        let Some((arguments, result)) = rest.rsplit_once(") = ") else { continue };
        calls.push(Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            result: result.trim().to_owned(),
        });
    }
    calls
}

impl Call {
    fn succeeded(&self) -> bool {
        !self.result.starts_with("-1 ") && !self.result.starts_with('?')
    }

    /// Did it open one of these files, or bring one of these texts in?
    pub(crate) fn reads(&self, files: &[String], texts: &[String]) -> bool {
        let opens = self.name.contains("open") || self.name == "creat";
        let names = |part: &String| self.arguments.contains(part) || self.result.contains(part);
        self.succeeded() && (opens && files.iter().any(names) || texts.iter().any(names))
    }

    /// Which of its socket's connects this is, by strace's name for it.
    fn socket(&self) -> &str {
        self.arguments.split(['<', '>']).nth(1).unwrap_or_default()
    }

    /// Does it say that the kernel refused this socket's connection after a while?
    fn says_refused(&self, socket: &str) -> bool {
        self.name == "getsockopt" && self.socket() == socket && self.arguments.contains("SO_ERROR, [E")
    }
}

/// The calls that reached another address than those, or of which the log does not show that they did not.
pub(crate) fn reaching<'a>(calls: &'a [Call], allowed: &[String]) -> Vec<&'a Call> {
    let reaches = |(at, call): &(usize, &Call)| {
        let outward = ["connect", "sendto", "sendmsg", "sendmmsg"].contains(&call.name.as_str());
        let addressed =
            call.arguments.contains("sa_family=AF_INET") || call.arguments.contains("sa_family=AF_UNIX");
        let under_way = call.result.contains("EINPROGRESS")
            && !calls[*at..].iter().any(|later| later.says_refused(call.socket()));
        outward
            && addressed
            && (call.succeeded() || under_way)
            && !allowed.iter().any(|part| call.arguments.contains(part))
    };
    calls.iter().enumerate().filter(reaches).map(|(_, call)| call).collect()
}

#[test]
fn calls_are_put_together_again() {
    let log = "\
7 openat(AT_FDCWD</x>, \"/etc/(a) = b\", O_RDONLY) = 3</etc/(a) = b>
8  openat(AT_FDCWD</x>, \"/secret\", O_RDONLY <unfinished ...>
7 connect(4<socket:[1]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = -1 EINPROGRESS (Operation now in progress)
8 <... openat resumed>) = 5</secret>
8 read(5</secret>, \"canary\", 64) = 6
7 openat(AT_FDCWD</x>, \"/secret\", O_RDONLY) = -1 ENOENT (No such file or directory)
7 +++ exited with 0 +++
";
    let calls = calls(log);
    let files = ["/secret".to_owned()];
    let texts = ["canary".to_owned()];
    let read: Vec<_> = calls.iter().map(|call| call.reads(&files, &texts)).collect();
    assert_eq!(read, [false, false, true, true, false]);
    assert_eq!(calls[2].arguments, "AT_FDCWD</x>, \"/secret\", O_RDONLY");
    assert_eq!(reaching(&calls, &[]), [&calls[1]]);
    assert!(reaching(&calls, &["htons(80)".to_owned()]).is_empty());
    let refused = "7 getsockopt(4<socket:[1]>, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]) = 0\n";
    let calls = super::strace::calls(&format!("{log}{refused}"));
    assert!(reaching(&calls, &[]).is_empty());
}
