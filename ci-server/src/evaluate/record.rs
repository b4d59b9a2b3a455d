//! The JSON that an evaluator tells of a job comes in; an [`Attr`] comes out. What names a job is read strictly: a wrong
//! path or system is an error. Its meta is what an author wrote, so whatever does not look as expected is left out.

use std::collections::BTreeMap;
use std::path::Path;

use ci_model::attr::{Attr, BuildTraits, License, Maintainer, Meta, Position};
use nix_types::{AttrPath, DrvPath, StorePath};
use serde::Deserialize;
use serde_json::Value;

/// Most licences and maintainers of a job.
pub(crate) const META_LIST_MAX: usize = 64;
/// Longest text of a meta, in bytes.
pub(crate) const META_TEXT_BYTES_MAX: usize = 4096;

/// What the walk says of a job: a list in this order.
#[derive(Deserialize)]
struct Core {
    name: String,
    system: String,
    drv: String,
    outputs: Vec<(String, String)>,
    pname: Option<Value>,
    version: Option<Value>,
}

/// What the walk says of what a job asks for; each part is null where it cannot be evaluated.
#[derive(Deserialize)]
struct More {
    t: Option<Traits>,
    m: Value,
}

/// A list in this order.
#[derive(Deserialize)]
struct Traits {
    fod: bool,
    features: Vec<String>,
    local: bool,
    nosubst: bool,
    ca: bool,
}

/// Reads what the walk says of a job, without its meta.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn job(path: AttrPath, text: &str) -> Result<Attr, String> {
    let core: Core = serde_json::from_str(text).map_err(|error| format!("it is no job: {error}"))?;
    let outputs = core.outputs.into_iter().map(|(name, path)| (name, Some(path)));
    let parts = Parts {
        name: core.name,
        system: core.system,
        drv: core.drv,
        outputs: outputs.collect(),
        pname: core.pname.as_ref().and_then(text_of),
        version: core.version.as_ref().and_then(text_of),
    };
    parts.into_attr(path)
}

/// The parts of a job that both engines tell.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) system: String,
    pub(crate) drv: String,
    pub(crate) outputs: BTreeMap<String, Option<String>>,
    pub(crate) pname: Option<String>,
    pub(crate) version: Option<String>,
}

impl Parts {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn into_attr(self, path: AttrPath) -> Result<Attr, String> {
        let drv = DrvPath::parse_str(&self.drv).map_err(|error| format!("its drvPath is none: {error}"))?;
        let system = self.system.parse().map_err(|error| format!("its system is none: {error}"))?;
        // What is no store path is a placeholder: only the built content decides.
        let outputs = self.outputs.into_iter().map(|(name, path)| {
            let path = path.and_then(|path| StorePath::parse_str(&path).ok());
            (name, path)
        });
        Ok(Attr {
            path,
            drv,
            name: self.name,
            pname: self.pname,
            version: self.version,
            system,
            outputs: outputs.collect(),
            traits: None,
            meta: Meta::default(),
        })
    }
}

/// Adds what the walk says of a job's meta. Text that cannot be read changes nothing: the job is good without it.
pub(crate) fn add_meta(attr: &mut Attr, text: &str, checkout: &Path) {
    let Ok(Some(more)) = serde_json::from_str::<Option<More>>(text) else { return };
    attr.traits = more.t.map(|traits| {
        let mut required_features = traits.features;
        required_features.sort_unstable();
        required_features.dedup();
        BuildTraits {
            is_fod: traits.fod,
            required_features,
            prefers_local: traits.local,
            forbids_substitutes: traits.nosubst,
            is_content_addressed: traits.ca,
        }
    });
    attr.meta = meta(&more.m, checkout);
}

/// Reads a meta as either engine tells it.
pub(crate) fn meta(value: &Value, checkout: &Path) -> Meta {
    let is_true = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let vulnerable =
        value.get("knownVulnerabilities").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    Meta {
        description: value.get("description").and_then(text_of),
        licenses: listed(value.get("license")).filter_map(license).collect(),
        maintainers: listed(value.get("maintainers")).filter_map(maintainer).collect(),
        position: value.get("position").and_then(Value::as_str).and_then(|text| position(text, checkout)),
        broken: is_true("broken"),
        insecure: is_true("insecure") || vulnerable,
    }
}

fn listed(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let list = match value {
        Some(Value::Array(list)) => &list[..],
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    };
    list.iter().take(META_LIST_MAX)
}

fn license(value: &Value) -> Option<License> {
    if let Some(name) = text_of(value) {
        return Some(License { spdx: None, name, free: None });
    }
    let text = |name: &str| value.get(name).and_then(text_of);
    let spdx = text("spdxId");
    let name = text("shortName").or_else(|| text("fullName")).or_else(|| spdx.clone())?;
    Some(License { spdx, name, free: value.get("free").and_then(Value::as_bool) })
}

fn maintainer(value: &Value) -> Option<Maintainer> {
    if let Some(name) = text_of(value) {
        return Some(Maintainer { name: Some(name), ..Maintainer::default() });
    }
    let text = |name: &str| value.get(name).and_then(text_of);
    let found = Maintainer {
        name: text("name"),
        github: text("github"),
        github_id: value.get("githubId").and_then(Value::as_u64),
        email: text("email"),
    };
    (found != Maintainer::default()).then_some(found)
}

/// `FILE:LINE`, with the file named from the root of the checkout, or of the copy of it in the store.
fn position(text: &str, checkout: &Path) -> Option<Position> {
    let (file, line) = text.rsplit_once(':')?;
    let line = line.parse().ok()?;
    let file = Path::new(file).strip_prefix(checkout).unwrap_or(Path::new(file));
    Some(Position { file: bounded(file.to_str()?)?, line })
}

fn text_of(value: &Value) -> Option<String> {
    bounded(value.as_str()?)
}

fn bounded(text: &str) -> Option<String> {
    let end = text.floor_char_boundary(META_TEXT_BYTES_MAX);
    let text: String = text[..end].chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    (!text.is_empty()).then_some(text)
}
