"""Make every fixture: `python make.py FOLDER`. One process, because importing the libraries is most of the work."""

from __future__ import annotations

import sys
from pathlib import Path

import timm_models
import torch
import torchvision_models
import vit_pytorch_models

if __name__ == "__main__":
    torch.set_num_threads(1)
    for library in (timm_models, torchvision_models, vit_pytorch_models):
        library.make(Path(sys.argv[1]))
