r"""Formats that are text, one record after another: jsonl and json.

Bytes are exact: JSON is ASCII, so that a name that is not UTF-8 comes back from any JSON reader as Python's surrogate
escapes (`"caf\udce9.jpg"`), and `os.fsencode` gives its bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from vitcli.errors import OutputError
from vitcli.results import Result
from vitcli.writers.base import Options, Writer


class TextWriter(Writer):
    """A stream of bytes: `prefix`, then rows with `between` in between, then `footer`."""

    between: ClassVar[bytes] = b""
    footer: ClassVar[bytes] = b""

    def __init__(self, path: Path | None, header: Mapping[str, Any], options: Options) -> None:
        super().__init__(path, header, options)
        self.pending: list[bytes] = []
        self.first = True
        self.stream: BinaryIO = sys.stdout.buffer
        if path is not None:
            try:
                self.stream = path.open("wb" if options.force else "xb")
            except FileExistsError:
                raise OutputError(f"{path} exists already: add --force to overwrite it.") from None
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}.") from None
        self.pending.append(self.prefix())

    def prefix(self) -> bytes:
        """What comes before the rows."""
        return b""

    def row(self, result: Result) -> bytes:
        """One result."""
        raise NotImplementedError

    def add(self, result: Result) -> None:
        if not self.first:
            self.pending.append(self.between)
        self.first = False
        self.pending.append(self.row(result))

    def push(self) -> None:
        try:
            self.stream.write(b"".join(self.pending))
            self.stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path or 'stdout'} cannot be written: {error.strerror}.") from None
        finally:
            self.pending.clear()

    def close(self) -> None:
        self.pending.append(self.footer)
        self.flush()
        if self.path is not None:
            self.stream.close()


class Jsonl(TextWriter):
    """One JSON record a line."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")
    help = "one JSON record a line"

    def row(self, result: Result) -> bytes:
        return json.dumps(result.record()).encode() + b"\n"


class Json(TextWriter):
    """One document: a header that says how the results were made, and the records."""

    name = "json"
    endings = (".json",)
    help = "one JSON document with a header"
    between = b",\n"
    footer = b"\n]}\n"

    def prefix(self) -> bytes:
        return b'{"header": ' + json.dumps(self.header).encode() + b',\n"results": [\n'

    def row(self, result: Result) -> bytes:
        return json.dumps(result.record()).encode()
