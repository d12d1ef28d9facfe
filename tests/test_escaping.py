"""Text from outside is shown in one spelling, and does nothing to a terminal."""

from __future__ import annotations

import pytest

from vitcli.escaping import printable, short

SHOWN = {
    "cat.jpg": "cat.jpg",
    "写真 é.jpg": "写真 é.jpg",
    "caf\udce9.jpg": r"caf\xe9.jpg",  # a byte that is not UTF-8 is shown as that byte
    "\x1b[31m": r"\x1b[31m",
    "two\nlines": r"two\nlines",
    "turned\u202egpj": r"turned\u202egpj",
    "half a pair \ud800": r"half a pair \xed\xa0\x80",
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_name_has_one_spelling_wherever_it_is_shown(text: str) -> None:
    assert printable(text) == SHOWN[text]
    assert short(text) == SHOWN[text]
