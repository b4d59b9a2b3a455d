//! Evaluations that share a machine.

use std::time::Duration;

use ci_server::evaluate::share::{SLICE, Share};
use ci_server::evaluate::{self, Event, Pass};
use futures_util::FutureExt as _;
use service_kit::clock::{Clock, Time};

use super::support::{LIB, Told, World, doors};

#[tokio::test]
async fn a_permit_is_asked_back_when_its_slice_is_over() {
    let (clock, time) = Clock::manual(Time::from_ms(0));
    let share = Share::new(2, 100, clock);
    let (huge, small) = (share.join(), share.join());
    let first = huge.permit(50).now_or_never().unwrap().unwrap();
    let second = huge.permit(50).now_or_never().unwrap().unwrap();
    assert!(huge.permit(50).now_or_never().is_none());
    let mut waits = Box::pin(small.permit(10));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(!first.is_asked_back() && !second.is_asked_back());
    time.advance(SLICE).await;
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(first.is_asked_back() ^ second.is_asked_back(), "one of them, and one is enough");
    drop(first);
    let third = waits.now_or_never().unwrap().unwrap();
    assert!(!third.is_asked_back());
    drop((second, third));
    assert!(huge.permit(101).now_or_never().unwrap().is_err());
}

#[tokio::test]
async fn who_gives_up_leaves_no_trace() {
    let (clock, _time) = Clock::manual(Time::from_ms(0));
    let share = Share::new(1, 100, clock);
    let (one, two) = (share.join(), share.join());
    let held = one.permit(1).now_or_never().unwrap().unwrap();
    let mut given_up = Box::pin(two.permit(1));
    assert!(given_up.as_mut().now_or_never().is_none());
    drop(given_up);
    // Granted and given up at once: the permit goes on to the next.
    let mut waits = Box::pin(two.permit(1));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(held);
    drop(waits);
    assert!(one.permit(1).now_or_never().is_some());
}

/// With one evaluator for both, a small evaluation ends long before a huge one that was there first, and the huge one
/// loses nothing by it.
#[tokio::test]
async fn a_huge_evaluation_does_not_hold_up_a_small_one() {
    let huge = World::new();
    huge.write("default.nix", &format!(
        r#"let {LIB} slow = n: builtins.hashString "sha256" (builtins.concatStringsSep "" (builtins.genList (x: "0123456789${{toString n}}") 20000)); in builtins.listToAttrs (builtins.genList (n: {{ name = "n${{toString n}}"; value = drv "n${{slow n}}" {{ }}; }}) 600)"#
    ));
    let small = World::new();
    small.write("default.nix", &format!("let {LIB} in {{ a = drv \"a\" {{ }}; }}"));
    let (clock, time) = Clock::manual(Time::from_ms(0));
    let share = Share::new(1, 8 << 30, clock);
    let (mut told, mut few) = (Told::default(), Told::default());
    let mut at = 0;
    let started = tokio::sync::Notify::new();
    let mut huge_sink = |event| {
        if matches!(event, Event::Attr(_)) && told.attrs.len() == 50 {
            started.notify_one();
            time.step(SLICE);
        }
        told.take(event);
        // Whoever comes later has its slice at once.
        time.step(Duration::from_millis(100));
    };
    let (request, other) = (huge.request(), small.request());
    let long =
        evaluate::run(&request, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut huge_sink);
    let mut few_sink = |event| few.take(event);
    let short = async {
        started.notified().await;
        evaluate::run(&other, &Pass::ReadOnly, doors(&share), std::future::pending(), &mut few_sink).await
    };
    let (mut long, mut short) = (Box::pin(long), Box::pin(short));
    let cost = loop {
        tokio::select! {
            biased;
            cost = &mut short, if at == 0 => {
                cost.unwrap();
                at = 1;
            }
            cost = &mut long => break cost.unwrap(),
        }
    };
    assert_eq!(at, 1, "the small one came last");
    drop((long, short));
    assert_eq!((few.attrs.len(), told.attrs.len(), told.errors.len()), (1, 600, 0));
    assert!(cost.processes >= 2, "{cost:?}");
}
