"""`vit models`: the catalog, and what of it is on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitcli.cli import console, options

if TYPE_CHECKING:
    from vitcli.hub.catalog import Model


def models(
    form: options.Format = "table",
) -> None:
    """List the well-known models, their published accuracy, and which are here.

    Any of these names goes after --model and to `vit download-weights`; so does
    any other repository of the hub, as org/name[@revision].

    \b
    vit models
    vit models --format json | jq -r '.[] | select(.top1 > 85) | .name'
    """
    from vitcli import hub
    from vitcli.errors import NotDownloaded
    from vitcli.hub import catalog

    def path(model: Model) -> str | None:
        try:
            return str(hub.locate(model.repository, model.revision))
        except NotDownloaded:
            return None

    paths = {model: path(model) for model in catalog.MODELS}
    if form == "json":
        console.document([record(model, here) for model, here in paths.items()])
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
    wide = out.width >= 100
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("", no_wrap=True, style="green")
    grid.add_column("model", no_wrap=True, style="bold")
    grid.add_column("ViT", no_wrap=True)
    grid.add_column("px", justify="right", no_wrap=True)
    grid.add_column("params", justify="right", no_wrap=True)
    if wide:
        grid.add_column("trained on", no_wrap=True)
    grid.add_column("top-1", justify="right", no_wrap=True, style="cyan")
    if wide:
        grid.add_column("top-5", justify="right", no_wrap=True, style="cyan")
    grid.add_column("", no_wrap=True, style="dim")

    owner = ""
    for model, path in paths.items():
        previous, owner = owner, model.repository.split("/")[0]
        if previous not in ("", owner):
            grid.add_section()
        cells = ["✓" if path else "", model.name, model.size or "–", str(model.image_size or "–")]
        cells.append(millions(model.parameters))
        cells += [model.trained_on or "–"] * wide
        cells.append(percent(model.top1))
        cells += [percent(model.top5)] * wide
        cells.append(f"[{sources.index(model.source) + 1}]" if model.source else "")
        grid.add_row(*cells)
    out.print(grid)
    here = sum(1 for path in paths.values() if path)
    out.print(
        f"\n✓ downloaded: {here} of {len(paths)}. top-1: per cent of the ImageNet-1k validation set, as published:"
    )
    for number, source in enumerate(sources, 1):
        out.print(f"[{number}] {source}", style="dim")
    known = [model for model in paths if model.top1 is not None and model.parameters is not None]
    small = min(known, key=lambda model: (model.parameters or 0, -(model.top1 or 0)))
    best = max(known, key=lambda model: model.top1 or 0)
    out.print(
        f"For a first try, {small.name} ({(small.parameters or 0) * 4e-6:.0f} MB). The most accurate is {best.name}."
    )
    pinned = ", ".join(f"{model.name} ({model.revision[:8]})" for model in paths if model.revision)
    out.print(f"Pinned to a commit: {pinned}. The others follow their branch main.", style="dim")


def millions(count: int | None) -> str:
    """Parameters for a person: 5.7 M, 304 M."""
    return "–" if count is None else f"{count / 1e6:.3g} M"


def percent(value: float | None) -> str:
    """An accuracy, or a dash where none is known."""
    return "–" if value is None else f"{value:.1f}"
