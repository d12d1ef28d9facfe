"""What the scripts share: finding the libraries, random weights that show mistakes, and writing a case down."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch


@cache
def find_libraries() -> torch.library.Library:
    """Put the folder of reference libraries on the path, and stand in for torchvision's compiled operators.

    There is no build of torchvision for this torch; its models run without the operators, but declare them on import.
    """
    folder = Path(sys.prefix) / "oracles"
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: `make test` installs the reference libraries there.")
    sys.path.append(str(folder))
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d"):
        library.define(f"{name}(Tensor a) -> Tensor")
        library.define(f"_{name}_backward(Tensor a) -> Tensor")
    for name in ("qnms", "qroi_align", "box_iou_rotated"):
        library.define(f"{name}(Tensor a) -> Tensor")
    return library  # kept by the cache: its operators vanish with it


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that show mistakes: small embeddings, so that LayerNorm's epsilon counts; no zeros, no equal rows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            embeds = parameter.ndim > 1 and any(word in name for word in ("token", "pos_embed", "patch", "conv_proj"))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.02 if embeds else 0.15))
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.add_(1)
    return model.eval()


def write(
    folder: Path,
    model: torch.nn.Module,
    image_size: int,
    *,
    state: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    file: str = "weights.pth",
) -> None:
    """One case: the model's weights (or `state`, the same otherwise arranged), and its logits on random pixels."""
    folder.mkdir(parents=True)
    state = model.state_dict() if state is None else state
    if file.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / file)
    elif file.endswith(".npz"):
        np.savez(folder / file, **state)
    else:
        torch.save(state, folder / file)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    expect(folder, model, image_size)


def expect(folder: Path, model: torch.nn.Module, image_size: int, file: str = "expected.npz") -> None:
    """The model's logits on random pixels, and timm's `pre_logits`, what the head reads -> expected.npz."""
    pixels = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = {"pixels": pixels, "logits": model(pixels)}
        if hasattr(model, "forward_head"):
            expected["features"] = model.forward_head(model.forward_features(pixels), pre_logits=True)
        np.savez(folder / file, **{name: tensor.numpy() for name, tensor in expected.items()})
