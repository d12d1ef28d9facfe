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


@dataclass(slots=True)
class Report:
    """Counts and times of a run, as far as it has come."""

    model: str
    backend: Backend
    meter: Meter = field(default_factory=Meter)
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    skipped: int = 0  # answered by an earlier run
    write: float = 0.0  # seconds
    interrupted: bool = False
    started: float = field(default_factory=time.perf_counter)
    took: float = 0.0  # seconds, once it has ended

    def add(self, result: Result) -> None:
        """Count one result."""
        if isinstance(result, Failure):
            self.failed[result.error] += 1
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

    def sentences(self, output: Path | None, failures: Path | None) -> Iterator[str]:
        """The report for a person. Names in it are as they are, not yet fit for a terminal.

        `output` and `failures` are the files that rows and failed inputs went to.
        """
        before = f"{self.skipped:,} were done before"
        if self.skipped and not self.done and not self.interrupted:
            yield f"Nothing was left to do: {before}."
            return
        rate = f" ({self.rate:,.3g}/s)" if self.done > 1 else ""
        outcome = ", all classified" if self.ok and not self.failed else ""
        if self.failed:
            reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in self.failed.most_common())
            outcome = f": {self.ok:,} classified, {self.failed.total():,} failed ({reasons})"
        yield (
            f"{'Interrupted after ' if self.interrupted else ''}{self.done:,} "
            f"{'picture' if self.done == 1 else 'pictures'} in {self.took:,.1f} s{rate}{outcome}"
            f"{f'; {before}' if self.skipped else ''}."
        )
        if output is not None and self.done:
            yield f"Wrote {output}{'; its failed rows say why' if self.failed and failures is None else ''}."
        if failures is not None and self.failed:
            yield f"What failed, and why, is in {failures}."
        if self.interrupted and output is not None:
            yield "The same command with --resume continues."

    def details(self) -> str:
        """Where the time went, for whoever wants it shorter."""
        backend, seconds = self.backend, self.seconds()
        waits = ", ".join(f"{part} {seconds[part]:,.1f} s" for part in ("listing", "decode", "forward", "write"))
        return (
            f"Waited for {waits}: {self.limit} was the limit ({backend.engine}, {backend.device}, {backend.dtype}, "
            f"batch {self.meter.batch}, {self.meter.workers} decoding)."
        )


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
                self.file.write(json.dumps(result.record()).encode() + b"\n")

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
