"""Weights that change while in use: every row is of the weights that were loaded, or the run says so and ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise, save_reference

from vitcli import checkpoints
from vitcli.errors import CheckpointError

VIT = Path(sys.executable).with_name("vit")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights some of which are read while the network computes: small ones are kept."""
    return save_reference(
        tmp_path_factory.mktemp("large"), hidden_size=384, num_attention_heads=6, intermediate_size=768
    )


@pytest.fixture
def model(large: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(large, tmp_path / "model"))


def overwrite(file: Path) -> None:
    """As rsync --inplace does it, or a training job that saves over its checkpoint."""
    with file.open("r+b") as written:
        written.seek(file.stat().st_size // 4)
        written.write(np.full(file.stat().st_size // 8, 0.3, "<f4").tobytes())


def truncate(file: Path) -> None:
    os.truncate(file, 100_000)


def append(file: Path) -> None:
    with file.open("ab") as grown:
        grown.write(bytes(1000))


def touch(file: Path) -> None:
    """The same bytes written once more; nobody can tell that from others without reading all of them."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))


def remove(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_name("new")
    shutil.copy(file, other)
    overwrite(other)
    other.replace(file)


class Run:
    """`vit classify -`, which is given names one after another."""

    def __init__(self, model: Path, out: Path, *options: str) -> None:
        self.out = out
        command = [VIT, "classify", "-", "-o", out, "--model", model, "--device", "cpu", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def classify(self, pictures: list[Path]) -> None:
        """Give it names; it may have ended meanwhile."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"".join(bytes(path) + b"\n" for path in pictures))
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answered(self, count: int) -> None:
        """Wait until there are so many rows."""
        until = time.monotonic() + 100
        while not (self.out.exists() and self.out.read_bytes().count(b"\n") >= count):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        error = self.process.communicate(timeout=100)[1].decode()
        return self.process.returncode, error

    def rows(self) -> dict[str, Any]:
        return {row["path"]: row["top"] for row in map(json.loads, self.out.read_text().splitlines())}


@pytest.mark.parametrize("change", [overwrite, truncate, append, touch, remove, replace])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_rows_are_of_the_weights_that_were_loaded(
    model: Path, tmp_path: Path, engine: str, change: Callable[[Path], None]
) -> None:
    pictures = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(pictures):
        noise(i).save(path)
    good = Run(model, tmp_path / "good.jsonl", "--engine", engine)
    good.classify(pictures)
    assert good.end()[0] == 0
    shutil.copytree(model, tmp_path / "kept", copy_function=os.link)
    shutil.copytree(model, tmp_path / "sound")
    run = Run(model, tmp_path / "rows.jsonl", "--engine", engine)
    run.classify(pictures[:3])
    run.answered(3)
    change(model / WEIGHTS)
    run.classify(pictures[3:])
    status, error = run.end()
    noticed = engine == "numpy" and change not in (remove, replace)  # torch has its own copy, a file that is gone stays
    assert status == (1 if noticed else 0), error
    assert run.rows().items() <= good.rows().items()
    assert len(run.rows()) == (3 if noticed else 6)
    assert "Traceback" not in error
    if noticed:
        assert f"{model / WEIGHTS}: the file has changed while it was in use" in error
        shutil.rmtree(model)
        shutil.copytree(tmp_path / "sound", model)
        resumed = Run(model, run.out, "--engine", engine, "--resume")
        resumed.classify(pictures)
        assert resumed.end()[0] == 0
        assert resumed.rows() == good.rows()


@pytest.mark.parametrize("change", [overwrite, truncate, append, touch])
def test_what_is_read_later_is_what_was_opened(model: Path, change: Callable[[Path], None]) -> None:
    checkpoint = checkpoints.load(model)
    change(model / WEIGHTS)
    for read in (checkpoint.sha256, checkpoint.not_finite, lambda: checkpoint.tensors["blocks.0.mlp.fc1.weight"]):
        with pytest.raises(CheckpointError, match="has changed while it was in use"):
            read()


def test_a_file_that_is_replaced_is_hashed_as_it_was(model: Path) -> None:
    checkpoint = checkpoints.load(model)
    before = checkpoint.sha256()
    replace(model / WEIGHTS)
    assert checkpoint.sha256() == before


def test_shards_of_two_networks_are_never_mixed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is replaced between the reading of one and the next."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, inside in shards.items():
        save_file({name: tensors[name] for name in inside}, model / file)
    weight_map = {name: file for file, inside in shards.items() for name in inside}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoints.load(model)
    read = checkpoints.files.read

    def slow(path: Path) -> Any:
        contents = read(path)
        if path.name == "a.safetensors":
            for file in shards:
                replace(model / file)
        return contents

    monkeypatch.setattr(checkpoints.files, "read", slow)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: the file has changed"):
        checkpoints.load(model)
