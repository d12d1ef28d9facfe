"""What a row can show, by the names that `--fields` takes."""

from __future__ import annotations

from typing import Any

from vitcli.errors import UsageError
from vitcli.results import Prediction, Result

LABEL_FIELDS = ("label", "score", "index", "wnid")
FIELDS = ("path", "status", *LABEL_FIELDS, "width", "height", "notes", "error", "message")
GROUPS = {"top": LABEL_FIELDS, "size": ("width", "height")}


def chosen(fields: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of FIELDS that were asked for, in the order of FIELDS; all of them for none. Raises UsageError."""
    asked = {name for field in fields for name in GROUPS.get(field, (field,))}
    if unknown := sorted(asked - set(FIELDS)):
        raise UsageError(f"There is no field {unknown[0]!r}: choose among {', '.join((*FIELDS, *GROUPS))}.")
    return tuple(field for field in FIELDS if not asked or field in asked)


def record(result: Result, fields: tuple[str, ...]) -> dict[str, Any]:
    """The row as JSON-ready values, with the chosen fields only."""
    whole = result.record()
    if len(fields) == len(FIELDS):
        return whole
    labels = [name for name in LABEL_FIELDS if name in fields]
    if isinstance(result, Prediction) and labels:
        whole["top"] = [{key: value for key, value in label.items() if key in labels} for label in whole["top"]]
    kept = {*fields, *(["top"] if labels else []), *(["size"] if {"width", "height"} & {*fields} else [])}
    return {key: value for key, value in whole.items() if key in kept}
