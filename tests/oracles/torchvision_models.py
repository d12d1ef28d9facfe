"""torchvision's VisionTransformer, with its MLP under the old names and the new."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from common import find_libraries, randomised, write

find_libraries()

from torch.nn import Dropout, LayerNorm, Linear, ReLU, Sequential, Tanh  # noqa: E402
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings  # noqa: E402


def model(image_size: int = 32) -> VisionTransformer:
    return VisionTransformer(image_size, patch_size=8, num_layers=3, num_heads=3, hidden_dim=48, mlp_dim=96,
                             num_classes=11)  # fmt: skip


def make(out: Path) -> None:
    out, heads = out / "torchvision", {"num_heads": 3}
    plain = randomised(model())
    write(out / "plain", plain, 32, config=heads)
    old = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
        for name, tensor in plain.state_dict().items()
    }
    write(out / "old_mlp", plain, 32, state=old, config=heads)
    for case, change in (
        ("heads_linear", lambda m: setattr(m, "heads", Linear(48, 11))),
        ("heads_dropout", lambda m: setattr(m, "heads", Sequential(Dropout(0.1), Linear(48, 11)))),
        ("head_dropout", lambda m: setattr(m.heads, "head", Sequential(Dropout(0.1), Linear(48, 11)))),
        ("head_mlp", lambda m: setattr(m.heads, "head", Sequential(Linear(48, 16), ReLU(), Linear(16, 11)))),
        (
            "representation",
            lambda m: setattr(
                m, "heads", Sequential(OrderedDict(pre_logits=Linear(48, 16), act=Tanh(), head=Linear(16, 11)))
            ),
        ),
        ("head_norm", lambda m: setattr(m, "heads", Sequential(LayerNorm(48), Linear(48, 11)))),
    ):
        changed = model()
        change(changed)
        write(out / case, randomised(changed), 32, config=heads)
    for size in (16, 56):
        moved = model(size).eval()
        moved.load_state_dict(interpolate_embeddings(size, 8, plain.state_dict()))
        write(out / f"plain_at_{size}", moved, size, state=plain.state_dict(), config=heads)
