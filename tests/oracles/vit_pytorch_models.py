"""vit-pytorch's ViT as the package has it now, and with the tokens of the version that the seed article prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import find_libraries, randomised, write

find_libraries()

from vit_pytorch.simple_vit import SimpleViT  # noqa: E402
from vit_pytorch.vit import ViT  # noqa: E402

TINY = dict(image_size=32, patch_size=8, num_classes=11, dim=48, depth=3, heads=3, dim_head=16, mlp_dim=96)


def model(**changes: Any) -> Any:
    return randomised(ViT(**(TINY | changes)))


def renamed(name: str) -> str:
    """What version 1.0 called a tensor of today's."""
    for now, then in (
        (".0.to_", ".0.fn.to_"),
        (".1.net.0.", ".1.norm."),
        (".1.net.1.", ".1.fn.net.0."),
        (".1.net.4.", ".1.fn.net.3."),
        ("mlp_head.", "mlp_head.1."),
        ("transformer.norm.", "mlp_head.0."),
    ):
        name = name.replace(now, then)
    return name


def make(out: Path) -> None:
    out = out / "vit-pytorch"
    plain = model()
    write(out / "cls", plain, 32, config={"heads": 3, "pool": "cls"}, file="model.pt")
    write(out / "mean", model(pool="mean"), 32, config={"heads": 3}, file="model.pt")
    write(out / "usual_head_width", model(heads=2, dim_head=64), 32, file="model.pt")
    write(out / "dim_head", model(heads=2, dim_head=24), 32, config={"dim_head": 24}, file="model.pt")
    write(out / "one_head", model(heads=1, dim_head=48), 32, file="model.pt")
    simple = SimpleViT(image_size=32, patch_size=8, num_classes=11, dim=48, depth=2, heads=3, dim_head=16, mlp_dim=96)
    write(out / "simple", randomised(simple), 32, config={"heads": 3}, file="model.pt")
    # the article's ViT always has a class token, and its tokens and positions have a leading axis
    printed = {n: t[None] if n in ("cls_token", "pos_embedding") else t for n, t in plain.state_dict().items()}
    write(out / "article_cls", plain, 32, state=printed, config={"heads": 3, "pool": "cls"}, file="model.pt")
    older = {renamed(name): tensor for name, tensor in printed.items()}
    write(out / "older", plain, 32, state=older, config={"heads": 3, "pool": "cls"}, file="model.pt")
    plain.pool = "mean"  # and its mean is over all tokens
    write(out / "article_mean", plain, 32, state=printed, config={"heads": 3, "pool": "mean"}, file="model.pt")
