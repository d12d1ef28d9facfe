"""The `vit` command: the app, and the one place where errors become a sentence and an exit status.

Importing this costs what typer costs: a command is imported when it is run, and imports what it needs itself.
"""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from vitcli.cli import console, streams
from vitcli.cli.group import Group
from vitcli.errors import VitError

# name: ("module:function", what `vit --help` says of it)
COMMANDS = {
    "classify": ("vitcli.cli.classify:classify", "Label pictures: the best classes for each."),
    "explain": ("vitcli.cli.explain:explain", "Show where the network looked."),
    "evaluate": ("vitcli.cli.evaluate:evaluate", "Measure how good a model is, on labelled pictures."),
    "download-weights": ("vitcli.cli.download:download_weights", "Fetch a model's weights, once, and verify them."),
    "models": ("vitcli.cli.models:models", "List the well-known models."),
    "labels": ("vitcli.cli.labels:labels", "Search the classes and their broader terms."),
    "inspect": ("vitcli.cli.inspect:inspect", "Say what a checkpoint is."),
    "verify": ("vitcli.cli.verify:verify", "Show that the numbers are the reference's."),
    "convert": ("vitcli.cli.convert:convert", "Rewrite any checkpoint in the hub's layout."),
    "bench": ("vitcli.cli.bench:bench", "Measure this machine, and say what limits it."),
}


class Vit(Group):
    """`vit`, with its commands."""

    table = COMMANDS


app = typer.Typer(
    name="vit",
    cls=Vit,
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
        "3 finished, but some inputs failed; 130 interrupted. The README and docs/ say more."
    )
)
def vit(
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also VIT_DEBUG=1).")] = False,
) -> None:
    """Classify pictures with a Vision Transformer: pictures go in, ImageNet labels come out.

    \b
    vit cat.jpg                              the five best labels
    vit classify photos/ -o labels.jsonl     a folder, a JSON record for each
    vit download-weights                     fetch the default model, once
    """


def main() -> None:
    """Run `vit`. Every error a user can cause ends here, in one or two sentences on stderr."""
    streams.settle()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what is not there yet may still find no room
    except KeyboardInterrupt:
        sys.exit(130)
    except (VitError, OSError) as error:
        if console.debugging():
            raise
        console.error(str(error) if isinstance(error, VitError) else unforeseen(error))
        sys.exit(getattr(error, "exit_status", VitError.exit_status))
    except Exception as error:
        from vitcli.memory import lacking

        if console.debugging() or not lacking(error):
            raise
        # not with rich, which may not have been imported yet, and now cannot be
        sys.stderr.write("error: There is not enough memory. Give it more, or a smaller --batch or fewer --workers.\n")
        sys.exit(1)
    finally:
        gc.freeze()  # skips a last collection of torch's objects at exit, a quarter of a second


def unforeseen(error: OSError) -> str:
    """What the system refused where nothing else was said of it."""
    return f"{error.filename or 'The system'}: {error.strerror or error}."
