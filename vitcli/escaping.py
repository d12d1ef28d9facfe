"""Text from outside (names, labels, what servers and files say) made harmless to show. Data is never changed by this.

A terminal obeys control characters, and text that changes direction reads as something else: both become escapes.
Bytes of a name that are not UTF-8 (surrogates, in Python) are shown as the bytes they are.
"""

from __future__ import annotations

import codecs
import math
from typing import Any

# Signs of ours, of one column each, for encodings that do not have them: pipes on Windows (cp1252), LC_ALL=C.
SIGNS = {
    "─": "-", "━": "=", "╸": "-", "│": "|", "█": "#", "…": "~", "✓": "+", "✗": "x", "→": ">", "×": "x", "·": ".",
    "≥": ">", "≤": "<", "–": "-", "—": "-", "’": "'", "±": "~",
}  # fmt: skip


def plainer(error: UnicodeError) -> tuple[str, int]:
    """What to write instead of what an encoding does not have: a plainer sign, else an escape (errors="plainer")."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SIGNS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error("plainer", plainer)


def printable(text: str, keep: str = "") -> str:
    """What would move the cursor, change direction or hide is shown as an escape, but for the characters in `keep`."""
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in decodable(text))


def decodable(text: str) -> str:
    """Text with no surrogates: UTF-8, and escapes for other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return exact(text).decode("utf-8", "backslashreplace")
    return text


def undecodable(text: str) -> bytes | None:
    """The exact bytes of a name that is not UTF-8, else None."""
    return None if decodable(text) == text else exact(text)


def exact(text: str) -> bytes:
    """The bytes of a name."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which stands for no byte of a name
        return text.encode("utf-8", "surrogatepass")


def strict(value: Any) -> Any:
    """JSON-ready values that any reader takes: half a surrogate pair and NaN are JSON to Python alone."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return decodable(value)
    if isinstance(value, dict):
        return {strict(key): strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, (list, tuple)) else value


def short(text: str, most: int = 120) -> str:
    """Printable, and cut to `most` characters."""
    text = printable(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def first_line(error: BaseException, most: int = 300) -> str:
    """What an error of another library says, in one line; its name where it says nothing."""
    return short((str(error).strip().splitlines() or [type(error).__name__])[0], most)


def listed(names: list[str], most: int = 6) -> str:
    """`a, b, c and 41 more`: a list that fits in a sentence."""
    shown = ", ".join(map(short, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def value(found: Any) -> str:
    """A value of a file as it may stand in a sentence."""
    if isinstance(found, int) and found.bit_length() > 128:
        return "a huge number"  # Python writes none out that is longer than 4300 digits
    return repr(found)[:40] if isinstance(found, str | int | float | bool) else f"a {type(found).__name__}"
