//! The audit log over the control socket: its rows, and whether they are as they were written.
//!
//! In flow what is looked for, or the head that somebody noted; out flow rows in their order, or a verdict. A page at a time:
//! rows that are written meanwhile are looked at too.

use std::sync::Arc;

use service_kit::audit::{Head, Row};
use service_kit::clock::Time;
use tokio::io::AsyncWrite;

use super::protocol::{Audited, End, FailureKind, Reply, Verdict};
use super::server::{Control, Trouble, say};
use crate::audit::{Recorded, Who};
use crate::peer::Peer;
use crate::store::audit::{self as rows, Wanted};

/// Rows read at a time.
const PAGE: u32 = 500;

/// Whoever asked for an act, by name. The name is looked up where that holds nobody up.
pub(super) async fn who(peer: Peer) -> Who {
    let looked = tokio::task::spawn_blocking(move || Who::at(peer)).await;
    looked.expect("looking up a name does not panic: it gives none")
}

/// Says what was written, where anything was.
pub(super) fn said(recorded: Option<Recorded>) {
    if let Some(recorded) = recorded {
        recorded.say();
    }
}

/// The wanted rows, oldest first; with a limit the newest of them.
pub(super) async fn list(
    control: &Arc<Control>,
    wanted: Wanted,
    limit: u64,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let mut end = End::default();
    let mut after = None;
    if limit > 0 {
        let wanted = wanted.clone();
        after = control.ask(move |conn| rows::before_newest(conn, &wanted, limit)).await?;
    }
    loop {
        let (page, from) = (wanted.clone(), after);
        let found = control.ask(move |conn| rows::rows(conn, &page, from, PAGE)).await?;
        let Some((last, _)) = found.last() else { return Ok(end) };
        after = Some(*last);
        for (seq, row) in found {
            end.count += 1;
            let reply = match row {
                Some(row) => Reply::Audited(Box::new(audited(row))),
                None => Reply::Note(format!(
                    "row {seq} of the audit log is none that a daemon wrote: run `eka-queue audit --verify`"
                )),
            };
            say(writer, &reply).await?;
        }
    }
}

fn audited(row: Row) -> Audited {
    let Row { head, entry } = row;
    Audited {
        seq: head.seq,
        at: Time::from_ms(entry.at_ms).to_string(),
        act: entry.act,
        uid: entry.uid,
        user: entry.user,
        pid: entry.pid,
        detail: serde_json::from_str(&entry.detail).unwrap_or_else(|_| entry.detail.into()),
        head: head.to_string(),
    }
}

/// Whether every row is as it was written, and whether the log still holds the head that somebody noted.
pub(super) async fn verify(
    control: &Arc<Control>,
    noted: Option<String>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let noted: Option<Head> = match noted.map(|text| text.parse()).transpose() {
        Ok(noted) => noted,
        Err(error) => return Err(Trouble::said(FailureKind::BadRequest, format!("--head: {error}"))),
    };
    let verdict = judge(control, noted).await?;
    let end = End { count: verdict.rows, refused: u64::from(verdict.why.is_some()), ..End::default() };
    say(writer, &Reply::AuditVerdict(verdict)).await?;
    Ok(end)
}

async fn judge(control: &Arc<Control>, noted: Option<Head>) -> Result<Verdict, Trouble> {
    let (mut head, mut after) = (Head::BEGIN, None);
    let mut met = noted.is_none_or(|noted| noted == Head::BEGIN);
    loop {
        let found = control.ask(move |conn| rows::rows(conn, &Wanted::default(), after, PAGE)).await?;
        let Some((last, _)) = found.last() else { break };
        after = Some(*last);
        for (seq, row) in found {
            let bad = match row {
                None => Some(format!("row {seq} is not what was written: no daemon writes such a row")),
                Some(row) => head.check(&row).err().map(|broken| broken.to_string()),
            };
            if let Some(why) = bad {
                return Ok(verdict(head, Some(head.seq.saturating_add(1)), Some(why)));
            }
            met |= noted == Some(head);
        }
    }
    let (bad_row, why) = match noted {
        Some(noted) if !met => {
            let why = if noted.seq > head.seq {
                format!(
                    "rows were cut off the end: it ends with row {}, and row {} was there",
                    head.seq, noted.seq
                )
            } else {
                format!("row {} is another than the one that was noted: the log was written anew", noted.seq)
            };
            (Some(noted.seq.min(head.seq.saturating_add(1))), Some(why))
        }
        Some(_) | None => (None, None),
    };
    Ok(verdict(head, bad_row, why))
}

fn verdict(head: Head, bad_row: Option<u64>, why: Option<String>) -> Verdict {
    Verdict { rows: head.seq, head: head.to_string(), bad_row, why }
}
