"""README, help and code say the same."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

import vitcli
from vitcli.checkpoints.settings import POOLINGS
from vitcli.cli import COMMANDS, app, options
from vitcli.hub import catalog
from vitcli.network import backend, hardware
from vitcli.pictures.preprocess import FAMILIES
from vitcli.results import REASONS
from vitcli.writers import WRITERS

ROOT = Path(__file__).parents[1]
PACKAGE = Path(vitcli.__file__).parent
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


@pytest.mark.parametrize("name", [None, *GROUP.commands])
def test_help_speaks_to_a_person_and_names_no_python_type(name: str | None) -> None:
    """Angle brackets hold choices only: no <int range>, <list[str]> or <path>, and nothing of typer's own libraries."""
    done = CliRunner().invoke(app, [*([name] if name else []), "--help"], env={"COLUMNS": "100"}, prog_name="vit")
    assert done.exit_code == 0
    for inside in re.findall(r"<([^<>]*)>", done.output):
        assert re.fullmatch(r"[\w-]+(\|[\w-]+)+", inside), inside
    assert not re.search(r"list\[|Literal|Annotated|pydantic|\bNone\b", done.output)


def test_the_summary_of_a_command_costs_no_import_of_it() -> None:
    code = (
        "import sys; sys.argv = ['vit', '--help']; from vitcli.cli import COMMANDS, main\n"
        "try: main()\n"
        "finally: print([p for p, _ in COMMANDS.values() if p.partition(':')[0] in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(summary in done.stdout for _, summary in COMMANDS.values())


def test_python_minus_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "vitcli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"vit {vitcli.__version__}\n"


def test_the_oldest_python_is_the_same_wherever_it_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    for name in ("README.md", "CONTRIBUTING.md", "Makefile"):
        assert f"Python {oldest} or newer" in (ROOT / name).read_text(encoding="utf-8"), name
    assert f'"{oldest}"' in (ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("option", "table"), [
    (options.RowFormat, WRITERS), (options.Preprocess, FAMILIES), (options.Dtype, ("auto", *hardware.DTYPES)),
    (options.Engine, get_args(backend.Engine)), (options.Compile, get_args(backend.Compile)),
    (options.Pooling, dict.fromkeys(POOLINGS.values())),
])  # fmt: skip
def test_the_choices_of_an_option_are_the_rows_of_its_table(option: Any, table: Iterable[str]) -> None:
    kind = get_args(option)[0]
    spelled = get_args(kind) if get_origin(kind) is Literal else get_args(get_args(kind)[0])
    assert sorted(spelled) == sorted(table)


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


def words_in(tree: ast.AST) -> Iterator[str]:
    """The reasons that a file's failures are given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = {"PictureError": 0, "failed": 1, "Failure": 1}.get(node.func.id)
            if place is not None and len(node.args) > place and isinstance(word := node.args[place], ast.Constant):
                yield word.value


def test_the_reasons_of_a_failure_are_one_list_and_the_readme_has_it() -> None:
    used = {word for file in PACKAGE.rglob("*.py") for word in words_in(ast.parse(file.read_text()))}
    assert used == set(REASONS)
    for word, meaning in REASONS.items():
        assert f"| `{word}` | {meaning} |" in README


def test_the_readme_lists_every_variable_that_the_code_reads_and_no_other() -> None:
    read = {word for file in PACKAGE.rglob("*.py") for word in re.findall(r"[\"'](VIT_[A-Z_]+)[\"']", file.read_text())}
    table = re.findall(r"^\| (`VIT_.*?) \|", README, re.MULTILINE)
    assert read == {word for row in table for word in re.findall(r"VIT_[A-Z_]+", row)}


def test_a_variable_sets_the_option_that_the_readme_says() -> None:
    options = {
        param.envvar: param.opts for command in GROUP.commands.values() for param in command.params if param.envvar
    }
    rows = dict(re.findall(r"^\| `(VIT_[A-Z_]+)` \| `(--[a-z-]+)`", README, re.MULTILINE))
    assert rows.pop("VIT_DEBUG") == "--debug"
    assert rows.keys() == options.keys()
    for variable, option in rows.items():
        assert option in options[variable]


def test_the_changelog_begins_with_this_version() -> None:
    from vitcli import __version__

    first = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__
