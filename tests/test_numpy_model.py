"""The network in numpy is the network in torch, and what it promises beside: nothing copied, nothing written."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vitcli
from vitcli.config import Config, Rotary
from vitcli.network.blas import one_blas_thread, openblas
from vitcli.network.model import ViT
from vitcli.network.numpy_model import NumpyViT, gelu_exact, gelu_tanh


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A small network of any variant a checkpoint can have."""
    heads = draw(st.integers(1, 3))
    head_width = draw(st.sampled_from([4, 8, 20]))
    width = draw(st.sampled_from([8, 36, heads * head_width]))
    patch_size = draw(st.sampled_from([2, 4]))
    distillation = draw(st.booleans())
    class_token = distillation or draw(st.booleans())
    mlp_width = draw(st.sampled_from([1, 16, 50]))
    final_norm = draw(st.booleans())
    # DeiT's two heads read their own tokens; without a class token there is only the mean
    poolings = ["cls"] if distillation else ["mean", "mean_all", "cls", "cls_mean"][: 2 + 2 * class_token]
    pooling = draw(st.sampled_from(poolings))
    rotary = draw(st.sampled_from([None, Rotary(100.0, columns_first=True), Rotary(grid=7), Rotary(learned=True)]))
    relative = not distillation and draw(st.booleans())
    return Config(
        image_size=patch_size * draw(st.integers(1, 5)),
        patch_size=patch_size,
        channels=draw(st.sampled_from([1, 3])),
        width=width,
        depth=draw(st.integers(1, 3)),
        heads=heads,
        head_width=head_width,
        mlp_width=mlp_width,
        classes=draw(st.sampled_from([0, 1, 2, 10, 33])),
        norm_eps=draw(st.sampled_from([1e-12, 1e-6, 1e-3])),
        gelu=draw(st.sampled_from(["exact", "tanh", "quick"])),
        pooling=pooling,
        class_token=class_token,
        distillation_token=distillation,
        register_tokens=0 if relative else draw(st.integers(0, 4)),
        positions=draw(st.booleans()),
        prefix_positions=draw(st.booleans()),
        relative_positions=relative,
        rotary=rotary,
        patch_bias=draw(st.booleans()),
        patch_norms=draw(st.booleans()),
        norm_pre=draw(st.booleans()),
        qkv_bias=draw(st.booleans()),
        key_bias=draw(st.booleans()),
        attention_norm=draw(st.booleans()),
        gated_mlp=draw(st.booleans()),
        mlp_norm=mlp_width > 1 and draw(st.booleans()),  # the norm of one number is noise
        post_norm=draw(st.booleans()),
        final_norm=final_norm,
        attention_out=draw(st.booleans()) or heads * head_width != width,
        layer_scale=draw(st.booleans()),
        pooled_norm=final_norm and pooling != "cls_mean" and draw(st.booleans()),
    )


def random_tensors(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights under which no part of the network is without effect; read-only, as those of a mapped file."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensors().items():
        values = rng.normal(0, 1 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.3, shape)
        if ("norm" in name and name.endswith("weight")) or "scale" in name:
            values += 1
        tensors[name] = values.astype(np.float32)
        tensors[name].flags.writeable = False
    return tensors


def random_pixels(config: Config, batch: int, seed: int = 0) -> np.ndarray:
    shape = (batch, config.channels, config.image_size, config.image_size)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def torch_logits(config: Config, tensors: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    model = ViT.from_tensors(config, {name: array.copy() for name, array in tensors.items()})
    with torch.inference_mode():
        return model(torch.from_numpy(pixels)).numpy()


@given(configs(), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=100)
def test_every_variant_gives_the_torch_models_logits(config: Config, batch: int, threads: int, seed: int) -> None:
    tensors, pixels = random_tensors(config, seed), random_pixels(config, batch, seed)
    logits = NumpyViT(config, tensors, threads)(pixels)
    assert logits.shape == (batch, config.outputs)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, torch_logits(config, tensors, pixels), atol=1e-5, rtol=1e-5)


def test_real_weights_on_real_pictures_give_the_torch_models_logits(weights: Path, images: Path) -> None:
    both = [vitcli.load(weights, engine=engine, device="cpu") for engine in ("numpy", "torch")]
    files = sorted((images / "photos").glob("*.jpg"))[:8]
    assert files
    pixels = np.stack([both[0].prepare(Image.open(file).convert("RGB")) for file in files])
    ours, theirs = (classifier.logits(pixels) for classifier in both)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


SMALL: dict[str, Any] = dict(image_size=16, patch_size=4, width=48, depth=2, heads=3, head_width=16, mlp_width=96)


def test_logits_do_not_depend_on_the_batch_or_on_threads() -> None:
    config = Config(**SMALL, classes=7)
    tensors, pixels = random_tensors(config), random_pixels(config, 5)
    alone = np.concatenate([NumpyViT(config, tensors, 1)(picture[None]) for picture in pixels])
    for threads in (1, 2, 3, 8):
        np.testing.assert_allclose(NumpyViT(config, tensors, threads)(pixels), alone, atol=2e-6, rtol=0)


def test_an_empty_batch_gives_no_logits() -> None:
    config = Config(**SMALL, classes=7)
    assert NumpyViT(config, random_tensors(config))(random_pixels(config, 0)).shape == (0, 7)


def test_neither_weights_nor_pixels_are_written() -> None:
    config = Config(**SMALL, classes=7)
    tensors, pixels = random_tensors(config), random_pixels(config, 1)
    pixels.flags.writeable = False  # the tensors are read-only already: writing would raise
    model = NumpyViT(config, tensors)
    np.testing.assert_array_equal(model(pixels), model(pixels))


def test_weights_are_not_copied() -> None:
    config = Config(image_size=8, patch_size=8, width=256, depth=2, heads=4, head_width=64, mlp_width=2048, classes=9)
    tensors, pixels = random_tensors(config), random_pixels(config, 1)
    model = NumpyViT(config, tensors)
    model(pixels)
    tracemalloc.start()
    try:
        model(pixels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < tensors["blocks.0.mlp.fc1.weight"].nbytes / 2


def test_weights_that_are_not_finite_give_logits_that_are_not_without_warnings() -> None:
    config = Config(**SMALL, classes=7)
    tensors = {name: array.copy() for name, array in random_tensors(config).items()}
    tensors["blocks.0.mlp.fc1.weight"][0, 0] = np.inf
    tensors["blocks.1.attention.key.weight"][0, 0] = np.nan
    logits = NumpyViT(config, tensors, 2)(random_pixels(config, 2))
    assert not np.isfinite(logits).any()


def test_exact_gelu_is_within_float32_of_the_error_functions() -> None:
    x = np.linspace(-12, 12, 60_001).astype(np.float32)
    truth = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(np.float64)])
    y = np.stack([x, x[::-1]])
    gelu_exact(y)
    np.testing.assert_allclose(y[0], truth, atol=3e-7, rtol=0)
    np.testing.assert_allclose(y[0], truth, atol=1e-7, rtol=2e-7)
    np.testing.assert_array_equal(y[1], y[0][::-1])


def test_gelu_far_from_zero_is_the_identity_or_nothing() -> None:
    x = np.array([[-np.inf, -1e30, -40, 40, 1e30, np.inf, np.nan]], np.float32)
    gelu_exact(x)
    np.testing.assert_allclose(x[0, :3], 0, atol=1e-8)
    np.testing.assert_array_equal(x[0, 3:], np.array([40, 1e30, np.inf, np.nan], np.float32))


def test_tanh_gelu_is_torchs() -> None:
    x = np.linspace(-8, 8, 4001).astype(np.float32)[None]
    theirs = torch.nn.functional.gelu(torch.from_numpy(x.copy()), approximate="tanh").numpy()
    gelu_tanh(x)
    np.testing.assert_allclose(x, theirs, atol=1e-6, rtol=0)


def test_blas_gets_its_threads_back() -> None:
    blas = openblas()
    if blas is None:
        pytest.skip("this numpy does not stand on its own OpenBLAS")
    before = blas.scipy_openblas_get_num_threads64_()
    with one_blas_thread():
        assert blas.scipy_openblas_get_num_threads64_() == 1
    assert blas.scipy_openblas_get_num_threads64_() == before
