"""Files as people have them: read by what they hold, whatever they are called; others named for what they are."""

from __future__ import annotations

import gzip
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.oracles import weights_of
from tests.test_checkpoints import agrees, model, saved
from vitcli import checkpoints
from vitcli.errors import CheckpointError, LayoutError, NotWeights


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return model().state_dict()


@pytest.mark.parametrize("name", ["epoch=3-step=99.ckpt", "model_best.pth.tar", "model_best", "weights.safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_are_read_under_any_name(tmp_path: Path, state: dict[str, Any], name: str, legacy: bool) -> None:
    lightning = {"epoch": 3, "global_step": 99, "state_dict": {f"model.{key}": t for key, t in state.items()},
                 "optimizer_states": [], "hyper_parameters": {"lr": 1e-4}}  # fmt: skip
    torch.save(lightning, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    agrees(checkpoints.load(tmp_path / name, heads=3), model())


def test_safetensors_and_archives_of_numpy_are_read_under_any_name(tmp_path: Path, oracles: Path) -> None:
    saved(tmp_path, model())
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.ckpt")
    agrees(checkpoints.load(tmp_path), model())
    shutil.copy(oracles / "google" / "vit_jax" / "weights.npz", tmp_path / "weights")
    assert checkpoints.load(tmp_path / "weights", heads=3).layout == "vit_jax"


def test_the_only_dictionary_of_tensors_is_the_state_dict(tmp_path: Path, state: dict[str, Any]) -> None:
    torch.save({"net": state, "acc": 91.2, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "ckpt.pth")
    agrees(checkpoints.load(tmp_path / "ckpt.pth", heads=3), model())
    torch.save({"student": state, "teacher": state}, tmp_path / "two.pth")
    with pytest.raises(NotWeights, match=r"several dictionaries of tensors \(student, teacher\)"):
        checkpoints.load(tmp_path / "two.pth")


def test_what_training_counts_beside_the_weights_is_left_aside(tmp_path: Path, state: dict[str, Any]) -> None:
    counters = {"model.total_ops": torch.zeros(1), "global_step": torch.tensor(3), "loss.weight": torch.ones(7),
                "n_averaged": torch.tensor(5), "model.vit.bn.num_batches_tracked": torch.tensor(1)}  # fmt: skip
    torch.save({f"model.{name}": tensor for name, tensor in state.items()} | counters, tmp_path / "a.pth")
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=3)
    agrees(checkpoint, model())
    assert set(counters) <= set(checkpoint.dropped)


def test_a_stray_tensor_does_not_hide_the_layout(tmp_path: Path, state: dict[str, Any]) -> None:
    stray = {"temperature.log_scale": torch.zeros(3)}
    torch.save({f"lit.net.{name}": tensor for name, tensor in state.items()} | stray, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match=r"transformers layout.*left over: temperature\.log_scale"):
        checkpoints.load(tmp_path / "a.pth", heads=3)


def test_two_networks_in_one_file_are_never_chosen_between(tmp_path: Path, state: dict[str, Any]) -> None:
    both = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in state.items()}
    torch.save(both, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match=r"several networks \(under student\.vit\., teacher\.vit\.\)"):
        checkpoints.load(tmp_path / "a.pth", heads=3)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("tf_model.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "TensorFlow or Keras"),
    ("weights.bin", b"\x89HDF\r\n\x1a\n" + bytes(99), "TensorFlow or Keras"),
    ("flax_model.msgpack", b"\x82" + bytes(99), "Flax"),
    ("model.onnx", b"\x08\x07" + bytes(99), "an ONNX program"),
    ("onnx/model.onnx", b"\x08\x07" + bytes(99), "an ONNX program"),
    ("vit.tflite", b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite"),
    ("vit.gguf", b"GGUF" + bytes(99), "GGUF"),
    ("openvino_model.bin", bytes(99), "an OpenVINO program"),
    ("saved_model.pb", b"\x08\x01" + bytes(99), "a TensorFlow program"),
    ("vit.pte", b"\0\0\0\0ET12" + bytes(99), "an ExecuTorch program"),
    ("vit.mlmodel", b"\x08\x04" + bytes(99), "a Core ML program"),
    ("vit.engine", bytes(99), "a TensorRT program"),
    ("checkpoint_100", b"\x82\xa6params" + bytes(99), "weights of Flax"),
    ("model.ckpt-1000.data-00000-of-00001", bytes(99), "weights of TensorFlow"),
    ("group1-shard1of2.bin", bytes(99), r"weights of TensorFlow\.js"),
    ("vit.pdparams", bytes(99), "weights of PaddlePaddle"),
    ("model_00.distcp", bytes(99), "a distributed checkpoint of PyTorch.*dcp_to_torch"),
    ("zero_pp_rank_0_mp_rank_00_optim_states.pt", bytes(99), "DeepSpeed.*zero_to_fp32"),
    ("vit.pth.gz", gzip.compress(b"weights"), r"packed with gzip\. Unpack it first"),
    ("vit.pth.xz", b"\xfd7zXZ\0" + bytes(99), "packed with xz"),
    ("vit.tar.gz", gzip.compress(b"weights"), "a packed archive"),
    ("vit.pth.tar", bytes(257) + b"ustar" + bytes(250), "a tar archive"),
    ("vit.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "a packed archive"),
    ("vit.npy", b"\x93NUMPY" + bytes(99), "one array of numbers"),
])  # fmt: skip
def test_files_of_other_frameworks_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    for path in (file, tmp_path):  # a folder that holds nothing else means the same
        with pytest.raises(NotWeights, match=words):
            checkpoints.load(path)


def test_what_is_packed_is_named_by_its_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "renamed.pth").write_bytes(gzip.compress(b"weights"))
    with pytest.raises(NotWeights, match="packed with gzip"):
        checkpoints.load(tmp_path / "renamed.pth")


@pytest.mark.parametrize("name", ["models.zip", "weights.pth"])
def test_an_archive_of_checkpoints_says_what_it_holds(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("out/model.safetensors", b"weights")
        archive.writestr("out/config.json", "{}")
    with pytest.raises(NotWeights, match=r"a zip archive that holds out/model\.safetensors, out/config\.json\. Unpack"):
        checkpoints.load(tmp_path / name)


@pytest.mark.parametrize("name", ["vit.pkl", "vit.joblib"])
def test_a_pickle_is_named_and_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"weight": 3}))
    with pytest.raises(NotWeights, match=r"a pickle.*torch\.save\(model\.state_dict\(\)"):
        checkpoints.load(tmp_path / name)


@pytest.mark.parametrize(("names", "words"), [
    (["_METADATA", "manifest.ocdbt", "d/x"], "weights of JAX, as Orbax saves them"),
    (["vit_fsdp_0/.metadata", "vit_fsdp_0/__0_0.distcp"], r"in parts\. .*dcp_to_torch \S*vit_fsdp_0 weights\.pth"),
    (["latest", "zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt"], "a checkpoint of DeepSpeed"),
    (["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"], "a Core ML program"),
    (["variables/variables.data-00000-of-00001", "saved_model.pb"], "TensorFlow"),
])  # fmt: skip
def test_folders_of_other_tools_are_named(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 99)
    with pytest.raises(NotWeights, match=words):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("name", [
    "model/model.safetensors", "a/b/model.safetensors", "lightning_logs/version_0/checkpoints/epoch=3-step=99.ckpt",
])  # fmt: skip
def test_weights_further_down_are_pointed_to(tmp_path: Path, name: str) -> None:
    for each in (name, "wandb/run/training_args.bin"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"holds no weights itself, but {name}. Name that, or its folder"):
        checkpoints.load(tmp_path)


def test_several_further_down_are_all_named(tmp_path: Path) -> None:
    for fold in (1, 2):
        saved(tmp_path / f"fold{fold}", model())
    with pytest.raises(CheckpointError, match=r"but fold1/model\.safetensors, fold2/model\.safetensors\. Name one"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("name", ["trainer_state.json", "training_args.bin", "hparams.yaml", "events.out.tfevents.1"])
def test_a_trainers_folder_without_a_checkpoint_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="a trainer's folder without a checkpoint"):
        checkpoints.load(tmp_path)


def test_what_a_trainer_keeps_beside_the_weights_is_never_taken_for_them(tmp_path: Path, state: dict[str, Any]) -> None:
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth"):
        torch.save({"lr": 1}, tmp_path / name)
        with pytest.raises(NotWeights, match="what a trainer keeps to go on with, not weights"):
            checkpoints.load(tmp_path / name)
    torch.save(state, tmp_path / "best.pth")
    agrees(checkpoints.load(tmp_path, heads=3), model())


def test_a_folder_of_the_hubs_cache_leads_to_the_models_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--vit"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"a folder of the hub's cache\. Give the model's own name"):
        checkpoints.load(folder)


def test_one_part_of_several_is_named(tmp_path: Path) -> None:
    saved(tmp_path, model(), max_shard_size="50KB")
    part = next(tmp_path.glob("model-00001-of-*.safetensors"))
    with pytest.raises(CheckpointError, match=r"one of \d parts of the weights\. Name the folder"):
        checkpoints.load(part)
    agrees(checkpoints.load(tmp_path), model())


def test_weights_of_flax_in_an_archive_of_numpy_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{f"params/vit/encoder/layer/0/{name}/kernel": np.zeros((8, 8), np.float32)
                                    for name in ("attention/attention/query", "output/dense")})  # fmt: skip
    with pytest.raises(LayoutError, match=r"the names of transformers' Flax classes.*from_flax=True"):
        checkpoints.load(tmp_path / "a.npz")


def test_a_trainers_folder_points_to_its_newest_checkpoint(tmp_path: Path) -> None:
    for step in (500, 1000, 999):
        saved(tmp_path / f"checkpoint-{step}", model())
    with pytest.raises(CheckpointError, match="newest checkpoint is checkpoint-1000"):
        checkpoints.load(tmp_path)


def test_adapters_are_named(tmp_path: Path, state: dict[str, Any]) -> None:
    layer = "base_model.model.vit.encoder.layer.0.attention.attention.query"
    lora = {f"{layer}.lora_A.weight": torch.ones(4, 48), f"{layer}.lora_B.weight": torch.ones(48, 4)}
    save_file(lora, tmp_path / "adapter_model.safetensors")
    with pytest.raises(LayoutError, match="LoRA adapter: merge it"):
        checkpoints.load(tmp_path / "adapter_model.safetensors")
    whole = {f"base_model.model.{name}": tensor for name, tensor in state.items()}
    torch.save(whole | lora, tmp_path / "peft.pth")
    with pytest.raises(LayoutError, match="has LoRA adapters that are not merged"):
        checkpoints.load(tmp_path / "peft.pth", heads=3)


def test_quantised_weights_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: the module moves elsewhere
        network = torch.ao.quantization.quantize_dynamic(model(), {torch.nn.Linear}, dtype=torch.qint8)
        torch.save(network.state_dict(), tmp_path / "dynamic.pth")
    with pytest.raises(NotWeights, match="quantised"):
        checkpoints.load(tmp_path / "dynamic.pth")
    eight = dict(model().state_dict())
    name = next(name for name in eight if name.endswith("fc1.weight"))
    eight[name] = eight[name].to(torch.int8)
    eight[name.replace("weight", "SCB")] = torch.ones(96)
    save_file(eight, tmp_path / "bnb.safetensors")
    with pytest.raises(LayoutError, match="quantised weights"):
        checkpoints.load(tmp_path / "bnb.safetensors", heads=3)


def test_torchscript_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: TorchScript is going away
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(NotWeights, match="a TorchScript program"):
        checkpoints.load(tmp_path / "script.pt")


def test_networks_with_computed_positions_are_named(oracles: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="has computed positions, as SimpleViT has, which is not built here"):
        checkpoints.load(weights_of(oracles / "vit-pytorch" / "simple"))
    whole = torch.load(weights_of(oracles / "vit-pytorch" / "mean"), weights_only=True)
    simple = {name.replace("mlp_head", "linear_head"): t for name, t in whole.items() if "pos_embedding" not in name}
    torch.save(simple, tmp_path / "simple.pt")
    with pytest.raises(LayoutError, match="no learned positions"):
        checkpoints.load(tmp_path / "simple.pt", heads=3)
