"""What people type as they know it from elsewhere, and typer's complaints in one sentence of ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from vitcli.errors import UsageError
from vitcli.escaping import short

if TYPE_CHECKING:
    from collections.abc import Iterator

# Understood, where the command has the option that they stand for.
ALIASES = {
    "--batch-size": ("--batch",),
    "--top-k": ("--topk",),
    "--overwrite": ("--force",),
    "--json": ("--format", "json"),
    "--jsonl": ("--format", "jsonl"),
    "--csv": ("--format", "csv"),
}
# Named in an answer: they mean nearly the same, or the same elsewhere.
NEARLY = {
    "--conf": "--threshold",
    "--confidence": "--threshold",
    "--checkpoint": "--model",
    "--weights": "--model",
    "--gpu": "--device",
    "--cuda": "--device",
    "--cpu": "--device",
    "--fp16": "--dtype",
    "--half": "--dtype",
    "--precision": "--dtype",
    "--imgsz": "--image-size",
    "--img-size": "--image-size",
    "--resolution": "--image-size",
    "--num-workers": "--workers",
    "--jobs": "--workers",
    "--threads": "--workers",
    "--out": "--output",
    "--save": "--output",
    "--output-file": "--output",
    "--output-format": "--format",
    "--continue": "--resume",
    "--silent": "--quiet",
    "--classes": "--labels",
    "--label-file": "--labels",
    "--names": "--labels",
    "--backend": "--engine",
    "--recurse": "--recursive",
}
COMMANDS = {
    "predict": "classify",
    "label": "classify",
    "infer": "classify",
    "run": "classify",
    "tag": "classify",
    "download": "download-weights",
    "pull": "download-weights",
    "fetch": "download-weights",
    "list": "models",
    "info": "inspect",
    "show": "inspect",
    "eval": "evaluate",
    "validate": "evaluate",
    "test": "evaluate",
    "score": "evaluate",
    "accuracy": "evaluate",
    "heatmap": "explain",
    "saliency": "explain",
    "attention": "explain",
    "gradcam": "explain",
    "check": "verify",
    "compare": "verify",
    "export": "convert",
    "benchmark": "bench",
}

WrongUsage: Any = typer.BadParameter.__base__  # of whichever click typer brings


def understood(args: list[str], options: Collection[str]) -> list[str]:
    """The arguments of a command that has these options, its ALIASES replaced by what they stand for."""
    end = args.index("--") if "--" in args else len(args)
    plain: list[str] = []
    for arg in args[:end]:
        name, equals, value = arg.partition("=")
        meant = ALIASES.get(name, ())
        if not meant or name in options or meant[0] not in options or (equals and len(meant) > 1):
            plain.append(arg)
        else:
            plain += [f"{meant[0]}={value}"] if equals else meant
    return plain + args[end:]


@contextmanager
def plainly(options: Collection[str]) -> Iterator[None]:
    """What typer says of wrong usage becomes a UsageError of one sentence; `options` are those of the command."""
    try:
        yield
    except WrongUsage as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # it is shown, which is no complaint
            raise
        raise UsageError(sentence(error, options)) from None


def sentence(error: Any, options: Collection[str]) -> str:
    """What is wrong with the usage, and what is right."""
    param, message = getattr(error, "param", None), str(error.message)
    if (name := getattr(error, "option_name", None)) and not hasattr(error, "possibilities"):
        return f"{name} needs a value." if "requires" in message else f"{name} takes no value."
    if name:
        known = [*options, *(alias for alias, meant in ALIASES.items() if meant[0] in options)]
        near = NEARLY.get(name) or next(iter(difflib.get_close_matches(name, known, 1, 0.7)), None)
        meant = f": did you mean {near}?" if near in known else ". --help lists them."
        return f"There is no option {name}{meant}"
    if param is None:
        extra = re.fullmatch(r"Got unexpected extra argument\(?s?\)? \((.*)\)", message, re.DOTALL)
        return f"There is nothing to be done with {extra[1]!r}. --help says more." if extra else message
    named = max(param.opts, key=len) if param.param_type_name == "option" else param.human_readable_name
    if not message:  # MissingParameter
        return f"{named} is missing. --help says more."
    value = short(message.partition(" is not ")[0], 40)
    kind = param.type
    if choices := getattr(kind, "choices", None):
        words = [str(getattr(choice, "value", choice)) for choice in choices]
        near = next(iter(difflib.get_close_matches(value.strip("'"), words, 1)), None)
        return f"{named} {value} is not one of {', '.join(words)}." + (f" Did you mean {near}?" if near else "")
    if "int" in kind.name or "range" in kind.name:
        low, high = getattr(kind, "min", None), getattr(kind, "max", None)
        within = f"{named} {value} is not a whole number" + ("" if low is None else f" from {low}")
        return within + ("." if high is None else f" to {high}.")
    if "float" in kind.name:
        return f"{named} {value} is not a number."
    return f"{named}: {re.sub(r'^File ', '', message)}"
