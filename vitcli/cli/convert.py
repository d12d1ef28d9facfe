"""`vit convert`: any checkpoint to the layout that transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitcli import escaping
from vitcli.cli import console, options


@options.grouped
def convert(
    model: options.ModelArgument,
    weights: options.LabelledWeights,
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder, or a file ending in .safetensors; the settings go beside it."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Rewrite any checkpoint in the hub's layout: weights, config.json,
    preprocessor_config.json, with its labels.

    transformers loads the result with no tensor missing and none left over, and
    computes the same logits. A network that its ViT cannot express (pooling by
    the mean, register tokens, norms around the patches) is refused, by name.
    Weights are written as float32. The paths written go to stdout.

    \b
    vit convert vit_b_16.pth my-vit/
    vit convert ViT-B_16.npz my-vit-384/ --image-size 384
    vit convert model.pth my-vit/model.safetensors --labels names.txt
    """
    from vitcli import checkpoints, hub
    from vitcli.checkpoints.convert import architecture
    from vitcli.checkpoints.convert import convert as rewrite

    _, path, _ = hub.resolve(model)
    checkpoint = checkpoints.load(path, **weights.given())
    for warning in checkpoint.warnings if not quiet else ():
        console.note(f"{warning}.")
    files = rewrite(checkpoint, out, force=force)
    if not quiet:
        named, folder = architecture(checkpoint.config), files[0].parent
        say = console.err()
        say.print(escaping.printable(
            f"{checkpoint.config.name} from the {checkpoint.layout} layout, for transformers' {named}."
        ))  # fmt: skip
        if files[0].name != "model.safetensors":
            say.print(escaping.printable(
                f"transformers looks for model.safetensors: rename {files[0].name} before loading {folder} with it."
            ))  # fmt: skip
    for file in files:
        typer.echo(file)
