"""Python as it is on Windows, as far as Linux can show it: imported first where this folder is on
PYTHONPATH. What only POSIX has is gone; directories cannot be opened, locked files not read, open
files not replaced; text is cp1252 with "\\r\\n".

Packages ask `sys.platform` and are on Linux: filelock and psutil, which bring code of their own for
Windows, keep what they need for the code that runs here.
"""

import builtins
import importlib.abc
import io
import os
import shutil
import signal
import sys
import types
from pathlib import Path

MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "syslog", "readline"}
FUNCTIONS = (
    *("sysconf", "fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "setsid", "setpgid"),
    *("getpgid", "killpg", "pread", "pwrite", "preadv", "pwritev", "fchmod", "fchown", "chown"),
    *("mkfifo", "mknod", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_SYNC"),
    *("wait3", "wait4", "getloadavg", "sched_getaffinity", "statvfs", "fchdir"),
)
SIGNALS = (
    *("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGTSTP"),
    "SIGCHLD",
)
TEXT = {"encoding": "cp1252", "newline": "\r\n"}


class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def keep_for_libraries() -> types.ModuleType:
    """Import what brings its own code for Windows, with an `os` of its own; that `os`."""
    import filelock  # noqa: F401
    import psutil  # noqa: F401

    complete = types.ModuleType("os")
    vars(complete).update(vars(os))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("filelock", "psutil") and hasattr(module, "os"):
            module.os = complete
    return complete


real = keep_for_libraries()
for name in MODULES & set(sys.modules):
    del sys.modules[name]
sys.meta_path.insert(0, Hidden())
for name in FUNCTIONS:
    vars(os).pop(name, None)
for name in SIGNALS:
    vars(signal).pop(name, None)
shutil._use_fd_functions = False
os.O_BINARY = 1 << 30
translated: set[int] = set()  # descriptors that were opened without O_BINARY


class SharingViolation(PermissionError):
    winerror = 32


def require_openable(path: object) -> None:
    if isinstance(path, str | os.PathLike) and (
        os.path.isdir(path) or os.fspath(path).endswith(".lock")  # noqa: PTH112
    ):
        raise PermissionError(13, "Permission denied", os.fspath(path))


def open_descriptor(path: object, flags: int, mode: int = 0o777) -> int:
    require_openable(path)
    descriptor = real.open(path, flags & ~os.O_BINARY, mode)
    translated.discard(descriptor)
    if not flags & os.O_BINARY:
        translated.add(descriptor)
    return descriptor


def write(descriptor: int, data: bytes) -> int:
    data = bytes(data)
    real.write(descriptor, data.replace(b"\n", b"\r\n") if descriptor in translated else data)
    return len(data)


def require_closed(path: object) -> None:
    """Refuse what is open in this process, or holds something that is."""
    wanted = Path(os.fspath(path)).absolute()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            held = Path(real.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
        if held == wanted or wanted in held.parents:
            raise SharingViolation(13, "open in this process", str(path))


def replace(source: object, target: object) -> None:
    require_closed(source)
    require_closed(target)
    real.replace(source, target)


def unlink(path: object, **where: int) -> None:
    require_closed(path)
    real.unlink(path, **where)


def open_stream(file: object, mode: str = "r", *more: object, **options: object) -> object:
    require_openable(file)
    if "b" not in mode and len(more) < 2:
        unset = {key: x for key, x in TEXT.items() if options.get(key) in (None, "locale")}
        options |= unset if "r" not in mode else {k: v for k, v in unset.items() if k != "newline"}
    return real_open(file, mode, *more, **options)


real_open = io.open
os.open, os.write, os.replace, os.unlink, os.remove = (
    open_descriptor,
    write,
    replace,
    unlink,
    unlink,
)
builtins.open = io.open = open_stream
sys.stdout.reconfigure(**TEXT, errors="strict")
sys.stderr.reconfigure(**TEXT, errors="backslashreplace")
