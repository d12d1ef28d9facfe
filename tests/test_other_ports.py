"""Layouts whose libraries are not installed here: plain torch modules of the same structure are the oracle.

Each is written from its documentation: names and order of modules, epsilon, GELU, where norms stand and what is pooled.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.test_layouts import logits
from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint
from vitcli.errors import CheckpointError, LayoutError
from vitcli.network.numpy_model import NumpyViT

SIDE, PATCH, D, DEPTH, HEADS, HIDDEN, CLASSES = 32, 8, 48, 3, 3, 80, 7
GRID = SIDE // PATCH


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int = HEADS) -> Tensor:
    """[b n (h e)] each -> [b n (h e)], without torch's fused operation."""
    b, n, width = q.shape
    q, k, v = (t.reshape(b, n, heads, width // heads).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(2, 3) * (width // heads) ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(b, n, width)


class Bare(nn.Module):
    """A module that is only its children, by the names they are given, and parameters where tensors are given."""

    def __init__(self, **children: nn.Module | Tensor) -> None:
        super().__init__()
        for name, child in children.items():
            setattr(self, name, nn.Parameter(child) if isinstance(child, Tensor) else child)


def norm(eps: float) -> nn.LayerNorm:
    return nn.LayerNorm(D, eps=eps)


class Flat(nn.Module):
    """The pixels of each patch in a row, colours innermost: [b 3 H W] -> [b n (p q c)]."""

    def forward(self, x: Tensor) -> Tensor:
        b = len(x)
        x = x.reshape(b, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(b, GRID**2, PATCH**2 * 3)


class OldVitPytorch(nn.Module):
    """vit-pytorch 0.7 (residual, no patch norms), 0.9 to 0.40 (no patch norms), 1.0 to 1.2 (patch norms)."""

    def __init__(self, residual: bool = False, patch_norms: bool = False, pool: str = "cls", head: int = D // HEADS):
        super().__init__()
        k, self.pool, self.residual = 3 * PATCH**2, pool, residual
        self.heads, inner = HEADS, HEADS * head
        norms = [nn.LayerNorm(k)], [nn.LayerNorm(D)]
        before, after = norms if patch_norms else ([], [])
        self.to_patch_embedding = nn.Sequential(Flat(), *before, nn.Linear(k, D), *after)
        self.pos_embedding = nn.Parameter(torch.zeros(1, GRID**2 + 1, D))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        layers = nn.ModuleList()
        for _ in range(DEPTH):
            to_out = nn.Sequential(nn.Linear(inner, D), nn.Dropout(0.0))
            attention = Bare(to_qkv=nn.Linear(D, 3 * inner, bias=False), to_out=to_out)
            net = nn.Sequential(nn.Linear(D, HIDDEN), nn.GELU(), nn.Dropout(0.0), nn.Linear(HIDDEN, D), nn.Dropout(0.0))
            pair = [Bare(norm=nn.LayerNorm(D), fn=attention), Bare(norm=nn.LayerNorm(D), fn=Bare(net=net))]
            layers.append(nn.ModuleList([Bare(fn=part) for part in pair] if residual else pair))
        self.transformer = Bare(layers=layers)
        self.mlp_head = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.to_patch_embedding(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embedding
        for layer in self.transformer.layers:
            attention, mlp = (part.fn if self.residual else part for part in layer)
            q, k, v = attention.fn.to_qkv(attention.norm(x)).chunk(3, -1)
            x = x + attention.fn.to_out(attend(q, k, v, self.heads))
            x = x + mlp.fn.net(mlp.norm(x))
        return self.mlp_head(x.mean(1) if self.pool == "mean" else x[:, 0])


class MMPretrain(nn.Module):
    """mmpretrain's ImageClassifier of a VisionTransformer, or of a DistilledVisionTransformer."""

    def __init__(self, *, mean: bool = False, scale: bool = False, distilled: bool = False, fc: bool = False):
        super().__init__()
        self.mean, self.prefix = mean, 1 + distilled
        layers = nn.ModuleList()
        for _ in range(DEPTH):
            attention = Bare(qkv=nn.Linear(D, 3 * D), proj=nn.Linear(D, D))
            ffn = Bare(layers=nn.Sequential(nn.Sequential(nn.Linear(D, HIDDEN), nn.GELU(), nn.Dropout(0.0)),
                                            nn.Linear(HIDDEN, D), nn.Dropout(0.0)))  # fmt: skip
            if scale:
                attention.gamma1, ffn.gamma2 = (Bare(weight=torch.zeros(D)) for _ in range(2))
            layers.append(Bare(ln1=norm(1e-6), attn=attention, ln2=norm(1e-6), ffn=ffn))
        tokens = {"cls_token": torch.zeros(1, 1, D), "pos_embed": torch.zeros(1, GRID**2 + self.prefix, D)}
        if distilled:
            tokens["dist_token"] = torch.zeros(1, 1, D)
        patches = Bare(projection=nn.Conv2d(3, D, PATCH, PATCH))
        self.backbone = Bare(**tokens, patch_embed=patches, layers=layers, **{"ln2" if mean else "ln1": norm(1e-6)})
        inside = {"head": nn.Linear(D, CLASSES)} | ({"head_dist": nn.Linear(D, CLASSES)} if distilled else {})
        self.head = Bare(fc=nn.Linear(D, CLASSES)) if fc else Bare(layers=Bare(**inside))

    def forward(self, x: Tensor) -> Tensor:
        net = self.backbone
        x = net.patch_embed.projection(x).flatten(2).transpose(1, 2)
        first = [net.cls_token, net.dist_token] if self.prefix == 2 else [net.cls_token]
        x = torch.cat([*(token.expand(len(x), -1, -1) for token in first), x], 1) + net.pos_embed
        for layer in net.layers:
            y = layer.attn.proj(attend(*layer.attn.qkv(layer.ln1(x)).chunk(3, -1)))
            x = x + (y * layer.attn.gamma1.weight if hasattr(layer.attn, "gamma1") else y)
            y = layer.ffn.layers(layer.ln2(x))
            x = x + (y * layer.ffn.gamma2.weight if hasattr(layer.ffn, "gamma2") else y)
        x = net.ln2(x[:, self.prefix :].mean(1)) if self.mean else net.ln1(x)
        if self.prefix == 2:
            return (self.head.layers.head(x[:, 0]) + self.head.layers.head_dist(x[:, 1])) / 2
        head = self.head.fc if hasattr(self.head, "fc") else self.head.layers.head
        return head(x if self.mean else x[:, 0])


class Jeonsworld(nn.Module):
    """jeonsworld/ViT-pytorch, models/modeling.py: VisionTransformer."""

    def __init__(self) -> None:
        super().__init__()
        embeddings = Bare(
            patch_embeddings=nn.Conv2d(3, D, PATCH, PATCH),
            position_embeddings=torch.zeros(1, GRID**2 + 1, D),
            cls_token=torch.zeros(1, 1, D),
        )
        layer = nn.ModuleList()
        for _ in range(DEPTH):
            attention = Bare(**{name: nn.Linear(D, D) for name in ("query", "key", "value", "out")})
            ffn = Bare(fc1=nn.Linear(D, HIDDEN), fc2=nn.Linear(HIDDEN, D))
            layer.append(Bare(attention_norm=norm(1e-6), ffn_norm=norm(1e-6), ffn=ffn, attn=attention))
        self.transformer = Bare(embeddings=embeddings, encoder=Bare(layer=layer, encoder_norm=norm(1e-6)))
        self.head = nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first, encoder = self.transformer.embeddings, self.transformer.encoder
        x = first.patch_embeddings(x).flatten(2).transpose(1, 2)
        x = torch.cat([first.cls_token.expand(len(x), -1, -1), x], 1) + first.position_embeddings
        for block in encoder.layer:
            y = block.attention_norm(x)
            x = x + block.attn.out(attend(block.attn.query(y), block.attn.key(y), block.attn.value(y)))
            x = x + block.ffn.fc2(F.gelu(block.ffn.fc1(block.ffn_norm(x))))
        return self.head(encoder.encoder_norm(x)[:, 0])


class Lukemelas(nn.Module):
    """lukemelas/PyTorch-Pretrained-ViT: ViT, without its layer for pre-training."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, D, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, D))
        self.positional_embedding = Bare(pos_embedding=torch.zeros(1, GRID**2 + 1, D))
        blocks = nn.ModuleList()
        for _ in range(DEPTH):
            attention = Bare(**{f"proj_{name}": nn.Linear(D, D) for name in "qkv"})
            pwff = Bare(fc1=nn.Linear(D, HIDDEN), fc2=nn.Linear(HIDDEN, D))
            blocks.append(Bare(attn=attention, proj=nn.Linear(D, D), norm1=norm(1e-6), pwff=pwff, norm2=norm(1e-6)))
        self.transformer = Bare(blocks=blocks)
        self.norm = norm(1e-6)
        self.fc = nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positional_embedding.pos_embedding
        for block in self.transformer.blocks:
            y = block.norm1(x)
            x = x + block.proj(attend(block.attn.proj_q(y), block.attn.proj_k(y), block.attn.proj_v(y)))
            x = x + block.pwff.fc2(F.gelu(block.pwff.fc1(block.norm2(x))))
        return self.fc(self.norm(x)[:, 0])


CASES: dict[str, tuple[str, Callable[[], nn.Module], dict[str, Any]]] = {
    "vit-pytorch 0.7": ("vit-pytorch", lambda: OldVitPytorch(residual=True), {"pooling": "cls"}),
    "vit-pytorch 0.7 by the mean": ("vit-pytorch", lambda: OldVitPytorch(True, pool="mean"), {"pooling": "mean"}),
    "vit-pytorch 0.9": ("vit-pytorch", OldVitPytorch, {"pooling": "cls"}),
    "vit-pytorch 0.9 by the mean": ("vit-pytorch", lambda: OldVitPytorch(pool="mean"), {"pooling": "mean"}),
    "vit-pytorch 0.9 of wide heads": ("vit-pytorch", lambda: OldVitPytorch(head=32), {"pooling": "cls"}),
    "vit-pytorch 1.0": ("vit-pytorch", lambda: OldVitPytorch(patch_norms=True), {"pooling": "cls"}),
    "vit-pytorch 1.0 by the mean": ("vit-pytorch", lambda: OldVitPytorch(False, True, "mean"), {"pooling": "mean"}),
    "mmpretrain": ("mmpretrain", MMPretrain, {}),
    "mmpretrain by the mean": ("mmpretrain", lambda: MMPretrain(mean=True, fc=True), {}),
    "mmpretrain with layer scale": ("mmpretrain", lambda: MMPretrain(scale=True), {}),
    "mmpretrain distilled": ("mmpretrain", lambda: MMPretrain(distilled=True), {}),
    "jeonsworld": ("jeonsworld/ViT-pytorch", Jeonsworld, {}),
    "lukemelas": ("pytorch-pretrained-vit", Lukemelas, {}),
}


def pixels(side: int = SIDE) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def made(case: str, path: Path) -> nn.Module:
    """A random network in which mistakes show, its state dict saved; no parameter has the value it began with."""
    network = CASES[case][1]().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            std = 0.02 if "emb" in name or "patch" in name else 0.15
            one = "weight" in name and parameter.ndim == 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std + one)
    torch.save({"state_dict": network.state_dict(), "meta": {"epoch": 3}}, path)
    return network


def expected(network: nn.Module, x: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(network(x).numpy())


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "_"))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, nn.Module, Checkpoint]:
    network = made(request.param, tmp_path / "a.pth")
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=HEADS, **CASES[request.param][2])
    return request.param, network, checkpoint


def test_they_give_the_logits_of_their_own_network(case: tuple[str, nn.Module, Checkpoint]) -> None:
    name, network, checkpoint = case
    theirs = expected(network, pixels())
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-2
    assert checkpoint.layout == CASES[name][0]
    np.testing.assert_allclose(logits(checkpoint, pixels().numpy()), theirs, atol=1e-5, rtol=0)
    by_numpy = NumpyViT(checkpoint.config, checkpoint.tensors)(pixels().numpy())
    np.testing.assert_allclose(by_numpy, theirs, atol=1e-5, rtol=0)


def test_epsilon_gelu_and_pooling_of_these_count(case: tuple[str, nn.Module, Checkpoint]) -> None:
    name, network, checkpoint = case
    theirs, config = expected(network, pixels()), checkpoint.config
    # of norms after layers as large as these epsilon shows only where tokens are small: before the first block
    for changed in (
        replace(config, norm_eps=1e-2),
        replace(config, gelu="tanh"),
        replace(config, heads=1, head_width=config.heads * config.head_width),
    ):
        assert np.abs(logits(checkpoint, pixels().numpy(), changed) - theirs).max() > 1e-4, (name, changed)


EPSILON = {"vit-pytorch": 1e-5, "mmpretrain": 1e-6, "jeonsworld/ViT-pytorch": 1e-6, "pytorch-pretrained-vit": 1e-6}


def test_what_their_tensors_do_not_say_is_told(case: tuple[str, nn.Module, Checkpoint]) -> None:
    _, _, checkpoint = case
    layout = checkpoint.layout
    assert (checkpoint.config.norm_eps, checkpoint.config.gelu) == (EPSILON[layout], "exact")
    assert checkpoint.sources["eps"] == checkpoint.sources["gelu"] == f"the default of {layout}"


def test_an_old_vit_pytorch_does_not_say_how_it_pools(tmp_path: Path) -> None:
    made("vit-pytorch 0.9", tmp_path / "a.pth")
    warnings = checkpoints.load(tmp_path / "a.pth", heads=HEADS).warnings
    assert any("took the class token (--pooling mean if not)" in warning for warning in warnings)


def test_vit_pytorch_before_0_7_is_refused_by_name(tmp_path: Path) -> None:
    """0.6.5 divides by the root of the width, 0.6.8 by that of a head's width; their tensors are the same."""
    state = OldVitPytorch(residual=True).state_dict()
    early = {name.replace("to_patch_embedding.1", "patch_to_embedding"): tensor for name, tensor in state.items()}
    torch.save(early, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match=r"vit-pytorch before 0\.7, whose versions scale attention differently"):
        checkpoints.load(tmp_path / "a.pth", heads=HEADS)


@pytest.mark.parametrize("name", ["mmpretrain", "jeonsworld", "lukemelas"])
def test_a_backbone_of_these_has_no_head_and_says_so(tmp_path: Path, name: str) -> None:
    made(name, tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)["state_dict"]
    torch.save({n: t for n, t in state.items() if not n.startswith(("head.", "fc."))}, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match="a backbone without a classification head"):
        checkpoints.load(tmp_path / "a.pth", heads=HEADS)


@pytest.mark.parametrize(("name", "extra", "words"), [
    ("mmpretrain", {"backbone.ln2.weight": D, "backbone.ln2.bias": D}, r"twice: ln\d\.weight and ln\d\.weight"),
    ("mmpretrain", {"backbone.pre_norm.weight": D, "backbone.pre_norm.bias": D}, r"left over: pre_norm\.weight"),
    ("mmpretrain", {"head.layers.pre_logits.weight": (D, D)}, r"more than one linear layer"),
    ("jeonsworld", {"transformer.embeddings.hybrid_model.root.conv.weight": D}, "a convolutional network before"),
    ("lukemelas", {"pre_logits.weight": (D, D), "pre_logits.bias": D}, r"left over: pre_logits\.weight"),
])  # fmt: skip
def test_what_these_have_beside_a_plain_vit_is_refused_by_name(
    tmp_path: Path, name: str, extra: dict[str, Any], words: str
) -> None:
    made(name, tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)["state_dict"]
    torch.save(state | {key: torch.ones(shape) for key, shape in extra.items()}, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match=words):
        checkpoints.load(tmp_path / "a.pth", heads=HEADS)


def test_the_small_vit_of_mmpretrain_has_eight_heads(tmp_path: Path) -> None:
    """Not 12 of the usual width: arch='small' there is 768 wide and 8 deep."""
    header: dict[str, Any] = {}
    size = 0
    state, first = MMPretrain().state_dict(), "backbone.layers.0."
    blocks = {name.replace(first, f"backbone.layers.{i}."): t for i in range(8) for name, t in state.items()
              if name.startswith(first)}  # fmt: skip
    for name, tensor in (state | blocks).items():
        shape = [{D: 768, 3 * D: 3 * 768, HIDDEN: 2304}.get(n, n) for n in tensor.shape]
        end = size + 4 * math.prod(shape)
        header[name], size = {"dtype": "F32", "shape": shape, "data_offsets": [size, end]}, end
    text = json.dumps(header).encode()
    with (tmp_path / "small.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)  # no weight is read
    checkpoint = checkpoints.peek(tmp_path / "small.safetensors")
    assert (checkpoint.config.heads, checkpoint.sources["heads"]) == (8, "the sizes of mmpretrain")


@pytest.mark.parametrize(("name", "mode"), [("mmpretrain", "bicubic"), ("jeonsworld", "zoom"), ("lukemelas", "zoom")])
def test_positions_of_these_are_resized_as_they_do(tmp_path: Path, name: str, mode: str) -> None:
    network = made(name, tmp_path / "a.pth")
    (position,) = (p for n, p in network.named_parameters() if "pos" in n)
    grid = position[:, 1:].reshape(1, GRID, GRID, D).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(7, 7), mode="bicubic" if mode == "bicubic" else "bilinear",
                            align_corners=mode == "zoom")  # fmt: skip
    position.data = torch.cat([position[:, :1], resized.flatten(2).transpose(1, 2)], 1)
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=HEADS, image_size=7 * PATCH)
    theirs = expected(network, pixels(7 * PATCH))
    np.testing.assert_allclose(logits(checkpoint, pixels(7 * PATCH).numpy()), theirs, atol=1e-5, rtol=0)


def test_a_class_token_without_a_position_is_another_network(tmp_path: Path) -> None:
    """As vit-pytorch's ViTDetPool, which has the names of its ViT and pools otherwise."""
    state = OldVitPytorch().state_dict()
    state["pos_embedding"] = state["pos_embedding"][:, 1:]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match="16 rows and none for the class token: another network"):
        checkpoints.load(tmp_path / "a.pth", heads=HEADS)


def test_verify_says_that_no_library_is_known_for_these(tmp_path: Path) -> None:
    from vitcli import verify

    for name in ("mmpretrain", "jeonsworld", "lukemelas"):
        made(name, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="nothing was compared: no library's loader is known here"):
            verify.of(checkpoints.load(tmp_path / "a.pth", heads=HEADS))
