"""Which patches spoke for a class: `attribute`, from the attention maps of a network and their gradients.

    pixels [1 c s s] -> logits [k] and, for each class asked for, a map [g g] over the patches

Axis letters: n tokens, h heads, g patches a side. A token *reads* others through attention, and the head reads some of
the last block's tokens; each method follows this back to the patches. Every map is at least 0, and greater where more
was read; only its proportions mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange, reduce
from torch import Tensor

from vitcli.config import Config
from vitcli.network.model import Record, ViT

Map = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One picture's way through a network, its graph kept for gradients."""

    model: ViT
    logits: Tensor  # k
    attention: list[Tensor]  # of each block: 1 h n n
    tokens: list[Tensor]  # of each block: 1 n d
    plain: Tensor  # n: how much of each of the last block's tokens the head reads, 1 in all, where no attention says it
    pool: Tensor | None = None  # where attention says it: 1 h 1 and the tokens that are asked

    @property
    def read(self) -> Tensor:
        """How much of each of the last block's tokens the head reads: [n], 1 in all."""
        return self.plain if self.pool is None else self.asked(self.pool)

    def asked(self, pool: Tensor) -> Tensor:
        """The mean over heads of a map over the tokens that are asked, as one over all: [n]."""
        row = reduce(pool, "1 h 1 n -> n", "mean")
        return torch.nn.functional.pad(row, (len(self.plain) - len(row), 0))


def attribute(model: ViT, pixels: Tensor, classes: Sequence[int], method: str) -> tuple[Map, list[Map]]:
    """Normalised pixels [1 c s s] -> logits [k], and a map [g g] for each class, for the best if there is none.

    One forward pass, and for methods with gradients a backward pass for each class.
    """
    record, config = Record(), model.config
    # the weights need no gradient: the graph begins at the pixels
    with torch.enable_grad():
        logits = model(pixels.detach().requires_grad_(), record)[0]
        pool = record.attention.pop() if config.pools_by_attention else None
        evidence = Evidence(model, logits, record.attention, record.tokens, read_by_head(config, pixels.device), pool)
        maps = [METHODS[method](evidence, index) for index in classes or [int(logits.argmax())]]
    return logits.detach().cpu().numpy(), [
        rearrange(found[config.prefix :], "(g w) -> g w", g=config.grid).detach().cpu().numpy() for found in maps
    ]


def read_by_head(config: Config, device: torch.device) -> Tensor:
    """How much of each token of the last block the head reads: [n], 1 in all."""
    each = torch.zeros(config.tokens, device=device)
    if config.pooling in ("cls", "cls_mean"):
        each[: 1 + config.distillation_token] = 1 / (1 + config.distillation_token)
    if config.pooling in ("mean", "cls_mean"):
        each[config.prefix :] += 1 / config.patches
    if config.pooling == "mean_all":
        each += 1 / config.tokens
    return each / each.sum()


def gradient(evidence: Evidence, index: int) -> Tensor:
    """Attention weighted by the gradient of the class's logit, through all layers: [n].

    "Generic Attention-model Explainability" (Chefer, Gur and Wolf, ICCV 2021), for self-attention: R = I, then in each
    layer R += mean over heads of (gradient * attention)+ times R. What the head reads is one row of R, so that row
    alone is followed, from the last layer down.
    """
    maps = [*evidence.attention, *([] if evidence.pool is None else [evidence.pool])]
    slopes = torch.autograd.grad(evidence.logits[index], maps, retain_graph=True)
    weighted = [(attention * slope).clamp(min=0) for attention, slope in zip(maps, slopes, strict=True)]
    # tokens that are pooled as they are say nothing by being read; an attention that pools says where it looks
    start = evidence.plain if evidence.pool is None else evidence.asked(weighted.pop())
    row = start
    for layer in reversed(weighted):
        row = row + row @ reduce(layer, "1 h n m -> n m", "mean")
    return row - start if evidence.pool is None else row


def legrad(evidence: Evidence, index: int) -> Tensor:
    """How much more attention to a token would raise the class's logit, were each block the last: [n].

    "LeGrad" (Bousselham et al., ICCV 2025): the mean over blocks, heads and asking tokens of the positive gradient of
    the logit that the head gives for that block's tokens.
    """
    model, found = evidence.model, torch.zeros_like(evidence.plain)
    for attention, tokens in zip(evidence.attention, evidence.tokens, strict=True):
        tokens = tokens if model.config.pooled_norm else model.norm(tokens)
        logit = model.classify(model.pool(tokens))[0, index]
        (slope,) = torch.autograd.grad(logit, attention, retain_graph=True)
        found = found + reduce(slope.clamp(min=0), "1 h n m -> m", "mean")
    return found / len(evidence.tokens)


def rollout(evidence: Evidence, index: int) -> Tensor:
    """Attention multiplied through all layers, the same for every class: [n].

    "Quantifying Attention Flow in Transformers" (Abnar and Zuidema, 2020): half of each token passes a block by.
    """
    row = evidence.read
    for attention in reversed(evidence.attention):
        row = (row + row @ reduce(attention, "1 h n m -> n m", "mean")) / 2
    return row


def attention(evidence: Evidence, index: int) -> Tensor:
    """What the tokens that the head reads attend to in the last block, the same for every class: [n]."""
    return evidence.read @ reduce(evidence.attention[-1], "1 h n m -> n m", "mean")


METHODS: dict[str, Callable[[Evidence, int], Tensor]] = {
    "gradient": gradient,
    "legrad": legrad,
    "rollout": rollout,
    "attention": attention,
}
