"""The layouts of checkpoints, a row each: whose names mean what, where axes move, and what tensors cannot say.

To add a layout, add a `Layout` to LAYOUTS: nothing else knows how many there are.

In the names `{L}` is the number of a block, `{p}` is `weight` or `bias`, `{a|b}` is either spelling, and among ours
`{query,key,value}` are the parts of a fused tensor, stacked along its first axis. Where ours has `{L}` and theirs has
not, the first axis is the block. Axes are moved by einops patterns; of two rules for one name, the number of axes
decides. Axis letters: d width, n tokens, c channels, p q rows and columns of a patch, h heads, e width of a head, i o fan-in and
fan-out, s one of query, key, value, l block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from vitcli.checkpoints.positions import Resize
from vitcli.config import Gelu, Pooling

TORCH_BICUBIC = Resize("bicubic")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a layout: their name, ours, and the einops pattern where axes move."""

    theirs: str
    ours: str
    axes: str = ""
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pieces = re.split(r"\{(.*?)\}", self.theirs)
        for i, inside in enumerate(pieces):
            if i % 2 == 0:
                pieces[i] = re.escape(inside)
            elif inside == "L":
                pieces[i] = r"(?P<L>0|[1-9]\d{0,3})"
            elif inside == "p":
                pieces[i] = r"(?P<p>weight|bias)"
            else:
                pieces[i] = f"(?:{'|'.join(map(re.escape, inside.split('|')))})"
        object.__setattr__(self, "_regex", re.compile("".join(pieces)))

    @property
    def left(self) -> str:
        """The stored side of the pattern."""
        return self.axes.partition("->")[0].strip()

    def match(self, name: str) -> dict[str, str] | None:
        """`{L}` and `{p}` of a name of theirs, None if the rule is not about it."""
        match = self._regex.fullmatch(name)
        return match.groupdict() if match else None

    def fits(self, rank: int) -> bool:
        """Whether a tensor of so many axes is the one the rule speaks of."""
        if not self.axes:
            return True
        axes = re.sub(r"\([^)]*\)", "_", self.left).split()
        return rank >= len(axes) - 1 if "..." in axes else rank == len(axes)

    def targets(self, found: dict[str, str], length: int) -> list[tuple[str, int | None]]:
        """Our names for a tensor, each with its index along the first axis (of that `length`), None for all of it."""
        ours = self.ours.replace("{p}", found.get("p") or "")
        if parts := re.search(r"\{(\w+(?:,\w+)+)\}", ours):
            names = [ours.replace(parts[0], part) for part in parts[1].split(",")]
            return [(name.replace("{L}", found.get("L") or ""), i) for i, name in enumerate(names)]
        if "{L}" in ours and "L" not in found:
            return [(ours.replace("{L}", str(i)), i) for i in range(length)]
        return [(ours.replace("{L}", found.get("L") or ""), None)]

    def spellings(self, ours: str) -> Iterator[str]:
        """Every name of theirs that would have given `ours`: what to call a missing tensor."""
        pattern = re.escape(self.ours).replace(re.escape("{L}"), r"(?P<L>\d+)").replace(re.escape("{p}"), r"(?P<p>\w+)")
        pattern = re.sub(r"\\\{([\w,]+)\\\}", lambda m: f"(?:{m[1].replace(',', '|')})", pattern)
        if match := re.fullmatch(pattern, ours):
            names = [self.theirs]
            for key, value in match.groupdict().items():
                names = [name.replace(f"{{{key}}}", value) for name in names]
            while any("{" in name for name in names):
                names = [
                    re.sub(r"\{(.*?)\}", spelling, name, count=1)
                    for name in names
                    for spelling in (re.search(r"\{(.*?)\}", name) or ["", ""])[1].split("|")
                ]
            yield from names


@dataclass(frozen=True, slots=True)
class Layout:
    """One family of checkpoints.

    `signs` are names of theirs (one of them, after a prefix is taken off) that no other layout has; `prefixes` are
    taken off where they stand; `dropped` are shell patterns of what inference does not need. The rest is what a family
    does and its tensors do not say; `bare_attention`: a single head of full width has no output projection.
    """

    name: str
    signs: tuple[str, ...]
    rules: tuple[Rule, ...]
    prefixes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    eps: float = 1e-6
    gelu: Gelu = "exact"
    mean: Pooling = "mean"  # what the family means by mean pooling
    pooled_norm: str = ""  # their name of the final norm where it follows pooling
    bare_attention: bool = False
    preprocess: str = "hf"  # a key of preprocess.FAMILIES
    resize: Resize = TORCH_BICUBIC


TOKEN, TOKENS = "... d -> (... d)", "... n d -> (... n) d"  # with or without leading axes of 1
CONVOLUTION, FUSED = "d c p q -> d (c p q)", "(s d) ... -> s d ..."


def rules(*rows: tuple[str, ...]) -> tuple[Rule, ...]:
    """Rows of (theirs, ours) or (theirs, ours, axes)."""
    return tuple(Rule(*row) for row in rows)


TRANSFORMERS = rules(
    ("embeddings.cls_token",                                          "class_token", TOKEN),
    ("embeddings.distillation_token",                                 "distillation_token", TOKEN),
    ("embeddings.position_embeddings",                                "positions", TOKENS),
    ("embeddings.patch_embeddings.projection.weight",                 "patch_embedding.projection.weight", CONVOLUTION),
    ("embeddings.patch_embeddings.projection.bias",                   "patch_embedding.projection.bias"),
    ("{encoder.layer|layers}.{L}.layernorm_before.{p}",               "blocks.{L}.norm1.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.query|q_proj}.{p}", "blocks.{L}.attention.query.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.key|k_proj}.{p}",   "blocks.{L}.attention.key.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.value|v_proj}.{p}", "blocks.{L}.attention.value.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{output.dense|o_proj}.{p}",    "blocks.{L}.attention.out.{p}"),
    ("{encoder.layer|layers}.{L}.layernorm_after.{p}",                "blocks.{L}.norm2.{p}"),
    ("{encoder.layer|layers}.{L}.{intermediate.dense|mlp.fc1}.{p}",   "blocks.{L}.mlp.fc1.{p}"),
    ("{encoder.layer|layers}.{L}.{output.dense|mlp.fc2}.{p}",         "blocks.{L}.mlp.fc2.{p}"),
    ("layernorm.{p}",                                                 "norm.{p}"),
    ("{classifier|cls_classifier}.{p}",                               "head.{p}"),
    ("distillation_classifier.{p}",                                   "distillation_head.{p}"),
)  # fmt: skip

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "transformers",
        signs=("embeddings.patch_embeddings.projection.weight",),
        prefixes=("vit.", "deit."),
        rules=TRANSFORMERS,
        dropped=("pooler.dense.*", "embeddings.mask_token"),
        eps=1e-12,
    ),
)
