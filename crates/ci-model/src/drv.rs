//! What the CI keeps of a derivation. The borrowed reading of a `.drv` file comes in; what scheduling, comparing and
//! storing ask about comes out, and the file's bytes may go. Features and the like sit in the environment, or in its
//! `__json` where the derivation has structured attributes.

use std::collections::{BTreeMap, BTreeSet};

use nix_types::derivation::DrvView;
use nix_types::{DrvPath, NotADrv, NotASystem, StorePath, StorePathError, System};
use serde::Deserialize;

use crate::attr::BuildTraits;

/// Most features that are kept of one derivation.
pub const FEATURES_MAX: usize = 64;

/// A derivation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrvRecord {
    /// Which one.
    pub path: DrvPath,
    /// Where it is built.
    pub system: System,
    /// What its build asks for.
    pub traits: BuildTraits,
    /// By name; a path is `None` where only the built content decides.
    pub outputs: BTreeMap<String, Option<StorePath>>,
    /// The derivations it needs, and which of their outputs.
    pub inputs: BTreeMap<DrvPath, BTreeSet<String>>,
}

/// What a file says that is not kept because it cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The system.
    #[error(transparent)]
    System(#[from] NotASystem),
    /// An input.
    #[error(transparent)]
    Input(#[from] NotADrv),
    /// An output.
    #[error(transparent)]
    Output(#[from] StorePathError),
    /// `__json` that is no JSON.
    #[error("its structured attributes (`__json`) are no JSON object: {0}")]
    Structured(String),
    /// Too many features.
    #[error("it asks for more than {FEATURES_MAX} system features")]
    Features,
}

/// What is asked of `__json`. Other keys may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Structured {
    required_system_features: Option<serde_json::Value>,
    prefer_local_build: Option<serde_json::Value>,
    allow_substitutes: Option<serde_json::Value>,
}

impl DrvRecord {
    /// Takes what is kept out of a reading.
    ///
    /// # Errors
    /// [`RecordError`] says what cannot be right.
    pub fn of(path: DrvPath, view: &DrvView<'_>) -> Result<Self, RecordError> {
        let inputs = view.input_drvs.iter().map(|(drv, outputs)| {
            let outputs = outputs.iter().map(|output| output.clone().into_owned()).collect();
            Ok((DrvPath::parse_str(drv)?, outputs))
        });
        let outputs = view.outputs.iter().map(|output| {
            let path = output.path.as_deref().map(StorePath::parse_str).transpose()?;
            Ok((output.name.clone().into_owned(), path))
        });
        Ok(Self {
            path,
            system: view.system.parse()?,
            traits: traits(view)?,
            outputs: outputs.collect::<Result<_, StorePathError>>()?,
            inputs: inputs.collect::<Result<_, NotADrv>>()?,
        })
    }
}

/// What a build asks for.
fn traits(view: &DrvView<'_>) -> Result<BuildTraits, RecordError> {
    let (features, prefers_local, allows_substitutes) = match view.env("__json") {
        Some(json) => {
            let said: Structured =
                serde_json::from_slice(json).map_err(|error| RecordError::Structured(error.to_string()))?;
            (
                listed(said.required_system_features.as_ref()),
                said.prefer_local_build.as_ref().is_some_and(is_true),
                said.allow_substitutes.as_ref().is_none_or(is_true),
            )
        }
        None => (
            words(view.env_str("requiredSystemFeatures").unwrap_or_default()),
            view.env_str("preferLocalBuild").is_some_and(|value| value == "1"),
            view.env_str("allowSubstitutes").is_none_or(|value| value == "1"),
        ),
    };
    if features.len() > FEATURES_MAX {
        return Err(RecordError::Features);
    }
    Ok(BuildTraits {
        is_fod: view.is_fixed_output(),
        required_features: features,
        prefers_local,
        forbids_substitutes: !allows_substitutes,
        is_content_addressed: view.has_unknown_paths(),
    })
}

fn is_true(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Bool(yes) => *yes,
        serde_json::Value::String(text) => text == "1",
        serde_json::Value::Number(number) => number.as_i64() == Some(1),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => false,
    }
}

fn listed(value: Option<&serde_json::Value>) -> Vec<String> {
    match value {
        Some(serde_json::Value::Array(items)) => {
            let mut all: Vec<String> =
                items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect();
            all.sort_unstable();
            all.dedup();
            all
        }
        Some(serde_json::Value::String(text)) => words(text),
        _ => Vec::new(),
    }
}

fn words(text: &str) -> Vec<String> {
    let mut all: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use nix_types::derivation;

    use super::*;

    const DRV: &str = "/nix/store/00000000000000000000000000000000-a.drv";

    fn record(env: &str, outputs: &str) -> Result<DrvRecord, RecordError> {
        let text = format!(
            r#"Derive([{outputs}],[("/nix/store/11111111111111111111111111111111-b.drv",["dev","out"])],["/nix/store/22222222222222222222222222222222-c"],"x86_64-linux","/bin/sh",[],[{env}])"#
        );
        DrvRecord::of(DRV.parse().unwrap(), &derivation::view(text.as_bytes()).unwrap())
    }

    const OUT: &str = r#"("out","/nix/store/33333333333333333333333333333333-a","","")"#;

    #[test]
    fn what_a_build_asks_for_is_read_from_the_environment() {
        let env = r#"("preferLocalBuild","1"),("requiredSystemFeatures","kvm big-parallel kvm")"#;
        let record = record(env, OUT).unwrap();
        assert_eq!(record.traits.required_features, ["big-parallel", "kvm"]);
        assert!(record.traits.prefers_local && !record.traits.forbids_substitutes && !record.traits.is_fod);
        let needed = record.inputs.values().next().unwrap();
        assert_eq!(needed.iter().collect::<Vec<_>>(), ["dev", "out"]);
        let path = record.outputs["out"].as_ref().unwrap();
        assert_eq!(path.as_str(), "/nix/store/33333333333333333333333333333333-a");
    }

    #[test]
    fn and_from_structured_attributes() {
        let env = r#"("__json","{\"requiredSystemFeatures\":[\"kvm\",7],\"allowSubstitutes\":false,\"preferLocalBuild\":true,\"x\":{}}")"#;
        let record = record(env, OUT).unwrap();
        assert_eq!(record.traits.required_features, ["kvm"]);
        assert!(record.traits.prefers_local && record.traits.forbids_substitutes);
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        assert!(matches!(record(r#"("__json","[")"#, OUT), Err(RecordError::Structured(_))));
        let many = (0..=FEATURES_MAX).map(|i| format!("f{i} ")).collect::<String>();
        let env = format!(r#"("requiredSystemFeatures","{many}")"#);
        assert_eq!(record(&env, OUT).unwrap_err(), RecordError::Features);
    }

    #[test]
    fn fixed_and_content_addressed_outputs_are_told_apart() {
        let fixed = r#"("out","/nix/store/33333333333333333333333333333333-a","sha256","00")"#;
        assert!(record("", fixed).unwrap().traits.is_fod);
        let floating = r#"("out","","r:sha256","")"#;
        let record = record("", floating).unwrap();
        assert!(record.traits.is_content_addressed && !record.traits.is_fod);
    }
}
