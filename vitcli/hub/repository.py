"""The files of a repository of weights, on the hub or in a folder."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
# Caches from before the last of them was asked for know nothing of it, and are complete all the same.
KNOWN = SETTINGS[:2]
# In the order transformers prefers them: the first that is there is what counts. An index names the shards it needs.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

LARGEST_INDEX = 64 << 20  # bytes of JSON that are parsed
LONGEST_NAME = 255  # bytes of a file's name, which is what file systems take


def weight_map(index: Path) -> dict[str, str]:
    """Name of each tensor -> name of the shard beside the index that holds it.

    Raises OSError, and ValueError saying why it is no index: a shard outside its folder would let a download read any
    file.
    """
    if index.stat().st_size > LARGEST_INDEX:
        raise ValueError("it is too large")
    try:
        shards = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("it has no weight_map") from None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError("its weight_map names no files")
    for name in set(shards.values()):
        if PurePosixPath(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise ValueError("it names a shard outside its folder")
        if not name.isprintable() or len(name.encode(errors="replace")) > LONGEST_NAME:
            raise ValueError("it names a shard that no repository has")
    return shards
