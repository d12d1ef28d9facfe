"""Files and folders that are no weights to read here, named for what they are, with the next step.

Nothing of them is read but their first bytes and their names. To teach another, add a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from vitcli.errors import CheckpointError, NotWeights
from vitcli.escaping import listed, short

MAX_LOOKED_AT = 1000  # names of a folder and of those in it


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is that has one of these names (patterns, in small letters), or these bytes at `place`."""

    names: tuple[str, ...]
    what: str
    magic: bytes = b""
    place: int = 0


LOADED = ("Load them with transformers 4 (from_pretrained(..., from_X=True)), and name the folder that save_pretrained "
          "then writes")  # fmt: skip
FROM_TF, FROM_FLAX = LOADED.replace("X", "tf"), LOADED.replace("X", "flax")
FROM_JAX = "Restore them in JAX, and save them as .npz under the names of Google's files"
EXPORTED = "not weights. Name the checkpoint that it was exported from"
UNPACK = "Unpack it, and name what is in it"
GATHERED = ("python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth gathers them: name "
            "weights.pth")  # fmt: skip
ZERO = "python zero_to_fp32.py . OUTPUT, in the folder that holds that script, gathers them: name what it writes"
PACKED = ("*.tar.gz", "*.tgz", "*.tar.xz", "*.tar.bz2", "*.tar.zst")

FILES = (
    Kind(("*.h5", "*.keras"), f"weights of TensorFlow or Keras. {FROM_TF}", b"\x89HDF\r\n"),
    Kind(("*.ckpt*.index", "*.data-?????-of-?????"), f"weights of TensorFlow. {FROM_TF}"),
    Kind(("group*-shard*of*.bin",), "weights of TensorFlow.js. Name the checkpoint that they were exported from"),
    Kind(("*.msgpack",), f"weights of Flax. {FROM_FLAX}"),
    Kind((), f"weights of Flax. {FROM_FLAX}", b"\xa6params", 1),
    Kind(("*.pdparams",), "weights of PaddlePaddle, which are not read here. Name a checkpoint of PyTorch"),
    Kind(("*.onnx",), f"an ONNX program, {EXPORTED}"),
    Kind(("openvino_model.bin", "openvino_model.xml"), f"an OpenVINO program, {EXPORTED}"),
    Kind(("*.pb",), f"a TensorFlow program, {EXPORTED}"),
    Kind(("*.pte",), f"an ExecuTorch program, {EXPORTED}", b"ET12", 4),
    Kind(("*.tflite",), f"a TensorFlow Lite program, {EXPORTED}", b"TFL3", 4),
    Kind(("*.mlmodel",), f"a Core ML program, {EXPORTED}"),
    Kind(("*.engine", "*.plan", "*.trt"), f"a TensorRT program, {EXPORTED}"),
    Kind(("*.gguf",), "a GGUF file, whose weights are quantised. Name the checkpoint that it was made from", b"GGUF"),
    Kind(("*.distcp",), f"a part of a distributed checkpoint of PyTorch. {GATHERED}"),
    Kind(("*_optim_states.pt",), f"a part of the optimiser of DeepSpeed, with a part of the weights. {ZERO}"),
    Kind(("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt",
          "rng_state*.pth", "random_states_*.pkl"),
         "what a trainer keeps to go on with, not weights. Name the folder it is in"),
    Kind(("*.npy",), "one array of numbers, not a network's weights"),
    Kind(PACKED, f"a packed archive. {UNPACK}"),
    Kind(("*.gz",), "packed with gzip. Unpack it first (gzip -d)", b"\x1f\x8b"),
    Kind(("*.xz",), "packed with xz. Unpack it first (xz -d)", b"\xfd7zXZ\0"),
    Kind(("*.bz2",), "packed with bzip2. Unpack it first (bzip2 -d)", b"BZh"),
    Kind(("*.zst",), "packed with zstd. Unpack it first (zstd -d)", b"\x28\xb5\x2f\xfd"),
    Kind(("*.7z",), f"a packed archive. {UNPACK}", b"7z\xbc\xaf\x27\x1c"),
    Kind(("*.rar",), f"a packed archive. {UNPACK}", b"Rar!\x1a\x07"),
    Kind((), f"a tar archive. {UNPACK}", b"ustar", 257),
)  # fmt: skip

# What may lie in a folder that holds no weights itself -> what that folder is.
FOLDERS = {
    "manifest.ocdbt": f"weights of JAX, as Orbax saves them. {FROM_JAX}",
    "_checkpoint_metadata": f"weights of JAX, as Orbax saves them. {FROM_JAX}",
    "_metadata": f"weights of JAX, as Orbax saves them. {FROM_JAX}",
    ".metadata": f"a distributed checkpoint of PyTorch, in parts. {GATHERED}",
    "zero_to_fp32.py": f"a checkpoint of DeepSpeed, in parts. {ZERO}",
    "*_model_states.pt": f"a checkpoint of DeepSpeed, in parts. {ZERO}",
    "coremldata.bin": f"a Core ML program, {EXPORTED}",
    "com.apple.coreml": f"a Core ML program, {EXPORTED}",
}

TRAINERS = ("trainer_state.json", "training_args.bin", "hparams.yaml", "lightning_logs", "checkpoints", "runs", "wandb",
            "mlruns", "events.out.tfevents*")  # fmt: skip
TRAINED = "a trainer's folder without a checkpoint: it saved none, or elsewhere, or they were deleted"
CACHED = "a folder of the hub's cache. Give the model's own name (org/name), or name the folder in its snapshots"


def named(name: str) -> Kind | None:
    """What a file of that name is, None where the name does not tell."""
    return next((kind for kind in FILES if any(fnmatchcase(name.lower(), pattern) for pattern in kind.names)), None)


def of(name: str, start: bytes) -> str:
    """What a file is by its first 512 bytes, else by its name; empty for what may be weights to read."""
    begins = (kind for kind in FILES if kind.magic and start[kind.place :].startswith(kind.magic))
    kind = named(name)
    kind = kind if kind and kind.names == PACKED else next(begins, None) or kind
    return kind.what if kind else ""


def refuse_archive(path: Path, members: list[str]) -> None:
    """Raise NotWeights for a zip archive of other things than a checkpoint's own records."""
    files = [name for name in members if not name.endswith("/")]
    if any(name.endswith(".weights.h5") for name in files):
        raise NotWeights(f"{path}: weights of TensorFlow or Keras. {FROM_TF}.")
    raise NotWeights(f"{path}: a zip archive that holds {listed(files, 3)}. {UNPACK}.")


def refuse_shard(path: Path) -> None:
    """Raise CheckpointError for one of several files that only together are weights."""
    if (match := re.search(r"-(\d{5})-of-(\d{5})\.(?:safetensors|bin)$", path.name)) and int(match[2]) > 1:
        raise CheckpointError(f"{path}: one of {int(match[2])} parts of the weights. Name the folder they are all in, "
                              "with their index (*.index.json).")  # fmt: skip


def refuse_folder(path: Path, inside: list[Path], readable: tuple[str, ...]) -> None:
    """Raise NotWeights or CheckpointError for a folder without weights that is known, or that has them further down."""
    trained = [file for file in inside if re.fullmatch(r"checkpoint-\d{1,18}", file.name)]
    if trained:
        newest = max(trained, key=lambda folder: int(folder.name.partition("-")[2]))
        raise CheckpointError(f"{path}: a trainer's folder, whose newest checkpoint is {newest.name}. Name that.")
    if path.name.startswith("models--"):
        raise CheckpointError(f"{path}: {CACHED}.")
    below = list(islice(_below(path), MAX_LOOKED_AT))
    for pattern, what in FOLDERS.items():
        if found := next((file for file in [*inside, *below] if fnmatchcase(file.name.lower(), pattern)), None):
            raise NotWeights(f"{path}: {what.replace('FOLDER', short(str(found.parent), 200))}.")
    known = [kind for kind in FILES if "training_args.bin" not in kind.names]
    weights = [file for file in below if file.name.lower().endswith(readable) and not named(file.name)]
    if weights:
        names = listed(sorted(str(file.relative_to(path)) for file in weights), 4)
        raise CheckpointError(f"{path}: holds no weights itself, but {names}. Name "
                              f"{'that' if len(weights) == 1 else 'one'}, or its folder.")  # fmt: skip
    for file in [*inside, *below]:
        what = of(file.name, _start(file))
        if what and any(what == kind.what for kind in known):
            raise NotWeights(f"{file}: {what}.")
    if any(fnmatchcase(file.name, pattern) for file in inside for pattern in TRAINERS):
        raise CheckpointError(f"{path}: {TRAINED}.")


def _below(path: Path) -> Iterator[Path]:
    """What is one, two and three folders down; folders that cannot be listed are passed over."""
    for depth in range(1, 4):
        yield from path.glob("/".join(["*"] * (depth + 1)))


def _start(file: Path) -> bytes:
    """The first 512 bytes of a file, none of anything else."""
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as stream:
            return stream.read(512)
    except OSError:
        return b""
