"""How many inputs there are, for a progress bar: counted beside the run, and without getting in its way."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice

from vitcli.sources.input import MARK, Input, is_archive, is_url
from vitcli.sources.lists import is_pattern

PART = 500  # inputs between two rests
REST = 4  # times as long as the part took: a fifth of a processor at most


def countable(names: Iterable[str]) -> bool:
    """Whether what the names stand for can be listed twice, and cheaply: only files and folders can.

    An archive, which a list or a pattern may name too, would have to be read.
    """
    return not any(
        name == "-" or name.startswith("@") or MARK in name or is_url(name) or is_archive(name) or is_pattern(name)
        for name in names
    )


def count(inputs: Iterable[Input]) -> int:
    """The number of inputs. Takes its time, and no memory."""
    coming, total, part = iter(inputs), 0, PART
    while part == PART:
        start = time.perf_counter()
        part = sum(1 for _ in islice(coming, PART))
        total += part
        time.sleep(REST * (time.perf_counter() - start))
    return total
