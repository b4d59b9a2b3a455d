//! How much sharing a flush is worth, on this disk and on one whose flush takes 4 ms. Prints the figures; only
//! what the machine's load cannot change much is asserted.

use std::time::{Duration, Instant};

use sqlite_kit::{Durability, Lane, Options, Writer};
use test_kit::vfs::Shim;

use crate::kit::{MIGRATIONS, insert, options, runtime};

const CLIENTS: i64 = 16;

/// Rows a second of some clients which each wait for every answer.
fn rows_per_second(writer: &Writer, first: i64, clients: i64, rows: i64) -> f64 {
    let runtime = runtime();
    let start = Instant::now();
    let tasks = (0..clients).map(|client| {
        let writer = writer.clone();
        runtime.spawn(async move {
            for row in 0..rows {
                let n = first + client * rows + row;
                writer.call(Lane::Urgent, move |tx| insert(tx, n)).await.unwrap();
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    (clients * rows) as f64 / start.elapsed().as_secs_f64()
}

/// Who comes how late on a busy machine is its own affair.
mod alone {
    use super::*;

    #[test]
    fn sixteen_clients_share_slow_flushes() {
        let shim = Shim::install("slow-disk");
        let dir = tempfile::tempdir().unwrap();
        let options = Options { vfs: Some("slow-disk".into()), ..options(dir.path()) };
        let (writer, _thread) = Writer::open(&options, MIGRATIONS).unwrap();
        shim.slow_flush(Duration::from_millis(4));
        let alone = rows_per_second(&writer, 0, 1, 30);
        let before = shim.flushes();
        let shared = rows_per_second(&writer, 1000, CLIENTS, 40);
        let rows_per_flush = f64::from(40 * 16) / (shim.flushes() - before) as f64;
        println!(
            "4 ms flush: 1 client {alone:.0}/s, 16 clients {shared:.0}/s, {rows_per_flush:.1} rows a flush"
        );
        assert!(rows_per_flush >= 8.0, "{rows_per_flush}");
    }
}

#[test]
fn durable_answers_on_this_disk() {
    for durability in [Durability::Full, Durability::Off] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Options { durability, ..options(dir.path()) };
        let (writer, thread) = Writer::open(&options, MIGRATIONS).unwrap();
        let alone = rows_per_second(&writer, 0, 1, 100);
        let shared = rows_per_second(&writer, 1000, CLIENTS, 500);
        let stats = writer.stats();
        println!(
            "{durability:?}: 1 client {alone:.0}/s, 16 clients {shared:.0}/s, {} commits",
            stats.commits
        );
        assert_eq!(stats.jobs, 100 + 500 * 16);
        thread.stop();
    }
}
