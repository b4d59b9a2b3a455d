//! A small set of packages, written as people write them and instantiated as Nix does it: a derivation's path depends on
//! all it says, the path of an output on all that matters to it, and that of a fixed output on its hash alone.

use std::collections::{BTreeMap, HashMap};

use ci_model::change::{Comparison, RootCause};
use ci_model::diff::{DrvFacts, OutputHash, Outputs, compare, output_hashes};
use ci_model::flow::Evaluation;
use ci_model::graph::{Graph, NodeFacts, NodeId};
use nix_types::derivation::Output;
use nix_types::{Derivation, DrvPath, Sha256, StorePath};

use super::support::{attr, evaluation};

/// A package. What it needs are keys of the same set, each before who needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) pname: String,
    pub(crate) version: String,
    /// What it needs, and which output of it.
    pub(crate) inputs: Vec<(String, String)>,
    /// Its variables; `@key` is the path of that package, which need not be one that it needs.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) args: Vec<String>,
    /// Names and contents of plain sources.
    pub(crate) sources: Vec<(String, String)>,
    /// The hash of its output, when that is fixed.
    pub(crate) fixed: Option<String>,
    pub(crate) has_dev: bool,
    pub(crate) is_content_addressed: bool,
    pub(crate) is_structured: bool,
    /// Is it no attribute, but only needed?
    pub(crate) is_hidden: bool,
}

pub(crate) fn package(pname: &str, version: &str) -> Package {
    Package { pname: pname.into(), version: version.into(), ..Package::default() }
}

impl Package {
    pub(crate) fn needs(mut self, key: &str) -> Self {
        self.inputs.push((key.into(), "out".into()));
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    pub(crate) fn source(mut self, name: &str, content: &str) -> Self {
        self.sources.push((name.into(), content.into()));
        self
    }

    pub(crate) fn fixed(mut self, hash: &str) -> Self {
        self.fixed = Some(hash.into());
        self
    }

    pub(crate) fn hidden(mut self) -> Self {
        self.is_hidden = true;
        self
    }

    fn name(&self) -> String {
        if self.version.is_empty() { self.pname.clone() } else { format!("{}-{}", self.pname, self.version) }
    }
}

/// Packages by their keys, what is needed before who needs it.
pub(crate) type Packages = Vec<(String, Package)>;

pub(crate) fn set(packages: &[(&str, Package)]) -> Packages {
    packages.iter().map(|(key, package)| ((*key).to_owned(), package.clone())).collect()
}

/// Puts another package in a key's place.
pub(crate) fn but(packages: &Packages, key: &str, change: impl FnOnce(&mut Package)) -> Packages {
    let mut packages = packages.clone();
    change(&mut packages.iter_mut().find(|(known, _)| known == key).unwrap().1);
    packages
}

/// Base and head in one graph.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) graph: Graph,
    pub(crate) outputs: Outputs,
    pub(crate) files: HashMap<DrvPath, Derivation>,
}

fn path(of: &[&str], name: &str) -> StorePath {
    let hash = &Sha256::of(of.join("\0").as_bytes()).nix32()[..32];
    StorePath::parse_str(&format!("/nix/store/{hash}-{name}")).unwrap()
}

impl World {
    /// Instantiates all, and evaluates to those that are not hidden.
    pub(crate) fn evaluate(&mut self, packages: &Packages) -> Evaluation {
        self.instantiate(packages).0
    }

    /// The same, with the derivation of each key.
    pub(crate) fn instantiate(&mut self, packages: &Packages) -> (Evaluation, BTreeMap<String, DrvPath>) {
        let mut drvs: BTreeMap<String, DrvPath> = BTreeMap::new();
        let mut attrs = Vec::new();
        for (key, package) in packages {
            let drv = self.derivation(package, &drvs);
            let name = format!("{}.drv", package.name());
            let drv_path =
                DrvPath::try_from(path(&[&String::from_utf8(drv.print()).unwrap()], &name)).unwrap();
            let inputs: Vec<NodeId> =
                drv.input_drvs.keys().map(|input| self.graph.id(input).unwrap()).collect();
            let facts = NodeFacts {
                is_fod: drv.is_fixed_output(),
                ..NodeFacts::ordinary("x86_64-linux".parse().unwrap())
            };
            let id = self.graph.insert(&drv_path, facts, &inputs);
            self.outputs.add(id, hashes(&drv).as_deref());
            self.files.insert(drv_path.clone(), drv);
            if !package.is_hidden {
                attrs.push(attr(key, drv_path.clone()));
            }
            drvs.insert(key.clone(), drv_path);
        }
        (evaluation(attrs, vec![]), drvs)
    }

    fn derivation(&self, package: &Package, drvs: &BTreeMap<String, DrvPath>) -> Derivation {
        let mut drv = Derivation {
            system: "x86_64-linux".into(),
            builder: b"/bin/sh".to_vec(),
            args: package.args.iter().map(|arg| arg.clone().into_bytes()).collect(),
            ..Derivation::default()
        };
        let value = |text: &String| match text.strip_prefix('@') {
            Some(key) => self.text_of(&drvs[key], "out"),
            None => text.clone(),
        };
        let mut env: BTreeMap<String, String> =
            package.env.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        env.insert("name".into(), package.name());
        let mut inputs = Vec::new();
        for (key, output) in &package.inputs {
            let input = &drvs[key];
            drv.input_drvs.entry(input.clone()).or_default().insert(output.clone());
            inputs.push(self.text_of(input, output));
        }
        env.insert("buildInputs".into(), inputs.join(" "));
        for (name, content) in &package.sources {
            let source = path(&["source", content], name);
            env.entry("sources".into()).or_default().push_str(&format!("{source} "));
            drv.input_srcs.insert(source);
        }
        let mut said: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        said.extend(package.args.iter().cloned());
        for output in if package.has_dev { &["out", "dev"][..] } else { &["out"] } {
            drv.outputs.insert((*output).into(), output_of(package, output, &said.join("\n")));
        }
        for (name, output) in &drv.outputs {
            env.insert(name.clone(), output.path.as_ref().map_or("/own".into(), ToString::to_string));
        }
        drv.env = env.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
        if package.is_structured {
            let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
            let json: BTreeMap<_, _> =
                drv.env.iter().map(|(name, value)| (text(name), text(value))).collect();
            drv.env = [(b"__json".to_vec(), serde_json::to_vec(&json).unwrap())].into();
        }
        drv
    }

    /// What a text says where it speaks of an output.
    fn text_of(&self, drv: &DrvPath, output: &str) -> String {
        let suffix = if output == "out" { String::new() } else { format!("-{output}") };
        match &self.files[drv].outputs[output].path {
            Some(path) => path.to_string(),
            None => {
                let (hash, name) = (drv.store_path().hash_part(), drv.drv_name());
                let text = format!("nix-upstream-output:{hash}:{name}{suffix}");
                format!("/{}", Sha256::of(text.as_bytes()).nix32())
            }
        }
    }

    pub(crate) fn compare(&self, base: Evaluation, head: Evaluation) -> Comparison {
        self.compare_knowing(base, head, &self.files)
    }

    pub(crate) fn compare_knowing(
        &self,
        base: Evaluation,
        head: Evaluation,
        facts: &dyn DrvFacts,
    ) -> Comparison {
        compare(&[base], &[head], &self.graph, &self.outputs, facts)
    }
}

/// Of the outputs of a derivation.
pub(crate) fn hashes(drv: &Derivation) -> Option<Vec<OutputHash>> {
    let path = |(name, output): (&String, &Output)| (name.clone(), output.path.clone());
    output_hashes(&drv.outputs.iter().map(path).collect())
}

fn output_of(package: &Package, output: &str, said: &str) -> Output {
    let name = package.name();
    let named = if output == "out" { name } else { format!("{name}-{output}") };
    match &package.fixed {
        Some(hash) => Output {
            path: Some(path(&["fixed", hash], &named)),
            hash_algo: "sha256".into(),
            hash: hash.clone(),
        },
        None if package.is_content_addressed => {
            Output { path: None, hash_algo: "r:sha256".into(), hash: String::new() }
        }
        None => Output { path: Some(path(&[output, said], &named)), ..Output::default() },
    }
}

/// Compares two sets.
pub(crate) fn compared(base: &Packages, head: &Packages) -> Comparison {
    let mut world = World::default();
    let (base, head) = (world.evaluate(base), world.evaluate(head));
    world.compare(base, head)
}

/// Root causes as lines: `name attrs/alone/drvs differences`.
pub(crate) fn causes(comparison: &Comparison) -> Vec<String> {
    let line = |cause: &RootCause| {
        let RootCause { attrs, attrs_alone, drvs, .. } = cause;
        format!("{} {attrs}/{attrs_alone}/{drvs} {}", cause.after.drv_name(), differences(cause))
    };
    comparison.root_causes.iter().map(line).collect()
}

fn differences(cause: &RootCause) -> String {
    use ci_model::change::Difference as Of;
    let word = |difference: &Of| match difference {
        Of::New => "new".into(),
        Of::Source { name } => format!("source {name}"),
        Of::FixedHash { from, to } => format!("hash {from} {to}"),
        Of::InputAdded { name } => format!("+{name}"),
        Of::InputRemoved { name } => format!("-{name}"),
        Of::InputOutputs { name } => format!("outputs of {name}"),
        Of::Env { name, .. } => format!("${name}"),
        Of::Builder => "builder".into(),
        Of::Args => "args".into(),
        Of::System { .. } => "system".into(),
        Of::Outputs => "outputs".into(),
        Of::Unknown => "unknown".into(),
    };
    cause.differences.iter().map(word).collect::<Vec<String>>().join(", ")
}
