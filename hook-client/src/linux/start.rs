//! From the kernel to [`eka_hook::run`] and back. In comes the stack as the kernel left it, with arguments
//! and environment on it; out goes an exit code. There is no unwinder: a panic ends in the panic handler.
#![expect(
    unsafe_code,
    reason = "the kernel gives a stack pointer, and the linker wants symbols of fixed names"
)]

use core::arch::naked_asm;

use super::call;
use super::memory::strlen;
use super::sys::Linux;

/// Where the kernel jumps to. The stack pointer points at the number of arguments.
///
/// # Safety
/// For the kernel alone.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {begin}", "ud2", begin = sym begin)
}

/// Where the kernel jumps to. The stack pointer points at the number of arguments.
///
/// # Safety
/// For the kernel alone.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!("mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {begin}", "brk #1", begin = sym begin)
}

/// Runs the program on what the kernel left at `stack`: argc, argv, a null, the environment, a null.
///
/// # Safety
/// `stack` is the stack pointer of a new process.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel puts the number of arguments first, and behind it as many pointers and a null.
    let (argv, envp) = unsafe { (stack.add(1), stack.add(1 + *stack + 1)) };
    // SAFETY: both lists end with a null, point to strings that end with a zero byte, and stay as they are
    // until the process ends: nothing here writes to them.
    let given = unsafe { (Strings::new(argv.cast()), Strings::new(envp.cast())) };
    call::ignore_deadly_signals();
    call::exit(eka_hook::run(&Linux { args: given.0, env: given.1 }))
}

/// A list of strings that the kernel gave to the process.
#[derive(Clone, Copy)]
pub(super) struct Strings(*const *const u8);

impl Strings {
    /// # Safety
    /// `list` ends with a null pointer, each entry before it with a zero byte, and all of it lives and stays
    /// the same until the process ends.
    const unsafe fn new(list: *const *const u8) -> Self {
        Self(list)
    }

    /// The string at `index`, if the list goes so far.
    pub(super) fn get(self, index: usize) -> Option<&'static [u8]> {
        self.pointers().nth(index).map(|string| text(string, 0))
    }

    /// What follows `name=` in the first string that begins so.
    pub(super) fn value_of(self, name: &[u8]) -> Option<&'static [u8]> {
        self.pointers().find(|string| begins(*string, name)).map(|string| text(string, name.len() + 1))
    }

    fn pointers(self) -> impl Iterator<Item = *const u8> {
        let mut next = self.0;
        core::iter::from_fn(move || {
            // SAFETY: `next` is inside of the list or at its null, see `new`; past the null it never goes.
            let string = unsafe { *next };
            if string.is_null() {
                return None;
            }
            // SAFETY: this entry was not the null, so there is one behind it.
            next = unsafe { next.add(1) };
            Some(string)
        })
    }
}

/// Whether the string is `name`, an equals sign, and anything.
fn begins(string: *const u8, name: &[u8]) -> bool {
    // SAFETY: a byte is read only when all before it were equal to `name`'s or the sign, none of which is the
    // zero that ends the string.
    let at = |index| unsafe { *string.add(index) };
    name.iter().enumerate().all(|(index, byte)| *byte != 0 && at(index) == *byte) && at(name.len()) == b'='
}

/// The string without its first `skip` bytes, which are known to be in it.
fn text(string: *const u8, skip: usize) -> &'static [u8] {
    // SAFETY: the kernel ends its strings with a zero byte, they live as long as the process, and `skip` is
    // inside.
    unsafe {
        let rest = string.add(skip);
        core::slice::from_raw_parts(rest, strlen(rest))
    }
}

/// The compiled `core` names it; without unwinding nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    call::exit(eka_hook::panic_exit_code())
}
