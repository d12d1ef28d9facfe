"""The list of files in the design is the architecture: a file imports only what stands above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vitcli

PACKAGE = Path(vitcli.__file__).parent
ORDER = [
    "version", "errors", "memory", "escaping", "impostors", "results", "config", "labels", "wordnet", "terms",
    "calibration", "decision", "pictures", "sources", "truth", "hub",
    "checkpoints", "writers", "network", "streaming", "classifier", "explainer", "drawings", "gallery", "report",
    "evaluation", "verify", "bench", "cli", "__main__",
]  # fmt: skip
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """The modules of this package that a tree imports, by their first name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = {tuple(name.split(".")) for name in found if name.split(".")[0] == "vitcli"}
    return {name[1] for name in names if len(name) > 1}


def test_every_file_has_a_place_in_the_list() -> None:
    assert {layer(path) for path in FILES} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_files_above_it(path: Path) -> None:
    own = ORDER.index(layer(path))
    for name in imports(ast.parse(path.read_text())):
        assert name in ORDER, name
        assert ORDER.index(name) < own or name == layer(path), f"{layer(path)} imports {name}, which stands below it"


NETWORK = ("network.hardware", "network.backend", "network.numpy_model")
LIGHT = [f"vitcli.{name}" for name in (*ORDER, *NETWORK) if name != "cli"]


@pytest.mark.parametrize("name", ["vitcli", "vitcli.cli", *LIGHT])
def test_importing_it_does_not_import_torch(name: str) -> None:
    code = f"import sys, {name}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    place = PACKAGE.joinpath(*name.split(".")[1:])
    assert place.with_suffix(".py").exists() or place.is_dir(), f"{name} is in the list but not in the package"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
