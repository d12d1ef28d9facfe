"""Ctrl-C and SIGTERM: the first lets the batch in hand finish, the second ends the process at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Stop:
    """Whether the run was asked to stop. Call it to know."""

    def __init__(self) -> None:
        self.asked = self.waiting = False

    def __call__(self) -> bool:
        return self.asked

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self.asked = True
        signal.signal(number, signal.SIG_DFL)  # the default again, so that a second one kills at once
        if self.waiting:
            raise Stopped

    def inputs(self, inputs: Iterable[T]) -> Iterator[T]:
        """The inputs until it is asked. Waiting for one, from a pipe or a server, is cut short."""
        coming = iter(inputs)
        try:
            while not self.asked:
                self.waiting = True
                given = next(coming)
                self.waiting = False
                yield given
        except (StopIteration, Stopped):
            return
        finally:
            self.waiting = False


class Stopped(BaseException):
    """Ends the wait for an input. A BaseException, so that no `except Exception` on the way catches it."""


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
