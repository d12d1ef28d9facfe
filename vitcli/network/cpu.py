"""A network on a CPU: uint8 [b h w c] -> float32 logits [b k], its linear layers laid out for this CPU beforehand.

Matrix products want the weight [out in] cut into tiles that fit the registers; given a plain tensor they do that anew
for every batch. `pack` hands the tiles over instead, in oneDNN's form, or in MKL's for float32 on Intel, where MKL's
product is the faster by a tenth (and elsewhere the slower by a third).

Every kind and shape of packed layer is checked against the plain one before it takes its place, else it stays plain.

The last digits of a row of a matrix product depend on how many rows there are, and on how many threads share them: a
kernel for another size sums in another order. Where rows must be repeatable, pictures go in parts that always have the
same size, each in one thread. Whether a row then depends on its place among the others is checked on loading.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vitcli.network.model import Block, PatchEmbedding, ViT
from vitcli.pictures.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

# Largest difference between a packed and a plain layer, as a share of the largest value: what reordering a sum, and a
# GELU by another formula, may do. A weight in the wrong order differs by the value itself.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}

# Bytes of the widest activation of the pictures that go through together. C allocators take larger pieces than 32 MiB
# from the system each time, which clears every page again at every layer.
WIDEST = 20 * 2**20
ENOUGH = 16  # pictures that go through at once, over all threads: with more nothing is gained

WORTH_MKL = 2**19  # elements of a weight; smaller ones are multiplied as fast by oneDNN


class OnCPU:
    """A network on the CPU in `dtype`, packed where that is possible; `again` as for `pack`.

    A batch is cut into parts of a few pictures, and each thread takes a part through the whole network by itself. They
    never wait for each other, as threads that share every product do some hundred times a batch, which costs most where
    something else wants the cores. Fewer parts than threads share their products after all.
    `batch` is how many pictures come at once if that is known: the weights are laid out for that.
    """

    def __init__(
        self,
        model: ViT,
        preprocess: Preprocess,
        dtype: torch.dtype,
        batch: int | None = None,
        again: Callable[[str], npt.NDArray[np.float32]] | None = None,
    ) -> None:
        self.model, self.preprocess, self.dtype = model, preprocess, dtype
        self.threads = torch.get_num_threads()
        config = model.config
        picture = config.tokens * max(config.mlp_width, 3 * config.width) * dtype.itemsize
        enough = max(1, min(ENOUGH, batch or ENOUGH) // self.threads)
        self.together = max(1, min(WIDEST // picture, enough))
        self.packed = pack(model, dtype, self.together, again)
        self.pool = ThreadPoolExecutor(self.threads, "network", initializer=torch.set_num_threads, initargs=(1,))
        if self.together > 1 and self.pool.submit(self.place_matters).result():
            self.together = 1

    def __call__(self, pixels: Pixels, repeatable: bool = False) -> Logits:
        """Classify a batch. Raises RuntimeError when it does not fit in memory.

        `repeatable` gives a picture the same row, to the bit, in whatever batch: every part is filled up to the same
        size, and no product is shared. That costs time when pictures are fewer than a part times the threads.
        """
        count = len(pixels)
        size = self.together
        if count < size and repeatable:
            pixels = np.concatenate([pixels, np.zeros((size - count, *pixels.shape[1:]), np.uint8)])
        elif count < size:
            size = count
        # in parts of one size, the last one overlapping
        firsts = range(0, len(pixels), size)
        starts = [min(first, len(pixels) - size) for first in firsts]
        parts = [pixels[start : start + size] for start in starts]
        if self.threads > 1 and (repeatable or len(parts) >= self.threads):
            found = list(self.pool.map(self.part, parts))
        else:
            torch.set_num_threads(self.threads)  # a setting of each thread, and this may be a new one
            found = [self.part(part) for part in parts]
        return np.concatenate(
            [logits[first - start :] for first, start, logits in zip(firsts, starts, found, strict=True)]
        )[:count]

    @torch.inference_mode()
    def part(self, pixels: Pixels) -> Logits:
        """Classify a few pictures, in the calling thread."""
        normalised = torch.from_numpy(self.preprocess.normalised(pixels)).to(self.dtype)
        logits: Logits = self.model(normalised).float().numpy()
        return logits

    @torch.inference_mode()
    def place_matters(self) -> bool:
        """Whether one picture at every place of a part gets different rows; the first and last block stand for all."""
        model, config = self.model, self.model.config
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand(1, config.channels, config.image_size, config.image_size, generator=generator)
        blocks = model.blocks
        model.blocks = nn.ModuleList(blocks[i] for i in sorted({0, config.depth - 1}))
        try:
            rows = model(picture.to(self.dtype).repeat(self.together, 1, 1, 1)).float().view(torch.int32)
        finally:
            model.blocks = blocks
        return not bool((rows == rows[0]).all())

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """Classify a batch now; waiting for it takes no time. See `backend.Backend.submit`."""
        logits = self(pixels, repeatable=pad_to is not None)
        return lambda: logits

    def shrink(self) -> None:
        """Take fewer pictures together, after a batch that did not fit."""
        self.together = max(1, self.together // 2)


class PackedLinear(nn.Module):
    """[.. in] -> [.. out], a linear layer in oneDNN's form and the GELU that follows it: None, "none" (exact), "tanh".

    Bias and GELU are applied while a result is still in a register: a walk less through the widest activation.
    """

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


class MKLLinear(nn.Module):
    """The same in MKL's form, which is for just so many rows; others go through the plain weight.

    That weight may be `forgotten`: then it takes no memory until it is used.
    """

    def __init__(self, layer: nn.Linear, rows: int, gelu: str | None = None) -> None:
        super().__init__()
        plain = layer.weight.detach()
        self.rows = rows
        self.plain: Callable[[], Tensor] = lambda: plain
        self.weight = torch.ops.mkl._mkl_reorder_linear_weight(plain, rows)
        self.shape = plain.new_zeros(()).expand(plain.shape)  # of the plain weight all that counts for those rows
        self.bias = layer.bias
        self.gelu = gelu

    def forgotten(self, again: Callable[[], npt.NDArray[np.float32]]) -> None:
        """Let the plain weight go; `again` reads it where it is needed after all."""
        self.plain = cache(lambda: torch.from_numpy(again()))

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() // x.shape[-1] == self.rows:
            y: Tensor = torch.ops.mkl._mkl_linear(x, self.weight, self.shape, self.bias, self.rows)
        else:
            y = F.linear(x, self.plain(), self.bias)
        return y if self.gelu is None else torch.ops.aten.gelu_(y, approximate=self.gelu)


@torch.inference_mode()
def pack(
    model: ViT, dtype: torch.dtype, together: int, again: Callable[[str], npt.NDArray[np.float32]] | None = None
) -> int:
    """`model.lower` on the CPU with the linear layers packed; says how many could be.

    `together` is how many pictures usually go through at once: the tiles are chosen for that. Each plain weight is let
    go before the next is packed; `again` reads one once more, by name, where a layer comes to need it.
    """
    packer, config = Packer(again), model.config
    all_rows = together * config.tokens
    for i, part in enumerate((model.patch_embedding, *model.blocks)):
        part.to(dtype)
        if isinstance(part, PatchEmbedding):
            packer.place = "patch_embedding"
            packer.replace(part, "projection", together * config.patches)
        elif isinstance(part, Block):
            rows = together * (config.pooled_tokens or config.tokens) if i == config.depth else all_rows
            packer.place = f"blocks.{i - 1}.attention"
            for name, seen in (("query", rows), ("key", all_rows), ("value", all_rows), ("out", rows)):
                packer.replace(part.attention, name, seen)
            packer.place = f"blocks.{i - 1}.mlp"
            gelu = part.mlp.gelu if isinstance(part.mlp.gelu, nn.GELU) and part.mlp.gate is None else None
            if packer.replace(part.mlp, "fc1", rows, then=gelu) and gelu:
                part.mlp.gelu = nn.Identity()
            packer.replace(part.mlp, "gate", rows)
            packer.replace(part.mlp, "fc2", rows)
    model.lower(dtype)
    return packer.done


class Packer:
    """Replaces layers, remembering which kinds and shapes have been checked, and counting what it has `done`.

    `place` is the part of the network that it is at.
    """

    def __init__(self, again: Callable[[str], npt.NDArray[np.float32]] | None = None) -> None:
        self.again = again
        self.place = ""
        self.done = 0
        self.right: dict[tuple[object, ...], bool] = {}

    def replace(self, parent: nn.Module, name: str, rows: int, then: nn.GELU | None = None) -> bool:
        """Put a packed layer, with the GELU `then`, in the place of `parent.name` if it computes the same."""
        layer = getattr(parent, name)
        if not isinstance(layer, nn.Linear):
            return False
        gelu = then.approximate if then else None
        for kind in (MKLLinear, PackedLinear) if mkl_is_faster(layer) else (PackedLinear,):
            what = (kind, layer.weight.shape, layer.bias is None, rows, gelu)
            try:
                packed = kind(layer, rows, gelu)
                if what not in self.right:
                    self.right[what] = agree(packed, nn.Sequential(layer, then) if then else layer, layer, rows)
            except (AttributeError, RuntimeError):  # a torch without these operators, or a CPU without this dtype
                continue
            if self.right[what]:
                if isinstance(packed, MKLLinear) and self.again is not None:
                    packed.forgotten(partial(self.again, f"{self.place}.{name}.weight"))
                setattr(parent, name, packed)
                self.done += 1
                return True
        return False


def mkl_is_faster(layer: nn.Linear) -> bool:
    """Whether MKL, which is written for Intel's processors, is worth its inconvenience for a layer."""
    weight = layer.weight
    mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return bool(mkl and weight.dtype == torch.float32 and weight.numel() >= WORTH_MKL and intel())


def intel() -> bool:
    """Whether this is an Intel processor; taken not to be where the system does not tell."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()[:200]
    except OSError:
        return False


def agree(packed: nn.Module, plain: nn.Module, layer: nn.Linear, rows: int) -> bool:
    """Whether two layers give the same for a batch of random rows, within TOLERANCE."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, rows, layer.in_features, generator=generator).to(layer.weight.dtype)
    expected, found = plain(x).float(), packed(x).float()
    return bool((found - expected).abs().max() <= TOLERANCE[layer.weight.dtype] * expected.abs().max())
