"""How sure a model has to be: what was measured on labelled pictures, in a small file for people to read.

    {"vit_calibration": 1,
     "model": {"name": "google/vit-base-patch16-224", "sha256": "..."},
     "preprocess": {...}, "labels": "...", "activation": "softmax", "dtype": "float32",
     "n": 5000,
     "temperature": 1.042,
     "thresholds": [{"accuracy": 0.95, "threshold": 0.81, "coverage": 0.67, "interval": [0.94, 0.96]}, ...],
     "rollup":     [{"accuracy": 0.95, "theta": 0.86, "coverage": 0.98, "interval": [0.94, 0.96]}, ...],
     "made": "2026-11-25", "version": "0.1.0"}

Thresholds are compared with softmax(logits / temperature). `coverage` is the share of the pictures that get an answer,
`interval` that of the accuracy of those answers; a `threshold` or `theta` of null means that none reaches the accuracy.
The file speaks of one model: its weights, its preprocessing, its classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitcli.errors import UsageError

FORMAT = 1
LARGEST_FILE = 1 << 20  # bytes
FEW, FEW_ANSWERED = 100, 30  # pictures, and those of them that got an answer: fewer say next to nothing

Rule = Literal["thresholds", "rollup"]
NUMBER: dict[Rule, str] = {"thresholds": "threshold", "rollup": "theta"}  # what each rule calls its number


@dataclass(frozen=True, slots=True)
class Point:
    """One target: answers with at least the probability `least` are right as often as `accuracy` says.

    `coverage` is the share of pictures answered, `interval` that of the accuracy of the answers; both as measured.
    """

    accuracy: float
    least: float | None
    coverage: float
    interval: tuple[float, float]

    def record(self, rule: Rule) -> dict[str, Any]:
        """As the file has it."""
        return {
            "accuracy": self.accuracy,
            NUMBER[rule]: self.least,
            "coverage": self.coverage,
            "interval": list(self.interval),
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured of a model on `n` labelled pictures; `rollup` is empty for classes without broader terms."""

    model: str
    sha256: str
    preprocess: Mapping[str, Any]
    labels: str
    activation: str
    dtype: str
    n: int
    temperature: float
    thresholds: tuple[Point, ...]
    rollup: tuple[Point, ...]
    made: str
    version: str

    def record(self) -> dict[str, Any]:
        """The file's contents, as JSON-ready values."""
        return {
            "vit_calibration": FORMAT,
            "model": {"name": self.model, "sha256": self.sha256},
            "preprocess": dict(self.preprocess),
            "labels": self.labels,
            "activation": self.activation,
            "dtype": self.dtype,
            "n": self.n,
            "temperature": self.temperature,
            "thresholds": [point.record("thresholds") for point in self.thresholds],
            "rollup": [point.record("rollup") for point in self.rollup],
            "made": self.made,
            "version": self.version,
        }

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """A file as `record` has it. Raises UsageError for anything else."""
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)  # a device has no size, and no end
            return cls.of(decoded(data))
        except OSError as error:
            raise UsageError(f"{path}: the calibration cannot be read ({error.strerror or error}).") from None
        except ValueError as error:
            raise UsageError(f"{path} is no calibration of vit: {error}. `vit calibrate` makes one.") from None

    @classmethod
    def of(cls, found: Any) -> Calibration:
        """The same of JSON values. Raises ValueError that names what is missing or wrong."""
        if not isinstance(found, dict) or "vit_calibration" not in found:
            raise ValueError("it has no vit_calibration")
        if found["vit_calibration"] != FORMAT:
            raise ValueError(f"its format is {found['vit_calibration']!r:.20}, this version reads {FORMAT}")
        model, n = part(found, "model", dict), part(found, "n", int)
        if not 0 <= n < 2**53:
            raise ValueError("its n is no number of pictures")
        return cls(
            model=part(model, "name", str),
            sha256=part(model, "sha256", str),
            preprocess=part(found, "preprocess", dict),
            labels=part(found, "labels", str),
            activation=part(found, "activation", str),
            dtype=part(found, "dtype", str),
            n=n,
            temperature=number(found, "temperature", 0, math.inf, above=True),
            thresholds=tuple(points(found, "thresholds")),
            rollup=tuple(points(found, "rollup")),
            made=part(found, "made", str),
            version=part(found, "version", str),
        )

    def misfit(self, header: Mapping[str, Any], sha256: str) -> str | None:
        """Why this does not speak of a model with such a `Classifier.header()` and weights; None where it does."""
        own = {"preprocess": dict(self.preprocess), "labels": self.labels, "activation": self.activation}
        differs = [name for name, value in own.items() if value != json.loads(json.dumps(header[name]))]
        if sha256 != self.sha256:
            return f"it was made with other weights ({self.model})"
        named = {"preprocess": "another preprocessing", "labels": "other classes", "activation": "other scores"}
        return f"it was made with {' and '.join(named[name] for name in differs)}" if differs else None

    def doubts(self, header: Mapping[str, Any], point: Point) -> Iterator[str]:
        """What makes the calibration, or this point of it, worth less than it says."""
        for what, own in (("dtype", self.dtype), ("version", self.version)):
            if own != header[what]:
                yield f"it was made with {what} {own}, this is {header[what]}"
        answered = round(point.coverage * self.n)
        if self.n < FEW:
            yield f"it was made from {self.n} pictures, too few to mean much"
        elif answered < FEW_ANSWERED:
            yield f"only {answered} of its {self.n} pictures got an answer, too few to mean much"

    def point(self, rule: Rule, accuracy: float) -> Point:
        """The target of this accuracy. Raises ValueError with those that there are."""
        own = self.rollup if rule == "rollup" else self.thresholds
        targets = {point.accuracy: point for point in own}
        found = next((point for target, point in targets.items() if math.isclose(target, accuracy)), None)
        if found is not None and found.least is not None:
            return found
        reached = [f"{target:g}" for target, point in targets.items() if point.least is not None]
        why = f"it has nothing for an accuracy of {accuracy:g}"
        if found is not None:
            why = f"no {NUMBER[rule]} reached an accuracy of {accuracy:g}"
        raise ValueError(f"{why}; there is {', '.join(reached)}" if reached else f"{why}, nor for any other")


def decoded(data: bytes) -> Any:
    """JSON values. Raises ValueError for what is none, or too large."""
    if len(data) > LARGEST_FILE:
        raise ValueError("it is too large")
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):  # also of digits, or of brackets, without end
        raise ValueError("it is not JSON") from None


def part(found: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """One value. Raises ValueError where it is missing or of another kind."""
    value = found.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"its {name} is {'missing' if name not in found else f'{value!r:.40}'}")
    return value


def number(found: Mapping[str, Any], name: str, low: float, high: float, *, above: bool = False) -> float:
    """One number from `low` to `high`. Raises ValueError for anything else."""
    try:
        value = float(part(found, name, (int, float)))
    except OverflowError:
        value = math.inf
    if not (math.isfinite(value) and (low < value if above else low <= value) and value <= high):
        raise ValueError(f"its {name} is {value:g}")
    return value


def points(found: Mapping[str, Any], rule: Rule) -> Iterator[Point]:
    """The targets of one rule. Raises ValueError where one is wrong."""
    for one in part(found, rule, list):
        if not isinstance(one, dict):
            raise ValueError(f"a line of its {rule} is {one!r:.40}")
        interval = part(one, "interval", list)
        if len(interval) != 2:
            raise ValueError(f"an interval of its {rule} has {len(interval)} ends")
        ends = {"low": interval[0], "high": interval[1]}
        least = None if one.get(NUMBER[rule], 0) is None else number(one, NUMBER[rule], 0, math.inf)
        yield Point(
            number(one, "accuracy", 0, 1),
            least,
            number(one, "coverage", 0, 1),
            (number(ends, "low", 0, 1), number(ends, "high", 0, 1)),
        )
