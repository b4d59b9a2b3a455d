//! The `ekaci` program: hands its arguments to the library and exits with its code.

fn main() -> std::process::ExitCode {
    // Inside the sandbox this program is started for its inner half.
    ci_server::sandbox::take_over_if_meant();
    ekaci::run(std::env::args_os())
}
