//! Roots, judged by the real collector.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix_store::StoreDirs;
use nix_store::gcroots::{FOLDER, GcRoots, IndirectRoots, NotHonoured, Roots, RootsError};
use nix_types::StorePath;

use crate::nix::Nix;
use crate::support::again;

fn is_there(path: &StorePath) -> bool {
    Path::new(path.as_str()).exists()
}

/// Keeps two paths, lets one go, and collects garbage in between.
fn keeps_and_frees(nix: &Nix, roots: &GcRoots) {
    let (c, fod) = (nix.one("c"), nix.one("fod"));
    let (a, other) = (nix.one("a"), nix.build_seeded("gc", &["seeded"]).remove(0));
    roots.add_all(&[c.clone(), fod.clone()]).unwrap();
    assert!(!roots.add(&c).unwrap(), "again changes nothing");
    let mut kept = [c.clone(), fod.clone()];
    kept.sort();
    assert_eq!(roots.list().unwrap(), kept);
    nix.collect_garbage();
    assert!(is_there(&c) && is_there(&fod) && is_there(&a), "kept, with what they refer to");
    assert!(!is_there(&other), "the collector did run");
    assert!(roots.remove(&c).unwrap());
    assert!(!roots.remove(&c).unwrap(), "again changes nothing");
    assert!(roots.add(&c).unwrap());
    assert!(roots.remove(&c).unwrap());
    assert_eq!(roots.list().unwrap(), std::slice::from_ref(&fod));
    nix.collect_garbage();
    assert!(!is_there(&c) && !is_there(&a) && is_there(&fod));
}

fn with_gcroots() -> Nix {
    let nix = Nix::new();
    nix.run("nix-store", &["--init"]);
    assert!(nix.dirs().gcroots().is_dir());
    nix
}

#[test]
fn direct_roots_keep_and_free() {
    let nix = with_gcroots();
    let roots = GcRoots::choose(&nix.dirs(), &nix.path("own")).unwrap();
    assert!(matches!(roots, GcRoots::Direct(_)));
    assert!(roots.to_string().starts_with("direct roots in "), "{roots}");
    keeps_and_frees(&nix, &roots);
    assert!(!nix.path("own").exists(), "the other kind was not needed");
}

#[test]
fn a_link_to_a_folder_is_not_honoured_so_the_daemon_is_asked() {
    let nix = with_gcroots();
    fs::create_dir(nix.path("elsewhere")).unwrap();
    symlink(nix.path("elsewhere"), nix.dirs().gcroots().join(FOLDER)).unwrap();
    assert!(matches!(Roots::open(&nix.dirs(), Path::new("/own")), Err(NotHonoured::Link(_))));
    let error = GcRoots::choose(&nix.dirs(), &nix.path("own/roots")).map(|_| ()).unwrap_err();
    assert!(matches!(error, RootsError::NoKind { .. }), "{error}");
    assert!(error.to_string().contains("does not follow links"), "{error}");

    let _daemon = nix.daemon();
    let roots = GcRoots::choose(&nix.dirs(), &nix.path("own/roots")).unwrap();
    assert!(matches!(roots, GcRoots::Indirect(_)));
    let said = roots.to_string();
    assert!(
        said.contains("registered with the Nix daemon") && said.contains("does not follow links"),
        "{said}"
    );
    keeps_and_frees(&nix, &roots);
}

#[test]
fn that_the_collector_ignores_a_linked_folder_is_true() {
    let nix = with_gcroots();
    let a = nix.one("a");
    fs::create_dir(nix.path("elsewhere")).unwrap();
    symlink(a.as_str(), nix.path("elsewhere").join(a.base_name())).unwrap();
    symlink(nix.path("elsewhere"), nix.dirs().gcroots().join(FOLDER)).unwrap();
    nix.collect_garbage();
    assert!(!is_there(&a));
}

#[test]
fn why_there_are_no_direct_roots() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = StoreDirs::new(folder.path().join("store"), folder.path().join("var")).unwrap();
    assert!(
        matches!(Roots::open(&dirs, Path::new("/own")), Err(NotHonoured::CannotMake { .. })),
        "no state folder yet"
    );
    fs::create_dir_all(dirs.gcroots()).unwrap();
    let file = dirs.gcroots().join(FOLDER);
    fs::write(&file, "").unwrap();
    assert!(matches!(Roots::open(&dirs, Path::new("/own")), Err(NotHonoured::NotAFolder(_))));
    fs::remove_file(&file).unwrap();
    assert!(Roots::open(&dirs, Path::new("/own")).is_ok() && Roots::open(&dirs, Path::new("/own")).is_ok());
    // A folder nobody can write to, not even root.
    let proc = StoreDirs::new("/store", "/proc/self").unwrap();
    assert!(Roots::open(&proc, Path::new("/own")).is_err());
}

#[test]
fn what_else_lies_there_is_left_alone() {
    let nix = with_gcroots();
    let roots = GcRoots::choose(&nix.dirs(), &nix.path("own")).unwrap();
    let folder = fs::read_dir(nix.dirs().gcroots().join(FOLDER)).unwrap().next().unwrap().unwrap().path();
    let a = nix.one("a");
    let wrong = folder.join(a.base_name());
    symlink("/somewhere/else", &wrong).unwrap();
    symlink(a.as_str(), folder.join("my-own-name")).unwrap();
    fs::write(folder.join("notes"), "").unwrap();
    fs::create_dir(folder.join(nix.one("c").base_name())).unwrap();
    assert_eq!(roots.list().unwrap(), []);
    assert!(roots.add(&a).unwrap());
    assert!(fs::symlink_metadata(&wrong).unwrap().is_file(), "a wrong target is set right");
    assert_eq!(roots.list().unwrap(), [a]);
    assert_eq!(roots.add(&nix.one("c")).unwrap_err().to_string().find("cannot make the root"), Some(0));
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        5,
        "with the file that has the names, and no other is left"
    );
    let foreign = StorePath::parse_str("/elsewhere/00000000000000000000000000000000-x").unwrap();
    assert!(matches!(roots.add(&foreign), Err(RootsError::Foreign(_))));
    assert!(matches!(roots.remove(&foreign), Err(RootsError::Foreign(_))));
}

/// A file has 65,000 names at most on ext4.
#[test]
fn more_roots_than_a_file_can_have_names() {
    const PATHS: usize = 65_100;
    let folder = tempfile::tempdir().unwrap();
    let dirs = StoreDirs::new("/nix/store", folder.path()).unwrap();
    fs::create_dir(dirs.gcroots()).unwrap();
    let roots = Roots::open(&dirs, Path::new("/own")).map(GcRoots::Direct).unwrap();
    let path = |i| StorePath::parse_str(&format!("/nix/store/{i:032}-x")).unwrap();
    let paths: Vec<StorePath> = (0..PATHS).map(path).collect();
    roots.add_all(&paths).unwrap();
    assert!(!roots.add(&paths[0]).unwrap());
    assert!(roots.list().unwrap() == paths);
    assert!(paths.iter().all(|path| roots.remove(path).unwrap()));
    assert_eq!(roots.list().unwrap(), []);
}

/// Symlinks keep paths as well: those are not made again, and are removed.
#[test]
fn symlinks_are_roots_too() {
    let nix = with_gcroots();
    let roots = GcRoots::choose(&nix.dirs(), &nix.path("own")).unwrap();
    let folder = fs::read_dir(nix.dirs().gcroots().join(FOLDER)).unwrap().next().unwrap().unwrap().path();
    let a = nix.one("a");
    symlink(a.as_str(), folder.join(a.base_name())).unwrap();
    assert!(!roots.add(&a).unwrap());
    assert_eq!(roots.list().unwrap(), std::slice::from_ref(&a));
    assert!(roots.remove(&a).unwrap());
    assert_eq!(roots.list().unwrap(), []);
}

/// Two who keep paths of one store do not see each other's roots.
#[test]
fn each_has_roots_of_its_own() {
    let nix = with_gcroots();
    let long = "long/".repeat(60);
    let owners = ["own", "own-x", "own/x", long.as_str()].map(|name| nix.path(name));
    let roots: Vec<GcRoots> =
        owners.iter().map(|owner| GcRoots::choose(&nix.dirs(), owner).unwrap()).collect();
    let (a, fod) = (nix.one("a"), nix.one("fod"));
    roots[0].add(&a).unwrap();
    roots[1].add(&fod).unwrap();
    roots[3].add(&fod).unwrap();
    let lists: Vec<_> = roots.iter().map(|roots| roots.list().unwrap()).collect();
    assert_eq!(lists, [vec![a.clone()], vec![fod.clone()], vec![], vec![fod.clone()]]);
    assert!(roots[3].remove(&fod).unwrap());
    nix.collect_garbage();
    assert!(is_there(&a) && is_there(&fod));
}

const FOLDERS: &str = "NIX_STORE_TEST_FOLDERS";
const KEPT: &str = "NIX_STORE_TEST_KEPT";

/// Makes roots as a user who owns nothing of Nix; prints which kind it found.
#[test]
#[ignore = "the other process of a_service_without_rights_keeps_paths"]
fn root_without_rights() {
    let folder = std::env::var(FOLDERS).unwrap();
    let folder = Path::new(&folder);
    let dirs = StoreDirs::new(folder.join("store"), folder.join("var")).unwrap();
    let roots = GcRoots::choose(&dirs, &folder.join("service/roots")).unwrap();
    let path = StorePath::parse_str(&std::env::var(KEPT).unwrap()).unwrap();
    roots.add(&path).unwrap();
    println!("\nchose {roots}");
    let Some(left) = roots.left_by_the_other_kind(&dirs, &folder.join("service/roots")) else { return };
    match left.remove() {
        Ok(removed) => println!("\nleft {removed} in {}", left.folder().display()),
        Err(error) => println!("\nleft: {error} in {}", left.folder().display()),
    }
}

#[test]
fn a_service_without_rights_keeps_paths() {
    const UID: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let nix = with_gcroots();
    let program = nix.path("rooter");
    test_kit::script::copy(&std::env::current_exe().unwrap(), &program);
    fs::create_dir(nix.path("service")).unwrap();
    chown(nix.path("service"), Some(UID), Some(UID)).unwrap();
    let choose = |path: &StorePath| {
        let mut command = again("gcroots::root_without_rights", Some(&program));
        command.env(FOLDERS, nix.path("")).env(KEPT, path.as_str()).uid(UID).gid(UID);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).map(str::to_owned);
        let chose = line("chose ");
        let chose = chose.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        (chose, line("left").unwrap_or_default())
    };
    let (a, fod) = (nix.one("a"), nix.one("fod"));

    let daemon = nix.daemon();
    let (chose, left) = choose(&a);
    assert!(
        chose.contains("registered with the Nix daemon") && chose.contains("systemd-tmpfiles"),
        "{chose}"
    );
    assert_eq!(left, "", "there is no folder of the other kind");
    drop(daemon);
    let folder = nix.dirs().gcroots().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    chown(&folder, Some(UID), Some(UID)).unwrap();
    let (chose, left) = choose(&fod);
    assert!(chose.starts_with("direct roots"), "{chose}");
    let own = nix.path("service/roots");
    assert_eq!(left, format!(" 1 in {}", own.canonicalize().unwrap_or(own.clone()).display()));
    assert!(!own.exists(), "with its last root it goes");
    nix.collect_garbage();
    assert!(!is_there(&a) && is_there(&fod));

    // The right is lost again: what may not be removed is told, and where.
    for file in [folder.clone(), fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path()] {
        chown(file, Some(0), Some(0)).unwrap();
    }
    let _daemon = nix.daemon();
    let (chose, left) = choose(&fod);
    assert!(chose.contains("registered with the Nix daemon"), "{chose}");
    assert!(
        left.starts_with(": cannot remove the root ") && left.contains(folder.to_str().unwrap()),
        "{left}"
    );
}

/// The other way round, by one who may.
#[test]
fn roots_of_the_other_kind_are_removed_and_nothing_else() {
    let nix = with_gcroots();
    let own = nix.path("own");
    let direct = GcRoots::choose(&nix.dirs(), &own).unwrap();
    let (a, fod) = (nix.one("a"), nix.one("fod"));
    direct.add_all(&[a.clone(), fod.clone()]).unwrap();
    let folder = fs::read_dir(nix.dirs().gcroots().join(FOLDER)).unwrap().next().unwrap().unwrap().path();
    assert!(direct.left_by_the_other_kind(&nix.dirs(), &own).is_none());
    let _daemon = nix.daemon();
    let because = NotHonoured::NotAFolder(own.clone());
    let indirect = GcRoots::Indirect(IndirectRoots::open(&nix.dirs(), &own, because).unwrap());
    indirect.add(&a).unwrap();
    fs::write(folder.join("notes"), "").unwrap();
    let left = indirect.left_by_the_other_kind(&nix.dirs(), &own).unwrap();
    assert_eq!((left.remove().unwrap(), left.folder()), (2, folder.as_path()));
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["notes"]);
    fs::remove_file(folder.join("notes")).unwrap();
    assert_eq!(left.remove().unwrap(), 0);
    assert!(!folder.exists() && indirect.left_by_the_other_kind(&nix.dirs(), &own).is_none());
    nix.collect_garbage();
    assert!(is_there(&a) && !is_there(&fod));
}

/// The file that gets the names is ours, empty and no link, or another takes its place.
#[test]
fn what_poses_as_the_file_of_all_names_is_not_linked() {
    let nix = with_gcroots();
    let roots = GcRoots::choose(&nix.dirs(), &nix.path("own")).unwrap();
    let folder = fs::read_dir(nix.dirs().gcroots().join(FOLDER)).unwrap().next().unwrap().unwrap().path();
    let (file, a) = (folder.join(".root"), nix.one("a"));
    let elsewhere = nix.path("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    let poses: [&dyn Fn(); 4] = [
        &|| symlink(&elsewhere, &file).unwrap(),
        &|| fs::write(&file, "text").unwrap(),
        &|| {
            fs::write(&file, "").unwrap();
            if rustix::process::geteuid().is_root() {
                chown(&file, Some(65_534), Some(65_534)).unwrap();
            }
        },
        &|| fs::create_dir(&file).unwrap(),
    ];
    for pose in poses {
        fs::remove_file(&file).unwrap();
        pose();
        assert!(roots.add(&a).unwrap());
        let root = fs::symlink_metadata(folder.join(a.base_name())).unwrap();
        let ours = rustix::process::geteuid().as_raw();
        assert!(root.is_file() && root.len() == 0 && root.uid() == ours, "{root:?}");
        assert_eq!(fs::symlink_metadata(&elsewhere).unwrap().nlink(), 1);
        assert!(roots.remove(&a).unwrap());
    }
}
