//! A program as a destination: the operator's (`cache_type = "command"`), or a service's own (`driver = "cli"`).
//!
//! In flows a batch of one derivation; out flows one run of the program, without a shell, with `OUT_PATHS` and
//! `DRV_PATH` in its environment as Nix' own hook has them. Exit 0 means delivered; the program's word is the
//! receipt. A service's own program has the paths behind its arguments instead, and finds its token where it always does:
//! in the daemon's environment or its own file. What it prints goes to the logs' tail, never to a terminal.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nix_store::process::{self, Environment, Exit, Outcome, Spec};
use nix_types::StorePath;
use serde_json::json;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use super::credentials::{Credentials, Variables};
use super::{Batch, Checked, Fault, Leased, Push, Pushed, Reports, Rules, Whole, Work};
use crate::delivery::FaultClass;

/// 24 paths of the longest kind stay below the 128 KiB that one variable may have.
const PATHS_MAX: usize = 24;
/// `EX_DATAERR`: the program will never take this path.
const EXIT_REFUSED: i32 = 65;
/// `EX_UNAVAILABLE` and `EX_TEMPFAIL`: the destination cannot be reached now.
const EXIT_UNREACHABLE: [i32; 2] = [69, 75];
/// Where programs look for keys of AWS.
const AWS_OWN: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// How much of its output is kept.
const TAIL_BYTES: usize = 4_096;

/// The engine.
#[derive(Debug)]
pub(crate) struct Command {
    argv: Vec<String>,
    timeout: Duration,
    credentials: Option<Arc<Credentials>>,
    /// The kind's word.
    kind: &'static str,
    /// Whether paths are arguments, and exit codes without a meaning of ours.
    is_cli: bool,
}

impl Command {
    /// An engine that runs `argv`, which is not empty.
    pub(crate) fn new(argv: Vec<String>, timeout: Duration, credentials: Option<Arc<Credentials>>) -> Self {
        Self { argv, timeout, credentials, kind: "command", is_cli: false }
    }

    /// An engine that runs a service's own program, `argv` and the paths of a batch behind it.
    pub(crate) fn cli(
        kind: &'static str,
        argv: Vec<String>,
        timeout: Duration,
        credentials: Option<Arc<Credentials>>,
    ) -> Self {
        Self { argv, timeout, credentials, kind, is_cli: true }
    }

    fn spec(&self, batch: &[Leased], given: Option<&Variables>) -> Spec {
        let paths: Vec<&str> = batch.iter().map(|leased| leased.path.as_str()).collect();
        let drv = batch.first().and_then(|leased| leased.drv.as_ref()).map(|drv| drv.as_str().into());
        let set = |name: &str, value: Option<OsString>| (OsString::from(name), value);
        let mut changes = vec![
            set("OUT_PATHS", Some(paths.join(" ").into())),
            set("DRV_PATH", Some(drv.unwrap_or_default())),
            // The daemon's own: a child must not answer systemd for us.
            set("NOTIFY_SOCKET", None),
            set("WATCHDOG_USEC", None),
            set("WATCHDOG_PID", None),
        ];
        if given.is_some() {
            // Whoever is given credentials needs no others.
            changes.extend(AWS_OWN.map(|name| set(name, None)));
        }
        changes.extend(given.into_iter().flat_map(Variables::changes));
        let mut spec = Spec::new(&self.argv[0]).args(&self.argv[1..]);
        if self.is_cli {
            changes.retain(|(name, _)| name != "OUT_PATHS" && name != "DRV_PATH");
            spec = spec.args(&paths);
        }
        spec.env = Environment { clear: false, changes };
        spec.silent = Some(self.timeout);
        let room = given.map_or(TAIL_BYTES, |given| given.room(TAIL_BYTES));
        spec.stdout_tail = room;
        spec.stderr_tail = room;
        spec
    }

    /// The codes of a service's own program say nothing of whose fault it was.
    fn blame(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Failed { class: FaultClass::Refused | FaultClass::Unreachable, why, output }
                if self.is_cli =>
            {
                Fault::Failed { class: FaultClass::Failed, why, output }
            }
            fault => fault,
        }
    }

    async fn run(&self, batch: &[Leased], stop: &Stop) -> Result<(), Fault> {
        let mut given = match &self.credentials {
            Some(credentials) => Some(credentials.variables().await?),
            None => None,
        };
        let ran = process::run(&self.spec(batch, given.as_ref()), stop.requested()).await;
        let mut outcome = ran.map_err(|error| Fault::failed(FaultClass::Unreachable, chain(&error)))?;
        if let Some(given) = &mut given {
            given.hide(&mut outcome.stdout_tail, TAIL_BYTES);
            given.hide(&mut outcome.stderr_tail, TAIL_BYTES);
        }
        judge(&self.argv[0], &outcome).map_err(|fault| self.blame(fault))
    }
}

impl Push for Command {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn rules(&self) -> Rules {
        Rules {
            paths_max: PATHS_MAX,
            one_drv: !self.is_cli,
            closure: false,
            exclusive: false,
            gather: Duration::ZERO,
        }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        Box::pin(async move {
            self.run(batch.leased, stop).await?;
            reports.sent();
            for (place, leased) in batch.leased.iter().enumerate() {
                reports.delivered(place, json!({ "kind": self.kind, "exit": 0 }), leased.nar_bytes);
            }
            Ok(Pushed::default())
        })
    }

    /// Its word is all there is.
    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        _: &'a mut Whole,
        _: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        Box::pin(std::future::ready(Ok(Checked::unknown(paths.len()))))
    }
}

fn judge(program: &str, outcome: &Outcome) -> Result<(), Fault> {
    let (class, how) = match outcome.exit {
        Exit::Exited(0) => return Ok(()),
        Exit::Cancelled => return Err(Fault::Cancelled),
        Exit::Exited(code) if code == EXIT_REFUSED => (FaultClass::Refused, format!("exited {code}")),
        Exit::Exited(code) if EXIT_UNREACHABLE.contains(&code) => {
            (FaultClass::Unreachable, format!("exited {code}"))
        }
        Exit::Exited(code) => (FaultClass::Failed, format!("exited {code}")),
        Exit::Signaled(signal) => (FaultClass::Failed, format!("was killed by signal {signal}")),
        Exit::TimedOut { after, .. } => {
            (FaultClass::Stuck, format!("printed nothing for {after:?} and was ended"))
        }
    };
    let output = super::tails(outcome);
    let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    let why = if last.is_empty() { format!("{program} {how}") } else { format!("{program} {how}: {last}") };
    Err(Fault::Failed { class, why, output })
}

#[cfg(test)]
mod tests {
    use nix_store::process::Tail;

    use super::*;

    fn judged(exit: Exit) -> Result<(), Fault> {
        let stderr_tail = Tail { bytes: b"first\nlast \x1b[31mline\n\n".to_vec(), dropped: 0 };
        judge(
            "prog",
            &Outcome {
                exit,
                stdout_tail: Tail::default(),
                stderr_tail,
                elapsed: Duration::ZERO,
                usage: Default::default(),
            },
        )
    }

    fn class(exit: Exit) -> FaultClass {
        match judged(exit) {
            Err(Fault::Failed { class, .. }) => class,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn the_exit_code_says_what_kind_of_failure_it_was() {
        assert_eq!(judged(Exit::Exited(0)), Ok(()));
        assert_eq!(judged(Exit::Cancelled), Err(Fault::Cancelled));
        assert_eq!(class(Exit::Exited(1)), FaultClass::Failed);
        assert_eq!(class(Exit::Exited(65)), FaultClass::Refused);
        assert_eq!(class(Exit::Exited(69)), FaultClass::Unreachable);
        assert_eq!(class(Exit::Exited(75)), FaultClass::Unreachable);
        assert_eq!(class(Exit::Signaled(9)), FaultClass::Failed);
    }

    #[test]
    fn the_last_line_is_the_reason_and_cannot_drive_a_terminal() {
        let Err(Fault::Failed { why, .. }) = judged(Exit::Exited(3)) else { panic!("no failure") };
        assert_eq!(why, "prog exited 3: last \\u{1b}[31mline");
    }
}
