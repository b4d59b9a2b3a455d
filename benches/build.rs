//! In comes the target cargo builds for, out go the cfg `raw_linux` and the linker's arguments of `bench-empty`: no
//! start files and no libc, as `eka-hook` is built. Every other program and target is left alone.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(raw_linux)");
    let target = |part: &str| env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    let known = matches!(target("ARCH").as_str(), "x86_64" | "aarch64");
    if known && target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-cfg=raw_linux");
        for argument in ["-nostartfiles", "-nodefaultlibs", "-static", "-no-pie"] {
            println!("cargo::rustc-link-arg-bin=bench-empty={argument}");
        }
        if env::var("PROFILE").as_deref() == Ok("release") {
            println!("cargo::rustc-link-arg-bin=bench-empty=-Wl,--strip-all");
        }
    }
}
