"""`Part`: a tensor of the network by our name and shape, and what it is made of in the file.

Shapes are rehearsed on arrays that take no memory, so that a part is known before a weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from einops import rearrange

from vitcli.checkpoints.files import Stored
from vitcli.checkpoints.layouts import Layout
from vitcli.checkpoints.positions import relative_from_mlp, resized, resized_relative
from vitcli.checkpoints.rules import Rule
from vitcli.checkpoints.source import Array, Place
from vitcli.config import Config


@dataclass(frozen=True, slots=True)
class Part:
    """A canonical tensor: all of a stored one, or what lies at `index` of its first axis after axes have moved."""

    source: str
    stored: Stored
    rule: Rule
    index: int | None
    shape: tuple[int, ...]
    lengths: Mapping[str, int]

    @property
    def place(self) -> Place | None:
        """Where the numbers lie in the file as they are needed, None where they have to be converted or moved."""
        if self.stored.place is None or self.rule.moves:
            return None
        return self.stored.place.part(self.index or 0, self.shape)

    def read(self, moved: MutableMapping[str, Array]) -> Array:
        """The numbers, in memory that nobody else has or only the parts of the same stored tensor.

        `moved` remembers what was read, so that the parts of one stored tensor share it.
        """
        if self.place is not None:
            return self.place.read()
        if self.source not in moved:
            moved[self.source] = moved_axes(self.stored.read(), self.rule, self.lengths)
        whole = moved[self.source]
        return (whole if self.index is None else whole[self.index]).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Computed(Part):
    """One that is computed from others."""

    inputs: tuple[Part, ...]
    compute: Callable[..., Array]

    @property
    def place(self) -> None:
        """Nowhere: what lies in the file are the inputs."""
        return None

    def read(self, moved: MutableMapping[str, Array]) -> Array:
        """What `compute` makes of what `inputs` hold."""
        return self.compute(*(part.read(moved) for part in self.inputs))

    @classmethod
    def of(cls, compute: Callable[..., Array], *inputs: Part) -> Self:
        """From parts of which the first lends its name and its rule; the shape is rehearsed."""
        first, shape = inputs[0], compute(*(nothing(part.shape) for part in inputs)).shape
        return cls(first.source, first.stored, first.rule, None, shape, first.lengths, inputs, compute)


class FromMLP(Computed):
    """A table of relative positions that a small network gives, for a grid of any size."""

    __slots__ = ()

    @classmethod
    def at(cls, grid: int, class_token: bool, *inputs: Part) -> FromMLP:
        """For so many patches a side; `inputs` are the weights and biases of two linear layers."""
        return cls.of(partial(relative_from_mlp, grid=grid, class_token=class_token), *inputs)


def at_size(config: Config, parts: Mapping[str, Part], layout: Layout, image_size: int) -> dict[str, Part]:
    """The parts of the same network for pictures of another size in pixels, positions resized as their family does."""
    parts, grid, prefix = dict(parts), image_size // config.patch_size, config.prefix * config.prefix_positions
    for name, part in parts.items():
        if name == "positions":
            parts[name] = Computed.of(partial(resized, prefix=prefix, grid=grid, how=layout.resize), part)
        elif isinstance(part, FromMLP):
            parts[name] = FromMLP.at(grid, config.class_token, *part.inputs)
        elif name.endswith(".relative_positions"):
            parts[name] = Computed.of(partial(resized_relative, grid=grid, how=layout.resize_relative), part)
    return parts


def moved_axes(array: Array, rule: Rule, lengths: Mapping[str, int]) -> Array:
    """Apply a rule's pattern. Raises EinopsError when the shape does not fit."""
    if not rule.axes:
        return array
    inside = "".join(re.findall(r"\(([^)]*)\)", rule.left)).split()
    return rearrange(array, rule.axes, **{axis: lengths[axis] for axis in inside if axis in lengths})


def nothing(shape: tuple[int, ...]) -> Array:
    """An array of any shape that takes no memory, to rehearse on."""
    return np.broadcast_to(np.float32(0), shape)
