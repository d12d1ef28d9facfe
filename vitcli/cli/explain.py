"""`vit explain`: which parts of a picture spoke for a class, drawn over it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitcli.cli import console, options, run

if TYPE_CHECKING:
    from vitcli.labels import Labels
    from vitcli.results import Result


@options.grouped
def explain(
    weights: options.LabelledWeights,
    inputs: options.Inputs,
    decoding: options.Decoding,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Pictures, folders, archives, patterns, URLs; @FILE for a list."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, metavar="DIR", help="The folder that is drawn into.")
    ] = Path("explained"),
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            "-c",
            metavar="NAME|WNID|INDEX",
            help="What is to be explained, by default the best class; several stand side by side.",
        ),
    ] = None,
    method: Annotated[
        Literal["gradient", "legrad", "rollout", "attention"],
        typer.Option(help="gradient and legrad tell classes apart; rollout and attention draw one map for all."),
    ] = "gradient",
    style: Annotated[Literal["heat", "contours"], typer.Option(help="Colours over the picture, or lines on it.")] = (
        "heat"
    ),
    html: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Also write a page with each picture beside its maps."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Also write the numbers of each map, as .npy and .json.")] = False,
    form: Annotated[
        Literal["text", "jsonl"], typer.Option("--format", "-f", help="What is told of each picture on stdout.")
    ] = "text",
    force: Annotated[bool, typer.Option("--force", help="Overwrite explanations that are in the folder.")] = False,
    model: options.Model = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    download: options.Download = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show where the network looked: a map of what spoke for a class, drawn over
    each picture at its own size.

    Every map is checked: how far the score falls when the 10 % of the picture
    that the map marks is replaced by its mean colour, beside a random 10 %.
    Where both fall alike, the map tells nothing, and that is said.

    \b
    vit explain cat.jpg
    vit explain photos/ -o explained/ --style contours
    vit explain pets.jpg --class "Egyptian cat" --class n02099601
    vit explain photos/ --html explained.html
    vit explain photos/ --raw --format jsonl > maps.jsonl

    The default method is the gradient-weighted attention of all layers (Chefer
    et al., 2021); docs/explain.md has the others, and how they compare.
    """
    from vitcli.drawings import Drawer, Drawings
    from vitcli.errors import UsageError
    from vitcli.explainer import CLASS_SPECIFIC, Explainer
    from vitcli.gallery import Gallery, titled
    from vitcli.pictures.images import MAX_PIXELS

    if not paths and not inputs.stdin_image:
        raise UsageError("Name at least one picture or folder, or - to read names from stdin.")
    drawings, rows = Drawings(output, style=style, raw=raw, force=force), options.Rows(force=force)
    run.apart(rows, run.named(paths or [], weights), {"--html": html})
    network = options.Network(model=model, device=device, dtype="float32", engine="torch", download=download, batch=1)
    given = run.Given.of(paths or [], device, inputs)
    classifier = run.load(network, weights, rows, given, quiet)
    explainer = Explainer(classifier, method, chosen(classifier.labels, classes or []))
    if len(explainer.classes) > 1 and not CLASS_SPECIFIC[method] and not quiet:
        console.note(f"The map of {method} is the same for every class: --method gradient tells them apart.")
    drawer = Drawer(explainer, drawings, partial(tell, form=form), decoding.max_pixels or MAX_PIXELS)
    page = Gallery(html, titled(paths or ["stdin"], classifier.name), style=style, force=force) if html else None
    report = run.answer(
        drawer, classifier, given, lambda: drawer,
        network=network, decoding=decoding, rows=rows, quiet=quiet, verbose=verbose, page=page,
    )  # fmt: skip
    if report.done > 1 and report.ok and not quiet:
        console.say(f"Wrote {output}.")
    run.settle(report)


def chosen(labels: Labels, queries: list[str]) -> tuple[int, ...]:
    """The classes that are meant, by index, each once. Raises UsageError."""
    from vitcli.errors import UsageError
    from vitcli.terms import Terms

    terms, found = Terms(labels) if queries else None, []
    for query in queries:
        term = terms.one(query) if terms else None
        if term is None or term.index is None:
            raise UsageError(f"--class {query!r} is {term}, not one class: `vit labels {query!r}` lists them.")
        found.append(term.index)
    return tuple(dict.fromkeys(found))


def tell(result: Result, drawing: Path | None, form: str) -> None:
    """One picture's lines on stdout."""
    from vitcli.drawings import checked
    from vitcli.escaping import printable
    from vitcli.explainer import Explanation
    from vitcli.results import Failure
    from vitcli.writers.table import score
    from vitcli.writers.text import ascii_json

    if form == "jsonl":
        typer.echo(ascii_json({**result.record(), **({"drawing": str(drawing)} if drawing else {})}).decode())
        return
    if isinstance(result, Failure):
        typer.echo(f"{printable(result.path)}: {printable(result.message)}")
        return
    typer.echo(f"{printable(result.path)} -> {printable(str(drawing))}")
    for reason in result.reasons if isinstance(result, Explanation) else ():
        typer.echo(f"    {printable(reason.label.label)}  {score(reason.label.score)}; {checked(reason)}")
