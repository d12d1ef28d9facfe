"""vit: pictures go in, ImageNet labels come out, with the reference's numbers."""

from __future__ import annotations

__version__ = "0.1.0"
