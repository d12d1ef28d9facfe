"""What a row can show, by the names that `--fields` takes.

Every run has the columns FIELDS. Those of EXTRA are there in runs that have such a thing to tell, and in no others:
`Options.extra` names their groups.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, TypeAlias

from vitcli.errors import UsageError
from vitcli.results import Prediction, Result

Kind: TypeAlias = Literal["text", "real", "integer", "boolean", "texts", "integers"]

LABEL_FIELDS = ("label", "score", "index", "wnid")
FIELDS = ("path", "status", *LABEL_FIELDS, "width", "height", "notes", "error", "message")
# the bytes of a name that is not UTF-8 come with the name, but for csv and tsv, which have a column for them
GROUPS = {"top": LABEL_FIELDS, "size": ("width", "height"), "path_bytes": ("path",)}
EXTRA: dict[str, dict[str, Kind]] = {
    "only": {"share": "real"},
    "decision": {"decision": "text", "decided_label": "text", "decided_wnid": "text", "decided_score": "real"},
    "truth": {"truth": "texts", "truth_index": "integers", "correct": "boolean", "truth_rank": "integer"},
}


def extras(extra: Collection[str]) -> dict[str, Kind]:
    """The columns of these groups of EXTRA, in its order."""
    return {name: kind for group, columns in EXTRA.items() if group in extra for name, kind in columns.items()}


def chosen(fields: tuple[str, ...], extra: Collection[str] = ()) -> tuple[str, ...]:
    """The fields that were asked for, in their usual order; all of them for none. Raises UsageError.

    There are those of FIELDS, and behind the status those of the groups `extra` of EXTRA.
    """
    there = (*FIELDS[:2], *extras(extra), *FIELDS[2:])
    asked = {name for field in fields for name in GROUPS.get(field, (field,))}
    if unknown := sorted(asked - set(there)):
        raise UsageError(f"There is no field {unknown[0]!r}: choose among {', '.join((*there, *GROUPS))}.")
    return tuple(field for field in there if not asked or field in asked)


def record(result: Result, fields: tuple[str, ...]) -> dict[str, Any]:
    """The row as JSON-ready values, with the chosen fields only."""
    whole = result.record()
    labels = [name for name in LABEL_FIELDS if name in fields]
    if isinstance(result, Prediction) and 0 < len(labels) < len(LABEL_FIELDS):
        whole["top"] = [{key: value for key, value in label.items() if key in labels} for label in whole["top"]]
    kept = {*fields, *(["top"] if labels else []), *(["size"] if {"width", "height"} & {*fields} else [])}
    return {key: value for key, value in whole.items() if key in kept}
