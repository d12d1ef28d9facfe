"""Class index -> name and WordNet id, and logits -> the best `Label`s.

The index is the only key: "crane" is the name of both 134 (the bird) and 517 (the machine).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.errors import PictureError, UsageError
from vitcli.results import Label

Activation = Literal["softmax", "sigmoid", "none"]

Rows: TypeAlias = dict[int, tuple[str, str | None]]  # index -> name and WordNet id

LARGEST_FILE = 16 * 2**20  # bytes: the names of ImageNet-21k take one or two


# What people call their classes in a config.json, or beside the weights of a .pth: by index, and by name.
BY_INDEX = ("id2label", "idx_to_class", "idx2class", "idx2label", "index_to_class", "label_names", "class_names",
            "classes", "labels", "names", "categories", "CLASSES", "target_names", "label_map", "vocab")  # fmt: skip
BY_NAME = ("label2id", "class_to_idx", "class2idx", "label2idx", "class_to_index")


def names_under(key: str, found: Any) -> dict[int, str]:
    """Index -> name, of a table or list that stands under `key`, which may have been written the wrong way round.

    Nothing of it is trusted: what is neither index nor name is left out, and long names are cut. Else empty.
    """
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, Mapping):
        return {}
    for other_way_round in (True, False) if key in BY_NAME else (False, True):
        table = {v: name for name, v in found.items() if isinstance(v, str | int)} if other_way_round else found
        names = {int(index): str(name)[:500] for index, name in table.items()
                 if _is_index(str(index)) and isinstance(name, str | int | float)}  # fmt: skip
        if names:
            return names
    return {}


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 7


@cache
def imagenet1k() -> tuple[tuple[str, str, str], ...]:
    """(wnid, WordNet names, one simple name) of each ImageNet-1k class, by index."""
    # not importlib.resources: its import takes longer than the reading
    text = (Path(__file__).parent / "data" / "imagenet1k.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return tuple((wnid, names, simple) for _, wnid, names, simple in rows)


@cache
def wordnet_names() -> dict[str, tuple[str, ...]]:
    """WordNet id -> every name of an ImageNet-1k class: its synonyms, all of them in one, the simple one."""
    return {wnid: (*names.split(", "), names, simple) for wnid, names, simple in imagenet1k()}


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of a checkpoint, by index, and how its logits become scores.

    `softmax` for one class out of many, `sigmoid` for many at once or a single logit, `none` for regression.
    """

    names: tuple[str, ...]
    wnids: tuple[str | None, ...]
    activation: Activation = "softmax"

    @classmethod
    def imagenet1k(cls) -> Labels:
        """The 1000 classes of ILSVRC2012 under one simple, unique name each."""
        rows = imagenet1k()
        return cls(tuple(row[2] for row in rows), tuple(row[0] for row in rows))

    @classmethod
    def unnamed(cls, classes: int) -> Labels:
        """`class 17`, when there is no other name."""
        return cls(tuple(f"class {i}" for i in range(classes)), (None,) * classes)

    @classmethod
    def of(cls, id2label: Mapping[int, str], classes: int) -> Labels:
        """A checkpoint's own names. WordNet ids are added when they are the names of ImageNet-1k."""
        names = tuple(str(id2label.get(i, f"class {i}")) for i in range(classes))
        wnids: tuple[str | None, ...] = (None,) * classes
        table = imagenet1k() if classes == 1000 else ()
        # a fine-tuned model may have 1000 classes of its own: most names must be WordNet's before ids are given
        if sum(own in (theirs, simple) for own, (_, theirs, simple) in zip(names, table, strict=False)) > 900:
            wnids = tuple(row[0] for row in table)
        return cls(names, wnids)

    @classmethod
    def read(cls, path: Path) -> Labels:
        """The names in a file, by index.

        .txt: a name a line, perhaps after its WordNet id. .json: a list of names or of [wnid, name]; the same as a
        table by index; or a config.json with such an `id2label`. .csv, .tsv: a column `label`, perhaps `index`, `wnid`;
        without a header, index and name. Raises UsageError for anything else.
        """
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)  # a device has no size, and no end
            if len(data) > LARGEST_FILE:
                raise ValueError("it is too large")
            text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig").read()
            match path.suffix.lower():
                case ".json":
                    rows = _rows_of_json(text)
                case ".csv" | ".tsv" as ending:
                    rows = _rows_of_csv(text, "," if ending == ".csv" else "\t")
                case _:
                    rows = _rows_of_lines(text)
        except OSError as error:
            raise UsageError(f"{path}: the labels cannot be read ({error.strerror or error}).") from error
        except (ValueError, RecursionError) as error:
            what = "its bytes are not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).split("\n")[0]
            raise UsageError(f"{path}: no labels can be made of it: {what}.") from error
        if sorted(rows) != list(range(len(rows))):
            missing = next(i for i in range(len(rows)) if i not in rows)
            raise UsageError(f"{path}: names {len(rows)} classes, none with the index {missing}; they count from 0.")
        ordered = [rows[i] for i in range(len(rows))]
        return cls(tuple(name for name, _ in ordered), tuple(wnid for _, wnid in ordered))

    @property
    def digest(self) -> str:
        """SHA-256 of the names and WordNet ids as JSON: which labels these are, in few characters."""
        import hashlib

        return hashlib.sha256(json.dumps([self.names, self.wnids]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def scores(self, logits: npt.NDArray[np.floating], among: Sequence[int] = ()) -> npt.NDArray[np.float64]:
        """Logits [k] -> scores [k], each in [0, 1] unless the activation is `none`.

        `among` are the only classes that there are (none means all): the others score nothing, and these are scored as
        if the network had no other outputs.
        """
        if among:
            scores = np.zeros(len(logits))
            scores[list(among)] = self.scores(logits[list(among)])
            return scores
        x = logits.astype(np.float64)
        if self.activation == "none":
            return x
        if self.activation == "sigmoid":
            return np.asarray(0.5 * (1 + np.tanh(x / 2)))  # the same function, without overflow
        e = np.exp(x - x.max())
        return np.asarray(e / e.sum())

    def top(self, logits: npt.NDArray[np.floating], topk: int = 5, among: Sequence[int] = ()) -> tuple[Label, ...]:
        """Logits [k] -> the `topk` best labels (all of them if there are fewer), best first, ties by index.

        `among` is that of `scores`; other classes have no place.
        Raises PictureError when a logit is not finite: NaN would otherwise rank first.
        """
        if not np.isfinite(logits).all():
            raise PictureError("not_finite", "the network gave NaN or infinite logits for this picture.")
        scores = self.scores(logits, among)
        best = np.argsort(-logits, kind="stable")
        if among:
            best = best[np.isin(best, list(among))]
        return tuple(Label(int(i), self.wnids[i], self.names[i], float(scores[i])) for i in best[:topk])


def _rows_of_lines(text: str) -> Rows:
    lines = text.rstrip().splitlines()
    if not lines:
        raise ValueError("it is empty")
    if empty := [i for i, line in enumerate(lines, 1) if not line.strip()]:
        raise ValueError(f"line {empty[0]} is empty")
    synsets = [re.fullmatch(r"(n\d{8})\s+(.+)", line.strip()) for line in lines]
    if all(synsets):
        return {i: (match[2], match[1]) for i, match in enumerate(synsets) if match}
    return {i: (line.strip(), None) for i, line in enumerate(lines)}


def _rows_of_json(text: str) -> Rows:
    found: Any = json.loads(text)
    if isinstance(found, dict) and isinstance(found.get("id2label"), dict):
        found = found["id2label"]
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict) or not found:
        raise ValueError("it is neither a list of names nor a table from index to name")
    rows: Rows = {}
    for key, value in found.items():
        match value:
            case str():
                rows[_index(key)] = value, None
            case [str(wnid), str(name)]:
                rows[_index(key)] = name, wnid
            case _:
                raise ValueError(f"{str(value)[:60]!r} is not a name")
    return rows


def _rows_of_csv(text: str, delimiter: str) -> Rows:
    import csv

    lines = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    if not lines:
        raise ValueError("it is empty")
    header = [cell.strip().lower() for cell in lines[0]]
    if "label" in header:
        lines = lines[1:]
    elif len(header) == 2 and header[0].isdecimal():
        header = ["index", "label"]
    else:
        raise ValueError("its first line names no column 'label'")
    rows: Rows = {}
    for i, line in enumerate(lines):
        row = dict(zip(header, line, strict=False))
        if not row.get("label"):
            raise ValueError(f"row {i + 1} has no label")
        rows[_index(row["index"]) if "index" in row else i] = row["label"], row.get("wnid") or None
    return rows


def _index(key: object) -> int:
    if isinstance(key, int) or (isinstance(key, str) and key.strip().isdecimal()):
        return int(key)
    raise ValueError(f"{key!r:.60} is not an index")
