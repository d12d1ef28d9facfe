"""A checkpoint -> a network that runs: one of two engines that take uint8 [b h w c] to float32 logits [b k].

torch serves accelerators and long jobs; numpy serves a few pictures on a CPU, done before torch would be imported.
A network without a head gives features [b d] where others give logits.
Nothing here imports torch until a device or an engine of torch's is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.checkpoints import Checkpoint
from vitcli.errors import OutOfMemory, UsageError
from vitcli.memory import addressable, available, lacking
from vitcli.network.hardware import (
    accelerator_likely,
    choose_device,
    choose_dtype,
    device_named,
    hardware_has,
    processors,
)

if TYPE_CHECKING:
    from vitcli.network.accelerator import OnCard
    from vitcli.network.cpu import OnCPU

Pixels: TypeAlias = npt.NDArray[np.uint8]
Logits: TypeAlias = npt.NDArray[np.float32]
Engine = Literal["auto", "numpy", "torch"]
Compile = Literal["auto", "on", "off"]

# How long float32 takes on a CPU: seconds until torch could begin (its import, laying out the weights), and operations
# a second of one thread at ViT-B/16. Measured on a 2-core Xeon with AVX-512 (torch 2.13, numpy 2.4 over OpenBLAS); on
# another machine all four move together.
TORCH_IMPORT, TORCH_PACKING = 1.3, 0.6
TORCH_RATE, NUMPY_RATE = 143e9, 110e9

# Bytes that a network in numpy needs besides its weights: OpenBLAS takes 32 MiB for each thread when that first
# multiplies, and ends the process if it does not get them. They are address space rather than memory.
LEAST = 112 << 20
BUFFER = 40 << 20

# Bytes of address space that torch takes to be imported and to run, and for the stack of each of its threads: the
# loader, OpenMP and torch itself end the process, or crash, where there is less.
TORCH = 540 << 20
STACK = 8 << 20

# How often OpenMP's threads look for work before they sleep. By default they look for milliseconds, on a core that the
# decoding threads, or another program, could have: with those busy, the network ran at a tenth of its speed.
SPINS = "10000"

# torch.compile costs about a minute: fewer pictures than this are done sooner without.
WORTH_COMPILING = 20_000


class Backend(Protocol):
    """A loaded network: `logits(uint8 [b h w c]) -> float32 [b k]`, where it runs, and what its user should know."""

    engine: str
    device: str
    dtype: str
    warnings: tuple[str, ...]

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """Start on a batch and return what waits for its logits. Either may raise OutOfMemory.

        With `pad_to`, a size no batch exceeds, a picture's row is the same, to the bit, in every batch of every run:
        the last digits otherwise depend on how many pictures go through together. A CPU needs less than that size.
        """

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""


class NumpyBackend:
    """`numpy_model.NumpyViT` on this machine's CPU, in float32."""

    engine, device, dtype = "numpy", "cpu", "float32"
    warnings: tuple[str, ...] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        from vitcli.network.numpy_model import NumpyViT

        if available() < LEAST or addressable() < LEAST + BUFFER * processors():
            raise MemoryError
        self._normalised = checkpoint.preprocess.normalised
        self._model = NumpyViT(checkpoint.config, checkpoint.tensors.streamed(), processors())

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """Classify a batch now; waiting for it takes no time."""
        logits = self.logits(pixels, 4 if pad_to is None else 1)
        return lambda: logits

    def logits(self, pixels: Pixels, size: int = 4) -> Logits:
        """Classify a batch, `size` at once. Raises OutOfMemory when it does not fit."""
        try:
            # more at once would gain nothing and take memory: 15 MB a picture of ViT-B/16
            parts = [pixels[start : start + size] for start in range(0, len(pixels) or 1, size)]
            return np.concatenate([self._model(self._normalised(part)) for part in parts])
        except MemoryError as error:
            raise OutOfMemory(f"A batch of {len(pixels)} pictures does not fit in memory.") from error


class TorchBackend:
    """`model.ViT` on any device torch knows, in float32, bfloat16 or float16; `compiled` is for CUDA."""

    engine = "torch"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        dtype: str,
        compiled: bool = False,
        batch: int | None = None,
    ) -> None:
        import torch

        from vitcli.network.model import ViT

        self.device, self.dtype = device, dtype
        self.warnings: tuple[str, ...] = ()
        weights = 4 * checkpoint.config.parameters
        if weights > available() or weights + STACK * processors() > addressable():
            raise MemoryError
        network, torch_dtype = ViT.from_tensors(checkpoint.config, checkpoint.tensors), getattr(torch, dtype)
        checkpoint.tensors.release()
        self._run: OnCPU | OnCard
        if device == "cpu":
            from vitcli.network.cpu import OnCPU

            if not hardware_has(dtype):
                self.warnings = (f"This CPU has no {dtype} arithmetic, so it is emulated: float32 would be faster",)
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(processors())
            self._run = OnCPU(network, checkpoint.preprocess, torch_dtype, batch, checkpoint.tensors.__getitem__)
        else:
            from vitcli.network.accelerator import OnCard

            self._run = OnCard(network.lower(torch_dtype).to(device), checkpoint.preprocess, compiled)

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """Start on a batch. An accelerator goes on by itself: submit the next batch before waiting for this one."""
        with self._memory_errors(pixels):
            wait = self._run.submit(pixels, pad_to)

        def waited() -> Logits:
            with self._memory_errors(pixels):
                return wait()

        return waited

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""
        return self.submit(pixels)()

    @contextmanager
    def _memory_errors(self, pixels: Pixels) -> Iterator[None]:

        try:
            yield
        except Exception as error:
            if not lacking(error):
                raise
            self._run.shrink()
            raise OutOfMemory(
                f"A batch of {len(pixels)} pictures does not fit in the memory of {self.device}."
            ) from error


def load(
    checkpoint: Checkpoint,
    *,
    engine: Engine,
    device: str,
    dtype: str,
    pictures: int | None,
    batch: int | None = None,
    compile: Compile = "auto",
) -> Backend:
    """A network ready to run. `pictures` is how many there are to classify, `batch` how many at once; None for many.

    The engine, and for how many pictures at once weights are laid out, depend on `pictures`, and so do last digits.
    Raises DeviceError when the device or dtype is not to be had, UsageError when engine, device and dtype disagree,
    OutOfMemory when the weights alone do not fit.
    """
    device = device_named(device)
    try:
        return _load(checkpoint, engine, device, dtype, pictures, batch, compile)
    except Exception as error:
        if not lacking(error):
            raise
        raise OutOfMemory(
            f"{checkpoint.path}: the network does not fit in memory: its weights take "
            f"{4 * checkpoint.config.parameters / 1e6:,.0f} MB beside what the engine takes, "
            f"and {available() / 1e6:,.0f} MB are left."
        ) from error


def _load(
    checkpoint: Checkpoint,
    engine: Engine,
    device: str,
    dtype: str,
    pictures: int | None,
    batch: int | None,
    compile: Compile,
) -> Backend:
    if compile != "on" and choose_engine(engine, device, dtype, pictures, checkpoint.config.flops) == "numpy":
        return NumpyBackend(checkpoint)
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    if "torch" not in sys.modules and addressable() < TORCH:
        raise MemoryError
    device = choose_device(device)
    compiled = choose_compile(compile, device, pictures)
    at_once = min((count for count in (pictures, batch) if count), default=None)
    return TorchBackend(checkpoint, device, choose_dtype(dtype, device), compiled, at_once)


def choose_compile(compile: Compile, device: str, pictures: int | None) -> bool:
    """Whether to compile the network: `auto` does on CUDA, for a job that is long or of unknown length."""
    if compile == "on" and not device.startswith("cuda"):
        raise UsageError("--compile on is for CUDA: elsewhere it costs a minute and gains nothing.")
    long = pictures is None or pictures >= WORTH_COMPILING
    return compile == "on" or (compile == "auto" and device.startswith("cuda") and long and triton_is_here())


def triton_is_here() -> bool:
    """Whether torch.compile has what it generates code for CUDA with."""
    import importlib.util

    return importlib.util.find_spec("triton") is not None


def choose_engine(
    engine: Engine, device: str, dtype: str, pictures: int | None, flops: int
) -> Literal["numpy", "torch"]:
    """The numpy engine in float32 on a CPU if it would be done sooner, else torch. Decided without importing torch.

    `pictures` is how many there are (None: many), `flops` what the network takes for one.
    """
    numpy_can = device == "cpu" or (device == "auto" and not accelerator_likely())
    numpy_can = numpy_can and dtype in ("auto", "float32")
    if engine == "numpy":
        if device not in ("auto", "cpu") or dtype not in ("auto", "float32"):
            raise UsageError("The numpy engine runs in float32 on the CPU only: leave --device and --dtype alone.")
        return "numpy"
    if engine == "torch" or not numpy_can or pictures is None:
        return "torch"
    operations = pictures * flops / processors()
    torch_start = TORCH_PACKING + TORCH_IMPORT * ("torch" not in sys.modules)
    return "numpy" if operations / NUMPY_RATE < torch_start + operations / TORCH_RATE else "torch"
