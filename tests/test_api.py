"""The public names of the package: all there, each lazily."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_a_stream_changes_nothing_in_the_process(tiny: Path, picture: Path) -> None:
    code = """
import logging, os, sys, warnings
from PIL import Image
import numpy
def state():
    root, pillow = logging.getLogger(), logging.getLogger("PIL")
    from vitcli.network.blas import openblas
    threads = openblas() and openblas().scipy_openblas_get_num_threads64_()
    return (Image.MAX_IMAGE_PIXELS, list(warnings.filters), list(root.handlers), list(pillow.handlers), pillow.level,
            threads, dict(os.environ))
before = state()
import vitcli
classifier = vitcli.load(sys.argv[1], device="cpu", engine="numpy")
results = vitcli.stream(classifier, [sys.argv[2]] * 9, batch=2, max_pixels=10**9, decode="fast")
next(results)
results.close()
print(state() == before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tiny), str(picture)], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
