"""`Lock`: one run at a time writes to an output, whatever its format and whether it is new, overwritten or resumed."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from vitcli.errors import OutputError

ENDING = ".vit-lock"


class Lock:
    """The lock of the output at `target`: an empty file beside it, which the system unlocks if the run is killed.

    Raises OutputError when another run holds it, and OSError.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.file = target.with_name(f".{target.name}{ENDING}")
        while True:
            self.handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                lock(self.handle)
                if same(self.handle, self.file):
                    return
            except BlockingIOError:
                os.close(self.handle)
                raise OutputError(f"Another run is writing to {path}: wait for it, or choose another output.") from None
            except BaseException:
                os.close(self.handle)
                raise
            os.close(self.handle)  # the run that held it has just removed the file: ours would be a lock on nothing

    def release(self) -> None:
        """Remove the file and unlock."""
        if sys.platform == "win32":  # which removes no file that is open
            os.close(self.handle)
            with contextlib.suppress(OSError):
                self.file.unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
        os.close(self.handle)


def same(handle: int, file: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def lock(handle: int) -> None:
        """Lock an open file. Raises BlockingIOError if it is locked."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
else:
    import fcntl

    def lock(handle: int) -> None:
        """Lock an open file. Raises BlockingIOError if it is locked."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
