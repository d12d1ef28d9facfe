"""A LoRA adapter, as PEFT saves it, and the network it belongs to -> the tensors of the two merged: W + scale * B A.

    adapter_config.json         the base's name, alpha, and what else changes the sum
    adapter_model.safetensors   base_model.model.NAME.lora_A.weight [r i], .lora_B.weight [o r], and whole modules

The base is found on disk or in the hub's cache, never fetched. From "LoRA: Low-Rank Adaptation of Large Language
Models"; the names and the scale are those of huggingface/peft, `tuners/lora/layer.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli import hub
from vitcli.checkpoints import files
from vitcli.checkpoints.files import Contents, Stored
from vitcli.checkpoints.layouts import Layout
from vitcli.checkpoints.source import Array
from vitcli.errors import CheckpointError, HubError, LayoutError, NotWeights, UsageError
from vitcli.escaping import listed, short
from vitcli.hub.repository import WEIGHTS as WHOLE

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
MAX_CONFIG = 2**20  # bytes
MAX_RANK = 4096  # more than any layer here has use for; in a sparse file, matrices of any rank take no room

# What makes another sum than W + scale * B A, the values under which it is that one, and what people call it.
VARIANTS: dict[str, tuple[tuple[object, ...], str]] = {
    "peft_type": (("LORA",), "an adapter of another kind than LoRA"),
    "use_dora": ((False, None), "DoRA"),
    "lora_bias": ((False, None), "LoRA with biases"),
    "fan_in_fan_out": ((False, None), "LoRA of transposed layers"),
    "target_parameters": ((None, []), "LoRA of single parameters"),
    "init_lora_weights": ((True, False, None, "gaussian", "eva", "orthogonal"), "LoRA that changed its base's weights"),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """What `adapter_config.json` says, as far as it matters here. `base` is a name or a path."""

    folder: Path
    base: str
    revision: str | None
    alpha: float
    alphas: Mapping[str, float]  # of modules whose names end so
    root: bool  # rank-stabilised: divided by the root of the rank

    @classmethod
    def at(cls, path: Path) -> Adapter | None:
        """The adapter that a path means: a folder that holds no whole network, or the file in it; None for others.

        Raises as `read` does.
        """
        folder = path.parent if path.name in WEIGHTS else path
        whole = any((folder / name).is_file() for name in WHOLE)
        return cls.read(folder) if (folder / CONFIG).is_file() and (path != folder or not whole) else None

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Raises NotWeights for settings that cannot be read, CheckpointError for a variant that is not merged here."""
        path = folder / CONFIG
        try:
            if path.stat().st_size > MAX_CONFIG:
                raise ValueError("too large")
            said: Any = json.loads(path.read_bytes())
            base, revision = said["base_model_name_or_path"], said.get("revision")
            alpha, alphas = said.get("lora_alpha", 8), said.get("alpha_pattern") or {}
            sound = isinstance(base, str) and base and isinstance(revision, str | None) and isinstance(alphas, dict)
            numbers = [alpha, *alphas.values()]
            sound = sound and all(type(n) in (int, float) and 0 <= n < 1e6 for n in numbers)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            sound = False
        if not sound:
            raise NotWeights(f"{path}: not the settings of an adapter that names its base.")
        for key, (plain, what) in VARIANTS.items():
            if said.get(key) not in plain:
                raise CheckpointError(f"{folder}: {what}, which is not merged here. {how(base)}")
        # a pattern may be any regular expression, and those of strangers are not run
        if strange := [pattern for pattern in alphas if not re.fullmatch(r"[\w.]+", pattern)]:
            raise CheckpointError(f"{folder}: alpha_pattern {short(strange[0])} is no plain name. {how(base)}")
        return cls(folder, base, revision, float(alpha), alphas, said.get("use_rslora") is True)

    def find_base(self) -> Path:
        """The file or folder of the base. Raises CheckpointError where it is not at hand."""
        known = short(self.base)
        try:
            return hub.resolve(self.base + (f"@{self.revision}" if self.revision else ""))[1]
        except HubError as error:
            where = f"is not in the cache. Fetch it with: vit download-weights {known}. Or merge them elsewhere:"
            raise CheckpointError(f"{self.folder}: an adapter (LoRA) of {known}, which {where} {how(known)}") from error
        except UsageError as error:
            where = "is not here. Put it there, or merge them elsewhere:"
            raise CheckpointError(f"{self.folder}: an adapter (LoRA) of {known}, which {where} {how(known)}") from error

    def weights(self) -> tuple[Path, Contents]:
        """The adapter's own file, and what it holds."""
        for file in (self.folder / name for name in WEIGHTS):
            if file.is_file():
                return file, files.read(file)
        raise CheckpointError(f"{self.folder}: holds {CONFIG} and no {' or '.join(WEIGHTS)}.")

    def merged(
        self, file: Path, own: Mapping[str, Stored], layout: Layout, base: Mapping[str, Stored]
    ) -> dict[str, Stored]:
        """The tensors of the base, under the layout's names, with the adapter's added to them or in their place.

        Raises LayoutError for what belongs to no linear layer of the base.
        """
        found: dict[str, dict[str, Stored]] = {}  # a weight -> "lora_A", "lora_B", or "" for a whole one
        for name, tensor in own.items():
            bare = re.sub(r"\.(modules_to_save(\.default)?|base_layer)\.", ".", name.removeprefix(PREFIX))
            for prefix in layout.prefixes:
                bare = bare.removeprefix(prefix)
            match = re.fullmatch(r"(.+)\.(lora_[AB])(?:\.default)?\.weight", bare)
            found.setdefault(f"{match[1]}.weight" if match else bare, {})[match[2] if match else ""] = tensor
        names, result, astray = {layout.ours(name): name for name in base}, dict(base), []
        for name, parts in found.items():
            target = names.get(layout.ours(name))
            if set(parts) == {""}:
                result[target or name] = parts[""]
            elif target is None or set(parts) != {"lora_A", "lora_B"} or not _fits(base[target], **parts):
                astray.append(name)
            else:
                scale = self.scale(name.removesuffix(".weight"), parts["lora_A"].shape[0])
                result[target] = _sum(base[target], parts["lora_A"], parts["lora_B"], scale)
        if astray:
            raise LayoutError(f"{file}: low-rank matrices for what is no linear layer of {short(self.base)}: "
                              f"{listed(astray)}.")  # fmt: skip
        return result

    def scale(self, module: str, rank: int) -> float:
        """What B A is multiplied by in a module."""
        ending = (alpha for name, alpha in self.alphas.items() if module == name or module.endswith(f".{name}"))
        alpha = next(ending, self.alpha)
        return alpha / (math.sqrt(rank) if self.root else rank)


def how(base: str) -> str:
    """How to merge where PEFT is."""
    return ("PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(...) merges it where PEFT and "
            f"{short(base, 60)} are: name that folder.")  # fmt: skip


def _fits(weight: Stored, lora_A: Stored, lora_B: Stored) -> bool:  # noqa: N803
    a, b = lora_A.shape, lora_B.shape
    return len(a) == len(b) == len(weight.shape) == 2 and 0 < a[0] == b[1] <= MAX_RANK and weight.shape == (b[0], a[1])


def _sum(weight: Stored, a: Stored, b: Stored, scale: float) -> Stored:
    def read() -> Array:
        return weight.read() + scale * (b.read() @ a.read())

    return Stored(weight.shape, "float32", read)
