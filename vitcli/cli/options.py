"""Option types shared by the commands, so that one option reads and behaves the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
