"""What takes turns: the stages of vit, other engines on the same weights, and the matrix products of the ceiling."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitcli import streaming
from vitcli.bench.machine import compute_threads
from vitcli.bench.material import FEW
from vitcli.bench.peers import PEERS, Network
from vitcli.checkpoints import Checkpoint
from vitcli.classifier import Classifier
from vitcli.config import Config
from vitcli.errors import UsageError
from vitcli.network import hardware
from vitcli.network.backend import Backend, Engine, Logits, Pixels
from vitcli.pictures import images
from vitcli.sources import Input
from vitcli.verify.references import in_transformers

STAGES = ("decode", "preprocess", "forward", "end to end")
SQUARE = 2048  # rows and columns of the matrices whose product is tried for the ceiling


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
        """Run once and take the time."""
        start = time.perf_counter()
        self.run()
        self.times.append(time.perf_counter() - start)

    @property
    def seconds(self) -> float:
        """Median time of one picture."""
        return statistics.median(self.times) / self.pictures


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
    """One batch on the CPU; on an accelerator a few are queued one after another, as in a long run."""
    queued = 1 if network.device == "cpu" else 4

    def run() -> None:
        waits = [network.submit(pixels) for _ in range(queued)]
        for wait in waits:
            wait()

    return Contender(row, run, queued * len(pixels))


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
    model = in_transformers(checkpoint)
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
