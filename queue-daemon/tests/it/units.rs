//! The systemd units, and what `make install` puts where. In: `docs/systemd`, the NixOS modules' unit, and
//! `systemd-analyze`, which needs no running systemd. Out: a failure for each word of it about our units, for an exposure
//! above our figure, and for files that are not installed or not taken away again. Leaves out the services at work.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::nixos::{evaluated, root};
use crate::world::{Said, hook_program, queue_program, run, tool};

/// The most exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE_MAX: &str = "13";
const UNITS: [&str; 3] = ["eka-queue.service", "eka-queue.socket", "eka-queue-control.socket"];

/// The plain units in a folder, with a program that is there and this change to the service.
fn units(folder: &Path, change: impl FnOnce(String) -> String) -> Vec<PathBuf> {
    let text = |name: &str| fs::read_to_string(root().join("docs/systemd").join(name)).unwrap();
    let program = queue_program().to_str().unwrap();
    let service = text(UNITS[0]).replace("/usr/local/bin/eka-queue", program);
    fs::write(folder.join(UNITS[0]), change(service)).unwrap();
    for name in &UNITS[1..] {
        fs::write(folder.join(name), text(name)).unwrap();
    }
    UNITS.iter().map(|name| folder.join(name)).collect()
}

/// It exits with 0 also when it has something to say.
fn verified(units: &[PathBuf]) -> Said {
    run(tool("systemd-analyze").arg("verify").args(units), b"")
}

fn exposure(unit: &Path) -> Said {
    let mut command = tool("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]).arg(unit);
    run(&mut command, b"")
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let said = verified(&units(folder.path(), |text| text));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    let wrong = verified(&units(folder.path(), |text| text.replace("RestartSec=", "RestartSecs=")));
    assert!(wrong.err.contains("RestartSecs"), "it does look: {wrong:?}");
}

#[test]
fn the_exposure_is_within_our_figure() {
    let folder = tempfile::tempdir().unwrap();
    let plain = exposure(&units(folder.path(), |text| text)[0]);
    assert_eq!(plain.code, 0, "{plain:?}");
    let open = exposure(&units(folder.path(), |text| text.replace("PrivateDevices=yes\n", ""))[0]);
    assert_eq!(open.code, 1, "it does look: {open:?}");
    for attribute in ["service", "serviceWithPrograms", "serviceOfNobody"] {
        let unit = folder.path().join(format!("{attribute}.service"));
        let text = format!("[Service]\n{}\n", lines(attribute).join("\n"));
        fs::write(&unit, text.replace("/nix/store/00000000000000000000000000000000-eka-ci", "/usr")).unwrap();
        let said = exposure(&unit);
        assert_eq!(said.code, 0, "{text}\n{said:?}");
    }
}

/// Lines of `[Service]` that the modules make.
fn lines(attribute: &str) -> Vec<String> {
    let lines = evaluated(attribute);
    lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_plain_unit_and_the_modules_forbid_the_same() {
    let text = fs::read_to_string(root().join("docs/systemd").join(UNITS[0])).unwrap();
    let (_, text) = text.split_once("# What it may not do").unwrap();
    let (text, _) = text.split_once("\n[Install]").unwrap();
    let words = |line: &str| -> Vec<String> {
        // A list may be one line or several.
        let (key, value) = line.split_once('=').unwrap();
        if key == "RestrictAddressFamilies" {
            return value.split(' ').map(|word| format!("{key}={word}")).collect();
        }
        vec![line.to_owned()]
    };
    let plain: BTreeSet<String> = text
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .flat_map(words)
        .collect();
    let modules: BTreeSet<String> = lines("hardening").into_iter().collect();
    assert_eq!(plain, modules, "left: docs/systemd, right: nixos/modules/queue-hardening.nix");
}

#[test]
fn the_sockets_and_folders_are_those_of_the_modules() {
    let text = |name: &str| fs::read_to_string(root().join("docs/systemd").join(name)).unwrap();
    let of_modules = |attribute: &str| lines(attribute).into_iter().collect::<BTreeSet<String>>();
    for name in ["eka-queue", "eka-queue-control"] {
        let text = text(&format!("{name}.socket"));
        let (_, text) = text.split_once("[Socket]\n").unwrap();
        let (text, _) = text.split_once("\n[Install]").unwrap();
        let plain: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(plain, of_modules(&format!("sockets.{name}")), "left: docs/systemd, right: nixos/modules");
    }
    let text = text("tmpfiles.conf");
    let plain: BTreeSet<String> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(plain, of_modules("tmpfiles"), "left: docs/systemd, right: nixos/modules");
}

/// What systemd's own programs make of the two files, below a folder.
#[test]
fn the_user_and_its_folders_are_made_as_the_daemon_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path();
    let owner = fs::metadata(below).unwrap().uid();
    if owner != 0 {
        println!("skipped: only root can make users and give folders away");
        return;
    }
    assert_eq!(install(&[], below, "/usr").code, 0);
    fs::create_dir_all(below.join("etc")).unwrap();
    let at = format!("--root={}", below.display());
    for (program, words) in
        [("systemd-sysusers", vec![]), ("systemd-tmpfiles", vec!["--create", "eka-queue.conf"])]
    {
        let said = run(tool(program).arg(&at).args(words), b"");
        assert_eq!(said.code, 0, "{program}: {said:?}");
    }
    let users = fs::read_to_string(below.join("etc/passwd")).unwrap();
    let user = users.lines().find(|line| line.starts_with("eka-queue:")).unwrap();
    let uid: u32 = user.split(':').nth(2).unwrap().parse().unwrap();
    assert!(uid != 0, "{user}");
    for (name, mode) in [
        ("nix/var/nix/gcroots/eka-queue", 0o755),
        ("var/lib/eka-queue", 0o750),
        ("var/lib/eka-queue/spool", 0o3770),
    ] {
        let meta = fs::metadata(below.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (uid, mode), "{name}");
    }
}

/// What `make install` and `make uninstall` run, below this folder.
fn install(words: &[&str], below: &Path, prefix: &str) -> Said {
    for program in [hook_program(), queue_program().with_file_name("ekaci")] {
        assert!(program.exists(), "{} is not built: test the workspace", program.display());
    }
    let mut command = tool(root().join("scripts/install"));
    command.args(words).env("DESTDIR", below).env("PREFIX", prefix);
    run(command.env("BUILT", queue_program().parent().unwrap()), b"")
}

/// Every file below a folder, without the folder.
fn files(below: &Path) -> BTreeSet<String> {
    let said = run(tool("find").arg(below).args(["-type", "f", "-printf", "/%P %m\n"]), b"");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_installed_is_complete_and_goes_away_again() {
    let folder = tempfile::tempdir().unwrap();
    for (prefix, system) in [("/usr", "/usr/lib"), ("/usr/local", "/usr/local/lib"), ("/opt/eka", "/etc")] {
        let below = folder.path().join(prefix.replace('/', "-"));
        fs::create_dir(&below).unwrap();
        fs::create_dir_all(below.join("etc/ekaci")).unwrap();
        fs::write(below.join("etc/ekaci/ekaci.toml"), "").unwrap();
        let said = install(&[], &below, prefix);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        let there = files(&below);
        for file in [
            format!("{prefix}/bin/eka-queue 755"),
            format!("{prefix}/bin/eka-hook 755"),
            format!("{prefix}/bin/ekaci 755"),
            format!("{system}/sysusers.d/eka-queue.conf 644"),
            format!("{system}/tmpfiles.d/eka-queue.conf 644"),
            format!("{prefix}/share/man/man1/eka-queue.1 644"),
            format!("{prefix}/share/man/man1/eka-queue-push.1 644"),
            format!("{prefix}/share/man/man1/ekaci.1 644"),
            format!("{prefix}/share/man/man1/ekaci-run.1 644"),
            format!("{prefix}/share/bash-completion/completions/eka-queue 644"),
            format!("{prefix}/share/bash-completion/completions/ekaci 644"),
            format!("{prefix}/share/zsh/site-functions/_eka-queue 644"),
            format!("{prefix}/share/zsh/site-functions/_ekaci 644"),
            format!("{prefix}/share/fish/vendor_completions.d/eka-queue.fish 644"),
            format!("{prefix}/share/fish/vendor_completions.d/ekaci.fish 644"),
            format!("{prefix}/share/doc/eka-queue/docs/operations.md 644"),
            format!("{prefix}/share/doc/eka-queue/docs/howto/migrate/index.md 644"),
            format!("{prefix}/share/doc/eka-queue/docs/howto/run.md 644"),
            format!("{prefix}/share/doc/eka-queue/docs/repository-config.md 644"),
            format!("{prefix}/share/eka-queue/eka-queue-dashboard.json 644"),
            format!("{prefix}/share/eka-queue/eka-queue-alerts.yaml 644"),
        ] {
            assert!(there.contains(&file), "{file} is not among {there:#?}");
        }
        let service =
            fs::read_to_string(below.join(&format!("{system}/systemd/system/eka-queue.service")[1..]));
        assert!(service.unwrap().contains(&format!("\nExecStart={prefix}/bin/eka-queue serve ")));

        assert_eq!(install(&[], &below, prefix).code, 0, "a second time is an upgrade");
        assert_eq!(files(&below), there);
        let said = install(&["uninstall"], &below, prefix);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert_eq!(
            files(&below),
            BTreeSet::from(["/etc/ekaci/ekaci.toml 644".to_owned()]),
            "not what is yours"
        );
    }
    let relative = install(&[], folder.path(), "opt");
    assert!(relative.code != 0 && relative.err.contains("no absolute path"), "{relative:?}");
}

#[test]
fn an_older_version_goes_away_too_and_nothing_that_only_looks_like_ours() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path();
    assert_eq!(install(&[], below, "/usr").code, 0);
    let path = |name: &str| below.join(&name[1..]);
    // A version without `ekaci`, and with a subcommand that there is no more.
    for line in files(below) {
        let (name, _) = line.rsplit_once(' ').unwrap();
        if name.contains("ekaci") {
            fs::remove_file(path(name)).unwrap();
        }
    }
    fs::write(path("/usr/share/man/man1/eka-queue-of-before.1"), "").unwrap();
    let others = [
        "/usr/bin/ekaci-of-mine",
        "/usr/share/man/man1/ekacino.1",
        "/usr/share/man/man1/eka-queues.1",
        "/usr/share/bash-completion/completions/ekaci-of-mine",
    ];
    for name in others {
        fs::write(path(name), "").unwrap();
    }
    let said = install(&["uninstall"], below, "/usr");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let left: BTreeSet<String> = others.iter().map(|name| format!("{name} 644")).collect();
    assert_eq!(files(below), left);
}

#[test]
fn the_hook_is_not_taken_away_while_nix_calls_it() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("hooked");
    fs::create_dir_all(below.join("etc/nix")).unwrap();
    assert_eq!(install(&[], &below, "/usr").code, 0);
    for (file, line) in [
        ("nix.conf", "post-build-hook = /usr/bin/eka-hook"),
        ("nix.conf", "  post-build-hook\t=\t/usr/bin/eka-hook # ours"),
        ("nix.custom.conf", "post-build-hook=/usr/bin/eka-hook"),
        ("other.conf", "cores = 2\nextra-post-build-hook   =  /usr/bin/eka-hook"),
    ] {
        let file = below.join("etc/nix").join(file);
        fs::write(&file, format!("{line}\n")).unwrap();
        let there = files(&below);
        let said = install(&["uninstall"], &below, "/usr");
        let named = said.err.contains(&format!("{} still names", file.display()));
        assert!(
            said.code != 0 && named && said.err.contains("as post-build-hook: remove that line"),
            "{line}: {said:?}"
        );
        assert_eq!(files(&below), there, "Nix would stop every build");
        fs::remove_file(&file).unwrap();
    }
    let another = "# post-build-hook = /usr/bin/eka-hook\npost-build-hook = /usr/bin/eka-hook-of-mine\n";
    fs::write(below.join("etc/nix/nix.conf"), another).unwrap();
    assert_eq!(install(&["uninstall"], &below, "/usr").code, 0);
}
