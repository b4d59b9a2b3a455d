//! What a confined child sees of the machine.

use nix_store::process::Spec;

use super::support::{Stage, both, evaluator};

#[tokio::test]
async fn a_confined_evaluator_works_and_reads_nothing_outside() {
    let Some(stage) = Stage::set().await else { return };
    stage.write("job.nix", r#"derivation { name = "a"; system = "x"; builder = "/bin/sh"; }"#);
    let drv = |outcome: &_| both(outcome).lines().next().unwrap_or_default().to_owned();
    let args = ["-E", "(import ./job.nix).drvPath"];
    let inside = stage.inside(evaluator(args), &stage.confinement()).await;
    assert!(inside.success() && drv(&inside).ends_with("-a.drv\""), "{}", both(&inside));

    let read = format!("builtins.readFile {}", stage.secret().display());
    let unconfined = evaluator(["-E", &read]).env("NIX_REMOTE", "dummy://");
    let outside = nix_store::process::run(&unconfined, std::future::pending()).await.unwrap();
    assert!(both(&outside).contains(&stage.canary), "outside it can be read");
    let inside = stage.inside(evaluator(["-E", &read]), &stage.confinement()).await;
    let said = both(&inside);
    assert!(!inside.success() && !said.contains(&stage.canary), "{said}");
    assert!(said.contains("No such file or directory") || said.contains("does not exist"), "{said}");
}

#[tokio::test]
async fn none_of_our_variables_are_inside_nor_in_any_process_there() {
    let Some(stage) = Stage::set().await else { return };
    let said = stage.shell("cat /proc/*/environ | tr '\\0' '\\n' | sort -u").await;
    let names: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains(&"HOME") && names.contains(&"NIX_REMOTE"), "{said}");
    // A shell sets the first two itself.
    let known = ["PWD", "SHLVL", "_", "HOME", "NIX_REMOTE", "PATH", "TMPDIR"];
    assert!(names.iter().all(|name| known.contains(name)), "{said}");
    let given = Spec::new("/bin/sh")
        .args(["-c", "env"])
        .env("GITHUB_TOKEN", "x")
        .env("HOME", "/root")
        .env("TZ", "UTC");
    let said = both(&stage.inside(given, &stage.confinement()).await);
    assert!(said.contains("TZ=UTC\n") && said.contains("HOME=/tmp/home\n"), "{said}");
    assert!(!said.contains("TOKEN") && !said.contains("/root"), "{said}");
    let ours = std::env::vars().find(|(name, _)| name == "CARGO_MANIFEST_DIR");
    assert!(ours.is_some(), "cargo gives its tests this variable");
}

#[tokio::test]
async fn it_has_namespaces_of_its_own_and_no_rights() {
    let Some(stage) = Stage::set().await else { return };
    let kinds = ["user", "pid", "net", "ipc", "uts", "cgroup", "mnt"];
    let said = stage.shell("id -u; id -G; hostname; cat /proc/self/status; readlink /proc/self/ns/*").await;
    for kind in kinds {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let theirs = said.lines().find(|line| line.starts_with(&format!("{kind}:["))).unwrap();
        assert_ne!(theirs, ours.to_str().unwrap(), "{kind}");
    }
    for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(said.contains(&format!("{line}:\t0000000000000000")), "{said}");
    }
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    assert!(said.starts_with("65534\n65534\nsandbox\n"), "{said}");
}

#[tokio::test]
async fn nothing_can_be_written_but_its_own_tmp() {
    let Some(stage) = Stage::set().await else { return };
    stage.write("kept", "as it was");
    let script = "for f in /x /etc/x /usr/x /dev/x /dev/shm/x /run/x /run/eka/inside ./x ./kept /proc/sys/kernel/hostname; \
                  do (echo no > $f) 2>/dev/null && echo WROTE $f; done; echo yes > /tmp/x && cat /tmp/x; ls /; ls /etc";
    let said = stage.shell(script).await;
    assert!(said.contains("yes") && !said.contains("WROTE"), "{said}");
    assert!(!said.contains("home") && !said.contains("root") && !said.contains("shadow"), "{said}");
    assert_eq!(std::fs::read_to_string(stage.checkout().join("kept")).unwrap(), "as it was");
}

#[tokio::test]
async fn what_proc_and_usr_local_say_of_the_machine_is_empty() {
    let Some(stage) = Stage::set().await else { return };
    let script = "cd /proc; for f in cmdline kallsyms iomem config.gz diskstats interrupts key-users keys modules; do \
                  test -s $f && head -c 1 $f | grep -q . && echo READ $f; done; ls -A /usr/local fs driver; \
                  grep -c ^processor cpuinfo; cat meminfo | head -n 1";
    let said = stage.shell(script).await;
    assert!(!said.contains("READ"), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let names = ["/usr/local:", "driver:", "fs:"];
    let listed: Vec<&str> = lines.iter().copied().filter(|line| !line.is_empty()).take(3).collect();
    assert!(listed.iter().all(|line| names.contains(line)), "{said}");
    assert!(said.contains("MemTotal"), "what programs need is there: {said}");
}

#[tokio::test]
async fn a_login_in_the_checkouts_git_configuration_is_not_there() {
    let Some(stage) = Stage::set().await else { return };
    let login = format!("[http]\n extraheader = {}\n", stage.canary);
    std::fs::create_dir_all(stage.checkout().join(".git/modules/sub")).unwrap();
    for file in [".git/config", ".git/config.worktree", ".git/modules/sub/config"] {
        stage.write(file, &login);
    }
    stage.write(".git/HEAD", "ref: refs/heads/main\n");
    let said = stage.shell("cat .git/HEAD .git/config .git/config.worktree; ls -A .git/modules").await;
    assert_eq!(said, "ref: refs/heads/main\n[exit code 0]");
}

#[tokio::test]
async fn a_setting_a_program_or_a_folder_that_is_not_for_it_is_an_error() {
    let Some(stage) = Stage::set().await else { return };
    let refused =
        |spec: Spec, confinement| stage.sandbox.confine(&spec, &confinement).unwrap_err().to_string();
    let shell = || Spec::new("/bin/sh");
    let tokens = shell().env("NIX_CONFIG", "cores = 1\naccess-tokens = github.com=x\n");
    assert!(refused(tokens, stage.confinement()).starts_with("NIX_CONFIG sets access-tokens"));
    let login = shell().env("NIX_CONFIG", "substituters = https://user:hunter2@cache.example/\n");
    assert!(refused(login, stage.confinement()).starts_with("NIX_CONFIG has a URL with a login"));
    let reading = |path: std::path::PathBuf| {
        let mut confinement = stage.confinement();
        confinement.reads.push(path);
        refused(shell(), confinement)
    };
    let link = stage.folder.path().join("link");
    std::os::unix::fs::symlink("/", &link).unwrap();
    for much in
        ["/", "/etc", "/tmp", "/proc/1", "/sys/kernel", "/dev/shm"].map(Into::into).into_iter().chain([link])
    {
        assert!(reading(much.clone()).contains("much more than code"), "{}", much.display());
    }
    assert!(reading(stage.checkout().join("../secret")).contains("not absolute and plain"));
    assert!(reading("/nonexistent".into()).contains("look at /nonexistent"));
    stage.write("tool", "#!/bin/sh\n");
    super::support::open(&stage.checkout().join("tool"), 0o755);
    assert!(refused(Spec::new(stage.checkout().join("tool")), stage.confinement()).contains("does not show"));
}

#[tokio::test]
async fn a_program_behind_a_link_is_started_by_its_own_name() {
    let Some(stage) = Stage::set().await else { return };
    // As a profile of Nix: a link to a folder of links.
    let profile = stage.folder.path().join("profile");
    std::os::unix::fs::symlink("/usr/bin", &profile).unwrap();
    let spec = Spec::new(profile.join("nix-instantiate")).arg("--version");
    let said = both(&stage.inside(spec, &stage.confinement()).await);
    assert!(said.starts_with("nix-instantiate (Nix) "), "{said}");
}
