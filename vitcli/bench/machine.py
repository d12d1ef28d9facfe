"""What this machine is, and what a run took of it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from vitcli.network import hardware
from vitcli.version import __version__


def describe(device: str) -> dict[str, Any]:
    """What this machine is, as far as a stranger needs it to read the figures."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"processor": processor(), "cores": hardware.processors(), "system": platform.platform()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device != "cpu":
        found["accelerator"] = hardware.describe_device(device)
    found["versions"] = {"vit": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "pillow", "transformers", "onnxruntime", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            found["versions"][package] = version(package)
    return found


def processor() -> str:
    """The processor's name, and which matrix instructions it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    name = fields.get("model name", platform.machine())
    return f"{name} ({', '.join(known)})" if known else name


def compute_threads(device: str) -> int:
    """Threads that torch computes with."""
    import torch

    return torch.get_num_threads() if device == "cpu" else 1


def peak_memory() -> int | None:
    """The most memory this process has held, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def card_memory(device: str) -> int | None:
    """The most memory that tensors have taken on the card, in bytes."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)
