//! The inner half of the sandbox as a program of its own, for the tests of this crate; `ekaci` is its own.

fn main() {
    ci_server::sandbox::take_over_if_meant();
    eprintln!("eka-inside is started by the sandbox alone");
    std::process::exit(ci_server::sandbox::INSIDE_FAILED);
}
