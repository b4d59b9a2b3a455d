//! What the subcommands print.
//!
//! In flow replies; out flow lines for people, or with `--json` one object a line. Paths, tags and errors come from
//! outside: for people their control characters are escaped.

use std::io;

use serde_json::json;
use service_kit::text::one_line;

use super::out;
use crate::audit::named;
use crate::cli::Command;
use crate::control::protocol::{Audited, End, Listed, Lost, Reply, Shown, Status, Verdict, Verified};
use crate::delivery::StateName;

/// Prints replies as they come.
pub(super) struct Printer {
    json: bool,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn reply(&mut self, reply: Reply) -> io::Result<()> {
        match reply {
            Reply::Status(status) if self.json => out(&serde_json::to_string(&status)?),
            Reply::Status(status) => out(&status_text(&status)),
            Reply::Listed(listed) if self.json => out(&serde_json::to_string(&listed)?),
            Reply::Listed(listed) => out(&listed_text(&listed)),
            Reply::Shown(shown) if self.json => out(&serde_json::to_string(&shown)?),
            Reply::Shown(shown) => out(&shown_text(&shown)),
            Reply::Watched(watched) => out(&serde_json::to_string(&watched)?),
            Reply::Snapshot(_) => Ok(()), // `backup` takes it with its bytes
            Reply::Lost(lost) if self.json => out(&serde_json::to_string(&lost)?),
            Reply::Lost(lost) => out(&lost_text(&lost)),
            Reply::Verified(verified) if self.json => out(&serde_json::to_string(&verified)?),
            Reply::Verified(verified) => verified_text(&verified),
            Reply::Audited(row) if self.json => out(&serde_json::to_string(&row)?),
            Reply::Audited(row) => out(&audited_text(&row)),
            Reply::AuditVerdict(verdict) if self.json => out(&serde_json::to_string(&verdict)?),
            Reply::AuditVerdict(verdict) => out(&verdict_of_audit(&verdict)),
            Reply::Note(note) => {
                eprintln!("eka-queue: {}", one_line(&note));
                Ok(())
            }
            Reply::End(_) | Reply::Error(_) => Ok(()), // the client returns these
        }
    }

    pub(super) fn end(&mut self, command: &Command, end: &End) -> io::Result<()> {
        match command {
            Command::Status(_)
            | Command::List(_)
            | Command::Show(_)
            | Command::Watch(_)
            | Command::Audit(_) => Ok(()),
            _ if self.json => out(&end_json(end).to_string()),
            Command::Push(_) => out(&format!("queued {}, refused {}", end.count, end.refused)),
            Command::Retry(_) => out(&format!("{} to be tried again", end.count)),
            Command::Drop(_) => out(&format!("{} dropped", end.count)),
            Command::Pause { .. } => out(&format!("{} destination(s) paused", end.count)),
            Command::Resume { .. } => out(&format!("{} destination(s) go on", end.count)),
            Command::Wait(_) | Command::Drain { .. } => out(&verdict_text(end)),
            Command::Verify(_) => Ok(()), // each destination has said its part
            Command::Serve(_)
            | Command::Backup(_)
            | Command::Restore { .. }
            | Command::CheckConfig { .. }
            | Command::Completions { .. }
            | Command::Man { .. } => Ok(()),
        }
    }
}

fn lost_text(lost: &Lost) -> String {
    let gone = if lost.in_store { "" } else { "; it has left the local store too and cannot be sent again" };
    let (path, missing) = (one_line(&lost.path), one_line(&lost.why));
    format!("missing   {:<12} {path}  {missing}{gone}", lost.destination)
}

fn verified_text(verified: &Verified) -> io::Result<()> {
    let Verified { destination, there, missing, unknown, requeued, error } = verified;
    if let Some(error) = error {
        eprintln!(
            "eka-queue: {destination} cannot be asked, and nothing of it is queued again: {}",
            one_line(error)
        );
    }
    let mut text = format!("{destination}: {there} there, {missing} missing, {requeued} queued again");
    if *unknown > 0 {
        text += &format!(", {unknown} that nobody can be asked about");
    }
    out(&text)
}

fn audited_text(row: &Audited) -> String {
    let Audited { seq, at, act, uid, user, pid, detail, .. } = row;
    let user = named(user);
    let (act, user, detail) = (one_line(act), one_line(user), detail.to_string());
    format!("{seq:>6}  {at}  {act:<16} {user} (user {uid}, process {pid})  {}", one_line(&detail))
}

fn verdict_of_audit(verdict: &Verdict) -> String {
    let Verdict { rows, head, why, .. } = verdict;
    match why {
        None => format!("{rows} rows, all as they were written; the head is {head}"),
        Some(why) => {
            format!("the audit log was tampered with: {}; {rows} rows in front of it hold", one_line(why))
        }
    }
}

pub(super) fn error_json(message: &str) -> io::Result<()> {
    out(&json!({ "error": message }).to_string())
}

fn end_json(end: &End) -> serde_json::Value {
    let mut object = json!({ "count": end.count, "refused": end.refused });
    if let Some(tally) = &end.tally {
        object["states"] = json!(tally);
    }
    if end.tally.is_some() || end.timed_out {
        object["timed_out"] = json!(end.timed_out);
    }
    object
}

fn verdict_text(end: &End) -> String {
    let Some(tally) = &end.tally else { return "the time is over, and no daemon answered".into() };
    let of = |state| tally.of(state);
    let mut text = format!("{} delivered", of(StateName::Done));
    for (state, word) in [(StateName::Dead, "dead"), (StateName::Gone, "vanished")] {
        if of(state) > 0 {
            text += &format!(", {} {word}", of(state));
        }
    }
    if end.timed_out {
        text += &format!(", {} still owed when the time was over", tally.live());
    }
    text
}

fn status_text(status: &Status) -> String {
    let mut lines = vec![format!(
        "{:<20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  {:<9} {:>8}",
        "destination", "queued", "active", "waiting", "done", "dead", "gone", "breaker", "oldest"
    )];
    for (name, destination) in &status.destinations {
        let of = |state| destination.by_state.of(state);
        let active = of(StateName::Leased) + of(StateName::Pushing) + of(StateName::Verifying);
        let breaker = match &destination.breaker {
            None => "removed",
            Some(_) if destination.paused => "paused",
            Some(word) => word,
        };
        lines.push(format!(
            "{name:<20} {:>8} {active:>8} {:>8} {:>8} {:>8} {:>8}  {breaker:<9} {:>8}",
            of(StateName::Queued),
            of(StateName::Waiting),
            of(StateName::Done),
            of(StateName::Dead),
            of(StateName::Gone),
            destination.oldest_queued_seconds.map_or_else(|| "-".into(), age_text),
        ));
    }
    let draining = if status.draining { ", draining" } else { "" };
    lines.push(format!(
        "{} bytes pushed, {} file(s) in the spool, {} GC root(s), up {}{draining}, version {}",
        status.bytes_pushed,
        status.spool_files,
        status.gc_roots.map_or_else(|| "unknown".into(), |roots| roots.to_string()),
        age_text(status.uptime_seconds),
        status.version
    ));
    lines.join("\n")
}

fn age_text(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn listed_text(listed: &Listed) -> String {
    let mut line = format!("{:<9} {:<12} {}", listed.state, listed.destination, one_line(&listed.path));
    if let Some(tag) = &listed.tag {
        line += &format!("  [{}]", one_line(tag));
    }
    if listed.attempts > 0 {
        line += &format!("  {} attempt(s)", listed.attempts);
    }
    if let Some(until) = &listed.not_before {
        line += &format!("  not before {until}");
    }
    if let Some(error) = &listed.last_error {
        line += &format!("  {}", one_line(error));
    }
    line
}

fn shown_text(shown: &Shown) -> String {
    let listed = &shown.listed;
    let mut lines = vec![format!("{} -> {}: {}", one_line(&listed.path), listed.destination, listed.state)];
    let mut add = |name: &str, value: &str| lines.push(format!("  {name:<12} {}", one_line(value)));
    add("derivation", listed.drv.as_deref().unwrap_or("unknown"));
    add("NAR size", &format!("{} bytes", shown.nar_bytes));
    add("queued", &listed.queued_at);
    add("changed", &shown.changed_at);
    add("attempts", &listed.attempts.to_string());
    if let Some(until) = &listed.not_before {
        add("not before", until);
    }
    if let Some(error) = &listed.last_error {
        add("last error", error);
    }
    if let Some(receipt) = &listed.receipt {
        add("receipt", &receipt.to_string());
    }
    for request in &shown.requests {
        let tag = request.tag.as_deref().unwrap_or("no tag");
        add(
            "asked by",
            &format!("{} (user {}, {tag}) at {}", request.source, request.uid, request.received_at),
        );
    }
    if let Some(output) = &shown.last_output {
        add("last output", "");
        lines.extend(output.lines().map(|line| format!("    {}", one_line(line))));
    }
    lines.join("\n")
}
