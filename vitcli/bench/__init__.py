"""How fast this machine classifies, stage by stage, how much of what it could do that is, and what limits it.

    picture file -> decode -> preprocess -> forward -> label       (and all of it at once: end to end)

Whatever is compared runs in one process, in turns: one of each, then again, and the medians count. A busy machine
then slows everybody alike. The ceiling is the fastest product of two matrices measured in the same turns, in the same
dtype: no network can go beyond it, since nearly all it does is multiply matrices.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitcli.bench import machine
from vitcli.bench.contenders import Row, Settings, before_the_network, end_to_end, matrix_products, own, peers
from vitcli.bench.material import made_up, prepared
from vitcli.checkpoints import Checkpoint
from vitcli.classifier import Classifier
from vitcli.network import backend, hardware
from vitcli.network.backend import Logits


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


def bench(
    checkpoint: Checkpoint,
    settings: Settings,
    pictures: Sequence[bytes] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure a network on this machine.

    `pictures` are files as bytes (without any, some are made up); `on_progress` is called with a line for a person
    about each step. Raises MissingExtra for a peer that is not installed, and what `backend.load` raises.
    """
    device = hardware.choose_device(settings.device)
    remarks = [] if pictures else ["The pictures were made up: 640x480 JPEG files."]
    files = list(pictures) or made_up()
    dtypes = settings.dtypes or default_dtypes(device)
    on_progress("Loading the network ...")
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
    on_progress("Warming up ...")
    for contender in contenders:
        contender.run()
    memory, card = machine.peak_memory(), machine.card_memory(device)
    if settings.against:
        on_progress(f"Loading {', '.join(settings.against)} ...")
        contenders += peers(checkpoint, settings, device, dtypes, batch, expected, remarks)
    products = [product for dtype in dtypes for product in matrix_products(checkpoint.config, device, dtype, largest)]
    gc.collect()
    for turn in range(settings.repeats):
        on_progress(f"Turn {turn + 1} of {settings.repeats} ...")
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
    threads = machine.compute_threads(device)
    return Report(
        model=checkpoint.config.name,
        weights=str(checkpoint.path),
        device=device,
        threads=threads,
        machine=machine.describe(device),
        ceilings=ceilings,
        rows=rows,
        peak_memory=memory,
        card_memory=card,
        limit=limit(rows, device, os.cpu_count() or 1),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def limit(rows: Sequence[Row], device: str, cores: int) -> str:
    """One sentence or two: where the time of a picture goes at the default dtype, and what would help."""

    def fastest(stage: str, dtype: str | None = None) -> Row | None:
        known = [r for r in rows if r.stage == stage and r.engine.startswith("vit") and r.dtype == dtype]
        return min(known, key=lambda row: row.seconds, default=None)

    dtypes = list(dict.fromkeys(row.dtype for row in rows if row.stage == "forward"))
    decode, preprocess = fastest("decode"), fastest("preprocess")
    network, *others = (fastest("forward", dtype) for dtype in dtypes or [None])
    if not (decode and preprocess and network):
        return "Measure decode, preprocess and forward to learn what limits you."
    feeding_time = (decode.seconds + preprocess.seconds) / cores
    share = f" at {network.share:.0%} of what matrix products reach here" if network.share else ""
    computing = f"the {network.dtype} network takes {network.seconds * 1e3:.3g} ms a picture{share}"
    feeding = f"decoding and resizing {feeding_time * 1e3:.2g} ms on {cores} cores"
    # a card computes while the CPU decodes; on a CPU they take each other's time
    part = network.seconds / (network.seconds + feeding_time)
    if part < 0.5:
        return f"Decoding limits you: {computing}, {feeding}. `--decode fast` or more cores would help."
    faster = [other for other in others if other and other.seconds < 0.8 * network.seconds]
    if faster:
        helps = f"`--dtype {faster[0].dtype}` is {network.seconds / faster[0].seconds:.1f} times as fast"
    else:
        helps = "A smaller model would help" if device == "cpu" else "A smaller model or a second card would help"
    return f"The network limits you, {part:.0%} of the time: {computing}, {feeding}. {helps}."


def default_dtypes(device: str) -> tuple[str, ...]:
    """What is worth measuring here: the default, and what else the hardware has."""
    if device == "cpu":
        return ("float32", "bfloat16") if hardware.hardware_has("bfloat16") else ("float32",)
    return (hardware.choose_dtype("auto", device),)
