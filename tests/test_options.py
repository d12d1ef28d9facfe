"""Groups of options: said once, and had by every command that takes the group."""

from __future__ import annotations

import inspect
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from vitcli.cli import options
from vitcli.errors import UsageError


@options.grouped
def command(
    decoding: options.Decoding,
    name: Annotated[str, typer.Argument()],
    weights: options.LabelledWeights,
    quiet: options.Quiet = False,
) -> None:
    """A command."""
    typer.echo(f"{name} {decoding.decode} {decoding.max_pixels} {weights.given()} {quiet}")


app = typer.Typer()
app.command()(command)


def test_a_command_has_the_options_of_its_groups() -> None:
    words = ["cat", "--decode", "fast", "--heads", "3", "--pooling", "mean", "-q"]
    done = CliRunner().invoke(app, words)
    assert done.stdout == "cat fast None {'heads': 3, 'pooling': 'mean'} True\n", done.output


def test_options_that_nobody_gave_are_those_of_the_group() -> None:
    done = CliRunner().invoke(app, ["cat"])
    assert done.stdout == "cat exact None {} False\n", done.output
    assert options.Decoding().decode == "exact"


def test_options_keep_the_order_of_the_groups() -> None:
    names = list(inspect.signature(command).parameters)
    assert names[:4] == ["workers", "decode", "max_pixels", "name"]
    assert names[-2:] == ["labels", "quiet"]  # what a group inherits comes first


@pytest.mark.parametrize("workers", ["0", "257", "two", "-1", "1.5", "²"])
def test_a_number_of_workers_that_is_none_is_named(workers: str) -> None:
    with pytest.raises(UsageError, match="neither auto nor a whole number from 1 to 256"):
        options.Decoding(workers=workers).check()
