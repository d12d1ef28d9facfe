"""A network on an accelerator: uint8 [b h w c] -> float32 logits [b k], with the card never waiting for pictures.

    pixels -> pinned buffer -> (copy stream) -> buffer on the card -> normalise -> network -> pinned logits

Pictures cross the bus as bytes, a quarter of what normalised pixels would be, and are normalised on the card.
There are two pairs of buffers: while the network reads one, the next batch is copied into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from torch import Tensor, nn

from vitcli.network.model import Attention, Block, ViT
from vitcli.pictures.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


class FusedAttention(Attention):
    """`model.Attention` over all tokens with one product for query, key and value: [b n d] -> [b n d]."""

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)  # everything else is that one's
        self.heads = attention.heads
        parts = (attention.query, attention.key, attention.value)
        weight = torch.cat([part.weight.detach() for part in parts])
        biases: list[Tensor] = [
            part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts
        ]
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.cat(biases), False) if attention.query.bias is not None else None
        self.relative_positions = attention.relative_positions
        self.register_buffer("index", attention.index)
        self.norm, self.out = attention.norm, attention.out

    def project(self, x: Tensor, asking: Tensor) -> Sequence[Tensor]:
        return F.linear(x, self.weight, self.bias).chunk(3, dim=-1)


def fuse(model: ViT) -> None:
    """Fuse query, key and value wherever all tokens ask; in the last block perhaps only the first ones do."""
    for block in model.blocks[: -1 if model.config.pooled_tokens else None]:
        if isinstance(block, Block) and isinstance(block.attention, Attention):
            block.attention = FusedAttention(block.attention)


class Buffer:
    """Room for one batch of pictures in pinned memory and on the card, and who is still using it."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self.on_card = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # the copy stream has read `pinned` and filled `on_card`
        self.read = torch.cuda.Event()  # type: ignore[no-untyped-call]  # the network has read `on_card`
        self.read.record()  # which it also clears: the copy stream does not wait for that by itself


class OnCard:
    """A network on CUDA or MPS.

    `submit` starts a batch and returns at once what waits for its logits: starting the next batch before waiting for
    this one keeps the card busy. `compiled` fuses the small operations; it costs a minute, and fixes the batch to the
    first one's size, to which smaller ones are padded.
    """

    def __init__(self, model: ViT, preprocess: Preprocess, compiled: bool) -> None:
        fuse(model)
        self.model = model
        weight = model.patch_embedding.projection.weight
        self.device, self.dtype = weight.device, weight.dtype
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (preprocess.mean, preprocess.std))
        self.scale, self.shift = (v.float().to(self.device) for v in (1 / (255 * std), -mean / std))
        self.forward = torch.compile(self.classify, dynamic=False) if compiled else self.classify
        self.compiled = compiled
        self.buffers: list[Buffer] = []
        if self.device.type == "cuda":
            self.copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def classify(self, pixels: Tensor) -> Tensor:
        """uint8 [b h w c] -> float32 [b k], both on the card."""
        x = pixels.float() * self.scale + self.shift
        x = rearrange(x.to(self.dtype), "b h w c -> b c h w")
        logits: Tensor = self.model(x)
        return logits.float()

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """Start on a batch. Raises torch.OutOfMemoryError, now or when waited for, if it does not fit.

        With `pad_to` it goes through with that many pictures, whose number decides which kernels run.
        """
        if pad_to is not None and (missing := pad_to - len(pixels)) > 0:
            count, blank = len(pixels), np.zeros((missing, *pixels.shape[1:]), np.uint8)
            padded = self.submit(np.concatenate([pixels, blank]))
            return lambda: padded()[:count]
        if self.device.type != "cuda":
            with torch.inference_mode():
                logits = self.classify(torch.from_numpy(pixels).to(self.device))
            return lambda: logits.cpu().numpy()
        with torch.cuda.device(self.device), torch.inference_mode():
            return self._submit(pixels)

    def _submit(self, pixels: Pixels) -> Callable[[], Logits]:
        count = len(pixels)
        buffer = self._buffer(pixels.shape)
        # a compiled network takes every batch at the size of the first, the rest of it being what was there before
        rows = len(buffer.pinned) if self.compiled else count
        buffer.copied.synchronize()  # `pinned` may still be on its way
        buffer.pinned[:count].copy_(torch.from_numpy(pixels))
        network = torch.cuda.current_stream()
        self.copies.wait_event(buffer.read)
        with torch.cuda.stream(self.copies):
            buffer.on_card[:count].copy_(buffer.pinned[:count], non_blocking=True)
            buffer.copied.record()
        network.wait_event(buffer.copied)
        logits = self.forward(buffer.on_card[:rows])[:count]
        buffer.read.record()
        back = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        back.copy_(logits, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def wait() -> Logits:
            done.synchronize()
            return back.numpy()

        return wait

    def _buffer(self, shape: tuple[int, ...]) -> Buffer:
        """The buffer whose turn it is, large enough for a batch of `shape`."""
        if self.buffers and (len(self.buffers[0].pinned) < shape[0] or self.buffers[0].pinned.shape[1:] != shape[1:]):
            self.shrink()
        if not self.buffers:
            self.buffers = [Buffer(shape, self.device) for _ in range(2)]
        self.buffers.reverse()
        return self.buffers[0]

    def shrink(self) -> None:
        """Forget the size of the batch, after one that did not fit."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # a copy may still be writing to a buffer
        self.buffers = []
