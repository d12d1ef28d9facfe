"""How much memory there is for this process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

THREAD = (
    128 << 20
)  # bytes of address space for each thread of a library: its stack, its buffers, and a share of the rest
UNKNOWN = 4 << 30  # bytes that a machine is taken to have if it does not say

# What says so without an error of its own: the allocators of torch, C++ and oneDNN, the loader of libraries, threads,
# and Python where it finds no room for an error.
NO_MEMORY = (
    "can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory", "bad_alloc",
    "could not create a primitive", "could not create a memory", "failed to map segment", "can't start new thread",
    "without exception set", "without setting an exception", "with an exception set",
)  # fmt: skip


def lacking(error: BaseException) -> bool:
    """Whether an error means that there was not enough memory, or came of one that does, as a module half imported."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return True
        said = str(cause).lower() if isinstance(cause, (RuntimeError, ImportError, SystemError)) else ""
        if any(words in said for words in NO_MEMORY):
            return True
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False


def available() -> int:
    """Bytes that this process may still take, as far as the system says: what is free, within its limits."""
    return min(addressable(), min([*_of_machine(), *_of_cgroups()], default=UNKNOWN))


def addressable() -> int:
    """Bytes of address space that `ulimit -v` leaves this process; `sys.maxsize` where it sets no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    pages = _text("/proc/self/statm").split()
    return max(0, limit - (int(pages[0]) * resource.getpagesize() if pages else 0))


def fit_threads() -> None:
    """Have libraries start fewer threads where there is room for few: one that cannot start ends the process."""
    if (fitting := max(1, addressable() // THREAD)) < (os.cpu_count() or 1):
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when numpy and torch are imported
            os.environ.setdefault(name, str(fitting))


def give_back() -> None:
    """Memory that was freed, to the system: glibc keeps it for the thread that had it, and each worker is one."""
    import ctypes

    with suppress(AttributeError, OSError, TypeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


def _of_machine() -> Iterator[int]:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) << 10
            return
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names:  # macOS: what there is, as it does not say what is free
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_cgroups() -> Iterator[int]:
    """The limits of a container or service, in both versions of Linux's control groups; each may lie in others."""
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root, name = ("", "memory.max") if not controllers else ("memory", "memory.limit_in_bytes")
            place = Path("/sys/fs/cgroup", root)
            for part in ["", *path.strip("/").split("/")]:
                place = place / part
                if (limit := _text(place / name).strip()).isdecimal():
                    yield int(limit)


def _text(path: Path | str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
