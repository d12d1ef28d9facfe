"""`vit verify` where the libraries are: `python compare.py FOLDER '{"job": {"cases": [...]}}'` prints what it found.

A job's `swap` names two parts of our networks whose rules are exchanged first, in every layout; the rest are options of
`checkpoints.load`. One process for all jobs, because importing the libraries is most of the work.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from vitcli import checkpoints, verify
from vitcli.checkpoints import LAYOUTS, Layout
from vitcli.errors import VitError

ARRANGE: Any = import_module("vitcli.checkpoints.arrange")  # whose name is a function's, too


def swapped(one: str, other: str) -> tuple[Layout, ...]:
    """The layouts with two of our names exchanged in their rules."""

    def exchanged(name: str) -> str:
        return name.replace(one, "\0").replace(other, one).replace("\0", other)

    return tuple(
        replace(layout, rules=tuple(replace(rule, ours=exchanged(rule.ours)) for rule in layout.rules))
        for layout in LAYOUTS
    )


def compared(case: Path, **options: Any) -> dict[str, Any]:
    files = [file for file in case.iterdir() if not file.name.startswith(("expected", "config.json"))]
    path = files[0] if len(files) == 1 and not files[0].name.startswith("model.safetensors") else case
    try:
        checkpoint = checkpoints.load(path, **options)
        reference = verify.of(checkpoint)
        rows = list(verify.verify(checkpoint, reference, verify.synthetic(), engines=("numpy",)))
    except VitError as error:
        return {"error": str(error)}
    return {
        "library": reference.library,
        "own_shape": reference.own_shape,
        "worst": max(row.worst for row in rows),
        "own_preprocessing": all(row.own_preprocessing for row in rows),
    }


def job(folder: Path, cases: list[str], swap: list[str] | None = None, **options: Any) -> dict[str, Any]:
    ARRANGE.LAYOUTS = swapped(*swap) if swap else LAYOUTS
    return {case: compared(folder / case, **options) for case in cases}


if __name__ == "__main__":
    from common import find_libraries

    find_libraries()
    print(json.dumps({name: job(Path(sys.argv[1]), **asked) for name, asked in json.loads(sys.argv[2]).items()}))
