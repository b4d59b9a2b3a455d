//! The pace of what leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_kit::{BodySize, Chunks, File, Meta, Objects, Throttle};
use service_kit::clock::Clock;

use crate::support::{START, bytes, counter, hurry_by, meta};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn over_any_time_no_more_leaves_than_rate_and_burst() {
    let (clock, manual) = Clock::manual(START);
    let throttle = Arc::new(Throttle::new(clock, 1000, 500));
    let (moved, count) = counter();
    let task = tokio::spawn(async move {
        loop {
            throttle.take(100).await;
            moved(100);
        }
    });
    let mut seen = Vec::new();
    for _ in 0..5 {
        manual.advance(SECOND).await;
        seen.push(count.load(Ordering::Relaxed));
    }
    assert_eq!(seen, [1500, 2500, 3500, 4500, 5500]);
    task.abort();
}

#[tokio::test]
async fn rest_earns_one_burst_and_no_more() {
    let (clock, manual) = Clock::manual(START);
    let throttle = Throttle::new(clock.clone(), 1000, 500);
    manual.step(3600 * SECOND);
    for _ in 0..5 {
        throttle.take(100).await;
    }
    let next = throttle.take(100);
    assert!(clock.timeout(Duration::ZERO, next).await.is_err(), "the burst is used up");
}

#[tokio::test]
async fn several_throttles_all_hold_and_bodies_go_through_them() {
    let (clock, manual) = Clock::manual(START);
    let dir = tempfile::tempdir().unwrap();
    // The tighter one of the two decides.
    let throttles =
        [(10_000, 0), (1000, 0)].map(|(rate, burst)| Arc::new(Throttle::new(clock.clone(), rate, burst)));
    let place = File::new(dir.path(), clock.clone(), throttles.to_vec());
    let (moved, count) = counter();
    let meta = Meta { moved: Some(moved), ..meta() };
    let begun = clock.mono();
    let told = Arc::clone(&count);
    let watched = clock.clone();
    let mut body = Chunks::new(vec![bytes(500); 20]);
    let put = place.put_stream("x", &mut body, &meta, BodySize::exact(10_000));
    let watching = std::future::poll_fn(move |_| {
        let passed = u64::try_from(watched.mono().since(begun).as_millis()).unwrap();
        assert!(told.load(Ordering::Relaxed) <= passed, "1000 bytes a second are one in a millisecond");
        std::task::Poll::<()>::Pending
    });
    let work = async {
        tokio::select! {
            biased;
            () = watching => {}
            put = put => drop(put.unwrap()),
        }
    };
    hurry_by(Duration::from_millis(10), &manual, work).await;
    assert_eq!(count.load(Ordering::Relaxed), 10_000);
    assert!(clock.mono().since(begun) >= 10 * SECOND);
}
