"""Where the network runs: devices, dtypes, and the two engines that take uint8 [b h w c] to float32 logits [b k].

torch serves accelerators and long jobs; numpy serves a few pictures on a CPU, done before torch would be imported.
Nothing here imports torch until a device or an engine of torch's is asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.checkpoints import Checkpoint
from vitcli.errors import DeviceError, OutOfMemory, UsageError

if TYPE_CHECKING:
    import torch

Pixels: TypeAlias = npt.NDArray[np.uint8]
Logits: TypeAlias = npt.NDArray[np.float32]
Engine = Literal["auto", "numpy", "torch"]

DTYPES = ("float32", "bfloat16", "float16")


class Backend(Protocol):
    """A loaded network: `logits(uint8 [b h w c]) -> float32 [b k]`, and where it runs."""

    engine: str
    device: str
    dtype: str

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""


class NumpyBackend:
    """`numpy_model.NumpyViT` on this machine's CPU, in float32."""

    engine, device, dtype = "numpy", "cpu", "float32"

    def __init__(self, checkpoint: Checkpoint) -> None:
        from vitcli.numpy_model import NumpyViT

        self._normalised = checkpoint.preprocess.normalised
        self._model = NumpyViT(checkpoint.config, checkpoint.tensors)

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""
        try:
            return self._model(self._normalised(pixels))
        except MemoryError as error:
            raise OutOfMemory(f"A batch of {len(pixels)} pictures does not fit in memory.") from error


class TorchBackend:
    """`model.ViT` on any device torch knows, in float32, bfloat16 or float16."""

    engine = "torch"

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: str) -> None:
        import torch

        from vitcli.model import ViT

        self.device, self.dtype = device, dtype
        self._preprocess = checkpoint.preprocess
        self._torch_dtype: torch.dtype = getattr(torch, dtype)
        self._model = ViT.from_tensors(checkpoint.config, checkpoint.tensors).to(device, self._torch_dtype)

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""
        import torch

        try:
            with torch.inference_mode():
                logits: torch.Tensor = self._model(self._normalised(pixels))
                return logits.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise self._too_large(pixels) from error
        except RuntimeError as error:  # the CPU's and MPS's allocators have no class of their own
            if "can't allocate memory" in str(error) or "out of memory" in str(error):
                raise self._too_large(pixels) from error
            raise

    def _normalised(self, pixels: Pixels) -> torch.Tensor:
        import torch

        normalised = torch.from_numpy(self._preprocess.normalised(pixels))
        return normalised.to(self.device, self._torch_dtype)

    def _too_large(self, pixels: Pixels) -> OutOfMemory:
        return OutOfMemory(f"A batch of {len(pixels)} pictures does not fit in the memory of {self.device}.")


def load(checkpoint: Checkpoint, *, engine: Engine, device: str, dtype: str, pictures: int | None) -> Backend:
    """A network ready to run. `pictures` is how many there are to classify, None for many.

    Raises DeviceError when the device or dtype is not to be had, UsageError when engine, device and dtype disagree.
    """
    if choose_engine(engine, device, dtype, pictures) == "numpy":
        return NumpyBackend(checkpoint)
    device = choose_device(device)
    return TorchBackend(checkpoint, device, choose_dtype(dtype, device))


def choose_engine(engine: Engine, device: str, dtype: str, pictures: int | None) -> Literal["numpy", "torch"]:
    """numpy for a few pictures in float32 on a CPU, else torch. Decided without importing torch."""
    numpy_can = device == "cpu" or (device == "auto" and not accelerator_likely())
    numpy_can = numpy_can and dtype in ("auto", "float32")
    if engine == "numpy":
        if device not in ("auto", "cpu") or dtype not in ("auto", "float32"):
            raise UsageError("The numpy engine runs in float32 on the CPU only: leave --device and --dtype alone.")
        return "numpy"
    if engine == "torch" or not numpy_can:
        return "torch"
    return "numpy" if pictures is not None and pictures <= 4 else "torch"


def accelerator_likely() -> bool:
    """Whether torch might find a CUDA card or Apple's MPS here, told from the system alone."""
    if sys.platform == "darwin":
        import platform

        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists() or Path("/dev/kfd").exists()


def choose_device(device: str) -> str:
    """`auto` -> "cuda", "mps" or "cpu", the first that works here; anything else is checked and returned.

    Raises DeviceError for a device that this machine or this torch does not have.
    """
    import torch

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
