"""A checkpoint of any layout -> the hub's: a folder that `transformers` loads with nothing missing and nothing left.

    Checkpoint -> model.safetensors, config.json, preprocessor_config.json

Names come from the table that reads that layout, turned round. Whatever `transformers`' ViT and DeiT compute can be
written, whatever it was called; where its classes have no words for a network, `convert` refuses by naming them.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from vitcli.checkpoints import LAYOUTS, Checkpoint, foreign
from vitcli.checkpoints.files import READERS
from vitcli.checkpoints.source import Array
from vitcli.config import Config
from vitcli.errors import CheckpointError, OutputError, UsageError
from vitcli.labels import Labels
from vitcli.pictures.preprocess import FILTERS, Preprocess

HUB = next(layout for layout in LAYOUTS if layout.name == "transformers")

# Where the hub's tensors have axes that ours have not.
AXES = {
    "class_token": "d -> 1 1 d",
    "distillation_token": "d -> 1 1 d",
    "positions": "n d -> 1 n d",
    "patch_embedding.projection.weight": "d (c p q) -> d c p q",
}


def convert(checkpoint: Checkpoint, out: Path, *, force: bool = False) -> list[Path]:
    """Write a checkpoint in the hub's layout; returns the files, the weights first.

    `out` is a folder, or a name ending in .safetensors beside which the settings go. The weights are float32. Each
    file takes its place whole, the weights last.

    Raises CheckpointError for a network that transformers has no class for and for weights that are not finite,
    OutputError for what cannot be written or is there already (unless `force`), UsageError for another ending.
    """
    weights = out if out.suffix == ".safetensors" else out / "model.safetensors"
    other = out.name.lower().endswith((*READERS, ".json")) or foreign.named(out.name)
    if out.suffix != ".safetensors" and not out.is_dir() and other:
        raise UsageError(f"{out}: weights are written as a folder or as a file ending in .safetensors.")
    files = [weights, weights.with_name("config.json"), weights.with_name("preprocessor_config.json")]
    there = [file.name for file in files if file.exists()]
    if there and not force:
        raise OutputError(f"{weights.parent} already holds {', '.join(there)}: choose another place, or --force.")
    tensors = hub_tensors(checkpoint)
    if bad := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise CheckpointError(f"{checkpoint.path}: NaN or infinity among the weights ({', '.join(bad[:3])}). "
                              "Nothing was written.")  # fmt: skip

    def save(path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        path.touch()
        mode = path.stat().st_mode  # save_file alone would make a file that nobody else can read
        try:
            save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error
        path.chmod(mode)

    settings = hub_config(checkpoint.config, checkpoint.labels), hub_preprocess(checkpoint.preprocess)
    _write_all(dict(zip(files, (save, *map(_json, settings)), strict=True)))
    return files


def _json(settings: dict[str, Any]) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_all(files: dict[Path, Callable[[Path], object]]) -> None:
    """Write each file under a temporary name beside its own, then rename them all, the first one last."""
    folder = next(iter(files)).parent
    done: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as temporary:
            for file, write in files.items():
                done[file] = Path(temporary) / file.name
                write(done[file])
            for file in reversed(files):
                done[file].replace(file)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only an empty one goes
        raise OutputError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error}).") from error


def unexpressed(config: Config) -> list[str]:
    """What a network has that transformers' ViT and DeiT have not; empty when it can be converted."""
    found = {
        "pooling by attention": config.pools_by_attention,
        "pooling by the mean": config.pooling != "cls" and not config.pools_by_attention,
        "no class token": not config.class_token,
        "norms around the patch embedding": config.patch_norms,
        "no positions of its own": not config.positions,
        "relative positions": config.relative_positions,
        "rotary positions": config.rotary is not None,
        "a patch embedding without bias": not config.patch_bias,
        "a norm before the blocks": config.norm_pre,
        "norms inside attention": config.attention_norm,
        "a gated MLP (SwiGLU)": config.gated_mlp,
        "norms inside the MLP": config.mlp_norm,
        "norms after the branches": config.post_norm,
        "no norm after the blocks": not config.final_norm,
        # one token more than the class's is a DeiT's distillation token, whatever it was trained for
        f"{config.register_tokens} register tokens": config.register_tokens + config.distillation_token > 1,
        "attention without an output projection": not config.attention_out,
    }
    return [what for what, present in found.items() if present]


def architecture(config: Config) -> str:
    """The class of transformers that computes such a network.

    Raises CheckpointError, naming what no class computes.
    """
    if found := unexpressed(config):
        raise CheckpointError(f"transformers' ViT cannot express this network: it has {', '.join(found)}.")
    if config.distillation_token:
        return "DeiTForImageClassificationWithTeacher"
    return "DeiTForImageClassification" if config.register_tokens else "ViTForImageClassification"


def hub_tensors(checkpoint: Checkpoint) -> dict[str, Array]:
    """The weights under the hub's names and shapes, float32 and contiguous.

    Two things become part of the weights, because the hub's classes do not have them apart: layer scale goes into the
    layer before it, and tokens without positions get zeros. Raises CheckpointError as `architecture` does.
    """
    config = checkpoint.config
    named = architecture(config)
    found: dict[str, Array] = {}
    for ours in config.tensors():
        if ours.endswith((".scale1", ".scale2")):
            continue
        tensor = checkpoint.tensors[ours]
        if ours == "positions" and not config.prefix_positions:
            tensor = np.concatenate([np.zeros((config.prefix, config.width), np.float32), tensor])
        if config.layer_scale and ".attention.out." in ours:
            tensor = _scaled(tensor, checkpoint.tensors[f"{_block(ours)}.scale1"])
        if config.layer_scale and ".mlp.fc2." in ours:
            tensor = _scaled(tensor, checkpoint.tensors[f"{_block(ours)}.scale2"])
        if ours == "register_tokens":
            ours, tensor = "distillation_token", tensor[0]
        if ours in AXES:
            lengths = {axis: config.patch_size for axis in "pq" if axis in AXES[ours]}
            tensor = rearrange(tensor, AXES[ours], **lengths)
        found[hub_name(ours, named)] = np.ascontiguousarray(tensor, np.float32)
    return found


def hub_name(ours: str, named: str) -> str:
    """What a tensor of ours is called in a file for the class `named`."""
    spellings = [name for rule in HUB.rules for name in rule.spellings(ours)]
    if ours.startswith("head.") and named.endswith("WithTeacher"):
        spellings = [name for name in spellings if name.startswith("cls_classifier")]
    return spellings[0] if "classifier" in spellings[0] else prefix(named) + spellings[0]


def prefix(named: str) -> str:
    """What stands before the names of all tensors but the head's in a file for the class `named`."""
    return "deit." if named.startswith("DeiT") else "vit."


def _block(ours: str) -> str:
    return ".".join(ours.split(".")[:2])


def _scaled(tensor: Array, scale: Array) -> Array:
    """Rows of a weight [o i], or a bias [o], times a vector [o]."""
    return tensor * (scale[:, None] if tensor.ndim == 2 else scale)


def hub_config(config: Config, labels: Labels) -> dict[str, Any]:
    """`config.json`: what transformers must know to build the network, and the names of the classes.

    Raises CheckpointError as `architecture` does.
    """
    named = architecture(config)
    settings: dict[str, Any] = {
        "architectures": [named],
        "model_type": "deit" if named.startswith("DeiT") else "vit",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": {"exact": "gelu", "tanh": "gelu_pytorch_tanh", "quick": "quick_gelu"}[config.gelu],
        "layer_norm_eps": config.norm_eps,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "qkv_bias": config.qkv_bias,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
    }
    if config.head_width * config.heads != config.width:
        settings["head_dim"] = config.head_width
    if labels.activation == "none":
        settings["problem_type"] = "regression"
    if labels.activation == "sigmoid":
        settings["problem_type"] = "multi_label_classification"
    settings["id2label"] = {str(i): name for i, name in enumerate(labels.names)}
    settings["label2id"] = {name: i for i, name in enumerate(labels.names)}
    return settings


def hub_preprocess(preprocess: Preprocess) -> dict[str, Any]:
    """`preprocessor_config.json`: what both transformers and `processors.from_transformers` understand."""
    plain = preprocess.fit == "squash" and preprocess.resize == preprocess.size
    square = {"height": preprocess.resize, "width": preprocess.resize}
    settings: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor" if plain else "DeiTImageProcessor",
        "do_resize": True,
        "size": square if preprocess.fit == "squash" else {"shortest_edge": preprocess.resize},
        "resample": FILTERS.index(preprocess.filter),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
    if not plain:
        settings |= {"do_center_crop": True, "crop_size": {"height": preprocess.size, "width": preprocess.size}}
    if preprocess.rounding != "down":
        # our own field: transformers ignores it and rounds down, a pixel apart where margins cannot be equal
        settings["crop_rounding"] = preprocess.rounding
    return settings
