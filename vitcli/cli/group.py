"""`Group` and `Command`: the app's commands, whose help is plain and whose values are converted only where needed.

typer (0.29) sends every value, given or not, through pydantic, whose import takes half as long as those of typer, rich
and numpy together. Text is text already, and a default was written by us, so most runs need none of it. What is left
to convert, or is wrong, still goes typer's own way and gets its messages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import Enum
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """Pass it as `app.command(cls=Command)`: its help lists options under their `rich_help_panel`, as plain text.

    Help is not drawn with rich: that would import its Markdown and tracebacks and take twice as long as all the rest.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then a section for each panel, in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            if (line := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(line)
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)


class Group(TyperGroup):
    """Pass it as `typer.Typer(cls=Group)`: it speaks for its commands too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does."""
        shorten(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """As typer does."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            shorten(command.get_params(ctx))
        return command

    def invoke(self, ctx: Any) -> Any:
        """As typer does, which would end with status 1 when the reader of our output leaves, as `head` does.

        That is no error of ours, and nobody is there to be told.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
            sys.exit(0)


def shorten(params: Iterable[Any]) -> None:
    """Put a Shortcut in front of the conversion of each parameter, where this version of typer has one."""
    for param in params:
        usual = getattr(param, "get_runtime_param", None)
        if usual is not None and not isinstance(usual, Shortcut):
            param.get_runtime_param = Shortcut(usual)


class Shortcut:
    """Stands where typer's converter would, and fetches that only if it is needed."""

    def __init__(self, usual: Any) -> None:
        self.usual = usual

    def __call__(self) -> Shortcut:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the parameter's annotation wants it."""
        wanted, about = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if about.parser is None:
            if wanted in (str, int, float) and type(value) is wanted:
                if wanted is str or value == param.default:
                    return value
            elif wanted == list[str] and isinstance(value, (list, tuple)) and all(type(v) is str for v in value):
                return list(value)
            elif wanted is int and type(value) is str and value.isascii() and value.isdecimal():
                least, most = about.min, about.max
                if (least is None or int(value) >= least) and (most is None or int(value) <= most):
                    return int(value)
            elif isinstance(wanted, type) and issubclass(wanted, Enum):
                for member in wanted:
                    if value in (member, member.value):
                        return member
        return self.usual().coerce(value, param=param, ctx=ctx)
