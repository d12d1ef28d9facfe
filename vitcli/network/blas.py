"""How many threads numpy's matrix products take: one, where whoever asks for them has threads of its own.

OpenBLAS's threads wait for each other by spinning, on cores that others could use.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np


@cache
def openblas() -> ctypes.CDLL | None:
    """The OpenBLAS that numpy's wheels bring along, None where numpy stands on something else."""
    numpy = Path(np.__file__).parent
    for folder in (numpy.with_name("numpy.libs"), numpy / ".dylibs"):
        for file in folder.glob("libscipy_openblas64_*"):
            try:
                library = ctypes.CDLL(str(file))
                library.scipy_openblas_get_num_threads64_, library.scipy_openblas_set_num_threads64_  # noqa: B018
            except (OSError, AttributeError):
                continue
            return library
    return None


_users = 0
_before = 1
_lock = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy's matrix products run in the thread that asks for them.

    The setting is the whole process's, so threads that overlap share it: the last one out restores it.
    """
    global _users, _before
    blas = openblas()
    if blas is None:
        yield
        return
    with _lock:
        if _users == 0:
            _before = blas.scipy_openblas_get_num_threads64_()
            blas.scipy_openblas_set_num_threads64_(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                blas.scipy_openblas_set_num_threads64_(_before)
