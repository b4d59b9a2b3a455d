//! The `eka-queue` program: hands its arguments to the library and exits with its code.

fn main() -> std::process::ExitCode {
    eka_queue::run(std::env::args_os())
}
