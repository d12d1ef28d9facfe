"""How many inputs there are, for a progress bar: counted beside the run, and without getting in its way."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice

from vitcli.sources.given import MARK, Input, is_archive, is_url

PART = 500  # inputs between two rests
REST = 4  # times as long as the part took: a fifth of a processor at most


def countable(names: Iterable[str]) -> bool:
    """Whether what the names stand for can be listed twice, and cheaply: only files, folders and patterns can."""
    return not any(
        name == "-" or name.startswith("@") or is_url(name) or is_archive(name) or MARK in name for name in names
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
