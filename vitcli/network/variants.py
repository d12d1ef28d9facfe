"""What some networks have and a plain ViT has not: rotary positions, OpenAI's GELU, pooling by attention.

Axis letters as in `model.py`, and l blocks, f pairs of a head's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from vitcli.config import Config
from vitcli.network.places import frequencies, places


class Rotation(nn.Module):
    """Rotary positions (see `config.Rotary`): the cosines and sines [2 h n f] by which each block turns, from `places`.

    Always in float32: an angle of many radians needs every digit.
    """

    frequencies: Tensor  # l 2 h f, or 1 2 1 f: one for all blocks and heads
    places: Tensor  # 2 n

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.depth = config.depth
        turning = torch.from_numpy(frequencies(config))
        if config.rotary and config.rotary.learned:
            self.frequencies = nn.Parameter(repeat(turning, "1 xy 1 f -> l xy h f", l=config.depth, h=config.heads))
        else:
            self.register_buffer("frequencies", turning, persistent=False)
        self.register_buffer("places", torch.from_numpy(places(config)), persistent=False)

    def forward(self) -> Sequence[Tensor]:
        turning = rearrange(self.frequencies, "l xy h f -> xy l h 1 f")
        angles = turning * rearrange(self.places, "xy n -> xy 1 1 n 1")
        x = angles.sum(dim=0)  # l h n f
        return torch.stack([x.cos(), x.sin()], dim=1).expand(self.depth, -1, -1, -1, -1).unbind()


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of neighbouring numbers: [b h n (f two)] by the cosines and sines [2 h n f] of its angles."""
    cos, sin = rotation[:, :, : x.shape[2]]
    u, v = rearrange(x, "b h n (f two) -> two b h n f", two=2)
    turned: Tensor = rearrange([u * cos - v * sin, u * sin + v * cos], "two b h n f -> b h n (f two)")
    return turned.to(x.dtype)


class QuickGELU(nn.Module):
    """What OpenAI's CLIP has in the place of GELU: https://github.com/openai/CLIP/blob/main/clip/model.py."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class AttentionPool(nn.Module):
    """SigLIP's pooling: one learned query asks the tokens, and an MLP follows: [b n d] -> [b d].

    As in "Scaling Vision Transformers" (Zhai et al., 2021).
    """

    def __init__(self, probe: Tensor, attention: nn.Module, norm: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.probe = nn.Parameter(probe)  # d
        self.attention, self.norm, self.mlp = attention, norm, mlp

    def forward(self, x: Tensor, record: object = None) -> Tensor:
        x = self.attention(x, record=record, asking=repeat(self.probe, "d -> b 1 d", b=len(x)))  # b 1 d
        x = x + self.mlp(self.norm(x))
        return x[:, 0]
