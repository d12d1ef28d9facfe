"""One budget of memory for all pictures that are being decoded, as the machine has one: workers know of no others.

A picture takes its share once its header has said how large it is, before its pixels are, and waits while others have
too much. It is never refused: one that is larger than the budget is decoded alone.
"""

from __future__ import annotations

import sys
import threading
from functools import cached_property

from vitcli.memory import available, give_back

PART = 4  # of the memory that is free, one byte in so many is theirs; the rest is for the network and everybody else
FLOOR = 256 << 20  # bytes that are theirs in any case
LARGE = 256 << 20  # bytes of a share after which the C library is asked for what it keeps; that takes milliseconds


class Budget:
    """Bytes that pictures may take together: a quarter of what is free when they first need more than FLOOR."""

    def __init__(self, most: int | None = None) -> None:
        self.given = most
        self.taken = 0
        self.changed = threading.Condition()

    @cached_property
    def most(self) -> int:
        """How large it is. Asked for late: few runs ever come near."""
        return self.given or max(FLOOR, available() // PART)

    def share(self) -> Share:
        """What one picture has of it: nothing, at first."""
        return Share(self)

    def admits(self, size: int) -> bool:
        """Whether so much is left, or nobody else has any."""
        return not self.taken or self.taken + size <= (self.given or FLOOR) or self.taken + size <= self.most


class Share:
    """The part of a budget that one picture has until the `with` block ends."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.size = 0

    def take(self, size: int) -> None:
        """Wait until there are `size` bytes for it, or until it is alone.

        A share that was taken stays as it is: two that grew might wait for each other.
        """
        if self.size:
            return
        with self.budget.changed:
            self.budget.changed.wait_for(lambda: self.budget.admits(size))
            self.size = size
            self.budget.taken += size

    def take_all(self) -> None:
        """Wait until no other picture has a share, and let none have one."""
        self.take(sys.maxsize)

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        if self.size:
            if self.size > LARGE:
                give_back()
            with self.budget.changed:
                self.budget.taken -= self.size
                self.budget.changed.notify_all()


BUDGET = Budget()  # the process's
