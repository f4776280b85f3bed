"""Give up, for good, nearly all that a process may do: for a fresh copy of a process, before it runs foreign code."""

import ctypes
import os
import resource
import struct
from dataclasses import dataclass
from pathlib import Path

from evomerge.evaluation.sandbox import _syscalls

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_SECCOMP_FILTER, _SIGKILL, _EPERM, _ENOSYS = 2, 9, 1, 38
_CAPABILITIES_VERSION, _MAX_CAPABILITY = 0x20080522, 63
# seccomp's answers, and the instructions of its filters (classic BPF)
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _IF_EQUAL, _IF_ABOVE, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_FOREIGN_CALLS = 0x40000000  # calls of x86_64's other convention have numbers from here on
_CLONE_THREAD, _OPEN_TO_WRITE = 0x10000, 0o1 | 0o2 | 0o100 | 0o1000
# Landlock's rights: those that change anything, and those of them that hold in a folder of one's own
_WRITE_FILE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
_REMOVE, _MAKE_PLAIN, _MAKE_SPECIAL = 0b11 << 4, 1 << 7 | 1 << 8 | 1 << 12, 1 << 6 | 0b111 << 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What confined code may use.

    Attributes:
        seconds: of the processor; of the clock, four times as much, as a busy machine is no fault of the code.
        memory_bytes: beyond what its process has when it starts.
        file_bytes: of all files that it makes.
    """

    seconds: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 64 << 20

    @property
    def wall_seconds(self) -> float:
        """Seconds of the clock."""
        return 4 * self.seconds


def confinement() -> str:
    """Return, for people, what holds code back on this machine."""
    if _syscalls.machine() is None:
        return "with limits of time and memory only: this system cannot keep it from files and the network without root"
    files = "writing in a temporary folder only" if _landlock_version() else "without writing any file"
    return f"with limits of time and memory, without network, {files}"


def confine(folder: Path, limits: Limits) -> None:
    """Confine this process for good.

    Args:
        folder: where it works, and the only one that it may write to.
        limits: of it.

    Raises:
        OSError: the system refuses a limit that it has.
    """
    os.chdir(folder)
    os.environ |= {"HOME": str(folder), "TMPDIR": str(folder)}
    seconds = max(1, round(limits.seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # the first one says why, the second is for certain
    for what, most in (
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    mapped = _mapped_bytes()
    if mapped is not None:
        resource.setrlimit(resource.RLIMIT_AS, (mapped + limits.memory_bytes,) * 2)
    kind = _syscalls.machine()
    if kind is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _drop_capabilities(libc, kind)
    _call(libc.prctl, _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    _call(libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = _landlock_version()
    if version:
        _write_only_in(libc, folder, version)
    _refuse_calls(libc, kind, writing=version > 0)


def _mapped_bytes() -> int | None:
    """Return the size of this process's address space; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _call(function: "ctypes._NamedFuncPointer", *arguments: object) -> int:
    """Call libc. Raises OSError."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(function(*wide))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _drop_capabilities(libc: ctypes.CDLL, kind: str) -> None:
    """Give up what root may do beyond others; its files stay its own."""
    if os.geteuid() != 0:
        return
    for capability in range(_MAX_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that the kernel does not know
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITIES_VERSION, 0))
    _call(libc.syscall, _syscalls.CAPSET[kind], header, ctypes.create_string_buffer(struct.pack("6I", *[0] * 6)))


def _landlock_version() -> int:
    """Return which version of Landlock the kernel has; 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    none, size, version = ctypes.c_void_p(None), ctypes.c_long(0), ctypes.c_long(1)
    return max(0, int(libc.syscall(ctypes.c_long(_syscalls.LANDLOCK_CREATE), none, size, version)))


def _write_only_in(libc: ctypes.CDLL, folder: Path, version: int) -> None:
    """Refuse all changes to files outside a folder (Landlock)."""
    file_rights = _WRITE_FILE | (_TRUNCATE if version >= 3 else 0)
    folder_rights = file_rights | _REMOVE | _MAKE_PLAIN | (_REFER if version >= 2 else 0)
    handled = ctypes.create_string_buffer(struct.pack("Q", folder_rights | _MAKE_SPECIAL))
    rules = _call(libc.syscall, _syscalls.LANDLOCK_CREATE, handled, 8, 0)
    for path, rights in ((str(folder), folder_rights), (os.devnull, file_rights)):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place))
        _call(libc.syscall, _syscalls.LANDLOCK_ADD, rules, 1, rule, 0)
        os.close(place)
    _call(libc.syscall, _syscalls.LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def _refuse_calls(libc: ctypes.CDLL, kind: str, *, writing: bool) -> None:
    """Refuse calls for good (seccomp); they fail with "operation not permitted"."""
    program = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_IF_EQUAL, _syscalls.AUDIT_ARCHITECTURE[kind], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        _step(_IF_ABOVE, _FOREIGN_CALLS, 0, 1),
        _step(_RETURN, _ERROR | _EPERM),
        _step(_IF_EQUAL, _syscalls.CLONE3, 0, 1),
        _step(_RETURN, _ERROR | _ENOSYS),  # its flags lie in memory; libc then takes `clone`
        _step(_IF_EQUAL, _syscalls.CLONE[kind], 0, 4),
        _step(_LOAD, _ARGUMENTS_AT),
        _step(_IF_ANY_BIT, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _ERROR | _EPERM),
        _step(_RETURN, _ALLOW),
    ]
    for number in _syscalls.refused_calls(kind, writing=writing):
        program += [_step(_IF_EQUAL, number, 0, 1), _step(_RETURN, _ERROR | _EPERM)]
    for number, position in () if writing else _syscalls.OPEN[kind]:
        program += [
            _step(_IF_EQUAL, number, 0, 4),
            _step(_LOAD, _ARGUMENTS_AT + 8 * position),
            _step(_IF_ANY_BIT, _OPEN_TO_WRITE, 0, 1),
            _step(_RETURN, _ERROR | _EPERM),
            _step(_RETURN, _ALLOW),
        ]
    program.append(_step(_RETURN, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _call(libc.prctl, _PR_SET_SECCOMP, _SECCOMP_FILTER, described, 0, 0)


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one instruction of a filter; jumps count instructions after the next one."""
    return struct.pack("HBBI", operation, if_true, if_false, value)
