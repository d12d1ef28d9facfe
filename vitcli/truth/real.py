"""`Real`: the reassessed labels of ImageNet's validation pictures, several for some and none for others.

real.json is a list of 50,000 lists of class indices; a picture's place in it is the number in its name,
ILSVRC2012_val_00000001, less one ("Are we done with ImageNet?", Beyer et al., 2020). Pictures are found by their names,
so that any part of them will do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitcli.errors import UsageError
from vitcli.escaping import short
from vitcli.labels import wordnet_names
from vitcli.truth.classes import Classes

LARGEST = 64 << 20  # bytes; real.json has 0.5 million
NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Real:
    """The classes of ImageNet that are right for each validation picture, by its number less one; none for some."""

    path: Path
    labels: list[list[int]]
    digest: str

    @classmethod
    def read(cls, path: Path) -> Real:
        """The lists in a file. Raises UsageError."""
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError("it is too large")
            data = path.read_bytes()
            found = json.loads(data)
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not a list of ReaL labels ({short(str(error), 80)}).") from error
        if not isinstance(found, list) or not found:
            raise UsageError(f"{path} is not a list of ReaL labels, a list of classes for each validation picture.")
        for number, classes in enumerate(found, 1):
            if not isinstance(classes, list) or not all(type(index) is int and 0 <= index < 1000 for index in classes):
                raise UsageError(f"{path}: entry {number} is not a list of ImageNet's classes, numbers from 0 to 999.")
        return cls(path, found, hashlib.sha256(data).hexdigest())

    def of_classes(self, classes: Classes) -> Callable[[str], tuple[int, ...] | None]:
        """What gives the right classes of an input by its name, among those of a model; None where ReaL has none.

        Raises UsageError for a model whose classes are not ImageNet's.
        """
        wnids = list(wordnet_names())
        here = [next(iter(classes.wnids.get(wnid, ())), None) for wnid in wnids]
        if not any(index is not None for index in here):
            raise UsageError(f"{self.path} has labels of ImageNet, which are not the classes of this model.")

        def of(name: str) -> tuple[int, ...] | None:
            number = NAME.search(name.rpartition("/")[2])
            place = int(number[1]) - 1 if number else -1
            if not 0 <= place < len(self.labels):
                return None
            right = (here[index] for index in self.labels[place])
            return tuple(index for index in right if index is not None) or None

        return of
