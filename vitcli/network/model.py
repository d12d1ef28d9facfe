"""The Vision Transformer, in the five parts of "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2020).

    pixels -> patch embedding -> class token and positions -> encoder -> pooling -> head -> logits

Axis letters: b batch, n tokens, d width, h heads, c channels, p q rows and columns of a patch, k classes. What a plain
ViT has not (a norm more, relative or rotary positions, a gate) is an Identity or None unless `Config` asks for it; what
it is then, `variants.py` has.
`vit(pixels, record)` also keeps each block's attention maps and tokens in a `Record`, for whoever explains or searches.
Inference only: there is no dropout. Parameter names and shapes are those of `Config.tensors()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange, repeat
from torch import Tensor, nn

from vitcli.config import SIZES, Config
from vitcli.network.places import relative_index
from vitcli.network.variants import AttentionPool, QuickGELU, Rotation, rotate

__all__ = ["SIZES", "Attention", "Block", "Config", "MLP", "PatchEmbedding", "Record", "ViT"]


@dataclass(slots=True)
class Record:
    """What a network keeps of its way when it is given one, a tensor for each block, all tokens included.

    Pooling by attention adds a map of its own, [b h 1 n] over the tokens that it asks.

    The logits are computed from these maps: with `pixels.requires_grad_()`, `torch.autograd.grad` of a logit with
    respect to `attention` tells how much each of its weights counts.
    """

    attention: list[Tensor] = field(default_factory=list)  # b h n n: row i is token i's attention to all, and sums to 1
    tokens: list[Tensor] = field(default_factory=list)  # b n d: what the block gives


def layer_norm(size: int, config: Config, device: str | None, present: bool = True) -> nn.Module:
    """LayerNorm, or nothing."""
    return nn.LayerNorm(size, config.norm_eps, device=device) if present else nn.Identity()


class PatchEmbedding(nn.Module):
    """Patchify and embed: [b c H W] -> [b n d], a linear layer over the pixels of each patch.

    A convolution whose stride is its kernel is the same layer: its kernel [d c p q] is this weight [d (c p q)].
    """

    def __init__(self, config: Config, device: str | None = None) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        pixels = config.channels * config.patch_size**2
        norms = config.patch_norms  # vit-pytorch has one on either side of the projection
        self.norm_in = layer_norm(pixels, config, device, norms)
        self.projection = nn.Linear(pixels, config.width, bias=config.patch_bias, device=device)
        self.norm_out = layer_norm(config.width, config, device, norms)

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=self.patch_size, q=self.patch_size)
        x = self.norm_out(self.projection(self.norm_in(x)))  # b n d
        return x


class Attention(nn.Module):
    """Multi-head attention: [b n d] -> [b r d], the first `queries` tokens (all by default) asking all n.

    Or the r that are `asking` [b r d], which are none of them.
    """

    relative_positions: nn.Parameter | None  # BEiT: a row for each difference of places, a column for each head
    index: Tensor  # n n: which row

    def __init__(self, config: Config, device: str | None = None) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_width
        key_bias = config.qkv_bias and config.key_bias
        self.query = nn.Linear(config.width, inner, bias=config.qkv_bias, device=device)
        self.key = nn.Linear(config.width, inner, bias=key_bias, device=device)
        self.value = nn.Linear(config.width, inner, bias=config.qkv_bias, device=device)
        table = torch.zeros(config.differences, config.heads, device=device) if config.relative_positions else None
        self.register_parameter("relative_positions", None if table is None else nn.Parameter(table))
        index = None if table is None else torch.from_numpy(relative_index(config))
        self.register_buffer("index", index, persistent=False)
        self.norm = layer_norm(inner, config, device, config.attention_norm)
        self.out = nn.Linear(inner, config.width, device=device) if config.attention_out else nn.Identity()

    def forward(
        self,
        x: Tensor,
        queries: int | None = None,
        record: Record | None = None,
        rotation: Tensor | None = None,
        asking: Tensor | None = None,
    ) -> Tensor:
        projected = self.project(x, x[:, :queries] if asking is None else asking)
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=self.heads) for t in projected)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        bias = None
        if self.relative_positions is not None:
            bias = rearrange(self.relative_positions[self.index[:queries]], "r n h -> h r n")
        x = attend(q, k, v, bias, record)  # b h r d
        x = self.out(self.norm(rearrange(x, "b h n d -> b n (h d)")))
        return x

    def project(self, x: Tensor, asking: Tensor) -> Sequence[Tensor]:
        """[b n d] and [b r d] -> queries [b r (h d)], keys and values [b n (h d)]."""
        return self.query(asking), self.key(x), self.value(x)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, record: Record | None = None) -> Tensor:
    """Scaled dot-product attention: queries [b h r d], keys and values [b h n d] -> [b h r d].

    In one fused operation that never holds the map, unless the map is to be recorded. `bias` [h r n] is added to it.
    """
    if record is None:
        return F.scaled_dot_product_attention(q, k, v, bias)
    scores = q @ rearrange(k, "b h n d -> b h d n") / math.sqrt(q.shape[-1])
    attention: Tensor = (scores if bias is None else scores + bias).softmax(dim=-1)  # b h r n
    record.attention.append(attention)
    return attention @ v


class MLP(nn.Module):
    """Two linear layers around a GELU, on each token alone: [b n d] -> [b n d].

    With a gate, a third one through the SiLU multiplies the first: SwiGLU of "GLU Variants Improve Transformer"
    (Shazeer, 2020).
    """

    def __init__(self, config: Config, device: str | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_width, device=device)
        self.gate = nn.Linear(config.width, config.mlp_width, device=device) if config.gated_mlp else None
        self.gelu = {"exact": nn.GELU(), "tanh": nn.GELU("tanh"), "quick": QuickGELU()}[config.gelu]
        self.norm = layer_norm(config.mlp_width, config, device, config.mlp_norm)
        self.fc2 = nn.Linear(config.mlp_width, config.width, device=device)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.fc1(x)) if self.gate is None else F.silu(self.gate(x)) * self.fc1(x)
        x = self.fc2(self.norm(x))
        return x


class Block(nn.Module):
    """One encoder layer: [b n d] -> [b r d], only the first `queries` tokens if given; each norm before its branch."""

    scale1: nn.Parameter | None  # LayerScale of "Going deeper with Image Transformers" (Touvron et al., 2021)
    scale2: nn.Parameter | None

    def __init__(self, config: Config, device: str | None = None) -> None:
        super().__init__()
        self.post_norm = config.post_norm
        self.norm1 = layer_norm(config.width, config, device)
        self.attention = Attention(config, device)
        self.norm2 = layer_norm(config.width, config, device)
        self.mlp = MLP(config, device)
        for name in ("scale1", "scale2"):
            scale = nn.Parameter(torch.ones(config.width, device=device)) if config.layer_scale else None
            self.register_parameter(name, scale)

    def forward(
        self, x: Tensor, queries: int | None = None, record: Record | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        if self.post_norm:
            x = x[:, :queries] + scaled(self.norm1(self.attention(x, queries, record, rotation)), self.scale1)
            x = x + scaled(self.norm2(self.mlp(x)), self.scale2)
        else:
            x = x[:, :queries] + scaled(self.attention(self.norm1(x), queries, record, rotation), self.scale1)
            x = x + scaled(self.mlp(self.norm2(x)), self.scale2)
        if record is not None:
            record.tokens.append(x)
        return x


def scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    """A residual branch times its LayerScale, where the checkpoint has one."""
    return x if scale is None else x * scale


def attention_pool(config: Config, device: str | None = None) -> AttentionPool:
    """Pooling by attention, which is plain whatever the blocks have besides."""
    plain = config.plain()
    parts = Attention(plain, device), layer_norm(config.width, config, device), MLP(plain, device)
    return AttentionPool(torch.zeros(config.width, device=device), *parts)


class ViT(nn.Module):
    """A whole Vision Transformer: normalised pixels [b c H W] -> logits [b k], or features [b d] without a head."""

    class_token: nn.Parameter | None
    distillation_token: nn.Parameter | None
    register_tokens: nn.Parameter | None
    positions: nn.Parameter | None

    def __init__(self, config: Config, device: str | None = None) -> None:
        super().__init__()
        self.config = config
        d = config.width

        def token(rows: int | bool) -> nn.Parameter | None:
            shape = (d,) if isinstance(rows, bool) else (rows, d)
            return nn.Parameter(torch.zeros(shape, device=device)) if rows else None

        self.patch_embedding = PatchEmbedding(config, device)
        self.register_parameter("class_token", token(config.class_token))
        self.register_parameter("distillation_token", token(config.distillation_token))
        self.register_parameter("register_tokens", token(config.register_tokens))
        positions = config.tensors().get("positions", (0,))
        # not normal_: on the meta device that imports torch's decomposition tables, for a second
        learned = nn.Parameter(nn.init.trunc_normal_(torch.empty(positions, device=device), std=0.02))
        self.register_parameter("positions", learned if config.positions else None)
        self.rotary = Rotation(config) if config.rotary else None
        self.norm_pre = layer_norm(d, config, device, config.norm_pre)
        self.blocks = nn.ModuleList(Block(config, device) for _ in range(config.depth))
        self.norm = layer_norm(d, config, device, config.final_norm)
        self.attention_pool = attention_pool(config, device) if config.pools_by_attention else None
        self.head = nn.Linear(config.features, config.classes, device=device) if config.classes else nn.Identity()
        if config.distillation_token:
            self.distillation_head = nn.Linear(d, config.classes, device=device) if config.classes else nn.Identity()

    @classmethod
    def from_tensors(cls, config: Config, tensors: Mapping[str, np.ndarray]) -> ViT:
        """A network over a checkpoint's canonical tensors, sharing their memory, ready for inference.

        Built on the meta device, so that no weight is initialised only to be replaced. (`device="meta"` as an
        argument is free; `with torch.device("meta")` would import torch's decomposition tables.)
        Raises RuntimeError unless the tensors are exactly those of `config.tensors()`.
        """
        model = cls(config, device="meta")
        model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, assign=True)
        return model.eval().requires_grad_(False)

    def lower(self, dtype: torch.dtype) -> ViT:
        """Bring the weights to `dtype`, but for the last norm and the head, which stay as they are.

        They take next to no time, and in bfloat16 logits around 10 come in steps of 1/16: near ties would be ties.
        """
        for part in (self.patch_embedding, self.norm_pre, self.blocks):
            part.to(dtype)
        for parameter in self.parameters(recurse=False):
            parameter.data = parameter.data.to(dtype)
        return self

    def forward(self, pixels: Tensor, record: Record | None = None) -> Tensor:
        x = self.patch_embedding(pixels)  # b n d
        x = self.norm_pre(self.add_positions(x))
        x = self.encode(x, record)
        x = self.pool(x, record)  # b d, or b 2 d with a distillation token
        x = self.classify(x)  # b k
        return x

    def add_positions(self, x: Tensor) -> Tensor:
        """Put the learned tokens in front and add the learned positions: [b patches d] -> [b n d]."""
        if self.positions is not None and not self.config.prefix_positions:
            x = x + self.positions
        tokens = (self.class_token, self.distillation_token, self.register_tokens)
        prefix = [token.view(-1, self.config.width) for token in tokens if token is not None]  # each: tokens d
        if prefix:
            x = torch.cat([repeat(torch.cat(prefix), "n d -> b n d", b=len(x)), x], dim=1)
        if self.positions is not None and self.config.prefix_positions:
            x = x + self.positions
        return x

    def encode(self, x: Tensor, record: Record | None = None) -> Tensor:
        """The transformer: [b n d] -> [b r d], of which the last block computes only the r tokens that are pooled.

        A record is of all n.
        """
        rotations = self.rotary() if self.rotary else [None] * len(self.blocks)
        *blocks, (last, rotation) = zip(self.blocks, rotations, strict=False)
        for block, turn in blocks:
            x = block(x, None, record, turn)
        x = last(x, self.config.pooled_tokens if record is None else None, record, rotation)
        x = x.float()  # see `lower`
        return x if self.config.pooled_norm else self.norm(x)

    def pool(self, x: Tensor, record: Record | None = None) -> Tensor:
        """One vector a picture: the class token, a mean, both, or what a learned query is told."""
        match self.config.pooling:
            case "cls":
                x = x[:, 0] if not self.config.distillation_token else x[:, :2]
            case "mean":
                x = x[:, self.config.prefix :].mean(dim=1)
            case "mean_all":
                x = x.mean(dim=1)
            case "cls_mean":
                x = torch.cat([x[:, 0], x[:, self.config.prefix :].mean(dim=1)], dim=1)
            case "attention" | "attention_all":
                asked = x if self.config.pooling == "attention_all" else x[:, self.config.prefix :]
                x = self.attention_pool(asked, record) if self.attention_pool else x
        return self.norm(x) if self.config.pooled_norm else x

    def classify(self, x: Tensor) -> Tensor:
        """The head; DeiT's two heads are averaged, as its authors do at inference.

        Without a head (no classes) the features themselves, of DeiT the mean of its two tokens (timm's `pre_logits`).
        """
        if self.config.distillation_token:
            x = (self.head(x[:, 0]) + self.distillation_head(x[:, 1])) / 2
        else:
            x = self.head(x)
        return x
