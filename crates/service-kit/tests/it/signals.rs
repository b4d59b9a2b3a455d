//! SIGTERM and SIGINT in a real process: the first asks the tasks to end, the second does not wait for them.

use std::io;
use std::time::Duration;

use service_kit::clock::Clock;
use service_kit::shutdown::{Signals, Stop};
use service_kit::tasks::Tasks;

use crate::children::Helper;

#[test]
fn the_first_signal_lets_tasks_finish() {
    for signal in ["TERM", "INT"] {
        let mut child = Helper::start("signals::child_serves", &[("SIGNALS_TEST", "obedient")]);
        child.line_after("serving");
        child.signal(signal);
        assert_eq!(child.line_after("ended with "), "Ok([])", "{signal}");
        assert!(child.wait().success());
    }
}

#[test]
fn the_second_signal_does_not_wait() {
    let mut child = Helper::start("signals::child_serves", &[("SIGNALS_TEST", "deaf")]);
    child.line_after("serving");
    child.signal("TERM");
    child.line_after("asked to end");
    child.signal("INT");
    assert_eq!(child.wait().code(), Some(130));
}

#[test]
#[ignore = "the child of the tests above"]
fn child_serves() {
    let deaf = std::env::var("SIGNALS_TEST").unwrap() == "deaf";
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (stop, clock) = (Stop::new(), Clock::system());
        let signals = Signals::listen().unwrap();
        let tasks = Tasks::new(stop.clone());
        let asked = stop.child();
        tasks.spawn("service", async move {
            asked.requested().await;
            println!("asked to end");
            if deaf {
                std::future::pending::<()>().await;
            }
            Ok::<_, io::Error>(())
        });
        println!("serving");
        tokio::select! {
            ended = tasks.finish(&clock, Duration::from_secs(600)) => println!("ended with {ended:?}"),
            signal = signals.stop_then_insist(&stop) => std::process::exit(signal.exit_code().into()),
        }
    });
}
