"""Whatever is damaged in a checkpoint, it classifies or is refused: a short form of `make stress`, with seeds kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import damage
import pytest


@pytest.mark.parametrize("seed", [0, 1])
def test_a_damaged_checkpoint_is_a_sentence_in_bounded_time_and_memory(tmp_path: Path, seed: int) -> None:
    command = [sys.executable, damage.__file__, tmp_path, "350", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert sum(found["outcomes"].values()) == 350
    assert {name.split()[0] for name in found["outcomes"]} == set(damage.KINDS)
    assert {name.split()[1] for name in found["outcomes"]} > {"classified", "NotWeights", "CheckpointError"}
    assert found["slowest"] < damage.SECONDS
    assert found["memory"] < damage.ROOM
