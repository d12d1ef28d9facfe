"""`Classes`: what people call a class -> its index, by WordNet id, name, synonym or number; never by its place.

Folders that are sorted, and numbered by their order, give every class a wrong neighbour as soon as one is missing, or
as soon as "100" is sorted before "2". So a label stands for itself: what matches no class, or several, is nobody's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from vitcli.errors import UsageError
from vitcli.escaping import short
from vitcli.labels import Labels, wordnet_names

WNID = re.compile(r"n\d{8}(?![^\s_-])", re.ASCII)  # alone, or before a name as in n02085620-Chihuahua
NUMBER = re.compile(r"(\d{1,9})(\.0+)?", re.ASCII)  # what pandas writes of a column with gaps is 3.0
SHOWN = 3  # names in a sentence


class Classes:
    """The classes of a model, found by what people call them."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.wnids: dict[str, set[int]] = {}
        self.own: dict[str, set[int]] = {}
        self.others: dict[str, set[int]] = {}
        table = wordnet_names() if any(labels.wnids) else {}
        for index, (name, wnid) in enumerate(zip(labels.names, labels.wnids, strict=True)):
            self.own.setdefault(normal(name), set()).add(index)
            for other in (*name.split(","), *table.get(wnid or "", ())):
                self.others.setdefault(normal(other), set()).add(index)
            if wnid:
                self.wnids.setdefault(wnid, set()).add(index)
        self.found: dict[str, frozenset[int]] = {}  # what was asked already: labels are few, pictures many

    def find(self, label: str) -> frozenset[int]:
        """The classes that a label may mean: one, none, or several, which leave it open ("crane")."""
        if label not in self.found:
            self.found[label] = frozenset(self.search(label.strip()))
        return self.found[label]

    def search(self, label: str) -> set[int]:
        """`find`, without remembering it."""
        if (wnid := WNID.match(label)) and (found := self.wnids.get(wnid[0])):
            return found
        own, number = self.own.get(normal(label), set()), self.number(label)
        if number is not None and number < len(self.labels):
            return own | {number}  # classes that are called by numbers, but by others than their own, leave it open
        # the exact name of one class may be a further name of others: what a row shows is always found again
        return own or self.others.get(normal(label), set())

    def number(self, label: str) -> int | None:
        """The number that a label is."""
        number = NUMBER.fullmatch(label.strip())
        return int(number[1]) if number else None

    def check(self, where: str, labels: Iterable[str]) -> None:
        """Raise UsageError if not one of these labels means a class, or if their numbers are not those of the classes.

        `where` is what has them.
        """
        seen = list(dict.fromkeys(labels))
        for label in seen:
            if (number := self.number(label)) is not None and number >= len(self.labels) and not self.find(label):
                counted = " Does it count from 1?" if number == len(self.labels) else ""
                raise UsageError(
                    f"{where} has the label {number}, but this model's classes are 0 to {len(self.labels) - 1}: the "
                    f"labels fit another model.{counted}"
                )
        if seen and not any(self.find(label) for label in seen):
            fit = "They are WordNet ids, which this model's classes have not. " if all(map(WNID.match, seen)) else ""
            raise UsageError(
                f"{where}: none of the labels ({some(seen)}) is a class of this model ({some(self.labels.names)}). "
                f"{fit}Classes are named by WordNet id, name or number: choose the model that they fit."
            )


def normal(name: str) -> str:
    """A name without what people write differently: case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def some(names: Iterable[str], count: int | None = None, most: int = 40) -> str:
    """The first few names, each cut to `most` characters, and how many more there are."""
    names = list(names)
    count = len(names) if count is None else count
    more = count - min(SHOWN, len(names))
    return ", ".join(short(name, most) for name in names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
