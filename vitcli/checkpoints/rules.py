"""The language of layouts: one line says what a name of theirs is called here, and how its axes move.

In the names `{L}` is the number of a block, `{p}` is `weight` or `bias`, `{a|b}` is either spelling, and among ours
`{query|key|value}` are the parts of a fused tensor, stacked along its first axis. Where ours has `{L}` and theirs has
not, the first axis is the block. Axes move by einops patterns; of two rules for one name, the number of axes decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a layout: their name, ours, and the einops pattern where axes move."""

    theirs: str
    ours: str
    axes: str = ""

    @property
    def left(self) -> str:
        """The stored side of the pattern."""
        return self.axes.partition("->")[0].strip()

    @property
    def moves(self) -> bool:
        """Whether numbers end up in another order; brackets alone only cut the same row of numbers differently."""
        if not self.axes:
            return False
        left, _, right = re.sub("[()]", " ", self.axes).partition("->")
        return left.split() != right.split()

    def match(self, name: str) -> dict[str, str] | None:
        """`{L}` and `{p}` of a name of theirs, None if the rule is not about it."""
        match = _regex(self.theirs).fullmatch(name)
        return match.groupdict() if match else None

    def fits(self, rank: int) -> bool:
        """Whether a tensor of so many axes is the one the rule speaks of."""
        if not self.axes:
            return True
        axes = re.sub(r"\([^)]*\)", "_", self.left).split()
        return rank >= len(axes) - 1 if "..." in axes else rank == len(axes)

    def stacked(self, found: dict[str, str]) -> bool:
        """Whether the first axis is the block."""
        return "{L}" in self.ours and "L" not in found

    def targets(self, found: dict[str, str], length: int) -> list[tuple[str, int | None]]:
        """Our names for a tensor, each with its index along the first axis (of that `length`), None for all of it."""
        if self.stacked(found):
            return [(filled(self.ours, {"L": str(i)}), i) for i in range(length)]
        names = [filled(name, found) for name in spelled_out(self.ours)]
        return [(names[0], None)] if len(names) == 1 else list(zip(names, range(len(names)), strict=True))

    def spellings(self, ours: str) -> Iterator[str]:
        """Every name of theirs that would have given `ours`: what to call a missing tensor."""
        if match := _regex(self.ours).fullmatch(ours):
            for name in spelled_out(self.theirs):
                yield filled(name, match.groupdict())


@cache  # compiled when first asked for: most layouts are never met in a run
def _regex(name: str) -> re.Pattern[str]:
    pattern = re.escape(name).replace(r"\{L\}", r"(?P<L>0|[1-9]\d{0,3})").replace(r"\{p\}", "(?P<p>weight|bias)")
    return re.compile(re.sub(r"\\\{(.*?)\\\}", lambda either: f"(?:{either[1]})".replace(r"\|", "|"), pattern))


def spelled_out(name: str) -> list[str]:
    """`{a|b}.c` -> `a.c`, `b.c`."""
    pieces = re.split(r"\{([^{}]*\|[^{}]*)\}", name)
    return ["".join(chosen) for chosen in product(*(piece.split("|") for piece in pieces))]


def filled(name: str, found: dict[str, str]) -> str:
    """A name with what was found in the places of `{L}` and `{p}`."""
    for key, value in found.items():
        name = name.replace(f"{{{key}}}", value)
    return name


def rules(*rows: tuple[str, ...]) -> tuple[Rule, ...]:
    """Rows of (theirs, ours) or (theirs, ours, axes)."""
    return tuple(Rule(*row) for row in rows)
