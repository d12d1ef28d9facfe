"""timm's own word on its ViT-like architectures: `python registry.py FILE` writes what each is, as JSON.

`architectures`: name -> what a network of that name is made with, of one block and no memory; `arguments`: what the
classes built here can be told.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import torch
from common import find_libraries

find_libraries()

import timm  # noqa: E402
from timm.models.beit import Beit  # noqa: E402
from timm.models.eva import Eva  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from timm.models.vision_transformer_relpos import VisionTransformerRelPos  # noqa: E402

MODULES = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_hybrid", "vision_transformer_relpos",
           "vision_transformer_sam", "cait", "xcit", "naflexvit")  # fmt: skip
CLASSES = (VisionTransformer, Eva, Beit, VisionTransformerRelPos)


def facts(name: str) -> dict[str, Any]:
    with torch.device("meta"):
        model = timm.create_model(name, depth=1, num_classes=1000)
    block = model.blocks[0]
    act = getattr(getattr(block, "mlp", None), "act", None)
    attention = getattr(block, "attn", None)
    return {
        "class": type(model).__name__,
        "block": type(block).__name__,
        "width": model.embed_dim,
        "heads": getattr(attention, "num_heads", None),
        "eps": sorted({module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)}),
        "mlp": type(getattr(block, "mlp", None)).__name__,
        "act": type(act).__name__ + " " + getattr(act, "approximate", ""),
        "pool": model.global_pool,
        "pools_prefix": getattr(model, "pool_include_prefix", False),
        "rope": type(getattr(model, "rope", None)).__name__,
        "tensors": sorted(model.state_dict()),
    }


if __name__ == "__main__":
    names = [name for module in MODULES for name in timm.list_models(module=module)]
    asked = set(sys.argv[2].split()) if len(sys.argv) > 2 else set()
    arguments = sorted({argument for kind in CLASSES for argument in inspect.signature(kind).parameters})
    found = {name: facts(name) if name in asked else None for name in names}
    Path(sys.argv[1]).write_text(json.dumps({"architectures": found, "arguments": arguments}))
