//! Rows of a graph come in, `.drv` files as Nix writes them go out: the same form, and about the same size. Printed by
//! itself, so that it can be compared with what reads them. Leaves out that a file's own hash be true of its content:
//! names are those of the rows.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{DrvGraph, DrvRow};

/// Variables that nearly every build has, without a value.
const EMPTY: [&str; 18] = [
    "cmakeFlags",
    "configureFlags",
    "depsBuildBuild",
    "depsBuildBuildPropagated",
    "depsBuildTarget",
    "depsBuildTargetPropagated",
    "depsHostHost",
    "depsHostHostPropagated",
    "depsTargetTarget",
    "depsTargetTargetPropagated",
    "doInstallCheck",
    "mesonFlags",
    "outputChecks",
    "patches",
    "propagatedBuildInputs",
    "propagatedNativeBuildInputs",
    "strictDeps",
    "nativeBuildInputs",
];
/// Digits of Nix' base 32.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
/// Characters of the hash of a store path.
const HASH_CHARS: usize = 32;

/// Writes a file for each derivation into `store_dir`, which paths in the files begin with too.
///
/// # Errors
/// What the file system says.
pub fn write_drv_files(graph: &DrvGraph, store_dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(store_dir)?;
    let folder = store_dir.to_str().ok_or_else(|| io::Error::other("the folder's name is not UTF-8"))?;
    for drv in &graph.drvs {
        std::fs::write(store_dir.join(drv.base_name()), text(graph, drv, folder))?;
    }
    Ok(())
}

/// Where an output of a derivation lies, when it is known in advance.
pub fn output_path(drv: &DrvRow, output: &str, store_dir: &str) -> Option<String> {
    if drv.flags.content_addressed {
        return None;
    }
    let suffix = if output == "out" { String::new() } else { format!("-{output}") };
    let hash = invented(&["output", &drv.hash, output]);
    Some(format!("{store_dir}/{hash}-{}{suffix}", drv.name))
}

fn text(graph: &DrvGraph, drv: &DrvRow, store_dir: &str) -> String {
    let outputs: Vec<_> = drv.outputs.iter().map(|output| output_of(drv, output, store_dir)).collect();
    let mut inputs: Vec<_> = drv
        .inputs
        .iter()
        .map(|(input, outputs)| (graph.drvs[*input].path(store_dir), outputs.as_slice()))
        .collect();
    inputs.sort();
    let inputs: Vec<_> =
        inputs.iter().map(|(path, outputs)| format!("({},{})", quoted(path), list(outputs))).collect();
    let mut sources: Vec<_> = (0..drv.ninputsrcs).map(|source| source_path(source, store_dir)).collect();
    sources.sort();
    let bash = drv.inputs.iter().map(|(input, _)| &graph.drvs[*input]).find(|drv| drv.name.contains("bash"));
    let shell = bash.and_then(|bash| output_path(bash, "out", store_dir));
    let builder = match shell {
        _ if drv.system == "builtin" => "builtin:fetchurl".into(),
        Some(shell) => format!("{shell}/bin/bash"),
        None => "/bin/sh".into(),
    };
    let args: Vec<_> = if drv.system == "builtin" { Vec::new() } else { args(&sources) };
    let env: Vec<_> = env(graph, drv, store_dir, &builder)
        .iter()
        .map(|(k, v)| format!("({},{})", quoted(k), quoted(v)))
        .collect();
    format!(
        "Derive([{}],[{}],{},{},{},{},[{}])",
        outputs.join(","),
        inputs.join(","),
        list(&sources),
        quoted(&drv.system),
        quoted(&builder),
        list(&args),
        env.join(",")
    )
}

fn args(sources: &[String]) -> Vec<String> {
    let script = sources.first().map_or("builder.sh", String::as_str);
    vec!["-e".into(), script.into()]
}

fn output_of(drv: &DrvRow, output: &str, store_dir: &str) -> String {
    let path = output_path(drv, output, store_dir).unwrap_or_default();
    let (algorithm, hash) = if drv.flags.fixed_output {
        ("sha256", fixed_hash(drv))
    } else if drv.flags.content_addressed {
        ("r:sha256", String::new())
    } else {
        ("", String::new())
    };
    format!("({},{},{},{})", quoted(output), quoted(&path), quoted(algorithm), quoted(&hash))
}

fn env(graph: &DrvGraph, drv: &DrvRow, store_dir: &str, builder: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = vec![
        ("builder".into(), builder.into()),
        ("name".into(), drv.name.clone()),
        ("system".into(), drv.system.clone()),
        ("outputs".into(), drv.outputs.join(" ")),
    ];
    for output in &drv.outputs {
        env.push((output.clone(), output_path(drv, output, store_dir).unwrap_or_default()));
    }
    let inputs = drv.inputs.iter().flat_map(|(input, outputs)| {
        let input = &graph.drvs[*input];
        outputs.iter().filter_map(|output| output_path(input, output, store_dir))
    });
    env.push(("buildInputs".into(), inputs.collect::<Vec<_>>().join(" ")));
    if drv.flags.fixed_output {
        env.push(("outputHash".into(), fixed_hash(drv)));
        env.push(("outputHashAlgo".into(), "sha256".into()));
        env.push(("outputHashMode".into(), "flat".into()));
        env.push(("urls".into(), format!("https://example.org/{}", drv.name)));
    } else {
        let (pname, version) = drv.name.rsplit_once('-').unwrap_or((&drv.name, ""));
        env.extend([("pname".into(), pname.into()), ("version".into(), version.into())]);
        env.extend(EMPTY.map(|name| (name.into(), String::new())));
    }
    if drv.flags.prefers_local {
        env.push(("preferLocalBuild".into(), "1".into()));
    }
    if drv.flags.content_addressed {
        env.push(("__contentAddressed".into(), "1".into()));
    }
    if !drv.features.is_empty() {
        env.push(("requiredSystemFeatures".into(), drv.features.join(" ")));
    }
    env.sort();
    env.dedup_by(|b, a| a.0 == b.0);
    env
}

fn source_path(source: usize, store_dir: &str) -> String {
    format!("{store_dir}/{}-source-{source}.sh", invented(&["source", &source.to_string()]))
}

/// 64 hexadecimal digits.
fn fixed_hash(drv: &DrvRow) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(format!("fixed:{}", drv.hash)) {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
    }
    text
}

/// 32 characters that are always the same for the same words.
fn invented(words: &[&str]) -> String {
    let digest = Sha256::digest(words.join(":"));
    digest.iter().take(HASH_CHARS).map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(","))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
