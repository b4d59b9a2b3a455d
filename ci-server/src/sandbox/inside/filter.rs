//! Which system calls a confined child may not make, as a program for the kernel's filter. In: nothing. Out: the
//! instructions. Calls by which the kernel's own walls are tried most often and which no evaluator needs: namespaces and
//! mounts, looking into other processes, keys, programs for the kernel, asynchronous rings, modules, clocks, and sockets of
//! other families than Unix and the internet. All others are allowed; a call that is not ends with `EPERM`.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter,
};

/// Where the call's number, the machine and the low half of an argument stand in what the filter looks at.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: [u32; 2] = [16, 24];

/// The machine the numbers are of, as the kernel's audit names it.
#[cfg(target_arch = "x86_64")]
const OURS: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const OURS: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OURS: Option<u32> = None;

/// Numbers from here on are those of x32, another spelling of the same calls.
#[cfg(target_arch = "x86_64")]
const OTHER_SPELLING: u32 = 0x4000_0000;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
/// For a call whose arguments the filter cannot see: its callers then use the older one.
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Never allowed.
const DENIED: [libc::c_long; 56] = [
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_vhangup,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_set_mempolicy,
    libc::SYS_personality,
    libc::SYS_nfsservctl,
];
/// The flags of `clone` that make namespaces.
const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;
/// Families of sockets that are allowed. The C library asks netlink which addresses the machine has.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Requests to a terminal that put words into its input.
const TERMINAL: [u32; 2] = [0x5412, 0x541c];

/// The program; `None` on machines whose numbers are not known here.
pub(super) fn program() -> Option<Vec<sock_filter>> {
    // A jump of 0 goes on with the next instruction, 1 leaves it out.
    let mut program = vec![load(MACHINE), when(BPF_JEQ, OURS?, 1, 0), ret(KILL), load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    program.extend([when(BPF_JGE, OTHER_SPELLING, 0, 1), ret(DENY)]);
    for call in DENIED {
        program.extend([when(BPF_JEQ, number(call), 0, 1), ret(DENY)]);
    }
    program.extend([when(BPF_JEQ, number(libc::SYS_clone3), 0, 1), ret(ABSENT)]);
    // clone: its first argument with none of the flags.
    program.extend([
        when(BPF_JEQ, number(libc::SYS_clone), 0, 5),
        load(ARGUMENTS[0]),
        instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, NEW_NAMESPACES.cast_unsigned()),
        when(BPF_JEQ, 0, 1, 0),
        ret(DENY),
        ret(ALLOW),
    ]);
    // ioctl: its second argument is none of those.
    program.extend([
        when(BPF_JEQ, number(libc::SYS_ioctl), 0, 5),
        load(ARGUMENTS[1]),
        when(BPF_JEQ, TERMINAL[0], 1, 0),
        when(BPF_JEQ, TERMINAL[1], 0, 1),
        ret(DENY),
        ret(ALLOW),
    ]);
    // socket: its first argument is one of those.
    program.extend([when(BPF_JEQ, number(libc::SYS_socket), 0, 6), load(ARGUMENTS[0])]);
    for (index, family) in (0_u8..).zip(FAMILIES) {
        program.push(when(BPF_JEQ, family.cast_unsigned(), 4 - index, 0));
    }
    program.extend([ret(DENY), ret(ALLOW)]);
    Some(program)
}

fn load(at: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, at)
}

fn ret(answer: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, answer)
}

/// Goes `yes` further when what is loaded compares with `value` so, `no` further when not.
fn when(comparison: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_K | comparison, yes, no, value)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "codes of instructions have 16 bits")]
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}

/// A call's number has 32 bits where the filter looks.
fn number(call: libc::c_long) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of calls are small and positive"
    )]
    let number = call as u32;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer.
    fn judge(program: &[sock_filter], machine: u32, call: libc::c_long, arguments: [u32; 2]) -> u32 {
        let mut value = 0;
        let mut at = 0;
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match u32::from(code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    value = match k {
                        NUMBER => number(call),
                        MACHINE => machine,
                        16 => arguments[0],
                        24 => arguments[1],
                        other => panic!("looks at {other}"),
                    };
                }
                code if code == BPF_RET | BPF_K => return k,
                code if code == BPF_ALU | BPF_AND | BPF_K => value &= k,
                code if code == BPF_JMP | BPF_K | BPF_JEQ => at += jump(value == k),
                code if code == BPF_JMP | BPF_K | BPF_JGE => at += jump(value >= k),
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[test]
    fn each_call_is_judged() {
        let Some(program) = program() else { return };
        let machine = OURS.unwrap();
        let ours = |call, first, second| judge(&program, machine, call, [first, second]);
        assert!(program.len() < 4096, "more than the kernel takes");
        assert_eq!(judge(&program, machine + 1, libc::SYS_read, [0, 0]), KILL);
        for call in DENIED {
            assert_eq!(ours(call, 0, 0), DENY, "{call}");
        }
        for call in [libc::SYS_read, libc::SYS_openat, libc::SYS_execve, libc::SYS_connect, libc::SYS_mmap] {
            assert_eq!(ours(call, 0, 0), ALLOW, "{call}");
        }
        assert_eq!(ours(libc::SYS_clone3, 0, 0), ABSENT);
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD).cast_unsigned();
        assert_eq!(ours(libc::SYS_clone, thread, 0), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS] {
            assert_eq!(ours(libc::SYS_clone, thread | flag.cast_unsigned(), 0), DENY);
        }
        for family in 0..50 {
            let wanted = if [1, 2, 10, 16].contains(&family) { ALLOW } else { DENY };
            assert_eq!(ours(libc::SYS_socket, family, 0), wanted, "{family}");
        }
        for request in TERMINAL {
            assert_eq!(ours(libc::SYS_ioctl, 0, request), DENY);
        }
        assert_eq!(ours(libc::SYS_ioctl, 0, 0x5401), ALLOW);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn another_spelling_of_a_call_is_no_way_around() {
        let program = program().unwrap();
        let spelled = libc::SYS_mount | libc::c_long::from(OTHER_SPELLING);
        assert_eq!(judge(&program, OURS.unwrap(), spelled, [0, 0]), DENY);
    }
}
