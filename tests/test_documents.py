"""README, help and code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from vitcli.cli import app, options
from vitcli.hub import catalog
from vitcli.writers import WRITERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GROUP = typer.main.get_group(app)


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_command_has_help_an_example_and_a_place_in_the_readme(name: str) -> None:
    command = GROUP.commands[name]
    assert command.help, f"{name} has no help"
    assert f"vit {name}" in command.help, f"the help of {name} shows no example"
    assert f"vit {name}" in README, f"the README does not show vit {name}"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.opts} has no help"


def test_every_option_the_readme_shows_exists() -> None:
    known = {
        option for command in GROUP.commands.values() for p in command.params for option in p.opts + p.secondary_opts
    }
    shown = {
        word
        for line in re.findall(r"^ {4}(?:.*\| )?(vit [^|#\n]*)", README, re.MULTILINE)
        for word in re.findall(r"(?<= )--?[a-z][a-z-]*", line)
    }
    assert shown, "the README shows no option at all"
    assert shown <= known, shown - known


def test_the_default_model_is_one() -> None:
    assert options.DEFAULT_MODEL == catalog.DEFAULT


def test_the_readme_names_every_format() -> None:
    for name in WRITERS:
        assert re.search(rf"\b{name}\b", README, re.IGNORECASE), name


def test_files_that_the_documents_link_to_are_there() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"
