"""What is no checkpoint, or only pretends to be one, is refused with a good sentence: no crash, no code, no memory."""

from __future__ import annotations

import argparse
import datetime
import fractions
import io
import json
import math
import os
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import vitcli
from tests.oracles import weights_of
from vitcli import checkpoints
from vitcli.checkpoints import weights
from vitcli.errors import CheckpointError, LayoutError, NotWeights, OutOfMemory
from vitcli.network import backend


def refused(path: Path, *words: str, kind: type[CheckpointError] = CheckpointError) -> str:
    """Load and peek both refuse, in at most three sentences that name the file; returns what was said."""
    for read in (checkpoints.peek, checkpoints.load):
        with pytest.raises(kind) as caught:
            read(path)
        said = str(caught.value)
        assert str(path) in said
        for word in words:
            assert word in said
        assert "\n" not in said
        assert len(said.replace(str(path), "")) < 700
        assert said.endswith(".")
    return said


def safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def tensor(shape: list[Any], begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A sound folder of one's own to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """The folder after a change to its tensors; returns the file."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".bin", ".pth", ".pt"])
@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs pointer"),
    (b"\n <!DOCTYPE html><html><title>401</title>", "web page"),
    (b"<html>", "web page"),
    (b"Repository not found", ""),
    (b'{"error": "gated"}' * 3, ""),
    (b"PK\x03\x04" + bytes(100), ""),
    (bytes(64), ""),
    (bytes(7), ""),
    (b"\x80\x02}q\x00.", ""),
])  # fmt: skip
def test_what_downloads_leave_behind_is_recognised(tmp_path: Path, ending: str, content: bytes, words: str) -> None:
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    refused(path, words, kind=NotWeights)


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("case", ["timm/safetensors", "timm/plain", "google/vit_jax"])
def test_truncated_files_are_refused(oracles: Path, tmp_path: Path, case: str, kept: float) -> None:
    whole = weights_of(oracles / case)
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    refused(path, "Download it again", kind=NotWeights)


@pytest.mark.parametrize(("header", "data", "words"), [
    ({}, 0, "holds no tensors"),
    ({"__metadata__": {"format": "pt"}}, 0, "holds no tensors"),
    ([], 0, "not a table of tensors"),
    (b"{", 0, "cannot be read"),
    (b"[" * 100_000, 0, "cannot be read"),
    (b'{"a": %s}' % (b"9" * 5000), 0, ""),
    (b"\xff\xfe{", 0, "cannot be read"),
    (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8,
     "a twice"),
    ({"a": tensor([1], 0, 4), "b": tensor([1], 2, 6)}, 8, "a, b claim the same bytes"),
    ({"a": tensor([2], 0, 8)}, 4, "cut short"),
    ({"a": tensor([1], 2**70, 2**70 + 4)}, 4, "cut short"),
    ({"a": tensor([1], 4, 0)}, 4, "claims shape [1]"),
    ({"a": tensor([10**10], 0, 4)}, 4, "claims shape [10000000000]"),
    ({"a": tensor([2**62, 2**62, 4], 0, 4)}, 4, "claims shape"),
    ({"a": tensor([-1, -1], 0, 4)}, 4, "makes no sense"),
    ({"a": tensor([1.0], 0, 4)}, 4, "makes no sense"),
    ({"a": tensor([True], 0, 4)}, 4, "makes no sense"),
    ({"a": tensor([1], "0", 4)}, 4, "makes no sense"),
    ({"a": tensor([1] * 64, 0, 4)}, 4, "makes no sense"),
    ({"a": tensor([1], 0, 4, dtype=["F32"])}, 4, "makes no sense"),
    ({"a": tensor([4], 0, 4, dtype="F8_E4M3")}, 4, "not quantised"),
    ({"a": {"dtype": "F32"}}, 4, "makes no sense"),
    ({"a": 7}, 4, "makes no sense"),
    ({"a\x1b[31m": 7}, 4, "for a\\x1b[31m makes"),
    ({"a" * 10**6: 7}, 4, "aaa..."),
])  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path: Path, header: Any, data: int, words: str) -> None:
    refused(safetensors(tmp_path / "a.safetensors", header, bytes(data)), words, kind=NotWeights)


def test_an_absurd_header_length_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    refused(path, "not a safetensors file", kind=NotWeights)


def test_a_pickle_of_something_else_is_refused_without_running_it(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    raw, saved = tmp_path / "raw.pt", tmp_path / "saved.pt"
    raw.write_bytes(pickle.dumps(Evil(), protocol=2))
    refused(raw, kind=NotWeights)
    torch.save({"model": Evil()}, saved)
    refused(saved, "holds more than weights", kind=NotWeights)
    assert not ran.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_saves_beside_the_weights_is_read_as_nothing(oracles: Path, tmp_path: Path, legacy: bool) -> None:
    state = torch.load(weights_of(oracles / "timm" / "plain"), weights_only=True)
    kept = {"model": state, "args": argparse.Namespace(lr=0.1, out=Path("runs")), "best": np.float64(0.9),
            "scores": [np.float32(1), np.int64(2)], "when": datetime.datetime(2020, 1, 1)}  # fmt: skip
    torch.save(kept, tmp_path / "checkpoint.pth", _use_new_zipfile_serialization=not legacy)
    assert checkpoints.load(tmp_path / "checkpoint.pth", heads=3).layout == "timm"


def test_a_class_of_ones_own_beside_the_weights_is_answered_with_safe_advice(oracles: Path, tmp_path: Path) -> None:
    state = torch.load(weights_of(oracles / "timm" / "plain"), weights_only=True)
    for legacy in (False, True):
        path = tmp_path / f"checkpoint{legacy}.pth"
        torch.save({"model": state, "args": fractions.Fraction(1)}, path, _use_new_zipfile_serialization=not legacy)
        said = refused(path, "fractions.Fraction", "torch.save(model.state_dict(), ...)", kind=NotWeights)
        assert "weights_only" not in said


def test_no_method_of_a_class_that_is_read_as_nothing_runs(tmp_path: Path) -> None:
    """A harmless name is no way in: what a pickle calls with it is our stand-in, whatever the arguments."""

    class Sly:
        def __reduce__(self) -> Any:
            return (argparse.Namespace, (), {"__class__": "x"}, iter([1]))

    torch.save({"model": {"a": torch.zeros(1)}, "args": Sly()}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "not a sound PyTorch checkpoint", kind=NotWeights)


@pytest.mark.parametrize(("content", "words"), [
    (torch.zeros(3), "holds a tensor"),
    ([torch.zeros(3)], "holds a list"),
    ({"epoch": 3}, "'epoch' is not a tensor (int)"),
    ({"model": {"a": torch.zeros(2), "step": [4]}}, "'step' is not a tensor"),
    ({}, "holds no tensors"),
    ({7: torch.zeros(2)}, "7"),
    ({"a": torch.zeros(1).expand(10**10)}, "claims shape [10000000000]"),
    ({"a": torch.zeros(2, 2).to_sparse()}, "sparse"),
    ({"a": torch.zeros(2, dtype=torch.complex64)}, "complex"),
    ({"a": torch.zeros(2, device="meta")}, "not plain weights"),
])  # fmt: skip
def test_torch_files_that_hold_no_state_dict_are_refused(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "a.pth"
    torch.save(content, path)
    assert path.stat().st_size < 4096
    refused(path, words, kind=NotWeights)


PAIRS = b")q\x01" + b"h\x01\x86q\x01" * 50  # () in a pair with itself, and that again: 2^50 in 200 bytes
A = b"X\x01\x00\x00\x00a"  # the string "a"
LONG = 500_000

COSTLY: dict[str, bytes] = {
    "nested key": b"}" + PAIRS + b"K\x01s",
    "nested value": b"}" + A + PAIRS + b"s",
    "lists in lists": b"}" + A + b"]" * LONG + b"a" * (LONG - 1) + b"s",
    "tuples in tuples": b"}" + A + b")" + b"\x85" * LONG + b"s",
    "a number of a megabyte as a key": b"}\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b"K\x01s",
    "a number in digits": b"}L" + b"9" * LONG + b"L\nK\x01s",
    "keys of one hash": b"}(" + b"".join(
        b"\x8a\x0c" + (i * (2**61 - 1)).to_bytes(12, "little") + b"K\x01" for i in range(1, 60_000)) + b"u",
    "an ordered dictionary of nested keys": b"ccollections\nOrderedDict\n](" + PAIRS + b"K\x01ta\x85R",
    "one reference after another": b"}q\x00" + A + b"]q\x01(" + b"h\x01" * LONG + b"es",
    "marks": b"(" * LONG,
    "a memo without end": b"}" + A + b"]\x94" * LONG,
    "a call of its own result": b"ccollections\nOrderedDict\n)R" + b"\x85R" * 1000,
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", COSTLY)
def test_no_pickle_costs_more_than_its_size(tmp_path: Path, case: str, legacy: bool) -> None:
    path = tmp_path / "a.pth"
    body = b"\x80\x02" + COSTLY[case] + b"."
    if legacy:
        head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        keys: list[str] = []
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + body + pickle.dumps(keys, 2))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", body)
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, kind=NotWeights)
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_pickle_of_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}" + b"]0" * (3 << 20) + b".")
    refused(path, "beside the weights are not a checkpoint", kind=NotWeights)


@pytest.mark.parametrize("tied", [True, False])
def test_tensors_that_share_their_numbers_are_held_against_the_size_of_the_file(tmp_path: Path, tied: bool) -> None:
    large = torch.zeros(5_000_000)
    path = tmp_path / "a.pth"
    torch.save({f"t{i}": large for i in range(2 if tied else 100)}, path)
    if tied:
        assert set(checkpoints.files.read(path).tensors) == {"t0", "t1"}
    else:
        refused(path, "more than the file holds", kind=NotWeights)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_way_that_torch_stores_a_tensor_is_read_as_torch_reads_it(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    kept: dict[str, torch.Tensor] = {
        "plain": base, "slice": base[1:3], "columns": base[:, ::2], "transposed": base.T, "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 3), "half": base.half(), "bfloat16": base.bfloat16(), "double": base.double(),
        "long": torch.arange(5), "bool": torch.tensor([True, False]), "byte": torch.arange(5, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(base.clone()), "spread": torch.ones(1).expand(7),
    }  # fmt: skip
    path = tmp_path / "a.pth"
    torch.save({"state_dict": kept, "epoch": 3, "args": {"betas": (0.9, 0.999), "device": torch.device("cpu")}}, path,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    tensors = checkpoints.files.read(path).tensors
    assert list(tensors) == list(kept)
    for name, tensor in kept.items():
        assert tensors[name].shape == tuple(tensor.shape)
        assert tensors[name].dtype == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(tensors[name].read(), tensor.detach().float().numpy())


def test_reading_a_pytorch_file_never_imports_torch(oracles: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vitcli import checkpoints\n"
        "checkpoints.load(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, weights_of(oracles / "timm" / "plain")], check=True)


def test_a_compressed_torch_file_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(50_000_000)}, buffer := io.BytesIO())
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    assert path.stat().st_size < 300_000
    refused(path, "compressed", kind=NotWeights)


def test_an_archive_that_would_inflate_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **{"embedding/kernel": np.zeros(100_000_000, np.float32)})
    assert path.stat().st_size < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "nothing was unpacked", kind=NotWeights)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_objects_in_an_archive_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, **{"embedding/kernel": np.array([{"a": 1}], dtype=object)})
    refused(path, "embedding/kernel holds Python objects", kind=NotWeights)


@pytest.mark.parametrize("shape", ["(10000000000,)", "(-5, -5)", "(2, 99999999999999999999999)"])
def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)
    path = tmp_path / "lies.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embedding/kernel.npy", member)
    assert path.stat().st_size < 2000
    refused(path, "claims shape", kind=NotWeights)


def test_archives_of_text_or_of_other_files_are_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text.npz", tmp_path / "other.npz"
    np.savez(text, a=np.array(["x", "y"]))
    refused(text, "not numbers", kind=NotWeights)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(other, "a zip archive that holds readme.txt", kind=NotWeights)


@pytest.mark.parametrize("names", [["../outside.safetensors"], ["/etc/passwd"], ["a\0b"], [".."], [7], []])
def test_an_index_names_only_shards_beside_it(model: Path, names: list[Any]) -> None:
    (model / "model.safetensors").rename(model.parent / "outside.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"t{i}": name for i, name in enumerate(names)}}))
    with pytest.raises(NotWeights, match=r"model\.safetensors\.index\.json"):
        checkpoints.load(model)


def test_leftovers_are_named(model: Path) -> None:
    path = changed(model, lambda t: t.update({"vit.embeddings.lambda": torch.ones(3), "optimizer.step": torch.ones(1)}))
    said = refused(path, "left over: ", kind=LayoutError)
    assert "embeddings.lambda" in said
    assert "optimizer.step" in said


def test_missing_tensors_are_named_as_the_file_would(model: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["vit.encoder.layer.1.output.dense.bias"]
        del tensors["vit.layernorm.weight"]

    said = refused(changed(model, drop), "missing: ", kind=LayoutError)
    assert "encoder.layer.1.output.dense.bias" in said
    assert "layernorm.weight" in said


@pytest.mark.parametrize("name", [
    "vit.embeddings.position_embeddings", "vit.embeddings.patch_embeddings.projection.weight", "classifier.weight",
    "vit.encoder.layer.0.attention.attention.query.weight", "vit.encoder.layer.0.intermediate.dense.weight",
    "vit.embeddings.cls_token", "vit.layernorm.bias", "vit.encoder.layer.0.layernorm_before.weight",
])  # fmt: skip
def test_any_one_tensor_missing_is_a_sentence(model: Path, name: str) -> None:
    refused(changed(model, lambda tensors: tensors.pop(name)), kind=LayoutError)


@pytest.mark.parametrize("name", [
    "vit.embeddings.position_embeddings", "vit.embeddings.patch_embeddings.projection.weight", "classifier.weight",
    "vit.encoder.layer.0.attention.attention.query.weight", "vit.encoder.layer.0.intermediate.dense.weight",
    "vit.embeddings.cls_token", "vit.layernorm.bias", "classifier.bias",
])  # fmt: skip
@pytest.mark.parametrize("how", ["scalar", "longer", "flat", "another axis", "empty"])
def test_any_one_tensor_misshapen_is_a_sentence(model: Path, name: str, how: str) -> None:
    if how == "another axis" and name.endswith(("cls_token", "position_embeddings")):
        how = "longer"  # axes of 1 in front of tokens are a matter of taste

    def reshape(tensors: dict[str, torch.Tensor]) -> None:
        t = tensors[name]
        tensors[name] = {
            "scalar": lambda: torch.tensor(1.0),
            "longer": lambda: torch.cat([t, t, t], dim=-1),
            "flat": lambda: torch.ones(t.numel() + 1),
            "another axis": lambda: t[None, None, None].clone(),
            "empty": lambda: torch.zeros(0, *t.shape[1:]),
        }[how]()

    refused(changed(model, reshape), kind=LayoutError)


def test_a_great_many_problems_are_still_one_sentence(model: Path) -> None:
    said = refused(changed(model, lambda t: t.update({f"x{i}": torch.ones(1) for i in range(500)})), kind=LayoutError)
    assert "and 494 more" in said


def test_a_backbone_without_a_head_says_so(model: Path) -> None:
    path = changed(model, lambda t: [t.pop("classifier.weight"), t.pop("classifier.bias")])
    refused(path, "a backbone without a classification head (no classifier.", kind=LayoutError)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    save_file({"layer1.0.conv1.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    refused(tmp_path / "model.safetensors", "layer1.0.conv1.weight", "config.json calls it 'resnet'", "torchvision")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["classifier.weight", "vit.encoder.layer.1.attention.attention.key.weight"])
def test_weights_that_are_not_finite_are_refused(model: Path, name: str, value: float) -> None:
    path = changed(model, lambda tensors: tensors[name].view(-1)[3:4].fill_(value))
    with pytest.raises(CheckpointError, match="NaN or infinity among the weights"):
        checkpoints.load(path)
    assert len(checkpoints.peek(path).not_finite()) == 1


def test_a_large_sum_is_not_taken_for_infinity(model: Path) -> None:
    path = changed(model, lambda tensors: tensors["classifier.weight"].fill_(3e38))
    assert checkpoints.load(path).not_finite() == []


def test_two_spellings_of_one_tensor_are_refused(model: Path) -> None:
    path = changed(model, lambda t: t.update({"vit.layers.0.layernorm_before.bias": torch.ones(32)}))
    refused(path, "twice: ", "layers.0.layernorm_before.bias", kind=LayoutError)


def test_integers_are_no_weights(model: Path) -> None:
    path = changed(model, lambda t: t.update({"vit.layernorm.bias": torch.ones(32, dtype=torch.int64)}))
    refused(path, "not floating-point: layernorm.bias (int64)", kind=LayoutError)


HOSTILE: list[tuple[dict[str, Any], str]] = [
    (dict(image_size=10**9), "config.json says image_size 1000000000, the tensors say 32"),
    (dict(image_size=[32, "x"]), "image_size a list"),
    (dict(hidden_size=10**30), "hidden_size"),
    (dict(num_hidden_layers=-1), "num_hidden_layers"),
    (dict(layer_norm_eps="1e-12"), "layer_norm_eps"),
    (dict(layer_norm_eps=-1), "layer_norm_eps"),
    (dict(layer_norm_eps=0), "layer_norm_eps"),
    (dict(layer_norm_eps=1e-320), "layer_norm_eps"),
    (dict(layer_norm_eps=1e300), "layer_norm_eps"),
    (dict(id2label="no"), ""),
    (dict(id2label={"0": {"deep": []}}), "names 0 of 10 classes"),
    (dict(label2id=[[[]]]), ""),
    (dict(hidden_act=7), "hidden_act"),
    (dict(problem_type=["x"]), ""),
    (dict(model_type={"a": 1}), ""),
    (dict(pretrained_cfg=[1, 2], model_args="x"), ""),
]


@pytest.mark.parametrize(("changes", "warning"), HOSTILE, ids=str)
def test_hostile_settings_change_nothing(model: Path, changes: dict[str, Any], warning: str) -> None:
    good = checkpoints.load(model)
    config = json.loads((model / "config.json").read_text()) | changes
    (model / "config.json").write_text(json.dumps(config))
    checkpoint = checkpoints.load(model)
    assert checkpoint.config == good.config
    assert not warning or any(warning in said for said in checkpoint.warnings)


@pytest.mark.parametrize("heads", [0, -2, 10**9, "2", 2.0, None, True, [2]])
def test_heads_that_cannot_be_meant_are_asked_for(model: Path, heads: Any) -> None:
    config = json.loads((model / "config.json").read_text()) | {"num_attention_heads": heads}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(LayoutError, match="Give --heads"):
        checkpoints.load(model)
    assert checkpoints.load(model, heads=2).config.heads == 2


def test_heads_that_do_not_divide_the_width_are_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"num_attention_heads": 5}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="5 heads, which does not divide the width 32"):
        checkpoints.load(model)


@pytest.mark.parametrize(("field", "value"), [("hidden_act", "silu"), ("global_pool", "map")])
def test_another_network_is_never_run_as_this_one(model: Path, field: str, value: str) -> None:
    config = json.loads((model / "config.json").read_text()) | {field: value}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"config.json asks for .*({value}|pooling by attention)"):
        checkpoints.load(model)


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"[1]", b"[" * 100_000, b"<html>", b"\xff\xfe\x00", b'{"a": NaN']
)
def test_settings_that_cannot_be_read_are_left_aside_with_a_warning(model: Path, content: bytes) -> None:
    (model / "config.json").write_bytes(content)
    (model / "preprocessor_config.json").write_bytes(content)
    checkpoint = checkpoints.load(model, heads=2)
    assert "config.json cannot be read and was ignored" in checkpoint.warnings
    assert "preprocessor_config.json cannot be read and was ignored" in checkpoint.warnings


@pytest.mark.parametrize("said", [
    {"size": 10**9}, {"image_std": [0, 0, 0]}, {"resample": "x"}, {"size": {"a": 1}}, {"image_std": [1e-300] * 3},
    {"rescale_factor": 1e-320}, {"rescale_factor": 5e-324}, {"image_mean": [9e5] * 3}, {"image_mean": [1e30] * 3},
    {"image_std": [9e5] * 3}, {"image_std": [float("nan"), 1, 1]}, {"image_mean": float("inf")},
    {"rescale_factor": 1000}, {"image_std": [0.5, 0.5, 1e-5]},
])  # fmt: skip
def test_hostile_preprocessing_names_its_file(model: Path, said: dict[str, Any]) -> None:
    (model / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: "):
        checkpoints.load(model)
    checkpoints.load(model, preprocess="hf")


@pytest.mark.parametrize("said", [
    {"rescale_factor": 1}, {"rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": 1}, {"image_std": [1, 1, 1]},
    {"do_rescale": False}, {"do_rescale": False, "image_mean": [123.7] * 3, "image_std": [58.4] * 3},
])  # fmt: skip
def test_every_scale_that_people_use_is_taken(model: Path, said: dict[str, Any]) -> None:
    (model / "preprocessor_config.json").write_text(json.dumps(said))
    checkpoints.load(model)


def sparse(folder: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """The folder's weights with other shapes and no numbers: a file that is long and takes no room."""
    file, at, header = folder / "model.safetensors", 0, {}
    for name, value in load_file(file).items():
        shape = shapes.get(name, tuple(value.shape))
        header[name] = tensor(list(shape), at, at := at + 4 * math.prod(shape))
    safetensors(file, header)
    os.truncate(file, file.stat().st_size + at)
    return file


@pytest.mark.parametrize("shapes", [
    {"classifier.weight": (20_000_000, 32), "classifier.bias": (20_000_000,)},
    {"vit.embeddings.position_embeddings": (1, 1 + 2048**2, 32)},
], ids=["classes", "positions"])  # fmt: skip
def test_networks_of_no_sensible_size_are_refused_from_their_header(
    model: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    file = sparse(model, shapes)
    assert file.stat().st_blocks * 512 < 100_000
    refused(file, "what is built here has up to")


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_weights_that_do_not_fit_are_refused_before_they_are_read(
    model: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    sparse(model, {f"vit.encoder.layer.{i}.{name}": shape for i in range(2) for name, shape in {
        "intermediate.dense.weight": (20_000_000, 32), "intermediate.dense.bias": (20_000_000,),
        "output.dense.weight": (32, 20_000_000)}.items()})  # fmt: skip
    for module in (weights, backend):
        monkeypatch.setattr(module, "available", lambda: 1 << 30)
    with pytest.raises(OutOfMemory, match="the network does not fit in memory: its weights take"):
        vitcli.load(model, engine=engine, device="cpu")


def test_neither_file_nor_folder_of_weights(tmp_path: Path, model: Path) -> None:
    refused(tmp_path / "nowhere", "no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no weights")
    refused(model / "config.json", "settings, not weights")
    (tmp_path / "weights.xyz").write_bytes(b"x")
    refused(tmp_path / "weights.xyz", ".safetensors, .npz")


@pytest.mark.parametrize("case", ["timm/safetensors", "timm/plain", "google/vit_jax", "google/big_vision_stacked"])
def test_flipped_bytes_never_crash(oracles: Path, tmp_path: Path, case: str) -> None:
    """Any damage gives a checkpoint or a CheckpointError, whatever the byte: 150 seeded mutations a kind of file."""
    whole = weights_of(oracles / case).read_bytes()
    path = tmp_path / weights_of(oracles / case).name
    chance = random.Random(case)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        # headers come first in one kind of file and last in the others
        for _ in range(chance.randint(1, 4)):
            where = chance.choice([chance.randrange(4000), len(damaged) - 1 - chance.randrange(4000)])
            damaged[where] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            checkpoints.load(path, heads=3)
            outcomes.add("loaded")
        except CheckpointError as error:
            outcomes.add("refused" if "\n" not in str(error) else str(error))
    assert outcomes == {"loaded", "refused"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from([
    "hidden_size", "num_attention_heads", "layer_norm_eps", "image_size", "patch_size", "id2label", "hidden_act",
    "model_type", "problem_type", "num_labels", "num_channels", "pretrained_cfg", "model_args", "global_pool",
    "architecture", "label_names", "label_descriptions", "dim_head", "pool",
])  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=st.dictionaries(fields, values, max_size=6), processor=st.none() | st.dictionaries(
    st.sampled_from(["size", "image_mean", "image_std", "resample", "do_resize", "rescale_factor", "crop_size"]),
    values, max_size=4))  # fmt: skip
def test_no_settings_crash(tiny: Path, tmp_path: Path, config: dict[str, Any], processor: Any) -> None:
    shutil.copy(tiny / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    try:
        checkpoint = checkpoints.load(tmp_path, heads=2)
    except CheckpointError:
        return
    assert checkpoint.config.tensors() == {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    assert len(checkpoint.labels) == checkpoint.config.classes
