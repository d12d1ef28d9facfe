"""Option types shared by the commands, so that one option reads and behaves the same everywhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

DEFAULT_MODEL = "google/vit-base-patch16-224"  # catalog.DEFAULT, without importing it for a help text

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="VIT_MODEL",
        metavar="NAME|DIR|FILE",
        help="A known model's name, a hub repository, or weights on disk.",
    ),
]
Device = Annotated[
    str, typer.Option(envvar="VIT_DEVICE", metavar="auto|cpu|cuda|cuda:N|mps", help="Where the network runs.")
]
Dtype = Annotated[
    str,
    typer.Option(
        envvar="VIT_DTYPE",
        metavar="auto|float32|bfloat16|float16",
        help="Arithmetic: auto is float32, and bfloat16 on CUDA.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        envvar="VIT_ENGINE",
        metavar="auto|numpy|torch",
        help="What computes: auto takes numpy for a few pictures on a CPU.",
    ),
]
Batch = Annotated[int, typer.Option(envvar="VIT_BATCH", min=1, help="Pictures that go through the network at once.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", dir_okay=False, help="Write the results to this file instead of stdout."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]


class Form(str, Enum):
    """How a report is written."""

    table = "table"
    json = "json"


Format = Annotated[Form, typer.Option("--format", "-f", help="For a person, or JSON with everything known.")]
ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A known model's name, a hub repository, or weights on disk."),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        envvar="VIT_PREPROCESS",
        metavar="hf|timm|deit|torchvision|hf-deit",
        help="Prepare pictures as this family does, not as the checkpoint says.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        envvar="VIT_IMAGE_SIZE",
        metavar="PIXELS",
        min=1,
        help="Classify at another size, a multiple of the patch; position embeddings are resized.",
    ),
]
Heads = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Attention heads, for weights that do not tell (vit-pytorch).")
]
Pooling = Annotated[
    str | None,
    typer.Option(metavar="cls|mean", help="What the head reads, for weights that do not tell (vit-pytorch)."),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Names of the classes: .txt with one a line, .json or .csv by index.",
    ),
]


def engine(given: str) -> Literal["auto", "numpy", "torch"]:
    """An engine's name. Raises UsageError for another."""
    from vitcli.errors import UsageError

    match given:
        case "auto" | "numpy" | "torch":
            return given
    raise UsageError(f"--engine {given!r} is not one of auto, numpy, torch.")


def checkpoint(
    *,
    preprocess: str | None = None,
    image_size: int | None = None,
    heads: int | None = None,
    pooling: str | None = None,
    labels: Path | None = None,
) -> dict[str, Any]:
    """The options above as `checkpoints.load` takes them. Raises UsageError for a value that it does not know."""
    from vitcli.errors import UsageError
    from vitcli.labels import Labels
    from vitcli.preprocess import FAMILIES

    if preprocess is not None and preprocess not in FAMILIES:
        raise UsageError(f"--preprocess {preprocess!r} is not one of {', '.join(FAMILIES)}.")
    if pooling not in (None, "cls", "mean"):
        raise UsageError(f"--pooling {pooling!r} is not one of cls, mean.")
    names = None if labels is None else Labels.read(labels)
    given = dict(preprocess=preprocess, image_size=image_size, heads=heads, pooling=pooling, labels=names)
    return {name: value for name, value in given.items() if value is not None}
