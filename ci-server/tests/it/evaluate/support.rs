//! A Nix of a test's own, a checkout to evaluate, and all that an evaluation told.
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ci_model::attr::{Attr, AttrError};
use ci_model::flow::EvaluationCost;
use ci_server::evaluate::confine::Bare;
use ci_server::evaluate::share::Share;
use ci_server::evaluate::{self, Doors, EvaluateError, Event, Limits, Nix, Pass, Request, What};
use nix_types::AttrPath;
use service_kit::clock::Clock;
use tempfile::TempDir;

/// A private store and a checkout.
pub(crate) struct World {
    pub(crate) folder: TempDir,
}

/// All that an evaluation told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) attrs: BTreeMap<String, Attr>,
    pub(crate) errors: BTreeMap<String, AttrError>,
    pub(crate) other: Vec<String>,
    pub(crate) begun: BTreeMap<String, usize>,
    pub(crate) memory_max: u64,
    pub(crate) cost: EvaluationCost,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("evaluate-").tempdir().unwrap();
        let world = Self { folder };
        for name in ["etc", "store", "var", "home", "checkout"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        let conf = format!("{}fsync-metadata = false\n", test_kit::nix::SETTINGS);
        fs::write(world.path("etc/nix.conf"), conf).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the checkout.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path("checkout").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Names of the derivations in the store.
    pub(crate) fn drvs(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("store")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".drv")).collect()
    }

    pub(crate) fn nix(&self) -> Nix {
        let env = test_kit::nix::variables(self.folder.path());
        let env = env.map(|(name, place)| (name.into(), place.into_os_string()));
        Nix { env: env.into(), ..Nix::default() }
    }

    /// `default.nix`, trusted, with short limits.
    pub(crate) fn request(&self) -> Request {
        Request {
            folder: self.path("checkout"),
            what: What::File { path: "default.nix".into(), attr_path: AttrPath::root() },
            systems: None,
            skip: Vec::new(),
            is_trusted: true,
            allow_ifd: false,
            allowed_uris: Vec::new(),
            limits: Limits {
                memory_bytes: 1 << 30,
                wall: Duration::from_secs(120),
                attr_wall: Duration::from_secs(20),
                ..Limits::default()
            },
            nix: self.nix(),
        }
    }

    /// Evaluates, and holds the door to its promise: nothing is told twice.
    pub(crate) async fn evaluate(&self, request: &Request, pass: &Pass) -> Told {
        self.try_evaluate(request, pass).await.unwrap()
    }

    pub(crate) async fn try_evaluate(&self, request: &Request, pass: &Pass) -> Result<Told, EvaluateError> {
        let mut told = Told::default();
        let cost = evaluate::run(request, pass, doors(&share()), std::future::pending(), &mut |event| {
            told.take(event);
        })
        .await?;
        told.cost = cost;
        Ok(told)
    }
}

impl Told {
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Attr(attr) => {
                let path = attr.path.to_string();
                assert!(!self.errors.contains_key(&path), "{path} is a job and an error");
                assert!(self.attrs.insert(path.clone(), *attr).is_none(), "{path} is told twice");
            }
            Event::Error(error) => {
                let path = error.path.to_string();
                assert!(!self.attrs.contains_key(&path), "{path} is a job and an error");
                let before = self.errors.insert(path.clone(), *error);
                assert!(before.is_none(), "{path} is told twice: {before:?}");
            }
            Event::OtherSystem(path) => self.other.push(path.to_string()),
            Event::Begin(path) => *self.begun.entry(path.to_string()).or_default() += 1,
            Event::Memory { bytes, .. } => self.memory_max = self.memory_max.max(bytes),
            Event::Known(_) | Event::Held(_) => {}
        }
    }

    pub(crate) fn paths(&self) -> Vec<&str> {
        self.attrs.keys().map(String::as_str).collect()
    }
}

/// A derivation that nobody builds, as text.
pub(crate) const LIB: &str = r#"
  drv = name: more: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo ${name} > $out" ]; } // more);
"#;

/// More than any test asks for.
pub(crate) fn share() -> Share {
    Share::new(4, 8 << 30, Clock::system())
}

/// Nothing keeps the evaluators of tests in.
pub(crate) fn doors(share: &Share) -> Doors<'_> {
    Doors { confine: &Bare, share }
}

/// A command of a test.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    std::process::Command::new(program)
}
