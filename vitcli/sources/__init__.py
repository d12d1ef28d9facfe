"""What the user named -> a lazy stream of inputs, in the order named, one for each time it was named.

    file            itself, whatever its ending
    folder          the pictures in it (see `folders`)

Nothing is opened here but folders: a file that is missing, a FIFO or unreadable becomes an `Input` with
its `failure`, so that it has its row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from vitcli.sources.folders import Walk, walk
from vitcli.sources.given import MAX_BYTES, PICTURES, Input, is_picture, regular

__all__ = ["Input", "inputs", "is_picture", "MAX_BYTES", "PICTURES"]


def inputs(
    names: Iterable[str],
    *,
    recursive: bool = True,
    hidden: bool = False,
    follow_links: bool = False,
) -> Iterator[Input]:
    """Every input that `names` stand for, one at a time."""
    how = Walk(recursive, hidden, follow_links)
    for name in names:
        if os.path.isdir(name):
            yield from walk(name, how)
        else:
            yield regular(name)
