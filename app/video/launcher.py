"""Confines this process and then becomes a tool. So a file that takes over the tool gains little.

It is a separate program, which `app.video.ffmpeg` starts as `python -I -S launcher.py NAME=VALUE … -- TOOL
…`, since a process with threads must not run Python between fork and exec. It imports little, since every
start of a tool waits for it: it takes 15 ms of processor time in all.

These rules hold afterwards, also if another program takes over the tool:

- limits on memory, processor time and written files, and the end of the starting thread is its end;
- Landlock: it opens the files named and the machine's programs and libraries, and nothing else. It reads no
  other process's memory or environment, and signals none;
- seccomp, by libseccomp: no socket, no new process, none of the system calls by which programs gain rights;
- as root, no capability but to read files of others.

If the machine lacks a layer, it is left out and reported. Landlock is called directly: the kernel guarantees
its few numbers, and the libraries for it are unfinished or new.
"""

import ctypes
import os
import resource
import struct
import sys

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
CAP_DAC_READ_SEARCH = 2

# linux/landlock.h: the system calls' numbers are the same everywhere
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
QUERY_ABI, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_REG, TRUNCATE = 1 << 8, 1 << 14
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
# how many rights on files each version of the interface knows, the last one all later ones too
FS_RIGHTS = (0, 13, 14, 15, 15, 16)
NO_TCP, NO_SIGNALS = 0b11, 0b11

RIGHTS = {
    "program": EXECUTE | READ_FILE | READ_DIR,
    "read": READ_FILE,
    "write": READ_FILE | READ_DIR | WRITE_FILE | MAKE_REG | TRUNCATE,
}

ALLOW, DENY, UNKNOWN = 0x7FFF0000, 0x00050000, -1
NOT_EQUAL, MASKED_EQUAL = 1, 7
EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x10000
# Another process of this user may not be touched; these take its id as their first argument.
OF_OTHERS = ("kill", "tgkill")
DENIED = """
    socket socketpair fork vfork
    tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd pidfd_send_signal
    ptrace process_vm_readv process_vm_writev process_madvise kcmp
    setpriority sched_setscheduler sched_setparam sched_setattr ioprio_set migrate_pages move_pages
    chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes utimensat futimesat truncate
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr
    mknod mknodat open_by_handle_at name_to_handle_at fanotify_init quotactl quotactl_fd
    shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop semctl mq_open mq_unlink
    unshare setns mount umount umount2 pivot_root chroot move_mount open_tree open_tree_attr
    fsopen fsmount fsconfig fspick mount_setattr statmount listmount
    bpf io_uring_setup io_uring_enter io_uring_register userfaultfd perf_event_open
    add_key request_key keyctl personality syslog acct lookup_dcookie vmsplice uselib nfsservctl
    init_module finit_module delete_module create_module kexec_load kexec_file_load reboot swapon swapoff
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup iopl ioperm modify_ldt
"""

# not by `import signal`, which takes as long as all the rest
SIGKILL = 9

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class ArgumentCheck(ctypes.Structure):
    """libseccomp's `struct scmp_arg_cmp`."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


class LayerMissing(Exception):
    """The machine lacks a layer of the sandbox."""


def main(arguments: list[str]) -> None:
    """Do what `arguments` say. The parent reads from `status` what is missing, and "ready" or why not."""
    end = arguments.index("--")
    options = [argument.partition("=")[::2] for argument in arguments[:end]]
    settings, command = dict(options), arguments[end + 1 :]
    status = int(settings["status"])
    os.set_inheritable(status, False)
    try:
        prctl(PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() != int(settings["parent"]):
            os._exit(1)
        limit(int(settings["memory"]), int(settings["cpu"]), int(settings["file"]))
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        for layer in (
            drop_capabilities,
            lambda: restrict_paths([(RIGHTS[kind], path) for kind, path in options if kind in RIGHTS]),
            filter_calls,
        ):
            try:
                layer()
            except LayerMissing as missing:
                os.write(status, f"{missing}\n".encode())
        os.write(status, b"ready")
        os.execv(command[0], command)  # noqa: S606
    except (OSError, ValueError) as error:
        os.write(status, f"\n{error}".encode())
    os._exit(1)


def prctl(option: int, value: int) -> int:
    return int(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def call(number: int, *arguments: object) -> int:
    """Make a system call; raise OSError if it fails."""
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def limit(memory: int, cpu: int, file: int) -> None:
    # ffmpeg catches the soft limit's signal and ends in order; the hard one kills
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, cpu, cpu + 5),
        (resource.RLIMIT_FSIZE, file, file),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))


def drop_capabilities() -> None:
    """As root, have none after the exec but the one to read files of others: Landlock says which."""
    if os.geteuid() == 0:
        for capability in range(64):
            if capability != CAP_DAC_READ_SEARCH:
                prctl(PR_CAPBSET_DROP, capability)


def restrict_paths(rules: list[tuple[int, str]]) -> None:
    """Let this process open what `rules` name, and below, with the rights they name, and nothing else."""
    try:
        abi = call(CREATE_RULESET, None, ctypes.c_size_t(0), QUERY_ABI)
    except OSError as error:
        raise LayerMissing(f"Landlock ({error.strerror})") from error
    handled = (1 << FS_RIGHTS[min(abi, len(FS_RIGHTS) - 1)]) - 1
    attributes = struct.pack("=QQQ", handled, NO_TCP if abi >= 4 else 0, NO_SIGNALS if abi >= 6 else 0)
    ruleset = call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for rights, path in rules:
        beneath = os.open(path, os.O_PATH)
        if not os.path.isdir(path):
            rights &= OF_FILES
        call(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights & handled, beneath), 0)
        os.close(beneath)
    call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def filter_calls() -> None:
    """Refuse the system calls of DENIED, those on other processes, and new processes, to this one."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise LayerMissing("seccomp (libseccomp.so.2 is not installed)") from error
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))

    def deny(name: str, *comparisons: ArgumentCheck, error: int = EPERM) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN:
            array = (ArgumentCheck * len(comparisons))(*comparisons)
            action = ctypes.c_uint32(DENY | error)
            if library.seccomp_rule_add_array(context, action, number, len(comparisons), array) != 0:
                raise LayerMissing(f"seccomp (libseccomp does not filter {name})")

    for name in DENIED.split():
        deny(name)
    for name in OF_OTHERS:
        deny(name, ArgumentCheck(0, NOT_EQUAL, os.getpid()))
    deny("prlimit64", ArgumentCheck(0, NOT_EQUAL, 0))
    # Threads are made as processes are, but for a flag. A filter cannot see those of clone3; libraries that
    # do not find it use clone.
    deny("clone", ArgumentCheck(0, MASKED_EQUAL, CLONE_THREAD, 0))
    deny("clone3", error=ENOSYS)
    if library.seccomp_load(context) != 0:
        raise LayerMissing("seccomp (the kernel takes no filter)")


if __name__ == "__main__":
    main(sys.argv[1:])
