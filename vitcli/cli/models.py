"""`vit models`: the catalog, and what of it is on this machine."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitcli.cli import console

if TYPE_CHECKING:
    from vitcli.catalog import Model


class Format(str, Enum):
    """How the list is written."""

    table = "table"
    json = "json"


def models(
    form: Annotated[
        Format, typer.Option("--format", "-f", help="A table, or JSON with everything known.")
    ] = Format.table,
) -> None:
    """List the well-known models: shape, published accuracy, and which are already downloaded.

    Any of these names goes after --model, and to `vit download-weights`. Other repositories of the hub work too, as
    org/name\\[@revision].

    \b
    vit models
    vit models --format json | jq -r '.[] | select(.top1 > 85) | .name'
    """
    from vitcli import catalog, hub
    from vitcli.errors import NotDownloaded

    def path(model: Model) -> str | None:
        try:
            return str(hub.locate(model.repository, model.revision))
        except NotDownloaded:
            return None

    paths = {model: path(model) for model in catalog.MODELS}
    if form is Format.json:
        import json

        typer.echo(json.dumps([record(model, here) for model, here in paths.items()], indent=2, ensure_ascii=False))
    else:
        table(paths)


def record(model: Model, path: str | None) -> dict[str, Any]:
    """A row as JSON-ready values; what is unknown is null. A null revision means the branch `main`."""
    return {
        "name": model.name,
        "repository": model.repository,
        "revision": model.revision,
        "size": model.size,
        "image_size": model.image_size,
        "parameters": model.parameters,
        "trained_on": model.trained_on,
        "preprocess": model.preprocess,
        "files": list(model.files),
        "top1": model.top1,
        "top5": model.top5,
        "source": model.source,
        "downloaded": path is not None,
        "path": path,
    }


def table(paths: dict[Model, str | None]) -> None:
    """The list for a person, drawn to fit 80 columns; what needs more room is shown where there is more."""
    from rich import box
    from rich.table import Table

    out = console.out()
    sources = list(dict.fromkeys(model.source for model in paths if model.source))
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    grid.add_column("model", no_wrap=True, style="bold")
    grid.add_column("ViT", no_wrap=True)
    grid.add_column("px", justify="right", no_wrap=True)
    grid.add_column("params", justify="right", no_wrap=True)
    wide = out.width >= 100
    if wide:
        grid.add_column("trained on", no_wrap=True)
    grid.add_column("top-1", justify="right", no_wrap=True, style="cyan")
    if wide:
        grid.add_column("top-5", justify="right", no_wrap=True, style="cyan")
    grid.add_column("", no_wrap=True, style="dim")
    grid.add_column("here", no_wrap=True, justify="center", style="green")

    owner = None
    for model, path in paths.items():
        if owner not in (None, model.repository.split("/")[0]):
            grid.add_section()
        owner = model.repository.split("/")[0]
        cells = [model.name, model.size or "–", str(model.image_size or "–")]
        cells.append(f"{model.parameters / 1e6:.1f} M" if model.parameters else "–")
        cells += [model.trained_on or "–"] * wide
        cells.append(f"{model.top1:.1f}" if model.top1 else "–")
        cells += [f"{model.top5:.1f}" if model.top5 else "–"] * wide
        cells += [f"[{sources.index(model.source) + 1}]" if model.source else "", "✓" if path else ""]
        grid.add_row(*cells)
    out.print(grid)
    out.print("\nAccuracy: per cent of the ImageNet-1k validation set, as published by")
    for number, source in enumerate(sources, 1):
        out.print(f"[{number}] {source}", style="dim")
    pinned = ", ".join(f"{model.name} ({model.revision[:8]})" for model in paths if model.revision)
    out.print(f"Pinned to a commit: {pinned}. The others follow their branch main.", style="dim")
