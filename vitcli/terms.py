"""What the classes of a checkpoint and their broader terms are called, and which of them a person means."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from vitcli.errors import UsageError
from vitcli.escaping import short
from vitcli.labels import Labels
from vitcli.wordnet import Tree, synsets

SHOWN = 6  # names in a message


@dataclass(frozen=True, slots=True)
class Term:
    """A class (with its `index`) or a broader term; `classes` are the indices at or below it, in ascending order."""

    name: str
    wnid: str | None
    index: int | None
    classes: tuple[int, ...]
    names: tuple[str, ...] = field(default=(), repr=False)  # it is found by these too

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.name} ({self.wnid}, {len(self.classes)} classes)"
        return f"{self.name} ({f'{self.wnid}, ' if self.wnid else ''}class {self.index})"

    @property
    def key(self) -> str:
        """What names it and nothing else: its WordNet id, or the index of a class."""
        return str(self.index) if self.wnid is None else self.wnid


class Terms:
    """The classes of these labels by index, then the broader terms, the narrowest first."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.tree = Tree.of(labels)

    @cached_property
    def all(self) -> tuple[Term, ...]:
        """Every term. One whose only class it is itself is that class."""
        return (*self._classes(), *self._broader())

    def _classes(self) -> Iterator[Term]:
        for index, (name, wnid) in enumerate(zip(self.labels.names, self.labels.wnids, strict=True)):
            known = synsets().get(wnid or "")
            names = dict.fromkeys((name, *(known.names if known else ())))
            yield Term(name, wnid, index, (index,), tuple(names))

    def _broader(self) -> Iterator[Term]:
        own = set(self.labels.wnids)
        below = [(wnid, tuple(map(int, classes))) for wnid, classes in self.tree.classes.items()]
        for wnid, classes in sorted(below, key=lambda found: len(found[1])):
            if wnid not in own or len(classes) > 1:
                yield Term(synsets()[wnid].name, wnid, None, classes, synsets()[wnid].names)

    @cached_property
    def _by_name(self) -> dict[str, list[Term]]:
        found: dict[str, list[Term]] = {}
        for term in self.all:
            for name in dict.fromkeys(map(plain, (*term.names, term.wnid or ""))):
                found.setdefault(name, []).append(term)
        found.pop("", None)
        return found

    def exact(self, query: str) -> list[Term]:
        """The terms with this name, synonym or WordNet id; a number that is none is a class's index."""
        found = self._by_name.get(plain(query), [])
        if not found and query.strip().isdecimal() and int(query) < len(self.labels):
            return [self.all[int(query)]]
        return found

    def like(self, query: str) -> list[Term]:
        """The terms among whose names is one that holds every word of the query, or begins of them."""
        words = plain(query).split()

        def holds(name: str) -> bool:
            parts = plain(name).replace("-", " ").split()
            return all(any(part.startswith(word) for part in parts) for word in words)

        return [term for term in self.all if words and any(map(holds, term.names))]

    def near(self, query: str) -> list[str]:
        """Names that are spelled nearly so."""
        return difflib.get_close_matches(plain(query), self._by_name, 3, 0.75)

    def one(self, query: str) -> Term:
        """The term that is meant. Raises UsageError where there is none, or several that mean different classes."""
        found = self.exact(query)
        if not found:
            near = self.near(query) or [term.name for term in self.like(query)[:3]]
            meant = f": did you mean {' or '.join(near)}?" if near else ". `vit labels` lists the classes."
            raise UsageError(f"There is no class or broader term {short(repr(query))}{meant}")
        # "cat" is the usual name of one term, and another one of `big cat`
        found = [term for term in found if plain(term.name) == plain(query)] or found
        if len({term.classes for term in found}) > 1:
            named = "; ".join(str(term) for term in found[:SHOWN]) + ("; ..." if len(found) > SHOWN else "")
            keys = "its WordNet id" if all(term.wnid for term in found) else "its number"
            raise UsageError(f"{query!r} is ambiguous: {named}. Name the one you mean by {keys}.")
        return found[0]


def plain(name: str) -> str:
    """A name as it is compared: capitals, underscores and the width of spaces make no difference."""
    return " ".join(name.replace("_", " ").casefold().split())
