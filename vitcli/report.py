"""`Report`: what a run did, for the person who waited and for `--summary-json`. Exactly one count for each input."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vitcli.errors import OutputError
from vitcli.escaping import strict
from vitcli.network.backend import Backend
from vitcli.results import Failure, Result
from vitcli.sources import Passed
from vitcli.streaming import Meter
from vitcli.writers.base import explained, regular
from vitcli.writers.lock import Lock
from vitcli.writers.outputs import NEW, beside
from vitcli.writers.text import ascii_json

KINDS = {"label": "by label", "broader": "by a broader term", "unknown": "unknown"}  # of decisions, as they are counted


@dataclass(slots=True)
class Report:
    """Counts and times of a run, as far as it has come."""

    model: str
    backend: Backend
    meter: Meter = field(default_factory=Meter)
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    decided: Counter[str] = field(default_factory=Counter)  # by kind, where the run decides
    passed: Passed = field(default_factory=Passed)  # files of folders and archives that are no inputs
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
            if result.decision is not None:
                self.decided[result.decision.kind] += 1

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
            **({"decided": {kind: self.decided[kind] for kind in KINDS}} if self.decided else {}),
            "passed_over": {what: count for what, count in self.passed.items() if count},
            "interrupted": self.interrupted,
            "seconds": {part: round(seconds, 6) for part, seconds in self.seconds().items()},
            "pictures_per_second": round(self.rate, 3),
            "limit": self.limit,
        }

    def sentences(self, output: Path | None, failures: Path | None) -> Iterator[str]:
        """The report for a person. Names in it are as they are, not yet fit for a terminal.

        `output` and `failures` are the files that rows and failed inputs went to.
        """
        before = f"{self.skipped:,} were done before"
        if self.skipped and not self.done and not self.interrupted:
            yield f"Nothing was left to do: {before}."
            if self.passed:
                yield self.passed.sentence()
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
        if self.passed:
            yield self.passed.sentence()
        if self.decided:
            counts = (f"{self.decided[kind]:,} {many}" for kind, many in KINDS.items() if self.decided[kind])
            yield f"Decided: {', '.join(counts)}."
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


class Summary:
    """The record of a report in a file; nothing without a `path`. Raises OutputError for a file that is there already:
    `force` replaces it, `resume` only if it is the summary of an earlier run.
    """

    def __init__(self, path: Path | None, *, force: bool, resume: bool) -> None:
        self.path = path
        if path is not None:
            refuse_others(path, force or (resume and a_summary(path)))

    def save(self, report: Report) -> None:
        """Write the record. Raises OutputError."""
        if self.path is not None:
            with explained(self.path):
                written(self.path, [json.dumps(strict(report.record()), indent=2).encode()])


class FailureLog:
    """What is failed in a file of its own, one JSON record a line; nothing without a `path`.

    `known` gives what is failed in the output. The file begins with that, is appended to, and after a run that was
    resumed it is made of it again: what is no longer failed is gone. Raises OutputError when it cannot be written, and
    for a file that is there already: `force` replaces it, `resume` only if it is a list of failures.
    """

    def __init__(
        self, path: Path | None, known: Callable[[], Iterator[dict[str, Any]]], *, force: bool, resume: bool
    ) -> None:
        self.path, self.known, self.resume = path, known, resume
        self.file: IO[bytes] | None = None
        self.release: Callable[[], None] = lambda: None
        if path is None:
            return
        with explained(path):
            target = regular(path)
            if target is None:  # what was told before it cannot be taken back
                self.file, self.resume = path.open("wb", buffering=0), False
                return
            self.release = Lock(path, target).release
            try:
                refuse_others(path, force or (resume and a_list_of_failures(path)))
                written(path, self.lines())
                self.file = path.open("ab", buffering=0)
            except BaseException:
                self.release()
                raise

    def lines(self) -> Iterator[bytes]:
        """What is failed in the output."""
        return (ascii_json(record) for record in self.known())

    def write(self, result: Result) -> None:
        """Take one result; at once on the disk if it is a failure."""
        if self.file is not None and isinstance(result, Failure):
            with explained(self.path):
                self.file.write(ascii_json(result.record()) + b"\n")

    def __enter__(self) -> FailureLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self.file is not None:
                self.file.close()
            if self.path is not None and self.resume and kind is None:
                with explained(self.path):
                    written(self.path, self.lines())
        finally:
            self.release()


def refuse_others(path: Path, replace: bool) -> None:
    """Raises OutputError for a file that is there already, unless it may be replaced."""
    if path.is_file() and path.stat().st_size and not replace:
        raise OutputError(f"{path} exists already: add --force to overwrite it, or choose another file.")


def written(path: Path, lines: Iterable[bytes]) -> None:
    """Lines in the place of a file, all of them or, after an error, none; a pipe or a device simply gets them."""
    target = regular(path)
    new = path if target is None else beside(target, NEW)
    try:
        with new.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
        if target is not None:
            new.replace(target)
    except BaseException:
        if target is not None:
            new.unlink(missing_ok=True)
        raise


def a_list_of_failures(path: Path) -> bool:
    """Whether a file is what a FailureLog writes, but for a last line that a kill tore."""
    try:
        with path.open("rb") as file:
            return all(not line.endswith(b"\n") or json.loads(line)["status"] == "failed" for line in file)
    except (ValueError, LookupError, TypeError, RecursionError, OSError):
        return False


def a_summary(path: Path) -> bool:
    """Whether a file is what a Summary writes."""
    try:
        found = json.loads(path.read_bytes())
        return isinstance(found, dict) and {"model", "inputs", "pictures_per_second", "limit"} <= found.keys()
    except (ValueError, RecursionError, OSError):
        return False
