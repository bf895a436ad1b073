//! The system calls that are left: what reads, writes, computes and waits. What starts programs,
//! reaches other processes or the network, or changes the system is answered with "not permitted".

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::edges;

/// Files: to open (what Landlock leaves), read, write, name, and ask about.
const FILES: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_memfd_create,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
];

/// What opens files, and which argument tells whether they are made.
#[cfg(target_arch = "x86_64")]
const OPENING: &[(i64, u8)] = &[(libc::SYS_open, 1), (libc::SYS_openat, 2)];
#[cfg(not(target_arch = "x86_64"))]
const OPENING: &[(i64, u8)] = &[(libc::SYS_openat, 2)];

/// Memory, threads, time and signals of this process.
const PROCESS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
];

/// The same by the names that they had before.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_getdents,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// What a transfer from a server takes.
const NETWORK: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_mmap,
    libc::SYS_mprotect,
];

/// What is asked of files and terminals by ioctl: to share blocks, the size and the zeros of a
/// device, and how wide a terminal is.
const IOCTLS: [u64; 10] = [
    libc::FICLONE,
    libc::FICLONERANGE,
    0x8008_1272, // BLKGETSIZE64
    0x0000_1268, // BLKSSZGET
    0x0000_1277, // BLKDISCARD
    0x0000_127f, // BLKZEROOUT
    0x0000_5401, // TCGETS
    0x802c_542a, // TCGETS2
    0x0000_5413, // TIOCGWINSZ
    0x0000_5421, // FIONBIO
];

/// What a command needs beside files that are there.
pub(super) struct Left {
    /// A server is read from.
    pub(super) network: bool,
    /// Files are made on the way.
    pub(super) files: bool,
    /// Names in images are followed, beneath a folder.
    pub(super) beneath: bool,
}

/// Leaves only these calls to this process, all its threads included. The error says what is
/// missing.
pub(super) fn filter(left: &Left) -> Result<(), String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("a filter of system calls failed: {error}");
    let program = program(left).map_err(|error| failed(&error))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| failed(&error))
}

fn program(left: &Left) -> Result<BpfProgram, seccompiler::BackendError> {
    let whole = |call: &i64| (*call, Vec::new());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        FILES.iter().chain(PROCESS).chain(OLDER).map(whole).collect();
    let low = |index, op, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value);
    // No memory becomes code. (A resolver of names loads libraries.)
    let no_code = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.cast_unsigned()));
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![low(2, no_code.clone(), 0)?])?]);
    }
    if left.network {
        rules.extend(NETWORK.iter().map(whole));
    }
    let no_creation = SeccompCmpOp::MaskedEq(u64::from(libc::O_CREAT.cast_unsigned()));
    for (call, flags) in OPENING {
        let old = SeccompRule::new(vec![low(*flags, no_creation.clone(), 0)?])?;
        rules.insert(*call, if left.files { Vec::new() } else { vec![old] });
    }
    if left.beneath {
        rules.insert(libc::SYS_openat2, Vec::new());
    }
    let ioctls = IOCTLS
        .iter()
        .map(|request| SeccompRule::new(vec![low(1, SeccompCmpOp::Eq, *request & 0xffff_ffff)?]));
    rules.insert(libc::SYS_ioctl, ioctls.collect::<Result<_, _>>()?);
    let names = u64::from(libc::PR_SET_NAME.cast_unsigned());
    let set_name = SeccompRule::new(vec![low(0, SeccompCmpOp::Eq, names)?])?;
    rules.insert(libc::SYS_prctl, vec![set_name]);
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let (whole, rules): (BTreeMap<_, _>, BTreeMap<_, _>) =
        rules.into_iter().partition(|(_, rules)| rules.is_empty());
    let whole = whole.keys().filter_map(|call| u32::try_from(*call).ok()).collect();
    let program = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()?;
    Ok(edges::allow(&whole, program))
}
