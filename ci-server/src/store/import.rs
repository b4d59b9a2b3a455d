//! What an older server's `sqlite.db` knew. Its path comes in, opened for reading only; what has a place here goes into
//! the store, by the same commands for every engine, and everything else is counted in the [`ImportReport`] with the
//! reason: no row is dropped in silence. Done twice it changes nothing. A library's function: no command calls it yet.

mod report;
mod source;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use ci_model::flow::{BuildState, Cause, Trigger, Trust};
use nix_types::{AttrPath, DrvPath, StorePath, System};
use sqlite_kit::rusqlite::Row;

pub use report::{ImportReport, LeftBehind, TakenOver};
use source::{Source, text, whole_number};

use super::{CHUNK_MAX, DifferenceCode, Domain, JobRow, OldState, RunId, RunKey, Store, StoreError};

/// Why an import broke off. What was taken over until then stays, and importing again goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The older database cannot be read.
    #[error(
        "cannot read the older database {path}; stop the older server, and check that this user may read the file"
    )]
    Source {
        /// Which file.
        path: String,
        /// What SQLite says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has none of the older server's tables.
    #[error("{0} is not the older server's database: it has no table Drv with states; name its sqlite.db")]
    NotOurs(String),
    /// The store did not take something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes over what an older server's `sqlite.db` knows: how builds ended, and which attributes each of its job sets had.
/// `store_dir` is where its derivations lie, for it keeps their base names alone.
///
/// # Errors
/// [`ImportError`]; a row that cannot be taken over is none, but is in the report.
pub fn import(path: &Path, store_dir: &str, store: &dyn Store) -> Result<ImportReport, ImportError> {
    let source = Source::open(path)?;
    let mut import = Import { source: &source, store_dir, store, report: ImportReport::default() };
    import.states()?;
    import.job_sets()?;
    import.others()?;
    Ok(import.report)
}

struct Import<'i> {
    source: &'i Source,
    store_dir: &'i str,
    store: &'i dyn Store,
    report: ImportReport,
}

/// Tables with a reason of their own why they stay behind.
const REASONS: [(&str, &str); 6] = [
    (
        "DrvRefs",
        "they do not say which outputs are needed; what a derivation needs is read from its file when it is next evaluated",
    ),
    ("TransitiveFailure", "they follow from the states of derivations"),
    ("PullRequests", "the forge is asked again"),
    (
        "AttrPathMaintainers",
        "there is no place for them yet; keep the file and import it again with a later version",
    ),
    (
        "ApprovedUsers",
        "there is no place for them yet; keep the file and import it again with a later version",
    ),
    (
        "AuthenticatedUsers",
        "people sign in again; their access tokens lie in that file in clear, so delete it once nothing of it is needed",
    ),
];
const NO_PLACE: &str = "there is no place for them here";

impl Import<'_> {
    /// How builds ended. Who built them is not known, so nobody but untrusted changes may rely on it.
    fn states(&mut self) -> Result<(), ImportError> {
        let mut chunk = Vec::new();
        let (source, store_dir, store) = (self.source, self.store_dir, self.store);
        let report = &mut self.report;
        let flush = |chunk: &mut Vec<OldState>, report: &mut ImportReport| -> Result<(), StoreError> {
            let new = store.take_over_states(chunk)?;
            report.taken("Drv", new as u64);
            report.left("Drv", "their state is known here already", chunk.len() as u64 - new as u64);
            chunk.clear();
            Ok(())
        };
        source.each("SELECT drv_path, system, build_state FROM Drv", |row| {
            match old_state(row, store_dir) {
                Ok(state) => chunk.push(state),
                Err(why) => report.left("Drv", &why, 1),
            }
            if chunk.len() == CHUNK_MAX { flush(&mut chunk, report) } else { Ok(()) }
        })?;
        Ok(flush(&mut chunk, report)?)
    }

    /// Which attributes each job set had.
    fn job_sets(&mut self) -> Result<(), ImportError> {
        const TABLES: [&str; 2] = ["GitHubJobSets", "Job"];
        if !TABLES.iter().all(|table| self.source.has(table)) {
            return Ok(()); // whichever is there is counted with the others
        }
        let mut runs: BTreeMap<i64, RunId> = BTreeMap::new();
        for (id, set) in self.source.job_sets()? {
            match set.and_then(|set| set.key_and_trigger()) {
                Ok((key, trigger)) => {
                    runs.insert(id, self.store.begin_run(&key, &trigger)?);
                    self.report.taken(TABLES[0], 1);
                }
                Err(why) => self.report.left(TABLES[0], &why, 1),
            }
        }
        let (source, store, store_dir, report) = (self.source, self.store, self.store_dir, &mut self.report);
        let mut set = OpenSet { id: None, rows: Vec::new(), names: HashSet::new() };
        source.each(source::JOBS, |row| {
            let id = whole_number(row, 0);
            if id != set.id {
                set.finish(&runs, store, report)?;
                set = OpenSet { id, rows: Vec::new(), names: HashSet::new() };
            }
            set.add(row, &runs, store_dir, report);
            if set.rows.len() == CHUNK_MAX { set.flush(&runs, store, report, false) } else { Ok(()) }
        })?;
        set.finish(&runs, store, report)?;
        for run in runs.values() {
            store.take_over_jobs(*run, &[], true)?; // those without any job
        }
        Ok(())
    }

    /// Tables that were not looked at.
    fn others(&mut self) -> Result<(), ImportError> {
        let looked_at = ["Drv", "GitHubJobSets", "Job"];
        let both = self.source.has("GitHubJobSets") && self.source.has("Job");
        for (table, rows) in self.source.tables()? {
            if table.eq_ignore_ascii_case("Drv")
                || (both && looked_at.iter().any(|one| table.eq_ignore_ascii_case(one)))
            {
                continue;
            }
            let reason = REASONS.iter().find(|(name, _)| table.eq_ignore_ascii_case(name));
            self.report.left(&table, reason.map_or(NO_PLACE, |(_, why)| why), rows);
        }
        Ok(())
    }
}

fn old_state(row: &Row<'_>, store_dir: &str) -> Result<OldState, String> {
    let drv = drv_path(row, 0, store_dir)?;
    let system = text(row, 1).and_then(|text| text.parse::<System>().ok());
    let system = system.ok_or("their system is none")?;
    let code = whole_number(row, 2).ok_or("their build_state is no number")?;
    let state = BuildState::of_code(code).ok_or_else(|| format!("nobody knows build_state {code}"))?;
    if !state.is_final() {
        return Err("they were waiting or under way; they are asked for again".into());
    }
    Ok(OldState { drv, system, domain: Domain::Untrusted, state })
}

fn drv_path(row: &Row<'_>, at: usize, store_dir: &str) -> Result<DrvPath, String> {
    let bad = || "their drv_path is no derivation's".to_owned();
    let text = text(row, at).ok_or_else(bad)?;
    let path = if text.starts_with('/') {
        StorePath::parse_str(&text)
    } else {
        StorePath::in_store(store_dir, &text)
    };
    let drv = DrvPath::try_from(path.map_err(|_| bad())?).map_err(|_| bad())?;
    // The alphabet is checked where the hash is packed; here it only has to be no reason to stop.
    nix_types::nix32::decode(drv.store_path().hash_part()).map_err(|_| bad())?;
    Ok(drv)
}

/// A job set while its rows come in.
struct OpenSet {
    id: Option<i64>,
    rows: Vec<JobRow>,
    names: HashSet<AttrPath>,
}

impl OpenSet {
    fn run(&self, runs: &BTreeMap<i64, RunId>) -> Option<RunId> {
        self.id.and_then(|id| runs.get(&id)).copied()
    }

    fn add(
        &mut self,
        row: &Row<'_>,
        runs: &BTreeMap<i64, RunId>,
        store_dir: &str,
        report: &mut ImportReport,
    ) {
        let read = match self.run(runs) {
            None => Err("their job set is not there, or was not taken over".to_owned()),
            Some(_) => job_row(row, store_dir),
        };
        match read {
            Ok(row) if self.names.insert(row.path.clone()) => self.rows.push(row),
            Ok(_) => report.left("Job", "their job set names them twice", 1),
            Err(why) => report.left("Job", &why, 1),
        }
    }

    fn flush(
        &mut self,
        runs: &BTreeMap<i64, RunId>,
        store: &dyn Store,
        report: &mut ImportReport,
        last: bool,
    ) -> Result<(), StoreError> {
        let Some(run) = self.run(runs) else { return Ok(()) };
        let new = store.take_over_jobs(run, &self.rows, last)?;
        report.taken("Job", new as u64);
        report.left("Job", "they were taken over before", (self.rows.len() - new) as u64);
        self.rows.clear();
        Ok(())
    }

    fn finish(
        &mut self,
        runs: &BTreeMap<i64, RunId>,
        store: &dyn Store,
        report: &mut ImportReport,
    ) -> Result<(), StoreError> {
        self.flush(runs, store, report, true)
    }
}

/// Columns as [`source::JOBS`] has them.
fn job_row(row: &Row<'_>, store_dir: &str) -> Result<JobRow, String> {
    let name = text(row, 1).ok_or("their name is no text")?;
    let path = name.parse().or_else(|_| AttrPath::new(vec![name])).map_err(|_| "their name is too long")?;
    let code = whole_number(row, 2).ok_or("their difference is no number")?;
    let difference =
        DifferenceCode::of_code(code).ok_or_else(|| format!("nobody knows difference {code}"))?;
    let drv = drv_path(row, 3, store_dir)?;
    let system = text(row, 4).and_then(|text| text.parse().ok());
    let (before, after) = match difference {
        DifferenceCode::New | DifferenceCode::Changed => (None, Some(drv)),
        DifferenceCode::Removed => (Some(drv), None),
        DifferenceCode::Unchanged => (Some(drv.clone()), Some(drv)),
    };
    // Which job it was is its run's to say.
    let job = JOB.parse().map_err(|_| "the job's name")?;
    Ok(JobRow { job, path, difference, system, before, after })
}

/// Rows of an older server are below one job for each run: a job set is of one job.
const JOB: &str = "job";

impl source::JobSet {
    fn key_and_trigger(self) -> Result<(RunKey, Trigger), String> {
        let repository = format!("github.com/{}/{}", self.owner, self.repository);
        let key = RunKey::new(format!("older server: {repository} {} {}", self.sha, self.job));
        let trigger = Trigger {
            repository: repository.parse().map_err(|_| "their repository's name is none")?,
            cause: Cause::Person,
            head: Some(self.sha.parse().map_err(|_| "their commit is none")?),
            base: None,
            trust: Trust::UntrustedPr,
        };
        Ok((key.map_err(|_| "their names are too long")?, trigger))
    }
}
