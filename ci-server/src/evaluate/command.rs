//! A request comes in; the evaluator to start for it comes out. All that outsiders chose is data in one JSON text, never
//! part of an expression or of an option.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix_store::process::{Spec, Stdin};
use nix_types::AttrPath;
use serde::Serialize;

use super::confine::{Confine, Needs, StoreUse};
use super::place::Place;
use super::record::META_LIST_MAX;
use super::{EvaluateError, Request, What};

/// Between the request to end and the end.
const GRACE: Duration = Duration::from_millis(500);
/// Address space that an evaluator may have above its memory: its libraries, its stack, and heap that it only reserves.
const ADDRESS_SPACE_SLACK_BYTES: u64 = 1 << 30;
const WALK: &str = include_str!("walk.nix");

/// What one evaluator is to do.
pub(crate) struct Task<'a> {
    pub(crate) request: &'a Request,
    /// Where to begin.
    pub(crate) lo: &'a Place,
    /// The word that begins its marks.
    pub(crate) nonce: &'a str,
    /// Look at these alone.
    pub(crate) paths: Option<&'a [AttrPath]>,
    /// Catch nothing: the first error ends it.
    pub(crate) is_bare: bool,
    /// Write `.drv` files.
    pub(crate) writes: bool,
}

/// Which value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    file: Option<&'a Path>,
    flake: Option<String>,
    outputs: &'a [String],
    attr_path: &'a [String],
    systems: Option<Vec<&'a str>>,
}

/// What the walk is to do with the value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WalkData<'a> {
    nonce: &'a str,
    lo: &'a [u32],
    force: u32,
    depth_max: u32,
    skip: &'a [AttrPath],
    paths: Option<&'a [AttrPath]>,
    bare: bool,
    list_max: usize,
}

/// The evaluator, confined.
pub(crate) fn evaluator(task: &Task<'_>, confine: &dyn Confine) -> Result<Spec, EvaluateError> {
    let request = task.request;
    let file = file(request)?;
    let is_flake = file.is_none();
    // The source of a flake is copied to the store, whoever only wants to read it.
    let store = if task.writes || is_flake { StoreUse::Writes } else { StoreUse::Nothing };
    let mut spec = Spec::new("nix-instantiate").arg("--eval");
    if task.writes {
        spec = spec.arg("--read-write-mode");
    }
    spec = spec.args(options(request)).arg("-");
    spec.stdin = Stdin::Bytes(expression(task, file.as_deref())?.into_bytes());
    finish(spec, request, store, confine)
}

/// What all evaluators have in common.
pub(crate) fn finish(
    mut spec: Spec,
    request: &Request,
    store: StoreUse,
    confine: &dyn Confine,
) -> Result<Spec, EvaluateError> {
    bare_environment(&mut spec, request);
    if !request.is_trusted && store == StoreUse::Nothing {
        // It needs no store, so it is given none.
        spec.env.changes.push(("NIX_REMOTE".into(), Some("dummy://".into())));
    }
    spec.cwd = Some(PathBuf::from("/"));
    spec.silent = Some(request.limits.attr_wall);
    spec.grace = GRACE;
    (spec.stdout_tail, spec.stderr_tail) = (0, 0);
    let needs =
        Needs { reads: vec![request.folder.clone()], store, memory_bytes: Some(address_space(request)) };
    Ok(confine.confine(spec, &needs)?)
}

/// Most address space of an evaluator, in bytes: a second wall behind the watch over its memory.
pub(crate) fn address_space(request: &Request) -> u64 {
    request.limits.memory_bytes.saturating_add(ADDRESS_SPACE_SLACK_BYTES)
}

/// The file to look at; `None` for a flake. It must lie in the checkout, also when links are followed.
fn file(request: &Request) -> Result<Option<PathBuf>, EvaluateError> {
    let What::File { path, .. } = &request.what else { return Ok(None) };
    let wrong = |why: &str| EvaluateError::Request { what: path.display().to_string(), why: why.to_owned() };
    let full = request.folder.join(path.strip_prefix("/").unwrap_or(path));
    let real =
        full.canonicalize().map_err(|error| wrong(&format!("{error}; name a file of the repository")))?;
    let root = request.folder.canonicalize().map_err(|error| wrong(&format!("its checkout: {error}")))?;
    if !real.starts_with(&root) {
        return Err(wrong("it leads out of the repository; name a file in it"));
    }
    Ok(Some(real))
}

/// Settings of Nix.
pub(crate) fn options(request: &Request) -> Vec<OsString> {
    let mut options: Vec<OsString> = Vec::new();
    let mut set = |name: &str, value: &str| options.extend(["--option", name, value].map(OsString::from));
    for (name, value) in &request.nix.options {
        set(name, value);
    }
    set("allow-import-from-derivation", if request.allow_ifd { "true" } else { "false" });
    set("eval-cache", "false");
    if matches!(request.what, What::Flake { .. }) {
        set("extra-experimental-features", "flakes nix-command");
    }
    if !request.is_trusted {
        set("restrict-eval", "true");
        set("allowed-uris", &request.allowed_uris.join(" "));
        options.push("-I".into());
        options.push(request.folder.clone().into());
    }
    options
}

/// Nothing of our own environment but where programs are.
pub(crate) fn bare_environment(spec: &mut Spec, request: &Request) {
    spec.env.clear = true;
    if let Some(path) = std::env::var_os("PATH") {
        spec.env.changes.push(("PATH".into(), Some(path)));
    }
    let given = request.nix.env.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    spec.env.changes.extend(given);
}

fn expression(task: &Task<'_>, file: Option<&Path>) -> Result<String, EvaluateError> {
    let request = task.request;
    let walk = WalkData {
        nonce: task.nonce,
        lo: &task.lo.0,
        // The root; of a flake also its outputs and the systems in them.
        force: if file.is_some() { 1 } else { 3 },
        depth_max: request.limits.depth_max,
        skip: &request.skip,
        paths: task.paths,
        bare: task.is_bare,
        list_max: META_LIST_MAX,
    };
    let data = string(&json(request, &root_data(request, file))?);
    let walk = string(&json(request, &walk)?);
    let (root, source) = if file.is_some() { (FILE_ROOT, "null") } else { (FLAKE_ROOT, FLAKE_SOURCE) };
    Ok(format!(
        "let data = builtins.fromJSON {data}; walk =\n{WALK};\nin walk (builtins.fromJSON {walk} // {{ \
         inherit (data) attrPath systems; root = {root}; source = {source}; }})"
    ))
}

/// The value of a request as an expression by itself, for an engine that walks by itself.
pub(crate) fn root_expression(request: &Request) -> Result<String, EvaluateError> {
    let file = file(request)?;
    let data = string(&json(request, &root_data(request, file.as_deref()))?);
    let root = if file.is_some() {
        format!("select ({FILE_ROOT}) data.attrPath")
    } else {
        format!("builtins.mapAttrs (_: value: shown (builtins.mapAttrs (_: shown) value)) ({FLAKE_ROOT})")
    };
    Ok(format!("let data = builtins.fromJSON {data}; {SELECT} in {root}"))
}

fn root_data<'a>(request: &'a Request, file: Option<&'a Path>) -> Data<'a> {
    let (attr_path, outputs): (&[String], &[String]) = match &request.what {
        What::File { attr_path, .. } => (attr_path.components(), &[]),
        What::Flake { outputs } => (&[], outputs),
    };
    Data {
        file,
        flake: file.is_none().then(|| format!("path:{}", percent(&request.folder))),
        outputs,
        attr_path,
        systems: request.systems.as_ref().map(|all| all.iter().map(|system| system.as_str()).collect()),
    }
}

fn json(request: &Request, data: &impl Serialize) -> Result<String, EvaluateError> {
    serde_json::to_string(data).map_err(|error| EvaluateError::Request {
        what: request.folder.display().to_string(),
        why: format!("it cannot be told to Nix: {error}; give it a path of UTF-8"),
    })
}

const FILE_ROOT: &str = "import data.file";
const FLAKE_SOURCE: &str =
    "builtins.unsafeDiscardStringContext (builtins.toString (builtins.getFlake data.flake).outPath)";

/// As `walk.nix` finds a value at a path; and what a set needs so that it is looked into.
const SELECT: &str = r#"
  called = f:
    if builtins.isFunction f && builtins.all (name: (builtins.functionArgs f).${name}) (builtins.attrNames (builtins.functionArgs f))
      && (builtins.functionArgs f != { } || builtins.match ".*<attrspat.*" (builtins.replaceStrings [ "\n" ] [ " " ] (builtins.toXML f)) != null)
    then f { } else f;
  select = value: path:
    let here = called value; head = builtins.head path; in
    if path == [ ] then here
    else select (if builtins.isList here then builtins.elemAt here (builtins.fromJSON head) else here.${head}) (builtins.tail path);
  shown = value:
    if builtins.isAttrs value && (value.type or null) != "derivation" then value // { recurseForDerivations = true; } else value;"#;

/// The outputs of a flake that are asked for; of those that are sets by system, the systems that are asked for.
const FLAKE_ROOT: &str = r#"
  let
    outputs = (builtins.getFlake data.flake).outputs;
    wanted = names: builtins.listToAttrs (map (name: { inherit name; value = null; }) names);
    bySystem = [ "apps" "checks" "devShells" "formatter" "legacyPackages" "packages" ];
    ofSystems = name: value:
      if data.systems != null && builtins.elem name bySystem
      then builtins.intersectAttrs (wanted data.systems) value
      else value;
  in builtins.mapAttrs ofSystems (builtins.intersectAttrs (wanted data.outputs) outputs)"#;

/// A string of Nix. What is not ASCII is escaped as JSON does it, so the text must be JSON.
fn string(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 2);
    out.push('"');
    for c in json.chars() {
        match c {
            '"' | '\\' | '$' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\\\u{unit:04x}"); // a String takes all
                }
            }
        }
    }
    out.push('"');
    out
}

/// A path as a URL takes it.
fn percent(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}"); // a String takes all
            }
        }
        out
    })
}
