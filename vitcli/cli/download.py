"""`vit download-weights`: fetch a model once and verify it."""

from __future__ import annotations

from typing import Annotated

import typer

from vitcli.cli import console, options


def download_weights(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=options.model_names,
            help="A name from `vit models`, or a hub repository org/name[@revision].",
        ),
    ] = options.DEFAULT_MODEL,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is already there.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only verify what is there; exit with 1 if it is wrong.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch weights from the hub into its cache, once, and verify them.

    Size and SHA-256 are compared with what the hub says. What is there already
    is verified and not fetched again; a wrong file is deleted and replaced.
    The folder's path goes to stdout.

    \b
    vit download-weights                             the default model
    vit download-weights deit-small-patch16-224      a name from `vit models`
    vit download-weights org/name@revision           any ViT on the hub
    vit download-weights --check                     is it whole? (no network)

    The cache is the hub client's: HF_HOME moves it, HF_TOKEN opens private
    models, HF_ENDPOINT and HTTPS_PROXY lead elsewhere, and HF_HUB_OFFLINE=1
    forbids the network.
    """
    from vitcli import hub
    from vitcli.errors import UsageError

    if force and check:
        raise UsageError("--force fetches and --check does not: choose one.")

    snapshot = hub.download(name, force=force, check=check, progress=not quiet)
    if not quiet:
        say = console.err()
        width = max(len(file.name) for file in snapshot.files)
        for file in snapshot.files:
            done = "replaced a wrong file" if file.replaced else "fetched" if file.fetched else "already there"
            truth = "verified" if file.verified else "not verified: the hub gives no hash"
            say.print(f"{file.name:{width}}  {size(file.size):>9}  sha256 {file.sha256[:12]}…  {done}, {truth}")
        say.print(f"commit {snapshot.revision}")
    typer.echo(snapshot.path)


def size(count: int) -> str:
    """Bytes for a person: 346.3 MB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
