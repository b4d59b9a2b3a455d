//! Graphs of derivations as real package sets have them. Files of names and edges come in, rows come out, or the news
//! that there are none, and then [`generate`] makes a graph of the same shape. [`write_drv_files`] makes `.drv` files of
//! either. Leaves out what a package is: there is no source and no Nix code behind a row.
//!
//! The files are looked for in `EKA_TEST_DATA`, else in `../shared/data` beside the workspace.

mod generate;
mod read;
mod write;

use std::path::PathBuf;

pub use generate::{Shape, generate};
pub use write::{output_path, write_drv_files};

/// Derivations and the jobs that name some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrvGraph {
    /// In topological order: inputs come before who needs them.
    pub drvs: Vec<DrvRow>,
    /// Attribute path and what it came to.
    pub jobs: Vec<(String, JobRow)>,
}

/// A derivation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrvRow {
    /// The 32 characters before the name.
    pub hash: String,
    /// Without `.drv`.
    pub name: String,
    /// Where it is built; `builtin` for what Nix itself fetches.
    pub system: String,
    /// Names of outputs, as in the file.
    pub outputs: Vec<String>,
    /// What it is marked with.
    pub flags: Flags,
    /// `requiredSystemFeatures`
    pub features: Vec<String>,
    /// Plain sources it needs.
    pub ninputsrcs: usize,
    /// What it needs, by index into [`DrvGraph::drvs`], and which outputs of it.
    pub inputs: Vec<(usize, Vec<String>)>,
}

/// What a derivation is marked with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Its content is fixed in advance.
    pub fixed_output: bool,
    /// Its output's path is known after the build.
    pub content_addressed: bool,
    /// `preferLocalBuild`
    pub prefers_local: bool,
}

/// What an attribute came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRow {
    /// This one of [`DrvGraph::drvs`].
    Drv(usize),
    /// It threw.
    Error,
    /// It took the evaluator with it.
    ErrorFatal,
}

impl DrvRow {
    /// `<hash>-<name>.drv`
    pub fn base_name(&self) -> String {
        format!("{}-{}.drv", self.hash, self.name)
    }

    /// Its path in a store.
    pub fn path(&self, store_dir: &str) -> String {
        format!("{store_dir}/{}", self.base_name())
    }
}

impl DrvGraph {
    /// How many needs there are.
    pub fn edges(&self) -> usize {
        self.drvs.iter().map(|drv| drv.inputs.len()).sum()
    }
}

/// The graph of this name (`nixpkgs`, `nixpkgs-curlbump`, `corepkgs-A`, `corepkgs-B`). `None`, with a line on standard
/// error, when its files are not on this machine.
///
/// # Panics
/// When they are there and are not what they should be.
pub fn load(name: &str) -> Option<DrvGraph> {
    let folder = folder();
    let drvs = folder.join(format!("{name}-drv-graph.tsv.zst"));
    let jobs = folder.join(format!("{name}-jobs.tsv.zst"));
    if !drvs.exists() || !jobs.exists() {
        eprintln!(
            "no graph {name} in {}; generated data is used (EKA_TEST_DATA names a folder)",
            folder.display()
        );
        return None;
    }
    Some(read::graph(&drvs, &jobs))
}

/// Where graphs are looked for.
pub fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    std::env::var_os("EKA_TEST_DATA").map_or_else(|| beside.into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_this_machine_hold_what_their_description_says() {
        for (name, drvs, edges, fetched, jobs) in [
            ("nixpkgs", 96_726, 706_194, 51_725, 21_992),
            ("nixpkgs-curlbump", 27_505, 197_502, 14_058, 2_366),
            ("corepkgs-A", 6_902, 40_493, 3_376, 2_529),
            ("corepkgs-B", 6_902, 40_493, 3_376, 2_529),
        ] {
            let Some(graph) = load(name) else { continue };
            assert_eq!((graph.drvs.len(), graph.edges(), graph.jobs.len()), (drvs, edges, jobs), "{name}");
            assert_eq!(graph.drvs.iter().filter(|drv| drv.flags.fixed_output).count(), fetched, "{name}");
        }
    }

    #[test]
    fn a_file_is_written_for_each_derivation() {
        let folder = tempfile::tempdir().expect("a folder");
        let graph = generate(Shape::nixpkgs(50), 7);
        write_drv_files(&graph, folder.path()).expect("files");
        let with_inputs = graph.drvs.iter().find(|drv| drv.inputs.len() > 1).expect("one with needs");
        let text = std::fs::read_to_string(folder.path().join(with_inputs.base_name())).expect("its file");
        assert!(text.starts_with("Derive([(\"") && text.ends_with("\")])"), "{text}");
        for (input, _) in &with_inputs.inputs {
            let path = graph.drvs[*input].path(folder.path().to_str().expect("UTF-8"));
            assert!(text.contains(&format!("(\"{path}\",[\"")), "{text} lacks {path}");
        }
    }
}
