//! What the fuzz targets check, on their corpus, mutations of it, and large inputs (`test_kit::mutate`).

use test_kit::mutate::{Shape, play};

#[expect(unreachable_pub, reason = "the fuzz targets reach them from outside")]
#[path = "../../../../fuzz/src/checks/nix_store.rs"]
mod checks;

#[test]
fn what_commands_say() {
    play(
        "copy_stderr",
        &[
            Shape { part: "\x1b[", ..Shape::default() },
            Shape { part: "\x1b]\n", ..Shape::default() },
            Shape { part: "://a@", ..Shape::default() },
            Shape { part: "://u:p@h/", ..Shape::default() },
            Shape { part: "path 'a' is not valid ", ..Shape::default() },
            Shape { part: "path 'a' is not valid\n", ..Shape::default() },
            Shape { part: "error: {n}\n", ..Shape::default() },
            Shape { part: "\u{1}", ..Shape::default() },
        ],
        checks::copy_stderr,
    );
}

#[test]
fn store_urls() {
    play("store_url", &[Shape { head: "file:///c?", part: "a&", tail: "" }], checks::store_url);
}

#[test]
fn what_a_daemon_says() {
    let greeting = "oixd\0\0\0\0\x15\x01\0\0\0\0\0\0";
    play(
        "nix_daemon",
        &[
            // Empty lines of log.
            Shape { head: greeting, part: "gmlo\0\0\0\0\0\0\0\0\0\0\0\0", tail: "" },
            // Lines that claim to have 1 MiB each.
            Shape { head: greeting, part: "gmlo\0\0\0\0\0\0\x10\0\0\0\0\0", tail: "" },
        ],
        checks::nix_daemon,
    );
}

#[test]
fn what_a_daemon_answers() {
    // Lists of 18,000 paths, of 48 bytes each.
    let path = "0\0\0\0\0\0\0\0/nix/store/000000000000000000000000000{n}-abcd";
    let greeting = "oixd\0\0\0\0\x22\x01\0\0\0\0\0\0\x05\0\0\0\0\0\0\x002.8.0\0\0\0stla\0\0\0\0stla\0\0\0\0";
    let list = "PF\0\0\0\0\0\0";
    let all = format!("\x06{greeting}{list}").leak();
    let (one, empty) = ("\x01\0\0\0\0\0\0\0", "\0\0\0\0\0\0\0\0");
    let info = format!("{one}{empty}@\0\0\0\0\0\0\0{}", "0".repeat(64));
    let referring = format!("\x03{greeting}{info}{list}").leak();
    let chain = format!("\x03{greeting}").leak();
    let link = format!("{info}{one}{path}{}stla\0\0\0\0", empty.repeat(5)).leak();
    play(
        "nix_worker",
        &[
            Shape { head: all, part: path, tail: "" },
            Shape { head: referring, part: path, tail: "" },
            Shape { head: chain, part: link, tail: "" },
        ],
        checks::nix_worker,
    );
}

#[test]
fn what_another_machine_says() {
    let path = "0\0\0\0\0\0\0\0/nix/store/000000000000000000000000000{n}-abcd";
    let greeting = "oixd\0\0\0\0\x22\x01\0\0\0\0\0\0\x05\0\0\0\0\0\0\x002.8.0\0\0\0stla\0\0\0\0";
    let valid = format!("\x01{greeting}stla\0\0\0\0PF\0\0\0\0\0\0").leak();
    let lines = format!("\x05{greeting}").leak();
    play(
        "far_nix",
        &[
            Shape { head: valid, part: path, tail: "" },
            Shape { head: lines, part: "gmlo\0\0\0\0\0\0\0\0\0\0\0\0", tail: "" },
            Shape { head: "\0", part: "Welcome ", tail: "" },
        ],
        checks::far_nix,
    );
}

#[test]
fn packed_logs() {
    play("build_log", &[Shape { head: "BZh91AY&SY", part: "\0", tail: "" }], checks::build_log);
}
