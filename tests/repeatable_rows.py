"""Rows of networks of real widths, token counts and dtypes: is each the same to the bit in whatever batch it is?

A script of its own, because the instruction sets that oneDNN and torch may use are chosen once a process, by
ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY. It prints a line for each network that is not repeatable.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from vitcli.config import Config
from vitcli.network import cpu
from vitcli.network.cpu import OnCPU
from vitcli.network.model import ViT
from vitcli.pictures.preprocess import Preprocess

WIDTHS = (192, 384, 768, 1024)
SIDES = {50: 112, 197: 224, 577: 384}  # tokens: pixels
CASES = [
    *itertools.product(WIDTHS, (50, 197), ("float32",), (2,)),
    *itertools.product((192, 768), (577,), ("float32",), (2,)),
    *itertools.product(WIDTHS, (50,), ("bfloat16",), (2,)),
    *itertools.product((192, 768), (197,), ("bfloat16",), (2,)),
    *itertools.product((192,), (50, 197), ("float32", "bfloat16", "float16"), (1, 3)),
]


def repeatable(width: int, tokens: int, dtype: str, threads: int) -> bool:
    """Three pictures, together and apart, in two orders, between others that differ."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    side = SIDES[tokens]
    config = Config(image_size=side, patch_size=16, width=width, depth=2, heads=width // 64, head_width=64,
                    mlp_width=4 * width, classes=10)  # fmt: skip
    model = ViT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.05) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    run = OnCPU(model, Preprocess(size=side, resize=side), getattr(torch, dtype), repeatable=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    whole = run(pixels)
    return bool((run(pixels[[2, 0]]) == whole[[2, 0]]).all() and (run(pixels[1:2]) == whole[1:2]).all())


if __name__ == "__main__":
    cpu.WIDEST //= 4  # pictures a part: the property, not the speed, is what is looked at
    wrong = [case for case in CASES if not repeatable(*case)]
    print(*wrong, sep="\n")
    print(f"{len(CASES)} networks, {len(wrong)} of them not repeatable")
