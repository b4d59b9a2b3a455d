//! What a Nix command says on stderr comes in, line by line, in Nix' JSON form (`--log-format internal-json`) or
//! plain, for ssh and a dying program speak between. Plain lines that are safe to print go out, as an operator would
//! have read them, and whether a line is a sign of progress. The last of the lines is kept, for the classifier and
//! for people. What kind of failure they tell of is not decided here.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::classify::{CopyFault, classify_lines};

/// Longest text of a failed command's last lines, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 4096;
/// How much of the end is kept for the classifier, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Longest plain line, in bytes; the rest of a longer one is cut.
const LINE_BYTES_MAX: usize = OUTPUT_BYTES_MAX - 4;
/// Most activities whose results are remembered.
const ACTIVITIES_MAX: usize = 1024;

/// What stands before Nix' JSON.
const MARK: &str = "@nix ";
/// Nix' levels: 0 error, 1 warning, 2 notice, 3 what it says unasked; above that, what only `-v` shows.
const LEVEL_WARNING: u64 = 1;
const LEVEL_INFO: u64 = 3;
/// Kinds of results that hold a line of a build's or a hook's output.
const RESULT_LINES: [u64; 2] = [101, 107];

/// Hears one command.
#[derive(Default)]
pub(super) struct Words {
    /// A digest of the last result, by activity and kind of result.
    results: BTreeMap<(u64, u64), u64>,
    kept: VecDeque<String>,
    kept_bytes: usize,
}

impl Words {
    /// Takes a line as it was said, gives `each` the plain lines in it, and says whether it was a sign of progress.
    pub(super) fn hear(&mut self, line: &str, each: &mut dyn FnMut(&str)) -> bool {
        match line.strip_prefix(MARK).and_then(|json| serde_json::from_str::<Value>(json).ok()) {
            Some(message) => self.decode(&message, each),
            // Not Nix, or a message so long that it comes in pieces: better seen than lost.
            None => {
                self.say(line, false, each);
                true
            }
        }
    }

    fn decode(&mut self, message: &Value, each: &mut dyn FnMut(&str)) -> bool {
        let number = |name: &str| message[name].as_u64().unwrap_or(0);
        let (id, level) = (number("id"), number("level"));
        match message["action"].as_str() {
            Some("msg") => {
                if level <= LEVEL_INFO {
                    let text = message["msg"].as_str().unwrap_or_default();
                    self.say(text, level == LEVEL_WARNING, each);
                }
                true
            }
            Some("start") => {
                if level <= LEVEL_INFO {
                    self.say(message["text"].as_str().unwrap_or_default(), false, each);
                }
                true
            }
            Some("stop") => {
                self.results.retain(|(activity, _), _| *activity != id);
                true
            }
            Some("result") if RESULT_LINES.contains(&number("type")) => {
                self.say(message["fields"][0].as_str().unwrap_or_default(), false, each);
                true
            }
            Some("result") => self.is_new((id, number("type")), &message["fields"]),
            Some(_) | None => false,
        }
    }

    /// Nix repeats what it said of a transfer many times a second, moving or not: only another result is progress.
    fn is_new(&mut self, of: (u64, u64), fields: &Value) -> bool {
        let mut hasher = DefaultHasher::new();
        fields.hash(&mut hasher);
        if self.results.len() >= ACTIVITIES_MAX {
            self.results.clear();
        }
        let digest = hasher.finish();
        self.results.insert(of, digest) != Some(digest)
    }

    fn say(&mut self, text: &str, warning: bool, each: &mut dyn FnMut(&str)) {
        for line in text.split(['\n', '\r']) {
            let mut line = masked(&cleaned(line));
            if line.is_empty() {
                continue;
            }
            // Every line of a warning is one, be it the answer of a server.
            if warning && !line.starts_with("warning:") {
                line.insert_str(0, "warning: ");
            }
            cut(&mut line, LINE_BYTES_MAX);
            each(&line);
            self.kept_bytes += line.len() + 1;
            self.kept.push_back(line);
            while self.kept_bytes > KEPT_BYTES_MAX
                && let Some(first) = self.kept.pop_front()
            {
                self.kept_bytes -= first.len() + 1;
            }
        }
    }

    /// What the lines mean, said by a command that failed.
    pub(super) fn fault(&self) -> CopyFault {
        classify_lines(&self.kept)
    }

    /// The last lines, at most [`OUTPUT_BYTES_MAX`], each with its end.
    pub(super) fn output(&self) -> String {
        let mut room = OUTPUT_BYTES_MAX;
        let fits = |line: &&String| {
            let left = room.checked_sub(line.len() + 1);
            room = left.unwrap_or(0);
            left.is_some()
        };
        let count = self.kept.iter().rev().take_while(fits).count();
        self.kept.iter().skip(self.kept.len() - count).flat_map(|line| [line, "\n"]).collect()
    }
}

/// A line without escape sequences and white space around, and with other control characters escaped.
pub(crate) fn cleaned(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.chars().peekable();
    while let Some(one) = rest.next() {
        match one {
            '\u{1b}' => skip_escape(&mut rest),
            '\t' => plain.push(' '),
            one if one.is_control() => plain.extend(one.escape_debug()),
            one => plain.push(one),
        }
    }
    plain.trim().to_owned()
}

/// Skips the rest of a terminal's escape sequence: `[` … letter, `]` … bell or string end, or one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next() {
        Some('[') => drop(rest.find(|one| ('\u{40}'..='\u{7e}').contains(one))),
        Some(']') => {
            while let Some(one) = rest.next() {
                if one == '\u{7}' || (one == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(_) | None => {}
    }
}

/// `https://user:password@host` becomes `https://***@host`.
fn masked(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once("://") {
        let host = behind.find(['/', '?', '\'', '"', ' ']).unwrap_or(behind.len());
        let user = behind[..host].rfind('@').filter(|at| behind[..*at].contains(':'));
        shown.push_str(before);
        shown.push_str(if user.is_some() { "://***" } else { "://" });
        rest = &behind[user.unwrap_or(0)..];
    }
    shown + rest
}

/// Cuts a text to at most `bytes` and an ellipsis.
fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was heard, and which of the lines were progress.
    fn hear(words: &mut Words, said: &str) -> (Vec<String>, Vec<bool>) {
        let mut plain = Vec::new();
        let progress =
            said.lines().map(|line| words.hear(line, &mut |line| plain.push(line.to_owned()))).collect();
        (plain, progress)
    }

    fn plain(said: &str) -> Vec<String> {
        hear(&mut Words::default(), said).0
    }

    fn message(level: u64, text: &str) -> String {
        format!("@nix {}", serde_json::json!({ "action": "msg", "level": level, "msg": text }))
    }

    #[test]
    fn what_an_operator_would_have_read() {
        assert_eq!(
            plain(include_str!("recorded/http-403-2.8")),
            [
                "copying 1 paths",
                "copying path '/srv/s/store/00000000000000000000000000000000-x' to 'http://127.0.0.1:8090/403'",
                "error: while uploading to HTTP binary cache at 'http://127.0.0.1:8090/403': error: unable to upload 'http://127.0.0.1:8090/403/nar/09kx.nar.xz': HTTP error 403 ('Forbidden')",
                "response body:",
                "nope",
            ]
        );
        assert_eq!(
            plain(include_str!("recorded/http-500-2.34"))[..3],
            [
                "warning: unable to upload 'http://127.0.0.1:8090/500/nar/09kx.nar.xz': HTTP error 500",
                "warning: response body:",
                "warning: nope; retrying in 288 ms (attempt 1/2)",
            ]
        );
        let ssh = plain(include_str!("recorded/ssh-closed-port-2.8"));
        assert_eq!(
            ssh,
            [
                "ssh: connect to host 127.0.0.1 port 9: Connection refused",
                "error: cannot connect to '127.0.0.1'"
            ]
        );
        let log = r#"@nix {"action":"result","id":1,"type":107,"fields":["from the hook"]}"#;
        assert_eq!(plain(log), ["from the hook"]);
        assert_eq!(plain(&[message(3, "said"), message(4, "only with -v")].join("\n")), ["said"]);
    }

    #[test]
    fn lines_are_safe_to_print() {
        let line = "\u{1b}[31merror:\u{1b}[0m a\u{7}b\u{1b}]0;title\u{7}c\u{1b}]8;;u\u{1b}\\d \u{fffd}";
        assert_eq!(plain(line), ["error: a\\u{7}bcd \u{fffd}"]);
        assert_eq!(plain(&message(0, line)), ["error: a\\u{7}bcd \u{fffd}"]);
    }

    #[test]
    fn passwords_are_not_repeated() {
        let line = "unable to upload 'https://me:p@ss@host/x' to https://other:2/y?a@b: see http://u:p@h";
        let shown = "unable to upload 'https://***@host/x' to https://other:2/y?a@b: see http://***@h";
        let mut words = Words::default();
        assert_eq!(hear(&mut words, &[line, &message(0, line)].join("\n")).0, [shown, shown]);
        assert_eq!(words.output(), format!("{shown}\n{shown}\n"));
    }

    /// Nix repeats the last result some twenty times a second while an upload stands still; 2.8 and 2.26 also while it
    /// moves, with zeros.
    #[test]
    fn the_same_again_is_no_progress() {
        let result = |id: u64, sent: u64| {
            format!(r#"@nix {{"action":"result","fields":[{sent},100000112,0,0],"id":{id},"type":105}}"#)
        };
        let start = r#"@nix {"action":"start","fields":["http://h/nar/1.nar"],"id":7,"level":4,"text":"uploading 'http://h/nar/1.nar'","type":101}"#;
        let stop = r#"@nix {"action":"stop","id":7}"#;
        let said = [
            start.to_owned(),
            result(7, 0),
            result(7, 0),
            result(7, 4096),
            result(7, 4096),
            result(8, 4096),
            result(7, 4096),
            stop.to_owned(),
            result(7, 4096),
            r#"@nix {"action":"result","fields":[103,1],"id":7,"type":106}"#.to_owned(),
        ];
        let (plain, progress) = hear(&mut Words::default(), &said.join("\n"));
        assert_eq!(plain, Vec::<String>::new());
        assert_eq!(progress, [true, true, false, true, false, true, false, true, true, true]);
    }

    #[test]
    fn what_is_no_message_is_shown_as_it_is_or_ignored() {
        let cut = r#"@nix {"action":"msg","level":0,"msg":"error: a very lo"#;
        assert_eq!(plain(cut), [cut]);
        assert_eq!(
            plain("terminate called\n\n\r\n  after throwing\r\n"),
            ["terminate called", "after throwing"]
        );
        let odd = "@nix 1\n@nix {}\n@nix {\"action\":5}\n@nix {\"action\":\"new\"}\n@nix {\"action\":\"result\",\"type\":101}";
        let (plain, progress) = hear(&mut Words::default(), odd);
        assert_eq!(plain, Vec::<String>::new());
        assert_eq!(progress[..4], [false; 4]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut words = Words::default();
        for n in 0..10_000_u64 {
            let result = format!(r#"@nix {{"action":"result","fields":[1],"id":{n},"type":105}}"#);
            words.hear(&result, &mut |_| {});
            words.hear(&format!("line {n} {}", "ü".repeat(50)), &mut |_| {});
        }
        assert!(words.results.len() <= ACTIVITIES_MAX);
        assert!(words.kept.iter().map(|line| line.len() + 1).sum::<usize>() <= KEPT_BYTES_MAX);
        let output = words.output();
        assert!(
            output.len() <= OUTPUT_BYTES_MAX && output.len() > OUTPUT_BYTES_MAX - 200,
            "{}",
            output.len()
        );
        assert!(
            output.starts_with("line 99") && output.contains("\nline 9999 "),
            "whole lines, the last ones"
        );
        words.hear(&"ü".repeat(50_000), &mut |_| {});
        assert!(words.output().starts_with('ü') && words.output().ends_with("…\n"));
        assert!(words.output().len() <= OUTPUT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn anything_is_safe_and_bounded(said in prop::collection::vec("(@nix )?\\PC{0,80}|@nix \\{\"action\":\"(msg|start|result)\",\"(msg|text|fields)\":\"\\PC{0,20}\"\\}", 0..20)) {
            let mut words = Words::default();
            let (plain, _) = hear(&mut words, &said.join("\n"));
            prop_assert!(plain.iter().all(|line| !line.chars().any(char::is_control) && !line.is_empty()));
            prop_assert!(words.output().len() <= OUTPUT_BYTES_MAX);
        }
    }
}
