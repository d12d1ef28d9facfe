"""timm's VisionTransformer in its variants, and the same functions as Google's .npz files, read back by timm itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import expect, find_libraries, randomised, write

find_libraries()

import timm  # noqa: E402
from scipy.ndimage import zoom  # noqa: E402
from timm.models.beit import Beit  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn  # noqa: E402
from timm.models.vision_transformer_relpos import VisionTransformerRelPos  # noqa: E402

TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, mlp_ratio=3, num_classes=11)
HEADS = {"num_heads": 3}

Array = np.ndarray


def model(kind: Any = VisionTransformer, **changes: Any) -> Any:
    return randomised(kind(**(TINY | changes)))


def variants(out: Path) -> None:
    plain = model()
    write(out / "plain", plain, 32, config=HEADS)
    write(out / "safetensors", plain, 32, config=HEADS, file="model.safetensors")
    write(out / "wrapped", plain, 32, config=HEADS, state={"epoch": 3, "model": {
        f"module.{name}": tensor for name, tensor in plain.state_dict().items()}})  # fmt: skip
    lightning = {f"net._orig_mod.{name}": tensor for name, tensor in plain.state_dict().items()}
    write(out / "lightning", plain, 32, config=HEADS, state={"state_dict": lightning, "hyper_parameters": {"lr": 0.1}})
    averaged = {"state_dict": model(depth=2).state_dict(), "state_dict_ema": plain.state_dict(), "arch": "vit"}
    write(out / "averaged", plain, 32, config=HEADS, state=averaged)
    flat = {name: t.flatten(1) if name == "patch_embed.proj.weight" else t for name, t in plain.state_dict().items()}
    write(out / "flat_patches", plain, 32, config=HEADS, state=flat)
    extra = plain.state_dict() | {"pre_logits.fc.weight": torch.randn(48, 48), "pre_logits.fc.bias": torch.randn(48)}
    write(out / "pre_logits", plain, 32, config=HEADS, state=extra)
    write(out / "mean_fc_norm", model(global_pool="avg"), 32, config=HEADS)
    hub = {"architecture": "vit_tiny", "global_pool": "avg", "num_classes": 11, "model_args": HEADS,
           "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 0.9, "interpolation": "bicubic",
                              "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}}  # fmt: skip
    write(out / "mean_norm_before", model(global_pool="avg", fc_norm=False), 32, config=hub, file="model.safetensors")
    write(out / "no_class_token", model(class_token=False, global_pool="avg"), 32, config=HEADS)
    write(out / "no_class_token_norm_before", model(class_token=False, global_pool="avg", fc_norm=False), 32,
          config=HEADS)  # fmt: skip
    write(out / "no_qkv_bias", model(qkv_bias=False), 32, config=HEADS)
    write(out / "registers", model(reg_tokens=4), 32, config=HEADS)
    write(out / "registers_no_embed", model(reg_tokens=4, no_embed_class=True), 32, config=HEADS)
    write(out / "registers_mean", model(reg_tokens=4, no_embed_class=True, global_pool="avg"), 32, config=HEADS)
    deit3 = model(init_values=1e-6, no_embed_class=True)
    write(out / "deit3", deit3, 32, config=HEADS)
    first = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
             for name, tensor in deit3.state_dict().items()}  # fmt: skip
    write(out / "deit3_as_published", deit3, 32, config=HEADS, state={"model": first})
    write(out / "distilled", model(VisionTransformerDistilled), 32, config=HEADS)
    for size in (16, 40, 56):
        for name, changes in (("plain", {}), ("registers", dict(reg_tokens=4, no_embed_class=True))):
            old, new = model(**changes), VisionTransformer(**(TINY | changes | dict(img_size=size))).eval()
            new.load_state_dict(checkpoint_filter_fn(old.state_dict(), new))
            write(out / f"{name}_at_{size}", new, size, config=HEADS, state=old.state_dict())


def named(out: Path) -> None:
    """Networks that differ from a plain one by what the name of the architecture or its arguments say."""
    small = dict(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, num_classes=11)
    narrow = dict(embed_dim=64, num_heads=1)
    for case, architecture, changes in (
        ("rope_ape", "vit_small_patch16_rope_ape_224", small),
        ("post_norm", "vit_base_patch16_rpn_224", small),
        ("attention_pool", "vit_base_patch16_siglip_224", small | narrow),
        ("attention_pool_of_all", "vit_so150m_patch16_reg4_map_256", small | narrow | dict(pool_include_prefix=True)),
        ("unheard_of", "vit_base_patch16_224", small),
        ("narrow_heads", "test_vit.r160_in1k", dict(img_size=32, num_classes=11)),
        ("tanh", "vit_base_patch32_siglip_gap_256", small),
        ("mean_of_all", "vit_base_patch16_reg4_gap_256", small | dict(pool_include_prefix=True)),
    ):
        network = randomised(timm.create_model(architecture, **changes))
        config = {"architecture": "vit_next_year" if case == "unheard_of" else architecture.partition(".")[0],
                  "global_pool": network.global_pool, "pretrained_cfg": {"input_size": [3, 32, 32]}}  # fmt: skip
        if "pool_include_prefix" in changes:
            config["model_args"] = {"pool_include_prefix": True}
        write(out / case, network, 32, config=config, file="model.safetensors")


FAMILIES = (
    "vit_base_patch16_clip_224", "vit_base_patch16_clip_quickgelu_224", "beit_base_patch16_224",
    "beit3_base_patch16_224", "eva_giant_patch14_224", "eva02_tiny_patch14_336", "eva02_base_patch14_448",
    "eva02_base_patch16_clip_224", "eva02_enormous_patch14_clip_224", "vit_base_patch16_rope_reg1_gap_256",
    "vit_small_patch16_rope_224", "vit_small_patch16_rope_ape_224", "vit_small_patch16_rope_mixed_224",
    "vit_small_patch16_rope_mixed_ape_224", "vit_base_patch16_rpn_224", "vit_relpos_base_patch16_224",
    "vit_srelpos_small_patch16_224", "vit_relpos_medium_patch16_cls_224", "vit_relpos_base_patch16_clsgap_224",
    "vit_relpos_medium_patch16_rpn_224", "vit_so150m_patch16_reg4_map_256", "test_vit3",
)  # fmt: skip


def families(out: Path) -> None:
    """Networks that have what a plain ViT has not, as timm names and saves them."""
    for architecture in FAMILIES:
        small = dict(img_size=40, patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=11)
        network = randomised(timm.create_model(architecture, **small))
        config = {"architecture": architecture, "global_pool": network.global_pool, "model_args": HEADS,
                  "pretrained_cfg": {"input_size": [3, 40, 40]}}  # fmt: skip
        write(out / architecture, network, 40, config=config, file="model.safetensors")
    shared = dict(use_abs_pos_emb=False, use_shared_rel_pos_bias=True, init_values=0.1)
    for case, kind, changes in (
        ("beit_shared", Beit, shared),
        ("relpos_table", VisionTransformerRelPos, dict(rel_pos_type="bias")),
        ("relpos_shared_table", VisionTransformerRelPos, dict(rel_pos_type="bias", shared_rel_pos=True)),
    ):
        network = randomised(kind(img_size=40, patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=11,
                                  **changes))  # fmt: skip
        named = "beit_base_patch16_224" if kind is Beit else "vit_relpos_base_patch16_224"
        write(out / case, network, 40, config=config | {"architecture": named, "global_pool": network.global_pool},
              file="model.safetensors")  # fmt: skip


# Whose positions are resized in a way of their own.
RESIZED = (
    "beit_base_patch16_224", "vit_relpos_medium_patch16_cls_224", "vit_srelpos_small_patch16_224",
    "vit_small_patch16_rope_ape_224", "vit_small_patch16_rope_mixed_224", "eva02_tiny_patch14_336",
    "vit_so150m_patch16_reg4_map_256",
)  # fmt: skip


def families_resized(out: Path) -> None:
    """The same weights, loaded by timm into a network for pictures of another size."""
    for architecture in RESIZED:
        small = dict(patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=11)
        for size in (24, 64, 72):
            network = timm.create_model(architecture, img_size=size, pretrained=True, **small,
                                        pretrained_cfg_overlay={"file": str(out / architecture / "model.safetensors"),
                                                                "num_classes": 11}).eval()  # fmt: skip
            expect(out / architecture, network, size, f"expected_at_{size}.npz")


def as_jax(model: Any, attention: str, mlp: str, norm2: str, positions: str) -> dict[str, Array]:
    """The weights under the names, axes and transposes of Google's files, written by hand from their documentation."""
    t = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    heads, width = 3, 48
    jax = {
        "embedding/kernel": t["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": t["patch_embed.proj.bias"],
        positions: t["pos_embed"],
        "Transformer/encoder_norm/scale": t["norm.weight"],
        "Transformer/encoder_norm/bias": t["norm.bias"],
        "head/kernel": t["head.weight"].T,
        "head/bias": t["head.bias"],
    }
    if "cls_token" in t:
        jax["cls"] = t["cls_token"]
    for i in range(TINY["depth"]):
        theirs, block = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        kernels = t[f"{theirs}.attn.qkv.weight"].reshape(3, heads, width // heads, width)
        biases = t[f"{theirs}.attn.qkv.bias"].reshape(3, heads, width // heads)
        for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            jax[f"{block}/{attention}/{part}/kernel"] = kernel.transpose(2, 0, 1)
            jax[f"{block}/{attention}/{part}/bias"] = bias
        out = t[f"{theirs}.attn.proj.weight"].reshape(width, heads, width // heads)
        jax[f"{block}/{attention}/out/kernel"] = out.transpose(1, 2, 0)
        jax[f"{block}/{attention}/out/bias"] = t[f"{theirs}.attn.proj.bias"]
        for ours, name in (("norm1", "LayerNorm_0"), ("norm2", norm2)):
            jax[f"{block}/{name}/scale"] = t[f"{theirs}.{ours}.weight"]
            jax[f"{block}/{name}/bias"] = t[f"{theirs}.{ours}.bias"]
        for ours, name in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            jax[f"{block}/{mlp}/{name}/kernel"] = t[f"{theirs}.mlp.{ours}.weight"].T
            jax[f"{block}/{mlp}/{name}/bias"] = t[f"{theirs}.mlp.{ours}.bias"]
    return jax


def stacked(jax: dict[str, Array]) -> dict[str, Array]:
    """All blocks in one, along a new first axis: how big_vision saves a scanned encoder."""
    blocks = {name for name in jax if "encoderblock_0" in name}
    whole = {name: array for name, array in jax.items() if "encoderblock_" not in name}
    for name in blocks:
        layers = [jax[name.replace("encoderblock_0", f"encoderblock_{i}")] for i in range(TINY["depth"])]
        whole[name.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    return whole


def prefixed(prefix: str, jax: dict[str, Array]) -> dict[str, Array]:
    return {prefix + name: array for name, array in jax.items()}


def google(out: Path) -> None:
    tanh = partial(torch.nn.GELU, approximate="tanh")  # JAX's gelu is the tanh form unless told otherwise
    vit_jax = dict(attention="MultiHeadDotProductAttention_1", mlp="MlpBlock_3", norm2="LayerNorm_2",
                   positions="Transformer/posembed_input/pos_embedding")  # fmt: skip
    big_vision = dict(attention="MultiHeadDotProductAttention_0", mlp="MlpBlock_0", norm2="LayerNorm_1",
                      positions="pos_embedding")  # fmt: skip
    plain = model(act_layer=tanh)
    mean = model(act_layer=tanh, class_token=False, global_pool="avg", fc_norm=False)
    optimiser = {"opt/state/step": np.array(7), "opt/state/param_states/head/kernel/v": np.zeros((2, 2), np.float32)}
    cases = {
        "vit_jax": (plain, as_jax(plain, **vit_jax)),
        "vit_jax_opt_target": (plain, prefixed("opt/target/", as_jax(plain, **vit_jax)) | optimiser),
        "vit_jax_mean": (mean, as_jax(mean, **vit_jax)),
        "big_vision": (plain, prefixed("params/", as_jax(plain, **big_vision))),
        "big_vision_bare": (plain, as_jax(plain, **big_vision)),
        "big_vision_stacked": (plain, prefixed("params/", stacked(as_jax(plain, **big_vision)))),
        "big_vision_img": (mean, prefixed("params/img/", stacked(as_jax(mean, **big_vision)))),
    }
    for name, (network, state) in cases.items():
        write(out / name, network, 32, state=state, file="weights.npz")
        # timm reads such files too: if it gives the same network, the file is in the layout it claims to be in
        changes = {} if network is plain else dict(class_token=False, global_pool="avg", fc_norm=False)
        again = VisionTransformer(**(TINY | dict(act_layer=tanh) | changes)).eval()
        again.load_pretrained(str(out / name / "weights.npz"))
        pixels = torch.randn(2, 3, 32, 32)
        assert torch.equal(network(pixels), again(pixels)), name
    for size in (16, 56):
        moved = VisionTransformer(**(TINY | dict(act_layer=tanh, img_size=size))).eval()
        state = plain.state_dict()
        grid = state["pos_embed"][0, 1:].reshape(4, 4, 48).numpy()
        # what both of Google's code bases call
        grid = zoom(grid, (size // 8 / 4, size // 8 / 4, 1), order=1).reshape(-1, 48)
        new = torch.cat([state["pos_embed"][:, :1], torch.from_numpy(grid)[None]], dim=1)
        moved.load_state_dict(state | {"pos_embed": new})
        write(out / f"vit_jax_at_{size}", moved, size, state=as_jax(plain, **vit_jax), file="weights.npz")


def make(out: Path) -> None:
    variants(out / "timm")
    named(out / "named")
    families(out / "families")
    families_resized(out / "families")
    google(out / "google")
