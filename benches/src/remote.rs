//! P8: what a bucket is asked, and what a large path holds in memory. Small paths and one of 5 GiB come in; requests
//! for each path, counted by a server of ours on the loopback interface, and the daemon's peak memory go out. The
//! server checks nothing and throws away what is large.

use std::collections::HashSet;

use test_kit::http_cache::{Cache, Seen};

use crate::Run;
use crate::closure::Closure;
use crate::error::{BenchError, Doing};
use crate::pushing::{Caches, NixCopy, Requests, Took, daemon, request};
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::ms;

const GOAL: &str = "P8";
/// Small paths that are pushed: all of them.
const PATHS: usize = 500;
const REQUESTS_MAX: f64 = 2.0;
const MEMORY_MIB_MAX: f64 = 128.0;
/// What the server keeps of a body.
const KEPT_BYTES: usize = 1 << 20;
/// What opens the server, which looks at none of it.
const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench-secret")];
const BUCKET: &str = "bench-bucket";

/// Measures P8.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let closure = run.closure()?;
    let mut lines = vec![requests(run, closure)?];
    let server = Cache::start();
    server.keep_at_most(KEPT_BYTES);
    let http = format!("{}?compression=none", server.url());
    let files = Caches::files(run, 1, "compression=zstd")?;
    for (what, url) in [
        ("to file://, zstd", files.url().to_owned()),
        ("to http://, not compressed", http),
        ("to s3:// in parts, not compressed", s3(&server, "compression=none")),
    ] {
        lines.push(memory(run, closure, what, url)?);
    }
    Ok(lines)
}

fn s3(server: &Cache, parameters: &str) -> String {
    format!("s3://{BUCKET}?endpoint={}&region=us-east-1&{parameters}", server.url())
}

fn requests(run: &Run<'_>, closure: &Closure) -> Result<Line, BenchError> {
    let paths = closure.small(PATHS);
    let server = Cache::start();
    let url = s3(&server, "compression=zstd");
    daemon(run, closure, &[url], &CREDENTIALS, |socket| request(socket, paths))?;
    let ours = count(&server.log());
    let server = Cache::start();
    closure.forget_caches()?;
    let url = format!("{}?compression=zstd", server.url());
    NixCopy::find()?.to(closure, &url, paths, Requests::Together)?;
    let theirs = count(&server.log());
    let each = |requests: usize| requests as f64 / paths.len() as f64;
    let figure = each(ours.of_paths);
    Ok(Line {
        goal: GOAL,
        what: "requests to a bucket for a small path it lacks, without the read-back".into(),
        figure,
        unit: Unit::Requests,
        floor: Some(Floor { what: "nix copy over http://", value: each(theirs.of_paths) }),
        bound: format!("<= {REQUESTS_MAX}"),
        verdict: Verdict::of(figure <= REQUESTS_MAX),
        note: format!(
            "{} paths, {} read back; for all together {} more, such as a listing (nix copy: {})",
            paths.len(),
            ours.read_back,
            ours.others,
            theirs.others,
        ),
    })
}

/// Requests by what they are for.
#[derive(Debug, Default)]
struct Count {
    /// About one path's objects.
    of_paths: usize,
    /// A narinfo that was read after it was written.
    read_back: usize,
    /// About no path: listings, what the cache is.
    others: usize,
}

fn count(log: &[Seen]) -> Count {
    let mut count = Count::default();
    let mut written = HashSet::new();
    for Seen { method, target, .. } in log {
        if method == "GET" && written.contains(target) {
            count.read_back += 1;
        } else if target.ends_with(".narinfo") || target.contains("/nar/") {
            count.of_paths += 1;
        } else {
            count.others += 1;
        }
        if method == "PUT" && target.ends_with(".narinfo") {
            written.insert(target.clone());
        }
    }
    count
}

fn memory(run: &Run<'_>, closure: &Closure, what: &str, url: String) -> Result<Line, BenchError> {
    let huge = [closure.huge().to_owned()];
    let pushed = daemon(run, closure, &[url], &CREDENTIALS, |socket| request(socket, &huge));
    let Took { cpu, wall, peak_bytes } = pushed.doing(format!("push 5 GiB {what}"))?;
    let figure = peak_bytes as f64 / f64::from(1 << 20);
    Ok(Line {
        goal: GOAL,
        what: format!("memory while 5 GiB are pushed {what}, peak"),
        figure,
        unit: Unit::MiB,
        floor: None,
        bound: format!("<= {}", shown(MEMORY_MIB_MAX, Unit::MiB)),
        verdict: Verdict::of(figure <= MEMORY_MIB_MAX),
        note: format!("wall {}, processor time {}", shown(ms(wall), Unit::Ms), shown(ms(cpu), Unit::Ms)),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_get_is_a_read_back_only_after_the_put() {
        let seen = |(method, target): (&str, &str)| Seen {
            method: method.into(),
            target: target.into(),
            headers: BTreeMap::new(),
            body_bytes: 0,
        };
        let log = [
            ("GET", "/b/nix-cache-info"),
            ("GET", "/b?list-type=2"),
            ("GET", "/b/x.narinfo"),
            ("PUT", "/b/nar/1.nar.zst"),
            ("PUT", "/b/x.narinfo"),
            ("GET", "/b/x.narinfo"),
        ];
        let Count { of_paths, read_back, others } = count(&log.map(seen));
        assert_eq!((of_paths, read_back, others), (3, 1, 2));
    }
}
