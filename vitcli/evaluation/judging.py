"""`Judge`: a classifier that knows the truth, and an output that gathers what is measured on the way.

It stands on both sides of a stream: as its model, whose answers are held against the truth, and as what its answers are
written to. The stream asks `wanted` of each input, in order, and gives one answer for each in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitcli.classifier import Classifier
from vitcli.errors import OutputError
from vitcli.evaluation.scores import BEST, Gathered, Judged, Spool
from vitcli.network.backend import Logits, Pixels
from vitcli.pictures.preprocess import Preprocess
from vitcli.results import Failure, Label, Prediction, Result, Truth
from vitcli.sources import Input
from vitcli.streaming import Prepared
from vitcli.truth import Labelled, Right
from vitcli.writers.base import Options, Output
from vitcli.writers.journal import digest, digest_of


@dataclass(frozen=True, slots=True)
class Due:
    """An input that was let through and has no answer yet."""

    order: int
    key: bytes
    truth: Right


class Judge:
    """`classifier` against what `labelled` says. `opened` opens where the rows go, and then where the logits go."""

    out: Output
    spool: Spool

    def __init__(
        self, classifier: Classifier, labelled: Labelled, opened: tuple[Callable[[], Output], Callable[[], Spool]]
    ) -> None:
        self.topk = classifier.topk
        self.classifier = classifier if self.topk >= BEST else replace(classifier, topk=BEST)
        self.labelled, self.opened = labelled, opened
        self.gathered = Gathered(classifier.labels, self.among)
        self.due: deque[Due] = deque()
        self.asked = 0
        self.best: Sequence[Label] = ()  # of the picture that was answered last
        self.row: Logits = np.empty(0, np.float32)
        self.before: dict[str, str] | None = None  # what failed in an earlier run, and why

    @property
    def among(self) -> tuple[int, ...]:
        """The classes that are ranked; none means all."""
        return self.classifier.only.classes if self.classifier.only else ()

    # what a stream needs of a model

    @property
    def device(self) -> str:
        """Where the network runs."""
        return self.classifier.device

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""
        return self.classifier.preprocess

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """As the classifier's."""
        return self.classifier.submit(pixels, pad_to)

    def answer(self, picture: Prepared, row: Logits) -> Prediction:
        """The classifier's answer, and the truth. Raises as the classifier does."""
        found = self.classifier.answer(picture, row)
        self.best, self.row = found.top, row
        return replace(found, top=found.top[: self.topk], truth=self.truth(self.due[0].truth, row))

    def truth(self, right: Right, row: Logits) -> Truth | None:
        """What a row shows of the truth of a picture with these logits."""
        if not right.classes:
            return None
        rank = min(self.rank(index, row) for index in right.classes)
        return Truth(right.classes, self.names(right), rank == 1, rank)

    def rank(self, index: int, row: Logits) -> int:
        """Where a class stands among those that are ranked, from 1; ties by index."""
        before = row > row[index]
        before[:index] |= row[:index] == row[index]
        return 1 + int(np.count_nonzero(before[list(self.among)] if self.among else before))

    def names(self, right: Right) -> tuple[str, ...]:
        """What the right classes are called."""
        return tuple(self.classifier.labels.names[index] for index in right.classes)

    # what a run needs of an output

    @property
    def skipped(self) -> int:
        """Inputs that an earlier run answered."""
        return self.out.skipped

    def wanted(self, item: Input) -> bool:
        """Whether an input is still to be answered; what an earlier run made of it is gathered if not."""
        key, truth = self.key(item), self.labelled.of(item.name)
        order = self.asked
        self.asked += 1
        if self.out.wanted(item):
            self.due.append(Due(order, key, truth))
            return True
        if (found := self.spool.of(key)) is not None:
            number, row = found
            self.gather(Due(order, key, truth), number, item.name, self.classifier.top(row, BEST))
        elif (reason := self.failed_before().get(item.name)) is not None:
            self.labelled.counts.failed[reason] += 1
        else:
            raise OutputError(
                f"{self.spool.path} does not hold the outputs of {item.name}, which is done: it cannot be resumed. "
                "Choose another output, or --force to overwrite it."
            )
        return False

    def key(self, item: Input) -> bytes:
        """What the logits of an input are found by: what its row is."""
        content = digest_of(item) if self.out.options.by_content else None
        return content or digest(item.name.encode("utf-8", "surrogatepass"))

    def failed_before(self) -> dict[str, str]:
        """What is failed in the output, and why."""
        if self.before is None:
            self.before = {record["path"]: record["error"] for record in self.out.failures()}
        return self.before

    def write(self, result: Result) -> None:
        """Take the answer of the input that is due."""
        due = self.due.popleft()
        if isinstance(result, Failure):
            self.labelled.counts.failed[result.error] += 1
            if due.truth.classes:
                result = replace(result, truth=Truth(due.truth.classes, self.names(due.truth)))
        else:  # on the disk before the row, which says that it is there
            self.gather(due, self.spool.add(due.key, self.row), result.path, self.best)
        self.out.write(result)

    def gather(self, due: Due, number: int, path: str, best: Sequence[Label]) -> None:
        """A picture that was answered counts if its truth is known."""
        if due.truth.classes:
            indices = [label.index for label in best[:BEST]]
            self.gathered.add(due.order, number, path, due.truth, indices, best[0].score)

    def flush(self) -> None:
        """Bring every row to the disk."""
        self.out.flush()

    def failures(self) -> Iterator[dict[str, Any]]:
        """What is failed in the output."""
        return self.out.failures()

    def __enter__(self) -> Judge:
        open_rows, open_logits = self.opened
        self.out = open_rows().__enter__()
        try:
            self.spool = open_logits()
        except BaseException:
            self.out.abandon()
            self.out.release()
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.out.__exit__(kind, error, trace)

    def judged(self) -> Judged:
        """Everything that was gathered."""
        return self.gathered.judged(self.spool, self.labelled.end())


class Nowhere(Output):
    """An output for nobody: the rows of a run that only measures."""

    def __init__(self, options: Options) -> None:
        super().__init__(None, options)

    def add(self, result: Result) -> None:
        pass

    def push(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass
