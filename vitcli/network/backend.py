"""Where the network runs: devices, dtypes, and the two engines that take uint8 [b h w c] to float32 logits [b k].

torch serves accelerators and long jobs; numpy serves a few pictures on a CPU, done before torch would be imported.
A network without a head gives features [b d] where others give logits.
Nothing here imports torch until a device or an engine of torch's is asked for.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.checkpoints import Checkpoint
from vitcli.errors import DeviceError, OutOfMemory, UsageError

if TYPE_CHECKING:
    from vitcli.network.accelerator import OnCard
    from vitcli.network.cpu import OnCPU

Pixels: TypeAlias = npt.NDArray[np.uint8]
Logits: TypeAlias = npt.NDArray[np.float32]
Engine = Literal["auto", "numpy", "torch"]
Compile = Literal["auto", "on", "off"]

DTYPES = ("float32", "bfloat16", "float16")

# What Linux calls arithmetic in each type, on x86 and ARM; a CPU with none of these converts back and forth instead.
CPU_FLAGS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}

# How long float32 takes on a CPU: seconds until torch could begin (its import, laying out the weights), and operations
# a second of one thread at ViT-B/16. Measured on a 2-core Xeon with AVX-512 (torch 2.13, numpy 2.4 over OpenBLAS); on
# another machine all four move together.
TORCH_IMPORT, TORCH_PACKING = 1.3, 0.6
TORCH_RATE, NUMPY_RATE = 143e9, 110e9

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

    def submit(self, pixels: Pixels) -> Callable[[], Logits]:
        """Start on a batch and return what waits for its logits. Either may raise OutOfMemory."""

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""


class NumpyBackend:
    """`numpy_model.NumpyViT` on this machine's CPU, in float32."""

    engine, device, dtype = "numpy", "cpu", "float32"
    warnings: tuple[str, ...] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        from vitcli.network.numpy_model import NumpyViT

        self._normalised = checkpoint.preprocess.normalised
        self._model = NumpyViT(checkpoint.config, checkpoint.tensors, processors())

    def submit(self, pixels: Pixels) -> Callable[[], Logits]:
        """Classify a batch now; waiting for it takes no time."""
        logits = self.logits(pixels)
        return lambda: logits

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""
        try:
            # more at once would gain nothing and take memory: 15 MB a picture of ViT-B/16
            parts = [pixels[start : start + 4] for start in range(0, len(pixels) or 1, 4)]
            return np.concatenate([self._model(self._normalised(part)) for part in parts])
        except MemoryError as error:
            raise OutOfMemory(f"A batch of {len(pixels)} pictures does not fit in memory.") from error


class TorchBackend:
    """`model.ViT` on any device torch knows, in float32, bfloat16 or float16; `compiled` is for CUDA."""

    engine = "torch"

    def __init__(
        self, checkpoint: Checkpoint, device: str, dtype: str, compiled: bool = False, batch: int | None = None
    ) -> None:
        import torch

        from vitcli.network.model import ViT

        self.device, self.dtype = device, dtype
        self.warnings: tuple[str, ...] = ()
        network, torch_dtype = ViT.from_tensors(checkpoint.config, checkpoint.tensors), getattr(torch, dtype)
        self._run: OnCPU | OnCard
        if device == "cpu":
            from vitcli.network.cpu import OnCPU

            if not hardware_has(dtype):
                self.warnings = (f"This CPU has no {dtype} arithmetic, so it is emulated: float32 would be faster",)
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(processors())
            self._run = OnCPU(network, checkpoint.preprocess, torch_dtype, batch, checkpoint.release)
        else:
            from vitcli.network.accelerator import OnCard

            self._run = OnCard(network.lower(torch_dtype).to(device), checkpoint.preprocess, compiled)
            checkpoint.release()

    def submit(self, pixels: Pixels) -> Callable[[], Logits]:
        """Start on a batch. An accelerator goes on by itself: submit the next batch before waiting for this one."""
        with self._memory_errors(pixels):
            wait = self._run.submit(pixels)

        def waited() -> Logits:
            with self._memory_errors(pixels):
                return wait()

        return waited

    def logits(self, pixels: Pixels) -> Logits:
        """Classify a batch. Raises OutOfMemory when it does not fit."""
        return self.submit(pixels)()

    @contextmanager
    def _memory_errors(self, pixels: Pixels) -> Iterator[None]:
        import torch

        try:
            yield
        except RuntimeError as error:  # the CPU's and MPS's allocators have no class of their own
            text = str(error)
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text:
                self._run.shrink()
                raise OutOfMemory(
                    f"A batch of {len(pixels)} pictures does not fit in the memory of {self.device}."
                ) from error
            raise


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

    Raises DeviceError when the device or dtype is not to be had, UsageError when engine, device and dtype disagree.
    """
    if compile != "on" and choose_engine(engine, device, dtype, pictures, checkpoint.config.flops) == "numpy":
        return NumpyBackend(checkpoint)
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
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
