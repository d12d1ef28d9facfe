"""The `vit` command: the app, and the one place where errors become a sentence and an exit status.

Importing this costs what typer and rich cost: commands import what they need when they run.
"""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from vitcli.cli import console
from vitcli.cli.bench import bench
from vitcli.cli.classify import classify
from vitcli.cli.convert import convert
from vitcli.cli.download import download_weights
from vitcli.cli.group import Command, Group
from vitcli.cli.inspect import inspect
from vitcli.cli.models import models
from vitcli.cli.verify import verify
from vitcli.errors import VitError

app = typer.Typer(
    name="vit",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from vitcli.version import __version__

        typer.echo(f"vit {__version__}")
        raise typer.Exit


@app.callback(
    epilog=(
        "Exit status: 0 every input was classified; 1 nothing could be done; 2 wrong usage; "
        "3 finished, but some inputs failed; 130 interrupted."
    )
)
def vit(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also VIT_DEBUG=1).")] = False,
) -> None:
    """Classify pictures with a Vision Transformer: pictures go in, ImageNet labels come out.

    \b
    vit classify cat.jpg                     the five best labels
    vit classify photos/ -o labels.jsonl     a folder, a JSON record for each
    vit download-weights                     fetch the default model, once
    """


for name, function, summary in (
    ("classify", classify, "Label pictures: the best classes for each."),
    ("download-weights", download_weights, "Fetch a model's weights, once, and verify them."),
    ("models", models, "List the well-known models."),
    ("inspect", inspect, "Say what a checkpoint is."),
    ("verify", verify, "Show that the numbers are the reference's."),
    ("convert", convert, "Rewrite any checkpoint in the hub's layout."),
    ("bench", bench, "Measure this machine, and say what limits it."),
):
    app.command(name, cls=Command, short_help=summary)(function)


def main() -> None:
    """Run `vit`. Every error a user can cause ends here, in one or two sentences on stderr."""
    # importing torch makes a million objects, none of them garbage: looking for some over and over takes a tenth of it
    gc.set_threshold(100_000)
    debug = console.debugging()
    if debug:  # works anywhere on the line, not only before the command
        stop = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
        sys.argv[:] = [a for a in sys.argv[:stop] if a != "--debug"] + sys.argv[stop:]
    # typer builds every command it knows of before it looks for the one that was named
    every = app.registered_commands
    app.registered_commands = [command for command in every if command.name in sys.argv[1:2]] or every
    try:
        app()
    except VitError as error:
        if debug:
            raise
        console.error(str(error))
        sys.exit(error.exit_status)
    finally:
        app.registered_commands = every
        gc.freeze()  # nor is there any to be found at exit, where going through all of them takes a quarter of a second
