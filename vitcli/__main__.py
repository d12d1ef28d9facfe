"""The `vit` command, also as `python -m vitcli`."""

import gc
import os
import signal
from types import FrameType


def main() -> None:
    """Run `vit`. Ctrl-C while it is being imported ends it without Python's own words, with a shell's status 130."""
    # imports make objects, with torch a million, and none of them garbage: looking for some over and over takes a tenth
    # of the time, of `vit --help` as well
    gc.set_threshold(100_000)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    if before == signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, before)
    from vitcli.cli import main as begin

    signal.signal(signal.SIGINT, interrupt if before == signal.default_int_handler else before)
    begin()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt, but the end where something is being imported.

    There Python may swallow the exception, and hold the lock of imports for ever: threads that import would wait for it
    (importlib's `_get_module_lock` has a callback in which nothing can be raised).
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
