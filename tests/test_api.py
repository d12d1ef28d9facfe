"""The public names of the package: all there, each lazily."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vitcli


def test_every_public_name_is_there() -> None:
    for name in vitcli.__all__:
        assert getattr(vitcli, name) is not None
        assert name in dir(vitcli)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vitcli.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, vitcli; print({'numpy', 'PIL', 'torch', 'rich', 'typer', 'einops'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
