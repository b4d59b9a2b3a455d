//! Every kind of destination in one configuration: one real build arrives at all of them, and each of them may fail alone
//! without the others being a moment later for it.

use std::fs;
use std::time::{Duration, Instant};

use nix_types::SecretKey;
use test_kit::attic::{self, Attic};
use test_kit::cachix::{self, Cachix};
use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::wait;

use crate::native::stage::{QUICK, block, key};
use crate::ssh::stage::Far;
use crate::world::{SOON, World};

/// All kinds.
const IDS: [&str; 8] = ["cachix", "attic", "ssh", "ssh-ng", "s3", "http", "file", "command"];

/// Longer than any of the others may take, so that waiting for the broken one would show.
const HANGS_FOR: Duration = Duration::from_secs(60);

struct Stage {
    world: World,
    cachix: Cachix,
    attic: Attic,
    s3: Cache,
    http: Cache,
    far: Far,
    far_ng: Far,
}

impl Stage {
    fn new() -> Stage {
        let world = World::new("");
        let public = key(&world, "here-1");
        let store = world.path("nix/store").display().to_string();
        let secret = || SecretKey::parse(&fs::read_to_string(world.path("here-1.sec")).unwrap()).unwrap();
        let (ours, theirs) = (secret(), secret());
        let attic = Attic::start(&store, &[], Box::new(move |print: &str| ours.sign(print).to_string()));
        let bare = move |print: &str| theirs.sign(print).to_string().rsplit(':').next().unwrap().to_owned();
        let cachix = Cachix::start(&store, Box::new(bare));
        let dhall = format!("{{ authToken = \"unused\", hostname = \"{}\" }}\n", cachix.cache.url());
        fs::write(world.path("cachix.dhall"), dhall).unwrap();
        let conf = format!("require-sigs = true\ntrusted-public-keys = {public}");
        let (far, far_ng) = (Far::new(&world, &conf), Far::new(&world, &conf));
        let (s3, http) = (Cache::start(), Cache::start());
        let keys = format!("{QUICK}\ntimeout = \"{}s\"\nattempts_max = 1000", HANGS_FOR.as_secs());
        let keys = keys.replace("attempts_max = 3\n", "");
        let env = |name: &str| format!("{keys}\ncredentials = {{ env = {{ vars = [\"{name}\"] }} }}");
        let caches = [
            format!(
                "[[caches]]\nid = \"cachix\"\ncache_type = \"cachix\"\ndestination = \"{}\"\nconfig_file = \
                 \"$W/cachix.dhall\"\n{}\n",
                cachix::NAME,
                env("THE_CACHIX_TOKEN")
            ),
            format!(
                "[[caches]]\nid = \"attic\"\ncache_type = \"attic\"\ndestination = \"{}/{}\"\n{}\n",
                attic.cache.url(),
                attic::NAME,
                env("THE_ATTIC_TOKEN")
            ),
            far.block("ssh", &far.pin("host"), &keys),
            far_ng.block("ssh-ng", &far_ng.pin("host"), &keys),
            block("s3", &format!("s3://cache?endpoint={}", s3.url()), &keys),
            block("http", &format!("{}/cache", http.url()), &keys),
            block("file", "file://$W/cache", &keys),
            World::command_cache("command", "test ! -e $W/broken", &keys),
        ];
        world.configure("signing_key_files = [ \"$W/here-1.sec\" ]", &caches.concat());
        Stage { world, cachix, attic, s3, http, far, far_ng }
    }

    fn start(&mut self) {
        let options = self.far.ssh_options();
        self.world.start_with(|daemon| {
            daemon.env("NIX_SSHOPTS", options);
            daemon.env("THE_CACHIX_TOKEN", cachix::TOKEN).env("THE_ATTIC_TOKEN", attic::TOKEN);
            daemon.env("AWS_ACCESS_KEY_ID", "AKIDEIGHT").env("AWS_SECRET_ACCESS_KEY", "s3cret");
        });
    }

    /// One that hangs, where it can, is worse than one that is away.
    fn break_one(&mut self, id: &str) {
        let stalls = |cache: &Cache| {
            for method in ["GET", "HEAD", "PUT", "POST"] {
                cache.fault(Rule::always(method, "", Fault::Stall));
            }
        };
        let at = |name: &str| self.world.path(name);
        match id {
            "cachix" => stalls(&self.cachix.cache),
            "attic" => stalls(&self.attic.cache),
            "s3" => stalls(&self.s3),
            "http" => stalls(&self.http),
            "ssh" => self.far.stop(),
            "ssh-ng" => self.far_ng.stop(),
            "file" => {
                fs::rename(at("cache"), at("cache.away")).unwrap();
                fs::write(at("cache"), "no folder").unwrap();
            }
            "command" => fs::write(at("broken"), "").unwrap(),
            other => panic!("{other}"),
        }
    }

    fn mend(&mut self, id: &str) {
        let at = |name: &str| self.world.path(name);
        match id {
            "cachix" => self.cachix.cache.heal(),
            "attic" => self.attic.cache.heal(),
            "s3" => self.s3.heal(),
            "http" => self.http.heal(),
            "ssh" => self.far.start(),
            "ssh-ng" => self.far_ng.start(),
            "file" => {
                fs::remove_file(at("cache")).unwrap();
                fs::rename(at("cache.away"), at("cache")).unwrap();
            }
            "command" => fs::remove_file(at("broken")).unwrap(),
            other => panic!("{other}"),
        }
    }

    /// A real build of two derivations, one of which needs the other.
    fn build(&self, name: &str) {
        let set = format!(
            "let base = run \"{name}-base\" {{}} \"echo {name} > $out\"; in run \"{name}\" {{ inherit base; }} \
             \"echo $base > $out\""
        );
        let built = self.world.build(&set);
        assert_eq!(built.code, 0, "{built:?}");
    }

    /// Waits until these have so many receipts each.
    #[track_caller]
    fn arrive(&self, ids: &[&str], count: u64) {
        let all = wait::comes_true(SOON, || {
            let status = self.world.status();
            ids.iter().all(|id| status["destinations"][id]["done"].as_u64() == Some(count))
        });
        assert!(all, "{}\n{:?}\n{}", self.world.status(), self.world.list(&[]), self.world.log());
    }
}

#[test]
fn one_build_arrives_at_eight_destinations_and_one_that_fails_delays_none() {
    let mut stage = Stage::new();
    stage.start();
    stage.build("first");
    let began = Instant::now();
    stage.arrive(&IDS, 2);
    println!("eight receipts for each of two paths, {:?} after the build", began.elapsed());
    let rows = stage.world.list(&["--state", "done"]);
    let with_receipts = rows.iter().filter(|row| row["receipt"].is_object()).count();
    assert_eq!(with_receipts, 16, "{rows:?}");

    for (round, broken) in (1..).zip(IDS) {
        stage.break_one(broken);
        stage.build(&format!("without-{broken}"));
        let began = Instant::now();
        let others: Vec<&str> = IDS.into_iter().filter(|id| *id != broken).collect();
        stage.arrive(&others, 2 * (round + 1));
        let took = began.elapsed();
        assert!(took < HANGS_FOR, "{broken}: the others took {took:?}");
        assert_eq!(stage.world.count(broken, "done"), 2 * round, "{broken} is broken");
        assert_eq!(stage.world.count(broken, "dead"), 0);
        println!("without {broken}: seven receipts {took:?} after the build");
        stage.mend(broken);
        // One that stood still is cut off by a new start, so that nobody waits for its time-out here.
        stage.world.kill();
        stage.start();
        stage.arrive(&[broken], 2 * (round + 1));
    }
    assert_eq!(stage.world.stop(), 0, "{}", stage.world.log());
}
