"""The table for people: a picture's name, then its labels with their scores as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitcli.results import Prediction, Result
from vitcli.writers.base import Options, Writer


class Table(Writer):
    """Rows of a rich table, printed as they come."""

    name = "table"
    endings = (".txt",)
    help = "for people"

    def __init__(self, path: Path | None, header: Mapping[str, Any], options: Options) -> None:
        super().__init__(path, header, options)
        from rich.console import Console

        self.console = Console(highlight=False, emoji=False, markup=False)

    def add(self, result: Result) -> None:
        self.console.print(result.path.encode("utf-8", "backslashreplace").decode())
        if isinstance(result, Prediction):
            for rank, label in enumerate(result.top, 1):
                self.console.print(f"  {rank} {label.label} {label.score:.2%}")
        else:
            self.console.print(f"  {result.error}: {result.message}")

    def push(self) -> None:
        pass
