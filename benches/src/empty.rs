//! The floor of every process. Nothing comes in; exit code 0 goes out, by one system call and without a C library.
//! Whatever a program takes beyond the time of this one is its own.
#![cfg_attr(raw_linux, no_std, no_main)]
#![cfg_attr(
    raw_linux,
    expect(unsafe_code, reason = "without a C library the kernel starts us at a bare symbol")
)]

#[cfg(raw_linux)]
mod raw {
    use core::arch::naked_asm;
    use core::panic::PanicInfo;

    /// Where the kernel jumps to; exit_group(0).
    ///
    /// # Safety
    /// For the kernel alone.
    #[cfg(target_arch = "x86_64")]
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn _start() -> ! {
        naked_asm!("xor edi, edi", "mov eax, 231", "syscall", "ud2")
    }

    /// Where the kernel jumps to; exit_group(0).
    ///
    /// # Safety
    /// For the kernel alone.
    #[cfg(target_arch = "aarch64")]
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn _start() -> ! {
        naked_asm!("mov x0, xzr", "mov x8, #94", "svc #0", "brk #1")
    }

    /// Nothing here panics; the compiler wants it named.
    #[panic_handler]
    fn panicked(_: &PanicInfo<'_>) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }

    /// The compiled `core` names it; without unwinding nobody calls it.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    /// As above.
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        loop {
            core::hint::spin_loop();
        }
    }
}

#[cfg(not(raw_linux))]
fn main() {}
