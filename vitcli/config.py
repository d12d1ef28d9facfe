"""The shape of a network: `Config`, the published SIZES, and every tensor that a network of that shape holds.

Plain Python, so that reading a checkpoint or a help text needs no torch. Axis letters as in `model.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

# From "An Image is Worth 16x16 Words" (B, L, H) and "Training data-efficient image transformers" (Ti, S).
SIZES: dict[str, dict[str, Any]] = {
    "Ti": dict(width=192,  depth=12, heads=3,  mlp_width=768),
    "S":  dict(width=384,  depth=12, heads=6,  mlp_width=1536),
    "B":  dict(width=768,  depth=12, heads=12, mlp_width=3072),
    "L":  dict(width=1024, depth=24, heads=16, mlp_width=4096),
    "H":  dict(width=1280, depth=32, heads=16, mlp_width=5120),
}  # fmt: skip

Pooling = Literal["cls", "mean", "mean_all", "cls_mean", "attention", "attention_all"]
Gelu = Literal["exact", "tanh", "quick"]


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions of patches: pairs of numbers of each query and key turn by angles that grow with the place.

    "RoFormer" (Su et al., 2021), in two dimensions: half of the pairs turn with the row, half with the column.
    """

    temperature: float = 10000.0  # the frequencies fall from 1 to nearly 1 / temperature
    columns_first: bool = False  # True: it is the first half that turns with the column
    grid: int | None = None  # EVA-02: places are stretched to lie on a grid of so many patches a side
    learned: bool = False  # "RoPE-Mixed" (Heo et al., 2024): each head has frequencies of its own, for both directions


@dataclass(frozen=True, slots=True)
class Config:
    """The shape of a ViT. The defaults are google/vit-base-patch16-224; the rest are variants real checkpoints need."""

    image_size: int = 224  # pixels, square
    patch_size: int = 16  # pixels, square
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    head_width: int = 64
    mlp_width: int = 3072
    classes: int = 1000  # 0: no head, the network gives the features that the head would read
    norm_eps: float = 1e-12
    gelu: Gelu = "exact"  # quick: x times the logistic function of 1.702 x (OpenAI's CLIP)
    # mean: over the patch tokens (timm); mean_all: over every token (vit-pytorch); cls_mean: class token and mean side
    # by side (DINOv2); attention: a learned query asks the patch tokens (SigLIP); attention_all: every token
    pooling: Pooling = "cls"
    class_token: bool = True
    distillation_token: bool = False  # DeiT: a second token with a head of its own; logits are the mean of both
    register_tokens: int = 0
    positions: bool = True  # False: no learned vector for each place
    prefix_positions: bool = True  # False: only patch tokens have positions (DeiT-3, "no_embed_class")
    relative_positions: bool = False  # BEiT, Swin: attention has a bias for each difference of places
    rotary: Rotary | None = None  # EVA-02, RoPE-ViT
    patch_bias: bool = True
    patch_norms: bool = False  # vit-pytorch: LayerNorm before and after the patch projection
    norm_pre: bool = False  # CLIP: LayerNorm before the blocks
    qkv_bias: bool = True
    key_bias: bool = True  # False: biases for queries and values alone (BEiT)
    attention_norm: bool = False  # BEiT-3, EVA-02-CLIP: LayerNorm before attention's output projection
    attention_out: bool = True  # False: vit-pytorch's single head of full width has no output projection
    gated_mlp: bool = False  # True: SwiGLU in the place of GELU (EVA-02, DINOv2-g)
    mlp_norm: bool = False  # BEiT-3, EVA-02: LayerNorm before the MLP's second layer
    layer_scale: bool = False  # DeiT-3: each branch is multiplied by a learned vector
    post_norm: bool = False  # True: each norm follows its branch
    final_norm: bool = True  # False: CLIP's in transformers
    pooled_norm: bool = False  # True: the final norm follows pooling (timm's fc_norm)

    @classmethod
    def named(cls, name: str, **changes: Any) -> Config:
        """`Config.named("B/16")`, `Config.named("L/32", image_size=384, classes=21843)`.

        Raises ValueError for a name that does not parse.
        """
        match = re.fullmatch(r"(?:ViT-)?(\w+)/(\d+)", name)
        if not match or match[1] not in SIZES:
            raise ValueError(f"no ViT is called {name!r}: write a size of {', '.join(SIZES)} and a patch, as in 'B/16'")
        size = SIZES[match[1]]
        config = cls(patch_size=int(match[2]), head_width=size["width"] // size["heads"], **size)
        return replace(config, **changes)

    @property
    def name(self) -> str:
        """The published name ("ViT-B/16"), else the numbers: "ViT (width 48, depth 2)/8"."""
        own = {"width": self.width, "depth": self.depth, "heads": self.heads, "mlp_width": self.mlp_width}
        size = next((f"-{n}" for n, s in SIZES.items() if s == own), f" (width {self.width}, depth {self.depth})")
        return f"ViT{size}/{self.patch_size}"

    @property
    def grid(self) -> int:
        """Patches a side of a picture."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patch tokens of a picture."""
        return self.grid**2

    @property
    def prefix(self) -> int:
        """Tokens in front of the patch tokens: class, distillation, registers."""
        return self.class_token + self.distillation_token + self.register_tokens

    @property
    def tokens(self) -> int:
        """All tokens the encoder sees."""
        return self.prefix + self.patches

    @property
    def differences(self) -> int:
        """Differences of two patches' places, and three more for a class token that asks, is asked, or both."""
        return (2 * self.grid - 1) ** 2 + 3 * self.class_token

    @property
    def pooled_tokens(self) -> int | None:
        """How many leading tokens of the last block are read (None: all), the rest need not be computed."""
        return 1 + self.distillation_token if self.pooling == "cls" else None

    @property
    def pools_by_attention(self) -> bool:
        """Whether a learned query with an MLP of its own makes the features."""
        return self.pooling in ("attention", "attention_all")

    def plain(self) -> Config:
        """The same with nothing in attention and MLP that a plain ViT has not."""
        return replace(self, qkv_bias=True, key_bias=True, relative_positions=False, attention_norm=False,
                       attention_out=True, gated_mlp=False, mlp_norm=False)  # fmt: skip

    @property
    def features(self) -> int:
        """Numbers the head reads of a picture."""
        return self.width * 2 if self.pooling == "cls_mean" else self.width

    @property
    def outputs(self) -> int:
        """Numbers the network gives for a picture: logits, or features where there is no head."""
        return self.classes or self.features

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of such a network: what `model.py` holds and a checkpoint must give."""
        d, inner, patch = self.width, self.heads * self.head_width, self.channels * self.patch_size**2
        shapes: dict[str, tuple[int, ...]] = {}

        def linear(name: str, fan_out: int, fan_in: int, bias: bool = True) -> None:
            shapes[f"{name}.weight"] = (fan_out, fan_in)
            if bias:
                shapes[f"{name}.bias"] = (fan_out,)

        def norm(name: str, size: int) -> None:
            shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

        if self.patch_norms:
            norm("patch_embedding.norm_in", patch)
        linear("patch_embedding.projection", d, patch, self.patch_bias)
        if self.patch_norms:
            norm("patch_embedding.norm_out", d)
        if self.class_token:
            shapes["class_token"] = (d,)
        if self.distillation_token:
            shapes["distillation_token"] = (d,)
        if self.register_tokens:
            shapes["register_tokens"] = (self.register_tokens, d)
        if self.positions:
            shapes["positions"] = (self.patches + self.prefix * self.prefix_positions, d)
        if self.rotary and self.rotary.learned:
            shapes["rotary.frequencies"] = (self.depth, 2, self.heads, self.head_width // 2)
        if self.norm_pre:
            norm("norm_pre", d)
        for block in (f"blocks.{i}" for i in range(self.depth)):
            norm(f"{block}.norm1", d)
            for part in ("query", "key", "value"):
                linear(f"{block}.attention.{part}", inner, d, self.qkv_bias and (self.key_bias or part != "key"))
            if self.relative_positions:
                shapes[f"{block}.attention.relative_positions"] = (self.differences, self.heads)
            if self.attention_norm:
                norm(f"{block}.attention.norm", inner)
            if self.attention_out:
                linear(f"{block}.attention.out", d, inner)
            norm(f"{block}.norm2", d)
            linear(f"{block}.mlp.fc1", self.mlp_width, d)
            if self.gated_mlp:
                linear(f"{block}.mlp.gate", self.mlp_width, d)
            if self.mlp_norm:
                norm(f"{block}.mlp.norm", self.mlp_width)
            linear(f"{block}.mlp.fc2", d, self.mlp_width)
            if self.layer_scale:
                shapes[f"{block}.scale1"] = shapes[f"{block}.scale2"] = (d,)
        if self.final_norm:
            norm("norm", d)
        if self.pools_by_attention:
            shapes["attention_pool.probe"] = (d,)
            for part in ("query", "key", "value"):
                linear(f"attention_pool.attention.{part}", inner, d)
            linear("attention_pool.attention.out", d, inner)
            norm("attention_pool.norm", d)
            linear("attention_pool.mlp.fc1", self.mlp_width, d)
            linear("attention_pool.mlp.fc2", d, self.mlp_width)
        if self.classes:
            linear("head", self.classes, self.features)
        if self.classes and self.distillation_token:
            linear("distillation_head", self.classes, d)
        return shapes

    @property
    def parameters(self) -> int:
        """Number of weights."""
        total = 0
        for shape in self.tensors().values():
            size = 1
            for axis in shape:
                size *= axis
            total += size
        return total

    @property
    def flops(self) -> int:
        """Floating-point operations of one picture's matrix products; a multiply-add counts as two."""
        n, d, inner = self.tokens, self.width, self.heads * self.head_width
        mlp = (2 + self.gated_mlp) * n * d * self.mlp_width
        block = 3 * n * d * inner + 2 * n * n * inner + n * inner * d * self.attention_out + mlp
        patch = self.patches * d * self.channels * self.patch_size**2
        pool = (2 * n + 2) * d * inner + 2 * n * inner + 2 * d * self.mlp_width if self.pools_by_attention else 0
        heads = (1 + self.distillation_token) * self.features * self.classes
        return 2 * (patch + self.depth * block + pool + heads)
