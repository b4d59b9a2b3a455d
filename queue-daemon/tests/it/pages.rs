//! The pages that people copy from. In: the fenced blocks of README.md and of everything below docs/. Out: a failure for
//! each configuration they print that the daemon refuses; for other tests, the blocks themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use test_kit::proc::Guard;

use crate::nixos::root;
use crate::world::{Said, World, hook_program, queue_program, run, tool};

/// The longest that commands of a page may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    /// The number of its first line in the page.
    pub(crate) line: usize,
    /// What stands behind the opening fence, such as `toml`.
    pub(crate) info: String,
    pub(crate) text: String,
}

/// README.md and every page below docs/, by their paths in the repository.
pub(crate) fn all() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root().join("README.md"), root().join("docs")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "md") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

/// A page, by its path in the repository.
pub(crate) fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced blocks of a page, in order; those of a list without their indentation.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(Block, &str)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        match (&mut open, rest.strip_prefix("```")) {
            (None, Some(info)) => {
                let block = Block { line: number + 1, info: info.trim().to_owned(), text: String::new() };
                open = Some((block, indent));
            }
            (Some(_), Some(_)) => found.extend(open.take().map(|(block, _)| block)),
            (Some((block, indent)), None) => {
                block.text.extend([line.strip_prefix(*indent).unwrap_or(line), "\n"]);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    found
}

/// The blocks between `<!-- name -->` and `<!-- /name -->`.
pub(crate) fn marked(page: &str, name: &str) -> Vec<Block> {
    let (_, rest) = page.split_once(&format!("<!-- {name} -->")).unwrap_or_else(|| panic!("no mark {name}"));
    let (part, _) =
        rest.split_once(&format!("<!-- /{name} -->")).unwrap_or_else(|| panic!("no end of {name}"));
    blocks(part)
}

/// The one script between the marks.
pub(crate) fn script(page: &str, name: &str) -> String {
    let mut blocks = marked(page, name);
    assert!(blocks.len() == 1 && blocks[0].info == "sh", "{name}: {blocks:?}");
    blocks.remove(0).text
}

/// The commands of a script: comments left out, continued lines, quoted ones and here-documents joined.
pub(crate) fn commands(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = script.lines().filter(|line| !line.trim().is_empty());
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            continue;
        }
        let mut command = line.to_owned();
        // Continued by a backslash, or within quotes.
        while command.ends_with('\\') || command.matches('\'').count() % 2 == 1 {
            command.extend(["\n", lines.next().unwrap()]);
        }
        if let Some((_, word)) = line.split_once("<<") {
            let end = word.trim_matches('\'');
            command.extend(lines.by_ref().take_while(|line| *line != end).flat_map(|line| ["\n", line]));
        }
        found.push(command);
    }
    found
}

/// Runs a script in a folder of the world, as someone who has the programs on the `PATH` and no settings.
pub(crate) fn type_in(world: &World, folder: &Path, script: &str, change: impl FnOnce(&mut Command)) -> Said {
    fs::create_dir_all(folder).unwrap();
    fs::write(world.path("script.sh"), script).unwrap();
    let programs = [queue_program().to_owned(), hook_program()];
    let programs = programs.iter().map(|program| program.parent().unwrap().to_owned());
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(programs.chain(std::env::split_paths(&path))).unwrap();
    let mut shell = world.tool("sh");
    shell.arg(world.path("script.sh")).current_dir(folder).env("PATH", path).env_remove("CACHE");
    // Files, and not pipes: a daemon that a script has put into the background holds them open.
    let open = |name: &str| fs::File::create(world.path(name)).unwrap();
    shell.stdin(Stdio::null()).stdout(open("script.out")).stderr(open("script.err"));
    change(&mut shell);
    let code = Guard::spawn(&mut shell).unwrap().wait(PATIENCE).code().unwrap_or(-1);
    let read = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    Said { code, out: read("script.out"), err: read("script.err"), took: Duration::ZERO }
}

/// Configurations that a script writes: here-documents of the word TOML in which nothing is expanded.
fn written_by(script: &str) -> Vec<String> {
    let document = |command: String| Some(command.split_once("<<'TOML'\n")?.1.to_owned());
    commands(script).into_iter().filter_map(document).collect()
}

/// What `check-config` says of a text.
fn check(text: &str) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ekaci.toml");
    fs::write(&file, text).unwrap();
    let mut check = tool(queue_program());
    run(check.args(["check-config", "--file-only", "--config-file"]).arg(&file), b"")
}

/// What a fragment needs around it to be a file: keys without a section, and parts of a cache, are said of one.
fn completed(text: &str) -> String {
    let first =
        text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    if first.starts_with('[') && !first.starts_with("[caches.") {
        return text.to_owned();
    }
    format!("[[caches]]\nid = \"x\"\ncache_type = \"nix-copy\"\ndestination = \"s3://bucket\"\n{text}")
}

#[test]
fn every_configuration_that_is_printed_is_good() {
    let mut checked = 0;
    for (name, text) in all() {
        for block in blocks(&text) {
            let texts = match block.info.as_str() {
                "toml" => vec![completed(&block.text)],
                "sh" => written_by(&block.text),
                _ => continue,
            };
            for text in texts {
                let said = check(&text);
                assert_eq!(said.code, 0, "{name}:{}:\n{text}\n{}", block.line, said.out);
                checked += 1;
            }
        }
    }
    assert!(checked > 25, "the pages print configurations: {checked}");
}

/// The test above does look.
#[test]
fn what_is_wrong_in_a_page_is_seen() {
    let page = "a\n  ```toml\n  x = 1\n  ```\nb\n```sh\ncat > f <<'TOML'\n[queue]\nTOML\nls \\\n  -l\n# don't\necho 'a\nb'\n```\n";
    let found = blocks(page);
    assert_eq!((found[0].line, found[0].info.as_str(), found[0].text.as_str()), (3, "toml", "x = 1\n"));
    assert!(completed(&found[0].text).contains("destination") && completed("[queue]\n") == "[queue]\n");
    assert_eq!(written_by(&found[1].text), ["[queue]"]);
    assert_eq!(commands(&found[1].text), ["cat > f <<'TOML'\n[queue]", "ls \\\n  -l", "echo 'a\nb'"]);
    let known = ["toml", "nix", "yaml", "sh", "text", "json", "console", "ini"];
    for (name, text) in all() {
        for block in blocks(&text) {
            assert!(
                known.contains(&block.info.as_str()),
                "{name}:{}: a block of `{}`",
                block.line,
                block.info
            );
        }
    }
    assert!(Path::new(&root().join("docs/howto")).is_dir());
}
