"""What this machine computes with: devices, dtypes, processors. torch is imported only where it has to be asked."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitcli.errors import DeviceError, UsageError

DTYPES = ("float32", "bfloat16", "float16")

# What Linux calls arithmetic in each type, on x86 and ARM; a CPU with none of these converts back and forth instead.
CPU_FLAGS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


def accelerator_likely() -> bool:
    """Whether torch might find a CUDA card or Apple's MPS here, told from the system alone."""
    if sys.platform == "darwin":
        import platform

        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists() or Path("/dev/kfd").exists()


def device_named(device: str) -> str:
    """A device as people write it elsewhere -> as torch does: `CUDA` -> "cuda", `gpu` -> "cuda", `0` -> "cuda:0"."""
    device = device.strip().lower()
    return f"cuda:{device}" if device.isdecimal() else {"gpu": "cuda"}.get(device, device)


def choose_device(device: str) -> str:
    """`auto` -> "cuda", "mps" or "cpu", the first that works here; anything else is checked and returned.

    Raises DeviceError for a device that this machine or this torch does not have.
    """
    import torch

    device = device_named(device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return device
    if kind == "mps" and not index:
        if not torch.backends.mps.is_available():
            raise DeviceError("No MPS device here: it needs an Apple-silicon Mac. Use --device cpu.")
        return device
    if kind == "cuda" and (not index or index.isdecimal()):
        count = torch.cuda.device_count()
        if not torch.cuda.is_available():
            built = "finds no usable card" if torch.version.cuda or torch.version.hip else "is built without CUDA"
            raise DeviceError(f"No CUDA device here: this torch {built}. Use --device cpu, or install a CUDA build.")
        if index and int(index) >= count:
            raise DeviceError(f"There is no {device} here: this machine has cuda:0 to cuda:{count - 1}.")
        return device
    raise UsageError(f"--device {device!r} is not one of auto, cpu, cuda, cuda:N, mps.")


def choose_dtype(dtype: str, device: str) -> str:
    """`auto` -> float32 on cpu and mps, bfloat16 on cuda (float16 where the card has none)."""
    if dtype == "auto":
        if not device.startswith("cuda"):
            return "float32"
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}.")
    return dtype


def describe_device(device: str) -> dict[str, Any]:
    """What a report says about a device: its name and, for a card, its memory in bytes."""
    if device.startswith("cuda"):
        import torch

        card = torch.cuda.get_device_properties(device)
        return {"device": device, "name": card.name, "memory_bytes": card.total_memory}
    return {"device": device, "name": device}


def hardware_has(dtype: str) -> bool:
    """Whether this CPU computes in `dtype`; where the system does not tell, it is taken to."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return True
    flags = next((line.split() for line in lines if line.lower().startswith(("flags", "features"))), None)
    return flags is None or dtype not in CPU_FLAGS or not CPU_FLAGS[dtype].isdisjoint(flags)


def processors() -> int:
    """Physical cores that this process may use: within its affinity mask and its container's share."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = {siblings(cpu) for cpu in allowed}
    with suppress(OSError, ValueError):  # "max 100000" where there is no limit
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(len(cores), math.ceil(int(quota) / int(period))))
    return len(cores)


def siblings(cpu: int) -> str:
    """What the hardware threads of one core have in common."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)
