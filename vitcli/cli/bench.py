"""`vit bench`: how fast this machine classifies, and what limits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from vitcli import escaping
from vitcli.cli import console, options, streams

if TYPE_CHECKING:
    from vitcli.bench import Report
    from vitcli.checkpoints import Checkpoint
    from vitcli.network.backend import Engine


def bench(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Pictures to decode; without any, some are made up."),
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    size: Annotated[
        str | None, typer.Option(metavar="Ti/16|S/16|B/16|...", help="Random weights of this size instead of a model.")
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,N,...", help="Batch sizes.")] = "1,8,32",
    dtypes: Annotated[
        str | None,
        typer.Option(metavar="float32,...", help="Arithmetic; default: the usual, and bfloat16 where the CPU has it."),
    ] = None,
    engines: Annotated[str, typer.Option(metavar="torch,numpy", help="Engines of vit.")] = "torch,numpy",
    stages: Annotated[
        str, typer.Option(metavar="STAGE,...", help="Stages to measure.")
    ] = "decode,preprocess,forward,end to end",
    against: Annotated[
        str | None,
        typer.Option(metavar="transformers,onnxruntime,openvino", help="Others to run on the same weights, in turns."),
    ] = None,
    device: options.Device = "auto",
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Turns; the medians count.")] = 5,
    form: options.Format = "table",
    quiet: options.Quiet = False,
) -> None:
    """Measure this machine: pictures a second by stage, batch size and dtype,
    the share of what its matrix products could do, and what limits it.

    \b
    vit bench
    vit bench photos/ --model google/vit-base-patch16-224 --batch 8,32
    vit bench --size B/16 --against transformers,onnxruntime,openvino

    Peers need their packages: pip install 'vitcli[bench]'.
    """
    from vitcli import sources
    from vitcli.bench import bench as measure
    from vitcli.bench.contenders import Settings
    from vitcli.bench.material import readable
    from vitcli.errors import UsageError
    from vitcli.pictures.images import settle_pillow

    streams.check_stdout()
    settle_pillow()

    def listed(given: str | None) -> tuple[str, ...]:
        return tuple(word.strip() for word in given.split(",") if word.strip()) if given else ()

    if not all(word.isdecimal() for word in listed(batch)):
        raise UsageError("--batch takes whole numbers from 1, with commas between them.")
    settings = Settings(
        batches=tuple(int(word) for word in listed(batch)), dtypes=listed(dtypes),
        engines=cast("tuple[Engine, ...]", listed(engines)), stages=listed(stages),
        against=listed(against), device=device, repeats=repeats,
    )  # fmt: skip
    pictures = readable(sources.inputs(paths)) if paths else []
    checkpoint = weights(model, size)
    say = console.err()
    report = measure(checkpoint, settings, pictures, (lambda _: None) if quiet else say.print)
    if form == "json":
        console.document(report.record())
    else:
        table(report)


def weights(model: str, size: str | None) -> Checkpoint:
    """The model's weights; random ones when a size was asked for, or when nobody chose and the default is not here."""
    from vitcli import checkpoints, hub
    from vitcli.bench.material import random_checkpoint
    from vitcli.errors import NotDownloaded

    if size is not None:
        return random_checkpoint(size)
    try:
        return checkpoints.load(hub.resolve(model)[1])
    except NotDownloaded:
        if model != options.DEFAULT_MODEL:
            raise
        console.note(f"{model} is not here: random weights of its size, B/16, are as fast.")
        return random_checkpoint("B/16")


def table(report: Report) -> None:
    """The report for a person, on stdout."""
    from rich import box
    from rich.table import Table

    out, machine = console.out(), report.machine
    accelerator = machine.get("accelerator", {}).get("name", "")
    where = f"{accelerator} in a machine with " if accelerator else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("stage", "engine", "dtype"):
        grid.add_column(heading, no_wrap=True)
    for heading in ("batch", "ms", "img/s", "GFLOP/s", "share", "differs"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        grid.add_row(
            row.stage, row.engine, row.dtype or "", str(row.batch), f"{row.seconds * 1e3:.4g}", f"{row.rate:.4g}",
            "" if row.gflops is None else f"{row.gflops:.0f}", "" if row.share is None else f"{row.share:.0%}",
            f"{row.difference:.0e}" if row.difference else "",
        )  # fmt: skip

    def line(text: str) -> None:
        out.print(escaping.printable(text, keep="\n"), soft_wrap=True)

    line(f"{report.model}, {report.weights}")
    line(f"{where}{machine['processor']}, {machine['cores']} cores; {report.threads} threads compute")
    line(versions)
    out.print(grid)
    for dtype, ceiling in report.ceilings.items():
        line(f"Share is of {ceiling / 1e9:.0f} GFLOP/s, the best product of two {dtype} matrices in the same turns.")
    if any(row.difference for row in report.rows):
        line("Differs: the largest difference of a logit from vit's own in float32.")
    if report.peak_memory is not None:
        card = f", {report.card_memory / 1e6:.0f} MB on the card" if report.card_memory else ""
        line(f"Peak memory of vit alone, a network for each row: {report.peak_memory / 1e6:.0f} MB{card}.")
    for remark in report.remarks:
        line(remark)
    line(report.limit)
