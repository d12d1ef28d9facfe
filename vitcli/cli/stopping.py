"""Ctrl-C and SIGTERM: the first lets the batch in hand finish, the second ends the process at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Whether the run was asked to stop. Call it to know."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self.asked = True
        signal.signal(number, signal.SIG_DFL)  # so that a second one kills at once


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Handle the signals while the block runs. Those that are ignored, as under nohup, stay ignored."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in handled:
        signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
