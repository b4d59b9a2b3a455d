//! P10 and P14 as far as the store goes: a graph's derivations are stored and come back, a large evaluation is found
//! again. Records come in, lines go out. The database lies on the disk that is measured, and every chunk is flushed.

use std::path::Path;
use std::time::{Duration, Instant};

use ci_model::attr::{Attr, Meta, Position};
use ci_model::drv::DrvRecord;
use ci_model::flow::{EvaluationCost, Trust};
use ci_model::graph::{Graph, NodeFacts, NodeId};
use ci_server::store::{CHUNK_MAX, DrvId, EvaluationKey, SettingsHash, SqlitePlace, SqliteStore, Store};
use nix_types::AttrPath;
use service_kit::clock::Clock;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::report::{Floor, Line, Unit, Verdict};
use crate::stats::{Samples, ms};

/// Derivations a second, at least.
const RATE_MIN: f64 = 20_000.0;
/// Milliseconds for a million rows, at most.
const RELOAD_MS_MAX: f64 = 1500.0;
/// Milliseconds to find an evaluation again, at most.
const AGAIN_MS_MAX: f64 = 50.0;
/// Attributes of the evaluation.
const ATTRS: usize = 20_000;
/// Measurements, of which the median counts.
const SAMPLES: usize = 3;
const GOAL: &str = "P10";

/// The store's part of P10; `parsing` is what reading and parsing all of it took.
pub(crate) fn ingest(
    run: &Run<'_>,
    drvs: &[DrvRecord],
    parsing: Duration,
    of_what: &str,
) -> Result<Vec<Line>, BenchError> {
    let mut stored = Samples::default();
    let (mut reloads, mut edges, mut bytes) = (Samples::default(), 0, 0);
    for _ in 0..SAMPLES {
        let folder = run.world.fresh("ci-db")?;
        let store = open(&folder)?;
        let begun = Instant::now();
        for chunk in drvs.chunks(CHUNK_MAX) {
            store.add_drvs(chunk).doing("store derivations")?;
        }
        stored.push(begun.elapsed());
        let begun = Instant::now();
        edges = reload(&store, drvs.len())?;
        reloads.push(begun.elapsed());
        drop(store);
        bytes = std::fs::metadata(folder.join("ci.db")).doing("look at the database")?.len();
    }
    let rate = |took_ms: f64| drvs.len() as f64 * 1000.0 / took_ms;
    let (alone, both) = (rate(stored.median_ms()), rate(stored.median_ms() + ms(parsing)));
    let rows = drvs.len() + edges;
    let per_million = reloads.median_ms() * 1e6 / rows as f64;
    let line = |what: String, figure: f64, note: String| Line {
        goal: GOAL,
        what,
        figure,
        unit: Unit::PerSecond,
        floor: None,
        bound: format!("at least {RATE_MIN:.0} a second"),
        verdict: Verdict::of(figure >= RATE_MIN),
        note,
    };
    Ok(vec![
        line(
            format!("{} derivations ({of_what}) stored, {CHUNK_MAX} a transaction", drvs.len()),
            alone,
            format!(
                "with {edges} needs in {:.0} ms; {:.1} MB of database",
                stored.median_ms(),
                bytes as f64 / 1e6
            ),
        ),
        line("the same, parsed, then stored".into(), both, format!("{:.0} ms of it parsing", ms(parsing))),
        Line {
            goal: GOAL,
            what: "reloaded from the database into the graph, for a million rows".into(),
            figure: per_million,
            unit: Unit::Ms,
            floor: None,
            bound: format!("<= {RELOAD_MS_MAX:.0} ms"),
            verdict: Verdict::of(per_million <= RELOAD_MS_MAX),
            note: format!("{rows} rows in {:.0} ms", reloads.median_ms()),
        },
    ])
}

/// The store's part of P14.
pub(crate) fn again(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let store = open(&run.world.fresh("ci-db")?)?;
    let key = EvaluationKey {
        tree: "0".repeat(40).parse().doing("name a tree")?,
        job: "packages".parse().doing("name a job")?,
        settings: SettingsHash::of(Trust::TrustedPush, &[]),
    };
    let attrs: Vec<Attr> = (0..ATTRS).map(attr).collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let token = store.begin_evaluation(&key).doing("begin an evaluation")?;
    for (number, chunk) in (0..).zip(attrs.chunks(CHUNK_MAX)) {
        store.add_attrs(token, number, chunk, &[]).doing("store attributes")?;
    }
    store.close_evaluation(token, &EvaluationCost::default()).doing("close an evaluation")?;
    let storing = begun.elapsed();
    let mut took = Samples::default();
    for _ in 0..5 * SAMPLES {
        let begun = Instant::now();
        let found = store.evaluation(&key).doing("find an evaluation")?;
        took.push(begun.elapsed());
        if found.is_none_or(|(_, found)| found.attrs.len() != ATTRS) {
            return Err(BenchError::new("find all attributes of an evaluation again"));
        }
    }
    let median = took.median_ms();
    Ok(vec![Line {
        goal: "P14",
        what: format!("an evaluation of {ATTRS} attributes of the same tree, found again"),
        figure: median,
        unit: Unit::Ms,
        floor: Some(Floor { what: "storing it", value: ms(storing) }),
        bound: format!("<= {AGAIN_MS_MAX:.0} ms"),
        verdict: Verdict::of(median <= AGAIN_MS_MAX),
        note: format!("slowest {:.0} ms", took.max_ms()),
    }])
}

fn open(folder: &Path) -> Result<SqliteStore, BenchError> {
    let place = SqlitePlace { path: folder.join("ci.db"), clock: Clock::system(), vfs: None };
    SqliteStore::open(&place).doing("open a store")
}

/// Loads all of it into a graph, as a server does when it starts; gives how many needs there were.
fn reload(store: &SqliteStore, drvs: usize) -> Result<usize, BenchError> {
    let mut graph = Graph::default();
    let mut nodes: Vec<(DrvId, NodeId)> = Vec::new();
    let mut inputs = Vec::new();
    let size = store.load_graph(&mut |loaded| {
        inputs.clear();
        inputs.extend(loaded.inputs.iter().filter_map(|input| {
            let at = nodes.binary_search_by_key(&input.drv, |(id, _)| *id).ok()?;
            Some(nodes[at].1)
        }));
        let facts = NodeFacts::of(loaded.system.clone(), loaded.traits);
        nodes.push((loaded.id, graph.insert(loaded.path, facts, &inputs)));
    });
    let size = size.doing("load the graph")?;
    if graph.len() != drvs || graph.edges() as u64 != size.edges {
        return Err(BenchError::new(format!("load {drvs} derivations: there came {}", graph.len())));
    }
    Ok(graph.edges())
}

fn attr(number: usize) -> Result<Attr, BenchError> {
    let path = |name: &str| format!("/nix/store/{number:032}-{name}");
    let name = format!("package-{}.{}", number / 7, number % 7);
    Ok(Attr {
        path: AttrPath::new(vec!["packages".into(), format!("package{number}")])
            .doing("name an attribute")?,
        drv: path(&format!("{name}.drv")).parse().doing("name a derivation")?,
        outputs: [("out".to_owned(), Some(path(&name).parse().doing("name an output")?))].into(),
        pname: Some(format!("package-{}", number / 7)),
        version: Some((number % 7).to_string()),
        system: "x86_64-linux".parse().doing("name a system")?,
        traits: Some(Default::default()),
        meta: Meta {
            description: Some(format!("What package {number} does for whoever has it, in a line")),
            licenses: vec![ci_model::attr::License {
                spdx: Some("MIT".into()),
                name: "mit".into(),
                free: Some(true),
            }],
            maintainers: vec![ci_model::attr::Maintainer {
                name: Some("Some One".into()),
                github: Some("someone".into()),
                github_id: Some(number as u64),
                email: Some("someone@example.org".into()),
            }],
            position: Some(Position {
                file: format!("pkgs/by-name/pa/package-{number}/package.nix"),
                line: 42,
            }),
            ..Meta::default()
        },
        name,
    })
}
