"""`Report`: what a run did, for the person who waited and for `--summary-json`. Exactly one count for each input."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vitcli.errors import OutputError
from vitcli.network.backend import Backend
from vitcli.results import Failure, Result
from vitcli.streaming import Meter
from vitcli.writers.text import ascii_json

SHOWN = 10  # failures that are listed


@dataclass(slots=True)
class Report:
    """Counts and times of a run, as far as it has come."""

    model: str
    backend: Backend
    meter: Meter = field(default_factory=Meter)
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first: list[Failure] = field(default_factory=list)
    skipped: int = 0  # answered by an earlier run
    write: float = 0.0  # seconds
    interrupted: bool = False
    started: float = field(default_factory=time.perf_counter)
    took: float = 0.0  # seconds, once it has ended

    def add(self, result: Result) -> None:
        """Count one result."""
        if isinstance(result, Failure):
            self.failed[result.error] += 1
            if len(self.first) < SHOWN:
                self.first.append(result)
        else:
            self.ok += 1

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Time in the output."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.write += time.perf_counter() - start

    def end(self) -> None:
        """The run is over."""
        self.took = time.perf_counter() - self.started

    @property
    def done(self) -> int:
        """Inputs that got their row in this run."""
        return self.ok + self.failed.total()

    @property
    def rate(self) -> float:
        """Inputs a second."""
        return self.done / self.took if self.took else 0.0

    @property
    def limit(self) -> str:
        """What the run waited for most: "listing", "decode", "forward" or "write"."""
        seconds = self.seconds()
        return max(("listing", "decode", "forward", "write"), key=lambda part: seconds[part])

    def seconds(self) -> dict[str, float]:
        """How long the run waited for each part, and what decoding cost the workers together."""
        return {
            "total": self.took,
            "listing": self.meter.listing,
            "decode": self.meter.waited,
            "decode_workers": self.meter.decode,
            "forward": self.meter.forward,
            "write": self.write,
        }

    def record(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        backend = self.backend
        return {
            "model": self.model,
            "device": backend.device,
            "dtype": backend.dtype,
            "engine": backend.engine,
            "batch": self.meter.batch,
            "workers": self.meter.workers,
            "inputs": self.done + self.skipped,
            "skipped": self.skipped,
            "ok": self.ok,
            "failed": dict(self.failed.most_common()),
            "interrupted": self.interrupted,
            "seconds": {part: round(seconds, 6) for part, seconds in self.seconds().items()},
            "pictures_per_second": round(self.rate, 3),
            "limit": self.limit,
        }

    def save(self, path: Path) -> None:
        """Write the record to a file. Raises OutputError."""
        try:
            path.write_text(json.dumps(self.record(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}.") from None

    def lines(self) -> Iterator[str]:
        """The report for a person. Names in it are as they are, not yet fit for a terminal."""
        counts = [f"{self.done:,} {'input' if self.done == 1 else 'inputs'}", f"{self.ok:,} ok"]
        if self.failed:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.failed.most_common())
            counts.append(f"{self.failed.total():,} failed ({reasons})")
        if self.skipped:
            counts.append(f"{self.skipped:,} answered before")
        yield f"{', '.join(counts)}, in {self.took:,.1f} s: {self.rate:,.1f} pictures/s"
        backend, seconds = self.backend, self.seconds()
        waits = ", ".join(f"{part} {seconds[part]:,.1f} s" for part in ("decode", "forward", "write"))
        listing = f", listing {seconds['listing']:,.1f} s" if self.limit == "listing" else ""
        yield (
            f"waited for {waits}{listing}: {self.limit} was the limit "
            f"({backend.device}, {backend.dtype}, batch {self.meter.batch}, {self.meter.workers} decoding)"
        )
        for failure in self.first:
            yield f"failed: {failure.path}: {failure.message}"
        if (more := self.failed.total() - len(self.first)) > 0:
            yield f"and {more:,} more failed; --failures FILE lists them all."
        if self.interrupted:
            yield "Interrupted."


class FailureLog:
    """The failed inputs of a run in a file of their own, one JSON record a line; nothing without a `path`.

    Raises OutputError for a file that is there already (unless to `append` to it, or by `force`) or cannot be written.
    """

    def __init__(self, path: Path | None, *, force: bool, append: bool) -> None:
        self.path = path
        self.file: IO[bytes] | None = None
        if path is None:
            return
        with self.explained():
            self.file = path.open("ab" if append else "wb" if force else "xb", buffering=0)

    def write(self, result: Result) -> None:
        """Take one result; at once on the disk if it is a failure."""
        if self.file is not None and isinstance(result, Failure):
            with self.explained():
                self.file.write(ascii_json(result.record()) + b"\n")

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise OutputError(f"{self.path} exists already: add --force to overwrite it.") from None
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from None

    def __enter__(self) -> FailureLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
