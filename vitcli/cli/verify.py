"""`vit verify`: our numbers against those of the library the weights come from, picture by picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitcli import escaping
from vitcli.cli import console, options, streams

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.verify import Comparison, Reference

LEAST = 1 << 30  # bytes of address space: with less, the system ends the process while it loads the other library


@options.grouped
def verify(
    model: options.ModelArgument,
    weights: options.Weights,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Pictures, and folders of pictures; without any, three are made up."),
    ] = None,
    engine: Annotated[
        Literal["auto", "numpy", "torch"],
        typer.Option(envvar="VIT_ENGINE", help="What is compared: auto is both on a CPU, else torch."),
    ] = "auto",
    device: options.Device = "cpu",
    form: options.Format = "table",
    quiet: options.Quiet = False,
) -> None:
    """Show that the outputs are the reference's: the same weights and pictures
    through the library the weights come from and through vit.

    For each picture: the largest difference of a logit, for each engine, and
    whether the five best classes are the same. Exit status 0 only if every
    difference is at most 1e-4, in float32. Pictures are decoded once, by vit;
    the library loads and prepares everything else in its own way.

    COCO's 000000039769.png is known by its name and size: with a model whose
    logits for it are published (the default one), those must be met as well.

    \b
    vit verify google/vit-base-patch16-224 photos/
    vit verify weights.npz cat.jpg --engine numpy

    Needs that library. pip install 'vitcli[verify]' brings transformers;
    vitcli[timm], which also reads Google's files, vitcli[torchvision] and
    vitcli[vit-pytorch] bring theirs. Without it nothing is compared, and the
    exit status is 1. It never fetches.
    """
    from vitcli import checkpoints, hub, sources
    from vitcli.errors import OutOfMemory, PictureError
    from vitcli.memory import addressable
    from vitcli.network import backend, hardware
    from vitcli.pictures import images
    from vitcli.verify import TOLERANCE, of, synthetic
    from vitcli.verify import verify as compare

    streams.check_stdout()
    if addressable() < LEAST:
        raise OutOfMemory(
            f"Comparing takes {LEAST >> 20} MiB of address space for the other library, "
            f"and {addressable() >> 20} MiB are left. Raise `ulimit -v`."
        )
    images.settle_pillow()
    name, path, _ = hub.resolve(model)
    checkpoint = checkpoints.load(path, **weights.given())
    for warning in checkpoint.warnings if not quiet else ():
        console.note(f"{warning}.")
    reference = of(checkpoint)
    failed: list[str] = []

    def opened(given: sources.Input) -> Image.Image | None:
        try:
            given = sources.fetched(given)
            if given.failure:
                raise PictureError(given.failure.error, given.failure.message)
            source = given.data if given.data is not None else given.file
            assert source is not None
            return images.load(source).image
        except PictureError as error:
            failed.append(given.name)
            console.error(f"{given.name}: {error}")
            return None

    def pictures() -> Iterator[tuple[str, Image.Image]]:
        for given in sources.inputs(paths or ()):
            if (picture := opened(given)) is not None:
                yield given.name, picture

    say = console.err()
    if not quiet:
        say.print(escaping.printable(about(name, reference)))
        if not paths:
            say.print("No pictures were given: compared on three made up here, the same ones every time.")
    device = hardware.choose_device(device)
    engines: tuple[backend.Engine, ...] = ("numpy", "torch") if device == "cpu" else ("torch",)
    if engine != "auto":
        engines = (engine,)
    rows = compare(checkpoint, reference, pictures() if paths else synthetic(), engines=engines, device=device,
                   repository=(hub.origin(path) or ("",))[0])  # fmt: skip
    if form == "table":
        typer.echo("  ".join(f"{e:>8}" for e in engines) + "  top 5  picture")
    done = []
    for row in rows:
        done.append(row)
        if form == "table":
            apart = "  ".join(f"{difference:8.1e}" for difference in row.differences.values())
            best = "same " if row.same_best else "other"
            typer.echo(f"{apart}  {best}  {escaping.printable(row.name)}{remarks(row)}")
    worst = max((row.worst for row in done), default=float("nan"))
    equal = bool(done) and all(row.agrees() for row in done)
    if form == "json":
        document(name, reference, done, TOLERANCE, equal)
    if not (quiet or all(row.own_preprocessing for row in done)):
        say.print("Pictures marked so were prepared by vit for both: the library prepares none, or rounds the uneven "
                  "margins of a crop in another way.")  # fmt: skip
    if not done:
        console.error("Nothing was compared.")
    elif not equal:
        beyond = sum(not row.agrees() for row in done)
        console.error(f"Not equivalent: logits are up to {worst:.1e} apart, more than {TOLERANCE:.0e} on {beyond} of "
                      f"{len(done)} pictures.")  # fmt: skip
    elif not quiet:
        say.print(f"Equivalent to {reference.library}: {worst:.1e} is the largest difference of a logit, within "
                  f"{TOLERANCE:.0e}.")  # fmt: skip
    if failed or not equal:
        raise typer.Exit(3 if equal else 1)


def about(name: str, reference: Reference) -> str:
    """What is compared with what."""
    how = "built from its own settings" if reference.own_shape else "in the shape that vit reads, for want of settings"
    return f"{name} against {reference.library} ({reference.network}), which loads the same files itself, {how}."


def remarks(row: Comparison) -> str:
    """What else is known of a picture's row."""
    found = []
    if not row.own_preprocessing:
        found.append("prepared by vit for both")
    if row.published is not None:
        found.append(f"{row.published:.1e} from the logits that transformers' tests publish")
    return f" ({'; '.join(found)})" if found else ""


def document(name: str, reference: Reference, rows: list[Comparison], tolerance: float, equal: bool) -> None:
    """Everything as one JSON document on stdout."""
    found: dict[str, Any] = {
        "model": name,
        "reference": reference.library,
        "class": reference.network,
        "own_shape": reference.own_shape,
        "tolerance": tolerance,
        "equivalent": equal,
        "pictures": [row.record() for row in rows],
    }
    console.document(found)
