"""Fixtures that several test files share: tiny random checkpoints made by the reference library, pictures, the command.

Nothing here needs a network. Real weights and pictures come in through VIT_TEST_WEIGHTS and VIT_TEST_IMAGES.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.hub_server import hub  # noqa: F401  (a fixture)
from tests.oracles import oracles  # noqa: F401  (a fixture)

# The tests must never reach the real hub, nor the caches and settings of whoever runs them.
for name in [n for n in os.environ if n.startswith(("VIT_", "HF_", "HUGGING")) and not n.startswith("VIT_TEST_")]:
    del os.environ[name]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty hub cache for the whole run."""
    home = tmp_path_factory.mktemp("hf-home")
    os.environ["HF_HOME"] = str(home)
    return home


def save_reference(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A tiny random ViT saved by transformers in the hub's layout."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "image_size": 32, "patch_size": 16, "num_labels": 10,
    }  # fmt: skip
    model = ViTForImageClassification(ViTConfig(**(settings | changes))).eval()
    with torch.no_grad():  # the library initialises these to zeros and ones, under which mistakes would not show
        for parameter in model.parameters():
            parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    model.save_pretrained(folder)
    side = settings["image_size"] if "image_size" not in changes else changes["image_size"]
    (folder / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], '
        f'"size": {side}}}'
    )
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random ViT of 10 classes at 32 x 32."""
    return save_reference(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """One small JPEG of noise."""
    path = tmp_path / "noise.jpg"
    noise(0).save(path)
    return path


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A random RGB picture, `size` in (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def weights() -> Path:
    """Real weights in the hub's layout, from VIT_TEST_WEIGHTS."""
    return real("VIT_TEST_WEIGHTS")


@pytest.fixture(scope="session")
def images() -> Path:
    """A folder with real pictures: `labelled/labels.csv`, `labelled/images/`, `photos/`, from VIT_TEST_IMAGES."""
    return real("VIT_TEST_IMAGES")


def real(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    path = Path(os.environ[variable])
    assert path.is_dir(), f"{variable} names {path}, which is no folder"
    return path


@pytest.fixture(scope="session")
def vit() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed command, run as a user would: `vit("classify", path, env={...})`."""
    command = Path(sys.executable).with_name("vit")
    assert command.exists(), f"{command} is missing: install the project into this environment first"

    def run(*args: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"capture_output": True, "text": True, "timeout": 120, "errors": "surrogateescape"} | options
        return subprocess.run([command, *map(str, args)], env={**os.environ, **(env or {})}, **options)

    return run
