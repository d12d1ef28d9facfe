"""Where patches lie in a picture: what rotary and relative positions are computed from, in numpy for both engines.

Patches are numbered row by row. Tokens in front of them (class, registers) lie nowhere. Axis letters: n tokens, f pairs
of a head's numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from einops import rearrange

from vitcli.config import Config, Rotary


def places(config: Config) -> npt.NDArray[np.float32]:
    """Coordinates [2 n] by which tokens are turned: 0 before the patches, which are not turned."""
    rotary = config.rotary or Rotary()
    steps = np.arange(config.grid, dtype=np.float32)
    if rotary.grid:
        steps = steps / np.float32(config.grid) * np.float32(rotary.grid)
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    both = np.stack([columns, rows] if rotary.columns_first else [rows, columns])
    return np.pad(rearrange(both, "xy h w -> xy (h w)"), [(0, 0), (config.prefix, 0)])


def frequencies(config: Config) -> npt.NDArray[np.float32]:
    """Radians a patch [1 2 1 f] that are the same for every block and head: half of the pairs for each coordinate."""
    count = config.head_width // 4
    falling = (config.rotary or Rotary()).temperature ** -(np.arange(count, dtype=np.float32) / np.float32(count))
    found = np.zeros((1, 2, 1, 2 * count), np.float32)
    found[:, 0, :, :count] = found[:, 1, :, count:] = falling
    return found


def relative_index(config: Config) -> npt.NDArray[np.int64]:
    """Which row of a table of relative positions is for token i asking token j: [n n].

    As BEiT counts (beit/modeling_finetune.py of https://github.com/microsoft/unilm): differences of rows, then of
    columns, then a class token asking, being asked, and asking itself.
    """
    grid = config.grid
    rows, columns = (rearrange(axis, "h w -> (h w)") for axis in np.mgrid[:grid, :grid].astype(np.int64))
    across = 2 * grid - 1
    between: npt.NDArray[np.int64] = (rows[:, None] - rows + grid - 1) * across + (
        columns[:, None] - columns + grid - 1
    )
    if not config.class_token:
        return between
    index: npt.NDArray[np.int64] = np.pad(between, [(1, 0), (1, 0)])
    index[0], index[:, 0], index[0, 0] = across**2, across**2 + 1, across**2 + 2
    return index
