"""`Group` and `Command`: commands that are imported when they are run, with help in plain text.

Help is not drawn with rich: that would import its Markdown and tracebacks and take twice as long as all the rest.
"""

from __future__ import annotations

import os
import sys
from collections import UserDict
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command that takes --debug anywhere, and whose help lists options under their `rich_help_panel`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """--debug is the group's own option, accepted after the command as well; `console.debugging` reads it."""
        stop = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [a for a in args[:stop] if a != "--debug"] + args[stop:])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then a section for each panel, in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            if (line := param.get_help_record(ctx)) is not None:
                if usual == "Arguments" and param.metavar:
                    line = (param.metavar, line[1])  # typer 0.29 adds the Python type
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(line)
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)


class Commands(UserDict[str, Any]):
    """name -> command, made from a table name -> ("module:function", summary) when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        place, summary = self.data[name]
        module, _, function = place.partition(":")
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name, cls=Command, short_help=summary)(getattr(import_module(module), function))
        return typer.main.get_command(alone)


class Group(TyperGroup):
    """Subclass it with a table of commands and pass that as `typer.Typer(cls=...)`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands(self.table)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(self.table)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The table, for --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Whoever reads our output may close it early, as `head` does: that is not an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer would end with status 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
            sys.exit(0)
