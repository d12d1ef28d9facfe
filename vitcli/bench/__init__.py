"""How fast this machine classifies, stage by stage, how much of what it could do that is, and what limits it.

    picture file -> decode -> preprocess -> forward -> label       (and all of it at once: end to end)

Whatever is compared runs in one process, in turns: one of each, then again, and the medians count. A busy machine
then slows everybody alike. The ceiling is the fastest product of two matrices measured in the same turns, in the same
dtype: no network can go beyond it, since nearly all it does is multiply matrices.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitcli import streaming
from vitcli.bench.peers import PEERS, Network
from vitcli.checkpoints import Checkpoint
from vitcli.classifier import Classifier
from vitcli.config import Config
from vitcli.errors import PictureError, UsageError
from vitcli.labels import Labels
from vitcli.network import backend, hardware
from vitcli.network.backend import Backend, Engine, Logits, Pixels
from vitcli.pictures import images
from vitcli.pictures.preprocess import HALF, Preprocess
from vitcli.sources import Input
from vitcli.verify import Reference
from vitcli.version import __version__

STAGES = ("decode", "preprocess", "forward", "end to end")
SQUARE = 2048  # rows and columns of the matrices whose product is tried for the ceiling
FEW = 8  # pictures decoded in one turn


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: the median time of one picture, in seconds, in batches of `batch`.

    `flops` is how many floating-point operations the network does for a picture, `ceiling` how many a second the
    machine can do in this dtype; both None for stages that multiply nothing. `difference` is the largest distance of a
    logit from vit's own in float32.
    """

    stage: str
    engine: str
    dtype: str | None
    batch: int
    seconds: float
    flops: int | None = None
    ceiling: float | None = None
    difference: float | None = None

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return 1 / self.seconds

    @property
    def gflops(self) -> float | None:
        """Achieved GFLOP/s."""
        return None if self.flops is None else self.flops / self.seconds / 1e9

    @property
    def share(self) -> float | None:
        """Achieved share of the ceiling."""
        return None if self.flops is None or not self.ceiling else self.flops / self.seconds / self.ceiling

    def record(self) -> dict[str, Any]:
        """The row as JSON-ready values."""
        return {
            "stage": self.stage,
            "engine": self.engine,
            "dtype": self.dtype,
            "batch": self.batch,
            "milliseconds": self.seconds * 1e3,
            "images_per_second": self.rate,
            "gflops": self.gflops,
            "share_of_ceiling": self.share,
            "difference": self.difference,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured. `ceilings` are FLOP/s by dtype; memory is in bytes, None where the system does not tell."""

    model: str
    weights: str
    device: str
    threads: int
    machine: Mapping[str, Any]
    ceilings: Mapping[str, float]
    rows: Sequence[Row]
    peak_memory: int | None
    card_memory: int | None
    limit: str
    remarks: Sequence[str]

    def record(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        rows = [row.record() for row in self.rows]
        ceilings = {dtype: rate / 1e9 for dtype, rate in self.ceilings.items()}
        own = {name: getattr(self, name) for name in ("model", "weights", "device", "threads", "limit")}
        memory = {"peak_memory_bytes": self.peak_memory, "card_memory_bytes": self.card_memory}
        return own | memory | {
            "machine": dict(self.machine), "ceilings_gflops": ceilings, "remarks": list(self.remarks), "rows": rows,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure. `engines` are vit's own, `against` names of PEERS, `repeats` turns."""

    batches: tuple[int, ...] = (1, 8, 32)
    dtypes: tuple[str, ...] = ()
    engines: tuple[Engine, ...] = ("torch", "numpy")
    stages: tuple[str, ...] = STAGES
    against: tuple[str, ...] = ()
    device: str = "auto"
    repeats: int = 5

    def __post_init__(self) -> None:
        """Raises UsageError for a stage, an engine, a dtype or a peer that is not one."""
        for what, given, known in (
            ("--stages", self.stages, STAGES), ("--engines", self.engines, ("torch", "numpy")),
            ("--dtypes", self.dtypes, hardware.DTYPES), ("--against", self.against, tuple(PEERS)),
        ):  # fmt: skip
            if wrong := [name for name in given if name not in known]:
                raise UsageError(f"{what} {wrong[0]!r} is not one of {', '.join(known)}.")
        if not self.batches or min(self.batches) < 1:
            raise UsageError("--batch takes whole numbers from 1, with commas between them.")


@dataclass
class Contender:
    """One thing that takes its turns: `run` does `pictures` of them; `row` is what is known before it is timed."""

    row: Row
    run: Callable[[], object]
    pictures: int
    times: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Run once, on the clock."""
        start = time.perf_counter()
        self.run()
        self.times.append(time.perf_counter() - start)

    @property
    def seconds(self) -> float:
        """Median time of one picture."""
        return statistics.median(self.times) / self.pictures


def bench(
    checkpoint: Checkpoint,
    settings: Settings,
    pictures: Sequence[bytes] = (),
    said: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure a network on this machine.

    `pictures` are files as bytes (without any, some are made up); `said` hears what is being done, for a person who
    waits. Raises MissingExtra for a peer that is not installed, and what `backend.load` raises.
    """
    device = hardware.choose_device(settings.device)
    remarks = [] if pictures else ["The pictures were made up: 640x480 JPEG files."]
    files = list(pictures) or made_up()
    dtypes = settings.dtypes or default_dtypes(device)
    said("Loading the network ...")
    contenders = list(before_the_network(checkpoint, settings, files))
    largest = max(settings.batches)
    batch = prepared(checkpoint, files, largest)
    expected: dict[int, Logits] = {}
    for dtype in dtypes:
        for kind in settings.engines:
            if kind == "numpy" and (device != "cpu" or dtype != "float32"):
                continue
            for size in settings.batches:  # each with a network laid out, or compiled, for it
                network = backend.load(checkpoint, engine=kind, device=device, dtype=dtype, pictures=10**6, batch=size)
                remarks.extend(f"{warning}." for warning in network.warnings)
                if "forward" in settings.stages:
                    contenders.append(own(checkpoint, network, batch[:size], expected))
                if kind == "torch" and size == largest and "end to end" in settings.stages:
                    contenders.append(end_to_end(Classifier("", None, checkpoint, network), files, size))
    said("Warming up ...")
    for contender in contenders:
        contender.run()
    memory, card = peak_memory(), card_memory(device)
    if settings.against:
        said(f"Loading {', '.join(settings.against)} ...")
        contenders += peers(checkpoint, settings, device, dtypes, batch, expected, remarks)
    products = [product for dtype in dtypes for product in matrix_products(checkpoint.config, device, dtype, largest)]
    gc.collect()
    for turn in range(settings.repeats):
        said(f"Turn {turn + 1} of {settings.repeats} ...")
        for contender in (*products, *contenders):
            contender.turn()
    ceilings: dict[str, float] = {}
    for product in products:
        dtype = str(product.row.dtype)
        ceilings[dtype] = max(ceilings.get(dtype, 0.0), (product.row.flops or 0) / product.seconds)
    rows = [
        replace(c.row, seconds=c.seconds, ceiling=ceilings.get(c.row.dtype or "") if c.row.flops else None)
        for c in contenders
    ]
    threads = compute_threads(device)
    return Report(
        model=checkpoint.config.name,
        weights=str(checkpoint.path),
        device=device,
        threads=threads,
        machine=machine(device),
        ceilings=ceilings,
        rows=rows,
        peak_memory=memory,
        card_memory=card,
        limit=limit(rows, device, os.cpu_count() or 1),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def before_the_network(checkpoint: Checkpoint, settings: Settings, files: Sequence[bytes]) -> Iterator[Contender]:
    """Decoding and resizing, in one thread."""
    few = files[:FEW]
    opened = [images.load(file).image for file in few]
    work: dict[str, Callable[[], object]] = {
        "decode": lambda: [images.load(file) for file in few],
        "preprocess": lambda: [checkpoint.preprocess.resized(picture) for picture in opened],
    }
    for stage, run in work.items():
        if stage in settings.stages:
            yield Contender(Row(stage, "vit", None, 1, 0), run, len(few))


def own(checkpoint: Checkpoint, network: Backend, pixels: Pixels, expected: dict[int, Logits]) -> Contender:
    """The forward pass of one of vit's engines; the first, in float32, is what the others' logits are compared with."""
    size, logits = len(pixels), network.logits(pixels)
    if network.dtype == "float32":
        expected.setdefault(size, logits)
    row = Row("forward", f"vit {network.engine}", network.dtype, size, 0, checkpoint.config.flops)
    return forward(network, pixels, replace(row, difference=distance(logits, expected.get(size))))


def forward(network: Backend, pixels: Pixels, row: Row) -> Contender:
    """One batch on the CPU; on an accelerator a few on the heels of one another, as in a long run."""
    flying = 1 if network.device == "cpu" else 4

    def run() -> None:
        waits = [network.submit(pixels) for _ in range(flying)]
        for wait in waits:
            wait()

    return Contender(row, run, flying * len(pixels))


def peers(
    checkpoint: Checkpoint,
    settings: Settings,
    device: str,
    dtypes: Iterable[str],
    batch: Pixels,
    expected: Mapping[int, Logits],
    remarks: list[str],
) -> Iterator[Contender]:
    """The forward pass of other engines, on pixels normalised beforehand."""
    model = Reference(checkpoint).model
    normalised = checkpoint.preprocess.normalised(batch)
    for name in settings.against:
        for dtype in dtypes:
            side = checkpoint.config.image_size
            network = PEERS[name](model, side, dtype, device, compute_threads(device))
            if network is None:
                remarks.append(f"{name} has no {dtype} on {device}.")
                continue
            for size in settings.batches if "forward" in settings.stages else ():
                yield peer(name, network, dtype, normalised[:size], checkpoint.config.flops, expected.get(size))


def peer(name: str, network: Network, dtype: str, pixels: np.ndarray, flops: int, expected: Logits | None) -> Contender:
    """One peer at one batch size, warmed up."""
    apart = distance(network(pixels), expected)
    row = Row("forward", name, dtype, len(pixels), 0, flops, difference=apart)
    return Contender(row, lambda: network(pixels), len(pixels))


def end_to_end(classifier: Classifier, files: Sequence[bytes], batch: int) -> Contender:
    """Files to labels, as `vit classify` does it."""
    count = 2 * batch
    given = [Input(f"{i}.jpg", data=files[i % len(files)]) for i in range(count)]
    flops = classifier.checkpoint.config.flops
    row = Row("end to end", f"vit {classifier.backend.engine}", classifier.backend.dtype, batch, 0, flops)
    return Contender(row, lambda: list(streaming.stream(classifier, given, batch=batch)), count)


def matrix_products(config: Config, device: str, dtype: str, batch: int) -> list[Contender]:
    """Ways to multiply matrices at full speed: two squares, and the network's widest layer, plain and packed."""
    import torch
    from torch.nn import functional

    from vitcli.network.cpu import PackedLinear

    kind, found = getattr(torch, dtype), []

    def product(name: str, run: Callable[[], object], rows: int, inner: int, columns: int) -> None:
        def waited() -> None:
            with torch.inference_mode():
                run()
                if device.startswith("cuda"):
                    torch.cuda.synchronize(device)

        waited()
        row = Row("matrix product", name, dtype, 1, 0, 2 * rows * inner * columns)
        found.append(Contender(row, waited, 1))

    square = SQUARE if device == "cpu" else 4 * SQUARE
    a, b = (torch.randn(square, square, device=device).to(kind) for _ in range(2))
    product(f"{square} x {square}", lambda: a @ b, square, square, square)
    rows = config.tokens * min(batch, 8 if device == "cpu" else batch)
    layer = torch.nn.Linear(config.width, config.mlp_width, device=device, dtype=kind).requires_grad_(False)
    x = torch.randn(rows, config.width, device=device).to(kind)
    shape = (rows, config.width, config.mlp_width)
    product("layer", lambda: functional.linear(x, layer.weight, layer.bias), *shape)
    if device == "cpu":
        with contextlib.suppress(AttributeError, RuntimeError):  # a torch without these operators
            packed = PackedLinear(layer, rows)
            product("packed layer", lambda: packed(x), *shape)
    return found


def distance(logits: Logits, expected: Logits | None) -> float | None:
    """The largest difference of a logit."""
    return None if expected is None else float(abs(logits - expected).max())


def limit(rows: Sequence[Row], device: str, cores: int) -> str:
    """One sentence or two: where the time of a picture goes at the default dtype, and what would help."""

    def fastest(stage: str, dtype: str | None = None) -> Row | None:
        known = [r for r in rows if r.stage == stage and r.engine.startswith("vit") and r.dtype == dtype]
        return min(known, key=lambda row: row.seconds, default=None)

    dtypes = list(dict.fromkeys(row.dtype for row in rows if row.stage == "forward"))
    decode, preprocess = fastest("decode"), fastest("preprocess")
    forward, *others = (fastest("forward", dtype) for dtype in dtypes or [None])
    if not (decode and preprocess and forward):
        return "Measure decode, preprocess and forward to learn what limits you."
    feeding = (decode.seconds + preprocess.seconds) / cores
    share = f" at {forward.share:.0%} of what matrix products reach here" if forward.share else ""
    network = f"the {forward.dtype} network takes {forward.seconds * 1e3:.3g} ms a picture{share}"
    files = f"decoding and resizing {feeding * 1e3:.2g} ms on {cores} cores"
    # a card computes while the CPU decodes; on a CPU they take each other's time
    part = forward.seconds / (forward.seconds + feeding)
    if part < 0.5:
        return f"Decoding limits you: {network}, {files}. `--decode fast` or more cores would help."
    faster = [other for other in others if other and other.seconds < 0.8 * forward.seconds]
    if faster:
        helps = f"`--dtype {faster[0].dtype}` is {forward.seconds / faster[0].seconds:.1f} times as fast"
    else:
        helps = "A smaller model would help" if device == "cpu" else "A smaller model or a second card would help"
    return f"The network limits you, {part:.0%} of the time: {network}, {files}. {helps}."


def default_dtypes(device: str) -> tuple[str, ...]:
    """What is worth measuring here: the default, and what else the hardware has."""
    if device == "cpu":
        return ("float32", "bfloat16") if hardware.hardware_has("bfloat16") else ("float32",)
    return (hardware.choose_dtype("auto", device),)


def prepared(checkpoint: Checkpoint, files: Sequence[bytes], count: int) -> Pixels:
    """`count` pictures at the network's size, the files over and over: uint8 [count s s 3]."""
    once = [checkpoint.preprocess.resized(images.load(file).image) for file in files[:count]]
    return np.stack([once[i % len(once)] for i in range(count)])


def made_up(count: int = FEW) -> list[bytes]:
    """Pictures as a camera's might be to a decoder: soft shapes under a little noise, JPEG, 640x480."""
    found = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        shapes = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
        noisy = np.asarray(shapes, np.int16) + random.integers(-12, 13, (480, 640, 3), dtype=np.int16)
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def readable(inputs: Iterable[Input], most: int = 64) -> list[bytes]:
    """The first pictures that can be decoded, as bytes. Raises UsageError when there is none."""
    found: list[bytes] = []
    for given in inputs:
        if len(found) == most:
            break
        if given.failure is None:
            data = given.file.read_bytes() if given.file is not None else given.data or b""
            try:
                images.load(data)
            except PictureError:
                continue
            found.append(data)
    if not found:
        raise UsageError("None of these is a picture that can be decoded.")
    return found


def random_checkpoint(name: str) -> Checkpoint:
    """A network of a published size, "B/16", with random weights: as fast as a trained one, and as clever as chance.

    Raises UsageError for a name that is no size.
    """
    try:
        config = Config.named(name)
    except ValueError as error:
        raise UsageError(f"--size: {error}.") from error
    random = np.random.default_rng(0)
    tensors = {
        name: random.normal(scale=0.02, size=shape).astype(np.float32) for name, shape in config.tensors().items()
    }
    for norm in (name for name in tensors if "norm" in name and name.endswith(".weight")):
        tensors[norm] += 1
    nowhere = Path(f"random weights ({name})")
    side = config.image_size
    return Checkpoint(
        path=nowhere, files=(nowhere,), layout="random", config=config, tensors=tensors,
        preprocess=Preprocess(side, side, mean=HALF, std=HALF), labels=Labels.unnamed(config.classes),
        dtype="float32", warnings=(), sources={}, dropped=(),
    )  # fmt: skip


def machine(device: str) -> dict[str, Any]:
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
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in said.get("flags", "").split()]
    name = said.get("model name", platform.machine())
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
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def card_memory(device: str) -> int | None:
    """The most memory that tensors have taken on the card, in bytes."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)
