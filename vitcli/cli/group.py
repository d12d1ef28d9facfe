"""`Group` and `Command`: commands that are imported when they are run, with help in plain text.

Help is not drawn with rich: that would import its Markdown and tracebacks and take twice as long as all the rest.
"""

from __future__ import annotations

import os
import sys
from collections import UserDict
from collections.abc import Collection
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from vitcli.cli.wording import COMMANDS, plainly, understood
from vitcli.errors import UsageError


class Command(TyperCommand):
    """A command that takes --debug anywhere, and whose help lists options under their `rich_help_panel`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """--debug is the group's own option, accepted after the command as well; `console.debugging` reads it."""
        options = {name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        stop = args.index("--") if "--" in args else len(args)
        args = [a for a in args[:stop] if a != "--debug"] + args[stop:]
        if ctx.resilient_parsing:  # completion: what is there may well be wrong
            return super().parse_args(ctx, args)
        with plainly(options):
            return super().parse_args(ctx, understood(args, options))

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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Whoever names a picture and no command wants it classified."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        args = command_first(args, self.table)
        with plainly({name for param in self.get_params(ctx) for name in param.opts}):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command of a name. Raises UsageError with the nearest one for a name that is none."""
        if not ctx.resilient_parsing and args and args[0] not in self.table:
            near = COMMANDS.get(args[0]) or next(iter(get_close_matches(args[0], self.table, 1)), None)
            meant = f": did you mean vit {near}?" if near else ", nor a file of that name. vit --help lists them."
            raise UsageError(f"There is no command {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(self.table)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The table, for --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Whoever reads a pipe it writes to may close it early: that is not an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer would end with status 1
            sys.exit(0)


def command_first(args: list[str], commands: Collection[str]) -> list[str]:
    """`cat.jpg` -> `classify cat.jpg`, `help bench` -> `bench --help`, `version` -> `--version`; others as they are."""
    if not args or args[0] in commands:
        return args
    if args[0] == "help":
        return [*args[1:2], "--help"]
    if args[0] == "version":
        return ["--version", *args[1:]]
    if args[0] in ("-h", "--help", "--version", "-V", "--debug", "--install-completion", "--show-completion"):
        return args
    from vitcli.pictures.formats import is_picture

    named = any(is_picture(arg) or "://" in arg or os.path.exists(arg) for arg in args)  # noqa: PTH110 (not a path yet)
    return ["classify", *args] if named and not any(arg in commands for arg in args) else args
