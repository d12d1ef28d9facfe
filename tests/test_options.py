"""Groups of options: said once, and had by every command that takes the group."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable
from pathlib import Path
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


@pytest.mark.parametrize("threshold", ["50", "-0.5", "1.5", "1e9"])
def test_a_threshold_that_no_score_reaches_is_refused(threshold: str) -> None:
    rows = options.Rows(threshold=float(threshold))
    rows.check()  # what a network gives is not known yet: regression has scores of any size
    rows.check_threshold("none")
    for activation in ("softmax", "sigmoid"):
        with pytest.raises(UsageError, match="scores are from 0 to 1"):
            rows.check_threshold(activation)


def test_a_share_in_per_cent_is_answered_with_the_share() -> None:
    with pytest.raises(UsageError, match=r"--threshold 50: scores are from 0 to 1; did you mean 0\.5\?"):
        options.Rows(threshold=50.0).check_threshold("softmax")
    with pytest.raises(UsageError, match=r"--min-score 80 lies outside 0 to 1; did you mean 0\.8\?"):
        options.Answers(min_score=80.0).check()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, None])
def test_a_threshold_that_can_be_meant_is_none_of_those(threshold: float | None) -> None:
    options.Rows(threshold=threshold).check_threshold("softmax")


MEANT = {
    "--threshold nan": "is no number",
    "--threshold inf": "is no number",
    "--threshold 0,5": "--threshold '0,5' is not a number",
    "--threshold 50": "did you mean 0.5?",
    "--topk 0": "--topk 0 is not a whole number from 1",
    "--topk -3": "--topk -3 is not a whole number from 1",
    "--topk 2.5": "is not a whole number from 1",
    "--batch 0": "--batch 0 is not a whole number from 1 to 4096",
    "--batch -8": "--batch -8 is not a whole number from 1 to 4096",
    "--workers -1": "--workers '-1' is neither auto nor a whole number",
    "--max-pixels 0": "--max-pixels 0 is not a whole number from 1",
    "--image-size -32": "--image-size -32 is not a whole number from 1",
    "--image-size 33": "--image-size",
    "--min-score nan": "--min-score nan lies outside 0 to 1",
    "--min-score 80": "did you mean 0.8?",
    "--fields path,,label": "There is no field ''",
    "--exclude /": "--exclude '/' is no name",
}


@pytest.mark.parametrize("words", MEANT)
def test_a_setting_that_cannot_be_meant_is_answered_in_a_sentence(
    words: str, vit: Callable[..., subprocess.CompletedProcess[str]], tiny: Path, picture: Path
) -> None:
    form = ["-f", "csv"] if "--fields" in words else []
    done = vit("classify", picture, "--model", tiny, *words.split(), *form)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert MEANT[words] in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
