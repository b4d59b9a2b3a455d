//! A request comes in; the evaluator to start for it comes out. All that outsiders chose is data in one JSON text, never
//! part of an expression or of an option.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix_store::process::{Killed, Spec, Stdin};
use nix_types::AttrPath;
use serde::Serialize;

use super::confine::{Confine, Needs, StoreUse};
use super::place::Place;
use super::record::META_LIST_MAX;
use super::{EvaluateError, Request, What};

/// Between the request to end and the end: Nix has to end what it builds.
const GRACE: Duration = Duration::from_secs(2);
/// An evaluator tells of each attribute at least twice. So short is noticed by nobody, and is far below the time between two
/// looks at its memory; longer would save little more.
const GATHER: Duration = Duration::from_millis(5);
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
    /// Have the whole way to an error told.
    pub(crate) tells_way: bool,
}

/// Which value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RootData<'a> {
    file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<&'a Path>,
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
    if task.tells_way {
        spec = spec.arg("--show-trace");
    }
    spec = spec.args(options(request)).arg("-");
    spec.stdin = Stdin::Bytes(expression(task, file.as_deref())?.into_bytes());
    finish(spec, request, store, None, confine)
}

/// What all evaluators have in common. `reads` is what it reads beside the checkout.
pub(crate) fn finish(
    mut spec: Spec,
    request: &Request,
    store: StoreUse,
    reads: Option<PathBuf>,
    confine: &dyn Confine,
) -> Result<Spec, EvaluateError> {
    bare_environment(&mut spec, request);
    if !request.is_trusted && store == StoreUse::Nothing {
        // It needs no store, so it is given none.
        spec.env.changes.push(("NIX_REMOTE".into(), Some("dummy://".into())));
    }
    spec.cwd = Some(PathBuf::from("/"));
    spec.silent = Some(request.limits.attr_wall);
    (spec.grace, spec.killed) = (GRACE, Killed::Descendants);
    (spec.stdout_tail, spec.stderr_tail) = (0, 0);
    spec.gather = GATHER;
    let reads = std::iter::once(request.folder.clone()).chain(reads).collect();
    let needs = Needs { reads, store, memory_bytes: Some(address_space(request)) };
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
    let (is_flake, is_pure) = match request.what {
        What::File { .. } => (false, false),
        What::Flake { .. } => (true, false),
        What::LockedFlake { .. } => (true, true),
    };
    if is_flake {
        set("extra-experimental-features", "flakes nix-command");
    }
    if is_pure {
        set("pure-eval", "true");
    }
    if !request.is_trusted {
        set("restrict-eval", "true");
        set("allowed-uris", &request.allowed_uris.join(" "));
        // The daemon has ways out that are not ours: no cache is asked for a hash that outsiders chose.
        set("substitute", "false");
        set("allow-unsafe-native-code-during-evaluation", "false");
        if !is_pure {
            options.push("-I".into());
            options.push(request.folder.clone().into());
        }
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

/// The value of a request as an expression by itself, for an engine that walks by itself; without what the file `done`
/// lists.
pub(crate) fn root_expression(request: &Request, done: Option<&Path>) -> Result<String, EvaluateError> {
    let file = file(request)?;
    let data = RootData { done, ..root_data(request, file.as_deref()) };
    let data = string(&json(request, &data)?);
    let root = if file.is_some() {
        format!("select ({FILE_ROOT}) data.attrPath")
    } else {
        format!("builtins.mapAttrs (_: value: shown (builtins.mapAttrs (_: shown) value)) ({FLAKE_ROOT})")
    };
    let root = if done.is_some() { format!("left ({DONE}) ({root})") } else { root };
    Ok(format!("let data = builtins.fromJSON {data}; {SELECT} in {root}"))
}

fn root_data<'a>(request: &'a Request, file: Option<&'a Path>) -> RootData<'a> {
    let (attr_path, outputs): (&[String], &[String]) = match &request.what {
        What::File { attr_path, .. } => (attr_path.components(), &[]),
        What::Flake { outputs } | What::LockedFlake { outputs, .. } => (&[], outputs),
    };
    RootData {
        file,
        done: None,
        flake: flake(request),
        outputs,
        attr_path,
        systems: request.systems.as_ref().map(|all| all.iter().map(|system| system.as_str()).collect()),
    }
}

/// The reference of a flake.
fn flake(request: &Request) -> Option<String> {
    let path = || format!("path:{}", percent(request.folder.as_os_str().as_bytes()));
    match &request.what {
        What::File { .. } => None,
        What::Flake { .. } => Some(path()),
        What::LockedFlake { nar_hash, .. } => {
            Some(format!("{}?narHash={}", path(), percent(nar_hash.as_bytes())))
        }
    }
}

fn json(request: &Request, data: &impl Serialize) -> Result<String, EvaluateError> {
    serde_json::to_string(data).map_err(|error| EvaluateError::Request {
        what: request.folder.display().to_string(),
        why: format!("it cannot be told to Nix: {error}; give it a path of UTF-8"),
    })
}

const FILE_ROOT: &str = "import data.file";
const DONE: &str = "builtins.fromJSON (builtins.readFile data.done)";
const FLAKE_SOURCE: &str =
    "builtins.unsafeDiscardStringContext (builtins.toString (builtins.getFlake data.flake).outPath)";

/// As `walk.nix` finds a value at a path; what a set needs so that it is looked into; and a value without what is done.
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
    if builtins.isAttrs value && (value.type or null) != "derivation" then value // { recurseForDerivations = true; } else value;
  left = done: value:
    let here = called value; names = builtins.attrNames done; in
    if !(builtins.isAttrs here) || (here.type or null) == "derivation" then value
    else builtins.removeAttrs here (builtins.filter (name: done.${name} == true) names)
      // builtins.mapAttrs (name: _: left done.${name} here.${name})
        (builtins.intersectAttrs (builtins.removeAttrs done (builtins.filter (name: done.${name} == true) names)) here);"#;

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

/// A path or value as a URL takes it.
fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
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
