//! Two sides become a comparison. In: what both evaluate to; out: what differs, what must be built for it, and why.
//!
//! Derivations are written for attributes that differ, and read with all they need. Whether something is new can only be
//! told when all that the base needs is known; what is known is remembered, so the rest is written once, the first time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use ci_model::JobName;
use ci_model::attr::{Attr, AttrError};
use ci_model::change::Comparison;
use ci_model::diff;
use ci_model::flow::{Checkout, Evaluation};
use ci_model::graph::{Graph, NodeId};
use ci_model::outcome::{Progress, Side};
use nix_types::{AttrPath, DrvPath};
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use super::evaluations::{BUSY_TRIES, instantiate, learn_messages};
use super::facts::Files;
use super::graphs::Known;
use super::plan::Planned;
use super::{Request, RunError, Sides, Told, first_line};
use crate::evaluate::{is_busy, may_pass};

/// How often derivations are written again that were collected before they were read.
const COLLECTED_MAX: usize = 3;
/// Derivations that cannot be used and are told, most.
const UNUSABLE_TOLD_MAX: usize = 10;
/// Attributes that are named for each of them, most.
const ATTRS_TOLD_MAX: usize = 3;

/// Attributes to be written, by side and job.
type Wanted = BTreeMap<(Side, JobName), Vec<AttrPath>>;
/// Attributes, in order of their names.
type Named<'a> = BTreeSet<(&'a JobName, &'a AttrPath)>;

struct Explain<'a, 't> {
    request: &'a Request,
    checkout: &'a Checkout,
    jobs: &'a [Planned],
    sides: &'a Sides,
    stop: &'a Stop,
    told: Told<'t>,
    known: Known,
    /// Derivations of attributes that came out otherwise when they were written.
    fickle: HashSet<DrvPath>,
    /// What is not there though it was written, each time.
    gone: Vec<String>,
    /// What could not be written, though it could be evaluated.
    unwritten: Vec<(Side, JobName, AttrError)>,
}

/// Compares, and tells what a person should know beside.
pub(super) async fn compare(
    request: &Request,
    checkout: &Checkout,
    jobs: &[Planned],
    sides: &Sides,
    stop: &Stop,
    told: Told<'_>,
) -> Result<(Comparison, Vec<String>), RunError> {
    let known = Known::load(&request.store).await?;
    let (fickle, unwritten, gone) = (HashSet::new(), Vec::new(), Vec::new());
    let mut explain = Explain { request, checkout, jobs, sides, stop, told, known, fickle, gone, unwritten };
    explain.learn().await?;
    (explain.told)(Progress::Comparing);
    let (mut comparison, warnings) = explain.compare();
    learn_messages_of_new(request, checkout, jobs, &mut comparison, stop).await?;
    Ok((comparison, warnings))
}

/// What is new and does not evaluate has its message, however many errors there are besides.
async fn learn_messages_of_new(
    request: &Request,
    checkout: &Checkout,
    jobs: &[Planned],
    comparison: &mut Comparison,
    stop: &Stop,
) -> Result<(), RunError> {
    for job in jobs {
        let Some(task) = job.task(Side::Head, checkout) else { continue };
        let new = comparison.errors.new.iter_mut().filter(|(of, _)| *of == job.name);
        learn_messages(request, task, new.map(|(_, error)| error).collect(), stop).await?;
    }
    Ok(())
}

impl Explain<'_, '_> {
    /// Learns the closures of what differs, and of everything else as far as it is needed.
    async fn learn(&mut self) -> Result<(), RunError> {
        let changed = self.attrs(|differs| differs);
        self.write(changed).await?;
        let there: Vec<DrvPath> =
            self.unseen().filter(|drv| Path::new(drv.as_str()).exists()).cloned().collect();
        // Those that were collected since are written with the rest, if that is.
        let _collected = self.add_those_there(there).await?;
        if !self.request.quick && self.unseen().next().is_some() && self.is_anything_changed() {
            let rest = self.attrs(|differs| !differs);
            self.write(rest).await?;
        }
        Ok(())
    }

    /// Attributes of either side whose derivation is not known, and differs from the other side's or not.
    fn attrs(&self, choose: impl Fn(bool) -> bool) -> Wanted {
        let drvs = |side: &[Evaluation]| -> HashSet<DrvPath> {
            side.iter().flat_map(|evaluation| &evaluation.attrs).map(|attr| attr.drv.clone()).collect()
        };
        let (of_head, of_base) = (drvs(&self.sides.head), drvs(&self.sides.base));
        let mut wanted = Wanted::new();
        for (side, evaluations, others) in
            [(Side::Head, &self.sides.head, &of_base), (Side::Base, &self.sides.base, &of_head)]
        {
            for evaluation in evaluations {
                // What both sides have is written once; what differs is also looked into, so its file has to be there.
                let attrs = evaluation.attrs.iter().filter(|attr| {
                    let is_shared = others.contains(&attr.drv);
                    let is_known = self.known.graph.id(&attr.drv).is_some()
                        && (is_shared || Path::new(attr.drv.as_str()).exists());
                    let is_known = is_known || self.known.is_left_out(&attr.drv);
                    !is_known && choose(!is_shared) && (side == Side::Head || !is_shared)
                });
                let paths: Vec<AttrPath> = attrs.map(|attr| attr.path.clone()).collect();
                if !paths.is_empty() {
                    wanted.insert((side, evaluation.job.clone()), paths);
                }
            }
        }
        wanted
    }

    /// Derivations of attributes that are not in the graph, and may come to be.
    fn unseen(&self) -> impl Iterator<Item = &DrvPath> {
        let all = self.sides.head.iter().chain(&self.sides.base).flat_map(|evaluation| &evaluation.attrs);
        let drvs = all.map(|attr| &attr.drv);
        drvs.filter(|drv| self.known.graph.id(drv).is_none() && !self.known.is_left_out(drv))
    }

    /// Writes derivations and reads them. What is collected in between is written again.
    async fn write(&mut self, wanted: Wanted) -> Result<(), RunError> {
        let of: usize = wanted.values().map(Vec::len).sum();
        let before = self.unwritten.len();
        let mut written = Vec::new();
        for attempt in 1..=BUSY_TRIES.max(COLLECTED_MAX) {
            self.unwritten.truncate(before);
            written.clear();
            for ((side, job), paths) in &wanted {
                written.extend(self.write_job(*side, job, paths.clone(), (written.len(), of)).await?);
            }
            if attempt < BUSY_TRIES && self.unwritten[before..].iter().any(|(_, _, error)| is_busy(error)) {
                continue;
            }
            self.unwritten[before..].iter().try_for_each(came_to_an_end)?;
            match self.add(written.clone()).await {
                Err(RunError::Drvs(error)) if error.is_gone() && attempt < COLLECTED_MAX => {}
                Err(RunError::Drvs(error)) if error.is_gone() => break,
                done => return done,
            }
        }
        // Code can name derivations that nobody wrote.
        let gone = self.add_those_there(written).await?;
        self.gone.extend(gone);
        Ok(())
    }

    /// By halves, so that those that are gone take nobody with them; tells what is not there.
    async fn add_those_there(&mut self, roots: Vec<DrvPath>) -> Result<Vec<String>, RunError> {
        let mut gone = Vec::new();
        let mut parts = vec![roots];
        while let Some(mut part) = parts.pop() {
            match self.add(part.clone()).await {
                Err(RunError::Drvs(error)) if error.is_gone() && part.len() > 1 => {
                    let later = part.split_off(part.len() / 2);
                    parts.extend([later, part]);
                }
                Err(RunError::Drvs(error)) if error.is_gone() => gone.push(chain(&error)),
                done => done?,
            }
        }
        Ok(gone)
    }

    async fn write_job(
        &mut self,
        side: Side,
        job: &JobName,
        paths: Vec<AttrPath>,
        (before, of): (usize, usize),
    ) -> Result<Vec<DrvPath>, RunError> {
        let Some(task) = self
            .jobs
            .iter()
            .find(|planned| planned.name == *job)
            .and_then(|planned| planned.task(side, self.checkout))
        else {
            return Ok(Vec::new()); // a side without the job has no attributes of it
        };
        let told = &mut *self.told;
        let mut told = |done: usize| told(Progress::Instantiating { done: before + done, of });
        let (written, errors) = instantiate(self.request, task, paths, self.stop, &mut told).await?;
        let unwritten: Vec<_> = errors.into_iter().map(|error| (side, job.clone(), error)).collect();
        unwritten.iter().filter(|(_, _, error)| !is_busy(error)).try_for_each(came_to_an_end)?;
        self.unwritten.extend(unwritten);
        let expected: HashSet<&DrvPath> = self
            .sides
            .of(side)
            .iter()
            .filter(|evaluation| evaluation.job == *job)
            .flat_map(|evaluation| &evaluation.attrs)
            .map(|attr| &attr.drv)
            .collect();
        self.fickle.extend(written.iter().filter(|drv| !expected.contains(drv)).cloned());
        Ok(written)
    }

    async fn add(&mut self, roots: Vec<DrvPath>) -> Result<(), RunError> {
        if roots.is_empty() {
            return Ok(());
        }
        self.known.add(roots, self.stop).await
    }

    /// Has an attribute of the head another derivation than before? Only then can anything be new, or be needed by more.
    fn is_anything_changed(&self) -> bool {
        let diff = diff::attrs(&self.sides.base, &self.sides.head);
        let mut others = diff.changes.iter().filter(|change| change.after.is_some());
        let is_other = others.any(|change| change.before != change.after) || !diff.fixed.is_empty();
        !self.sides.base.is_empty() && is_other
    }

    /// What a side evaluates to, with what went wrong when its derivations were written: an attribute without them is
    /// none. What both sides have was written for the head.
    fn whole(&self, side: Side) -> Vec<Evaluation> {
        let mut evaluations = self.sides.of(side).to_vec();
        for evaluation in &mut evaluations {
            let of_job = self.unwritten.iter().filter(|(_, job, _)| *job == evaluation.job);
            for (written_for, _, error) in of_job {
                let place = evaluation.attrs.iter().position(|attr| attr.path == error.path);
                let is_here =
                    *written_for == side || place.is_some_and(|at| self.is_shared(&evaluation.attrs[at]));
                if !is_here || evaluation.errors.iter().any(|known| known.path == error.path) {
                    continue;
                }
                if let Some(at) = place {
                    evaluation.attrs.remove(at);
                }
                evaluation.errors.push(error.clone());
            }
            evaluation.errors.sort_by(|a, b| a.path.cmp(&b.path));
        }
        evaluations
    }

    /// Do both sides have its derivation?
    fn is_shared(&self, attr: &Attr) -> bool {
        [Side::Head, Side::Base].into_iter().all(|side| {
            self.sides.of(side).iter().flat_map(|of| &of.attrs).any(|other| other.drv == attr.drv)
        })
    }

    fn compare(self) -> (Comparison, Vec<String>) {
        let graph = &self.known.graph;
        let base = graph.closure_of(&ids(graph, &self.sides.base));
        let head = graph.closure_of(&ids(graph, &self.sides.head));
        let mut differing: Vec<NodeId> = head.minus(&base).iter().collect();
        differing.extend(base.minus(&head).iter());
        let files = Files::of(differing.into_iter().map(|id| graph.path(id)));
        let (of_base, of_head) = (self.whole(Side::Base), self.whole(Side::Head));
        let comparison = diff::compare(&of_base, &of_head, graph, &self.known.outputs, &files);
        let mut warnings = self.passed_over();
        if let Some(first) = self.gone.first() {
            warnings.push(format!(
                "{} derivations were not there to look at, for one: {first}.",
                self.gone.len()
            ));
        }
        let left_out = files.left_out();
        if left_out > 0 {
            warnings.push(format!(
                "{} could not be looked into, so root causes among them may not be told.",
                if left_out == 1 {
                    "1 derivation that differs".to_owned()
                } else {
                    format!("{left_out} derivations that differ")
                }
            ));
        }
        if let Some(drv) = self.fickle.iter().min() {
            warnings.push(format!(
                "{} attributes evaluate to another derivation each time, {} for one; their code depends on the time, \
                 or on something outside of the repository.",
                self.fickle.len(),
                drv.drv_name()
            ));
        }
        (comparison, warnings)
    }

    /// Which attributes were passed over because of derivations that cannot be used: a sentence for each derivation.
    fn passed_over(&self) -> Vec<String> {
        let at_fault = self.at_fault();
        let unusable = self.known.unusable();
        let sentence = |(drv, attrs): (&&DrvPath, &Named<'_>)| {
            let why = unusable.get(*drv)?;
            Some(format!(
                "What {} needs is passed over, so more may have to be built, or less: {why}.",
                named(attrs)
            ))
        };
        let mut told: Vec<String> = at_fault.iter().take(UNUSABLE_TOLD_MAX).filter_map(sentence).collect();
        let more = at_fault.len().saturating_sub(UNUSABLE_TOLD_MAX);
        if more > 0 {
            told.push(format!("{more} more derivations cannot be used, and what needs them is passed over."));
        }
        told
    }

    /// Derivations that cannot be used, with what needs them. What the head's attribute needs in the place of what the base's
    /// did is the same, when it has its name and cannot be used for the same reason.
    fn at_fault(&self) -> BTreeMap<&DrvPath, Named<'_>> {
        let of_side = |side| {
            let all = self.sides.of(side).iter();
            let all = all.flat_map(|evaluation| evaluation.attrs.iter().map(|attr| (&evaluation.job, attr)));
            all.filter_map(|(job, attr)| Some(((job, &attr.path), self.known.at_fault(&attr.drv)?)))
        };
        let of_head: HashMap<_, _> = of_side(Side::Head).collect();
        let mut of_base: BTreeMap<&DrvPath, Named<'_>> = BTreeMap::new();
        for (attr, drv) in of_side(Side::Base) {
            of_base.entry(drv).or_default().insert(attr);
        }
        let mut all: BTreeMap<&DrvPath, Named<'_>> = BTreeMap::new();
        for (attr, drv) in &of_head {
            all.entry(drv).or_default().insert(*attr);
        }
        for (drv, attrs) in of_base {
            let mut others = attrs.iter().filter_map(|attr| of_head.get(attr).copied());
            let told = others.find(|other| self.is_same_fault(drv, other)).unwrap_or(drv);
            all.entry(told).or_default().extend(attrs);
        }
        all
    }

    fn is_same_fault(&self, one: &DrvPath, other: &DrvPath) -> bool {
        let why = |drv: &DrvPath| Some(self.known.unusable().get(drv)?.replace(drv.as_str(), ""));
        one.drv_name() == other.drv_name() && why(one) == why(other)
    }
}

/// All of a job that could not be written, though it could be evaluated: if the next run may do better, that says nothing
/// about the code.
fn came_to_an_end((side, job, error): &(Side, JobName, AttrError)) -> Result<(), RunError> {
    if !error.path.is_root() || !may_pass(error) {
        return Ok(());
    }
    let (kind, message) = (error.kind, first_line(error));
    Err(RunError::Unwritten { job: job.clone(), side: *side, kind, message })
}

/// The first few, and how many more.
fn named(attrs: &Named<'_>) -> String {
    let first: Vec<String> = attrs.iter().take(ATTRS_TOLD_MAX).map(|(_, attr)| attr.to_string()).collect();
    match attrs.len().saturating_sub(ATTRS_TOLD_MAX) {
        0 => first.join(", "),
        more => format!("{} (and {more} more)", first.join(", ")),
    }
}

fn ids(graph: &Graph, side: &[Evaluation]) -> Vec<NodeId> {
    side.iter().flat_map(|evaluation| &evaluation.attrs).filter_map(|attr| graph.id(&attr.drv)).collect()
}
