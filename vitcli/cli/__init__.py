"""The `vit` command: the app, and the one place where errors become a sentence and an exit status.

Importing this costs what typer costs: a command is imported when it is run, and imports what it needs itself.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import Annotated

import typer

from vitcli import memory
from vitcli.cli import console, streams
from vitcli.cli.group import Group
from vitcli.errors import VitError

RESERVE = 4 << 20  # bytes of address space, not of memory, which errors are told in when there is no more of it
NO_MEMORY = "There is not enough memory. Give it more, or a smaller --batch or fewer --workers."

# name: ("module:function", what `vit --help` says of it)
COMMANDS = {
    "classify": ("vitcli.cli.classify:classify", "Label pictures: the best classes for each."),
    "explain": ("vitcli.cli.explain:explain", "Show where the network looked."),
    "evaluate": ("vitcli.cli.evaluate:evaluate", "Measure how good a model is, on labelled pictures."),
    "calibrate": ("vitcli.cli.calibrate:calibrate", "Find out how sure a model has to be."),
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
    reserve = bytes(RESERVE)
    streams.settle()
    memory.fit_threads()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what is not there yet may still find no room
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        del reserve
        short = memory.lacking(error)
        if console.debugging() or not (short or isinstance(error, (VitError, OSError))):
            raise
        console.error(NO_MEMORY if short and not isinstance(error, VitError) else sentence(error))
        status = getattr(error, "exit_status", VitError.exit_status)
        if short:  # Python's way out may take memory too, and complain that there is none
            os._exit(status)
        sys.exit(status)
    finally:
        gc.freeze()  # skips a last collection of torch's objects at exit, a quarter of a second


def sentence(error: Exception) -> str:
    """What was raised on purpose says of itself, or what the system refused where nothing else was said of it."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "No more files can be opened: allow more with `ulimit -n`."
    if isinstance(error, OSError):
        return f"{error.filename or 'The system'}: {error.strerror or error}."
    return str(error)
