"""Packed layers compute what the plain ones do, and step aside when they cannot."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitcli.config import Config
from vitcli.network import cpu
from vitcli.network.cpu import OnCPU, PackedLinear, pack
from vitcli.network.model import ViT
from vitcli.pictures.preprocess import Preprocess

SMALL = dict(image_size=32, patch_size=8, width=48, depth=3, heads=3, head_width=16, mlp_width=96, classes=10)
PREPROCESS = Preprocess(size=32, resize=32)
HAS_PACKING = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
VARIANTS = [
    {}, {"gelu": "tanh"}, {"qkv_bias": False}, {"pooling": "mean"}, {"layer_scale": True}, {"patch_norms": True},
    {"distillation_token": True}, {"classes": 0}, {"classes": 0, "distillation_token": True},
    {"attention_out": False, "heads": 1, "head_width": 48},
]  # fmt: skip


def network(**changes: object) -> ViT:
    """A small random network whose weights are large enough for mistakes to show."""
    torch.manual_seed(0)
    model = ViT(Config(**(SMALL | changes))).eval().requires_grad_(False)  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    return model


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def linear_layers(model: ViT) -> int:
    return sum(type(module) is torch.nn.Linear for module in model.modules())


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_packed_network_gives_the_plain_one_s_logits(changes: dict[str, object]) -> None:
    plain = network(**changes)
    run = OnCPU(copy.deepcopy(plain), PREPROCESS, torch.float32)
    given = pixels(3)
    expected = plain(torch.from_numpy(PREPROCESS.normalised(given))).numpy()
    np.testing.assert_allclose(run(given), expected, atol=1e-4 * abs(expected).max())


@pytest.mark.skipif(not HAS_PACKING, reason="this torch has no oneDNN")
def test_every_layer_but_the_head_is_packed_and_its_plain_weight_let_go() -> None:
    model = network()
    assert pack(model, torch.float32, together=2) == 1 + 3 * 6
    assert linear_layers(model) == 1, "only the head is left"
    assert sum(p.numel() for p in model.parameters()) < 0.2 * model.config.parameters


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_halved_types_stay_near_float32(dtype: torch.dtype) -> None:
    plain = network()
    run = OnCPU(copy.deepcopy(plain), PREPROCESS, dtype)
    given = pixels(4)
    expected = plain(torch.from_numpy(PREPROCESS.normalised(given))).numpy()
    logits = run(given)
    assert logits.dtype == np.float32
    assert abs(logits - expected).max() < 0.05 * abs(expected).max()
    coarse = torch.from_numpy(logits).to(dtype).float().numpy()
    assert (coarse != logits).mean() > 0.5, "logits keep what tells near ties apart"


def test_a_layer_that_differs_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PackedLinear.forward
    wrong = lambda self, x: right(self, x).flip(-1)  # noqa: E731
    monkeypatch.setattr(PackedLinear, "forward", wrong)
    plain = network()
    model = copy.deepcopy(plain)
    assert pack(model, torch.float32, together=2) == 0
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), plain(x))


def test_a_nan_counts_as_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: torch.full((*x.shape[:-1], 48), float("nan")))
    assert pack(network(mlp_width=48), torch.float32, together=2) == 0


def test_a_torch_without_the_operators_runs_the_plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(PackedLinear, "__init__", missing)
    plain = network()
    run = OnCPU(copy.deepcopy(plain), PREPROCESS, torch.float32)
    assert run.packed == 0
    given = pixels(2)
    expected = plain(torch.from_numpy(PREPROCESS.normalised(given)))
    torch.testing.assert_close(torch.from_numpy(run(given)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_in_parts_gives_every_picture_its_own_row(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "WIDEST", 2 * 17 * 144 * 4)
    run = OnCPU(network(), PREPROCESS, torch.float32)
    assert run.together == 2
    given = pixels(count)
    one_by_one = np.concatenate([run(given[i : i + 1]) for i in range(count)])
    np.testing.assert_allclose(run(given), one_by_one, atol=1e-4)


def test_packing_lets_go_of_every_plain_weight() -> None:
    plain = network()
    left = [weakref.ref(layer.weight) for layer in plain.blocks.modules() if isinstance(layer, torch.nn.Linear)]
    assert pack(plain, torch.float32, 1) > len(left)  # and the patch embedding
    assert [ref() for ref in left] == [None] * len(left)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has no MKL")  # type: ignore[no-untyped-call]
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_mkl_s_form_gives_the_plain_logits_for_every_number_of_pictures(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "mkl_is_faster", lambda layer: True)
    monkeypatch.setattr(cpu, "ENOUGH", 2)
    plain = network(**changes)
    run = OnCPU(copy.deepcopy(plain), PREPROCESS, torch.float32)
    assert any(isinstance(module, cpu.MKLLinear) for module in run.model.modules())
    given = pixels(5)  # two pairs, and one over
    expected = plain(torch.from_numpy(PREPROCESS.normalised(given))).numpy()
    np.testing.assert_allclose(run(given), expected, atol=1e-4 * abs(expected).max())
    weights = {name: tensor.numpy() for name, tensor in plain.state_dict().items()}
    asked = []

    def again(name: str) -> Any:
        asked.append(name)
        return weights[name]

    monkeypatch.setattr(cpu, "ENOUGH", 2 * torch.get_num_threads())
    run = OnCPU(copy.deepcopy(plain), PREPROCESS, torch.float32, again=again)
    run(given[:4], repeatable=True)
    assert asked == []
    np.testing.assert_allclose(run(given[:1]), expected[:1], atol=1e-4 * abs(expected).max())
    np.testing.assert_allclose(run(given[:1]), expected[:1], atol=1e-4 * abs(expected).max())
    assert len(asked) == len(set(asked)) > 0


def test_mkl_is_for_wide_float32_layers_on_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = torch.nn.Linear(768, 768), torch.nn.Linear(192, 192)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(cpu, "intel", lambda: True)
    assert cpu.mkl_is_faster(wide)
    assert not cpu.mkl_is_faster(narrow)
    assert not cpu.mkl_is_faster(wide.bfloat16())
    monkeypatch.setattr(cpu, "intel", lambda: False)
    assert not cpu.mkl_is_faster(torch.nn.Linear(768, 768))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 6, 8, 11])
def test_a_repeatable_row_depends_on_neither_its_place_nor_the_batch(count: int) -> None:
    run = OnCPU(network(), PREPROCESS, torch.float32)
    run.together = 4
    given = pixels(11)
    whole = run(given, repeatable=True)
    for shift in range(11):
        some = [(i + shift) % 11 for i in range(count)]
        np.testing.assert_array_equal(run(given[some], repeatable=True), whole[some])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_that_take_parts_each_give_every_picture_its_own_row(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = OnCPU(network(), PREPROCESS, torch.float32)
        assert run.threads == threads
        assert run.together <= max(1, cpu.ENOUGH // threads)
        given = pixels(20)
        logits = run(given, repeatable=True)
        one_by_one = np.concatenate([run(given[i : i + 1], repeatable=True) for i in range(20)])
        np.testing.assert_array_equal(logits, one_by_one)
        np.testing.assert_array_equal(logits[:6], run(given[:6], repeatable=True))
    finally:
        torch.set_num_threads(before)


def test_where_a_row_depends_on_its_place_pictures_go_through_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnCPU(network(), PREPROCESS, torch.float32).together > 1
    forward = PackedLinear.forward
    nudge = lambda self, x: forward(self, x) + torch.arange(len(x)).view(-1, 1, 1) * 1e-6  # noqa: E731
    monkeypatch.setattr(PackedLinear, "forward", nudge)
    run = OnCPU(network(), PREPROCESS, torch.float32)
    assert run.packed
    assert run.together == 1


# What other processors' kernels do, as far as this one can run them: oneDNN's, then torch's own.
KERNELS = [
    {},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "default"},
]


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda k: "-".join(k.values()) or "unlimited")
def test_rows_are_repeatable_with_every_instruction_set(kernels: dict[str, str]) -> None:
    script = Path(__file__).with_name("repeatable_rows.py")
    done = subprocess.run(
        [sys.executable, script], env=os.environ | kernels, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["28 networks, 0 of them not repeatable"], done.stdout + done.stderr
