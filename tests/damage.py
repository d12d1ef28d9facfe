"""Damaged checkpoints of every kind, by seed: what is tried on each, and what may come of it.

python tests/damage.py FOLDER COUNT SEED    the same in a process of its own: a JSON record of what came of them
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("safetensors", "zip", "legacy", "npz", "index", "config", "processor")
SECONDS, ROOM = 10, 500 << 20  # what one may take, the memory beyond that of a sound one

NUMBERS = (
    "0", "-1", "1", "2", "7", "255", "4096", "65536", "1e30", "-1e30", "1e-300", "1e-320", "1e999", "-1e999", "NaN",
    "2147483648", "4294967295", "9223372036854775807", "18446744073709551616", "9" * 400, "9" * 5000, "0.1", "true",
    "null", '"x"', "[]", "{}", "[[[]]]", '"\\u001b[31m"', '"../../x"', '"a\\u0000b"',
)  # fmt: skip


def sound(home: Path) -> dict[str, Path]:
    """A tiny network in every kind of file, by kind: the file of each that is to be damaged."""
    import torch
    from conftest import save_reference
    from safetensors.torch import load_file, save_file

    folders = {kind: home / "sound" / kind for kind in KINDS}
    for folder in folders.values():
        save_reference(folder)
    tensors = load_file(folders["zip"] / "model.safetensors")
    state: dict[str, Any] = {"model": tensors, "epoch": 3, "lr": [0.1, 0.01], "betas": (0.9, 0.999)}
    torch.save(state, folders["zip"] / "pytorch_model.bin")
    torch.save(state, folders["legacy"] / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    np.savez(folders["npz"] / "model.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    names, shards = sorted(tensors), {}
    for i, file in enumerate(("a.safetensors", "b.safetensors")):
        shards |= dict.fromkeys(names[i::2], file)
        save_file({name: tensors[name] for name in names[i::2]}, folders["index"] / file)
    index = folders["index"] / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    for kind in ("zip", "legacy", "npz", "index"):
        (folders[kind] / "model.safetensors").unlink()
    files = ("model.safetensors", "pytorch_model.bin", "pytorch_model.bin", "model.npz", index.name, "config.json",
             "preprocessor_config.json")  # fmt: skip
    return {kind: folders[kind] / file for kind, file in zip(KINDS, files, strict=True)}


def damaged(data: bytes, chance: random.Random, text: bool) -> bytes:
    """Some of the bytes changed, cut off, repeated or moved, mostly where a file says what it holds."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        # headers come first in some kinds of files and last in others
        where = chance.choice([chance.randrange(5000), len(found) - 1 - chance.randrange(5000)]) % max(1, len(found))
        match chance.randrange(10):
            case 0 | 1 | 2 if text:
                spots = list(re.finditer(rb"-?\d[\d.e+-]*|\"[^\"]*\"|true|false|null", found))
                if spots:
                    spot = chance.choice(spots)
                    found[slice(*spot.span())] = chance.choice(NUMBERS).encode()
            case 0 | 1 if digits := list(re.finditer(rb"\d+", found[:8000])):
                spot = chance.choice(digits)
                found[slice(*spot.span())] = chance.choice(NUMBERS[:18]).encode()
            case 2:
                del found[where:]
            case 3:
                found[where:where] = found[where : where + chance.randrange(64)]
            case 4:
                del found[where : where + chance.randrange(1, 32)]
            case 5:
                size = chance.choice([2, 4, 8])
                found[where : where + size] = chance.choice([b"\xff", b"\0", b"\x7f", b"\x80"]) * size
            case 6:
                found[where:where] = chance.randbytes(chance.randrange(1, 16))
            case _ if found:
                found[where % len(found)] = chance.randrange(256)
    return bytes(found)


def outcomes(home: Path, count: int, seed: int) -> Iterator[tuple[str, int, str, float]]:
    """Kind, number, what came of it and how many seconds it took, of `count` damaged checkpoints.

    Each is loaded, and classifies a picture if it can be. Anything but a `VitError` is raised.
    """
    import vitcli
    from vitcli.errors import VitError

    files = sound(home)
    whole = {kind: file.read_bytes() for kind, file in files.items()}
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for file in files.values():  # or nothing below would mean anything
        vitcli.load(file.parent, engine="numpy", device="cpu")(picture)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        chance = random.Random(f"{seed} {number}")
        files[kind].write_bytes(damaged(whole[kind], chance, files[kind].suffix == ".json"))
        start = time.process_time()  # others may have the processor
        try:
            vitcli.load(files[kind].parent, engine="numpy", device="cpu")(picture)
            what = "classified"
        except VitError as error:
            what = type(error).__name__
            said = str(error)
            assert "\n" not in said, (kind, number, said)
            assert said.isprintable(), (kind, number, said)
            assert len(said) < 1000, (kind, number, said)
        except BaseException as error:
            raise AssertionError(f"{kind} {number} of seed {seed}: {type(error).__name__}: {error}") from error
        yield kind, number, what, time.process_time() - start
    for kind, file in files.items():
        file.write_bytes(whole[kind])


def main() -> None:
    """What came of them, and what it took."""
    home, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("error", RuntimeWarning)  # numpy's would be seen on a terminal
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    found: Counter[str] = Counter()
    slowest, before = 0.0, 0
    for kind, _, what, seconds in outcomes(home, count, seed):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # until the next one: one that never ends ends the process
        found[f"{kind} {what}"] += 1
        slowest = max(slowest, seconds)
        before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"outcomes": found, "slowest": slowest, "memory": (peak - before) << 10, "peak": peak << 10}))


if __name__ == "__main__":
    main()
