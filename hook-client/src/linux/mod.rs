//! `eka-hook` without a C library. `start` gets the process from the kernel, `call` asks the kernel for
//! things,
//! `memory` holds what compilers expect every program to have; all `unsafe` is in these three, and `sys` puts
//! them behind the door the library knows.

mod call;
mod memory;
mod start;
mod sys;

use core::fmt::Write as _;
use core::panic::PanicInfo;

/// A mistake of ours: say so, and let the build go on unless the user asked for strictness.
#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    // Nobody listens on standard error, then; nothing else can be done here.
    let _ = writeln!(StandardError, "eka-hook: a mistake in eka-hook, please report it: {info}");
    call::exit(eka_hook::panic_exit_code())
}

struct StandardError;

impl core::fmt::Write for StandardError {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        call::write(2, text.as_bytes()).map(|_| ()).map_err(|_| core::fmt::Error)
    }
}
