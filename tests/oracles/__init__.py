"""Scripts that make checkpoints with the libraries vit must agree with, run by `make.py` in a process of their own.

torchvision, timm, vit-pytorch and scipy are installed apart (see `oracles.txt`): torchvision would replace torch's CPU
build, and transformers would change its behaviour if it found it. They fill a folder with `LIBRARY/CASE/`: a file of
weights, perhaps config.json, and expected.npz, which holds `pixels` [b 3 H W] and the library's `logits` [b k],
those of timm `features` [b d] as well.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def oracles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `LIBRARY/CASE/` that the reference libraries filled."""
    out = tmp_path_factory.mktemp("oracles")
    command = [sys.executable, Path(__file__).with_name("make.py"), out]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return out


def weights_of(case: Path) -> Path:
    """The file of weights of one case."""
    (file,) = (file for file in case.iterdir() if not file.name.startswith(("expected", "config.json")))
    return file
