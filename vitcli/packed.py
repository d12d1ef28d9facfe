"""A network on a CPU: uint8 [b h w c] -> float32 logits [b k], its linear layers laid out for this CPU beforehand.

oneDNN's matrix products want the weight [out in] cut into tiles that fit the registers; given a plain tensor they do
that anew for every batch. `pack` hands the tiles over instead. The same operators add the bias and apply the GELU
while a result is still in a register, which saves a walk through the widest activation of the network.

Every packed layer is checked against the plain one before it takes its place; a layer that differs stays plain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vitcli.model import Block, PatchEmbedding, ViT
from vitcli.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

# Largest difference between a packed and a plain layer, as a share of the largest value: what reordering a sum, and a
# GELU by another formula, may do. A weight in the wrong order differs by the value itself.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}


# Bytes of the widest activation of the pictures that go through together. C allocators take larger pieces than 32 MiB
# from the system each time, which clears every page again at every layer.
WIDEST = 20 * 2**20


class OnCPU:
    """A network on the CPU in `dtype`, packed where that is possible; `release` as for `pack`."""

    def __init__(
        self, model: ViT, preprocess: Preprocess, dtype: torch.dtype, release: Callable[[], None] = lambda: None
    ) -> None:
        self.model, self.preprocess, self.dtype = model, preprocess, dtype
        config = model.config
        picture = config.tokens * max(config.mlp_width, 3 * config.width) * dtype.itemsize
        self.together = max(1, WIDEST // picture)
        self.packed = pack(model, dtype, self.together * config.tokens, release)

    @torch.inference_mode()
    def __call__(self, pixels: Pixels) -> Logits:
        """Classify a batch, a few pictures at a time. Raises RuntimeError when they do not fit in memory."""
        parts = (pixels[start : start + self.together] for start in range(0, len(pixels), self.together))
        logits = [self.model(torch.from_numpy(self.preprocess.normalised(part)).to(self.dtype)) for part in parts]
        return torch.cat(logits).float().numpy()

    def submit(self, pixels: Pixels) -> Callable[[], Logits]:
        """Classify a batch now; waiting for it takes no time."""
        logits = self(pixels)
        return lambda: logits

    def shrink(self) -> None:
        """Take fewer pictures together, after a batch that did not fit."""
        self.together = max(1, self.together // 2)


class PackedLinear(nn.Module):
    """[.. in] -> [.. out], a linear layer and the GELU that follows it, if any ("none": exact, "tanh")."""

    def __init__(self, layer: nn.Linear, rows: int, gelu: str | None = None) -> None:
        super().__init__()
        # an opaque tensor, neither a parameter nor a buffer: it can be multiplied with and nothing else
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
        self.bias = layer.bias
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        after, formula = ("none", "") if self.gelu is None else ("gelu", self.gelu)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, after, [], formula)
        return y


@torch.inference_mode()
def pack(model: ViT, dtype: torch.dtype, rows: int, release: Callable[[], None] = lambda: None) -> int:
    """Bring a network on the CPU to `dtype` with its linear layers packed, and say how many could be.

    `rows` is how many tokens usually go through at once: the tiles are chosen for that. Each plain weight is let go
    before the next is packed; `release` is called after each block, for whoever else holds them.
    """
    done = 0
    for part in (model.patch_embedding, *model.blocks):
        part.to(dtype)
        if isinstance(part, PatchEmbedding):
            done += replace(part, "projection", rows)
        elif isinstance(part, Block):
            for name in ("query", "key", "value", "out"):
                done += replace(part.attention, name, rows)
            if replace(part.mlp, "fc1", rows, then=part.mlp.gelu):
                part.mlp.gelu = nn.Identity()  # type: ignore[assignment]
                done += 1
            done += replace(part.mlp, "fc2", rows)
        release()
    model.to(dtype)
    return done


def replace(parent: nn.Module, name: str, rows: int, then: nn.GELU | None = None) -> bool:
    """Put a packed layer, with the GELU `then`, in the place of `parent.name` if it computes the same."""
    layer = getattr(parent, name)
    if not isinstance(layer, nn.Linear) or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    plain = nn.Sequential(layer, then) if then else layer
    try:
        packed = PackedLinear(layer, rows, then.approximate if then else None)
        same = agree(packed, plain, layer)
    except (AttributeError, RuntimeError):  # a torch without these operators, or a CPU without this dtype
        return False
    if same:
        setattr(parent, name, packed)
    return same


def agree(packed: nn.Module, plain: nn.Module, layer: nn.Linear) -> bool:
    """Whether two layers give the same for a batch of random rows, within TOLERANCE."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, layer.in_features, generator=generator).to(layer.weight.dtype)
    expected, found = plain(x).float(), packed(x).float()
    return bool((found - expected).abs().max() <= TOLERANCE[layer.weight.dtype] * expected.abs().max())
