"""`vit models`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub_server import Hub
from vitcli.hub.catalog import MODELS

Vit = Callable[..., subprocess.CompletedProcess[str]]

FILES = {"config.json": b"{}", "preprocessor_config.json": b"{}", "model.safetensors": b"weights"}


def test_json_holds_everything_known_and_null_for_the_rest(vit: Vit) -> None:
    done = vit("models", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [row["name"] for row in rows] == [m.name for m in MODELS]
    assert [row["top1"] for row in rows] == [m.top1 for m in MODELS]
    first = rows[0]
    assert first["repository"] == "google/vit-base-patch16-224"
    assert first["revision"] == MODELS[0].revision
    assert (first["parameters"], first["top5"], first["downloaded"], first["path"]) == (86_567_656, None, False, None)
    assert all(row["revision"] is None for row in rows[1:])


def test_what_is_downloaded_is_shown(vit: Vit, hub: Hub) -> None:
    hub.add("facebook/deit-small-patch16-224", FILES)
    path = vit("download-weights", "deit-small-patch16-224", env=hub.env).stdout.strip()
    rows = {row["name"]: row for row in json.loads(vit("models", "-f", "json", env=hub.env).stdout)}
    assert rows["deit-small-patch16-224"]["path"] == path
    assert [name for name, row in rows.items() if row["downloaded"]] == ["deit-small-patch16-224"]
    lines = vit("models", env=hub.env).stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("✓")] == ["deit-small-patch16-224", "downloaded:"]
    assert any(f"1 of {len(MODELS)}" in line for line in lines)


def test_the_table_is_whole_at_80_columns(vit: Vit) -> None:
    done = vit("models", env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout
    for model in MODELS:
        assert f" {model.name} " in done.stdout
        assert model.top1 is None or f"{model.top1:.1f}" in done.stdout
        assert model.source is None or model.source in " ".join(done.stdout.split())
    assert "trained on" not in done.stdout
    assert "\x1b" not in done.stdout


def test_a_wide_terminal_shows_more(vit: Vit) -> None:
    wide = vit("models", env={"COLUMNS": "120"}).stdout
    assert "trained on" in wide
    assert "97.53" not in wide
    assert "97.5" in wide


def test_what_nobody_published_is_a_dash_and_never_a_number(vit: Vit) -> None:
    lines = vit("models").stdout.splitlines()
    row = next(line for line in lines if line.split()[:1] == ["vit-large-patch16-384"])
    assert row.split() == ["vit-large-patch16-384", "L/16", "384", "305", "M", "–"]


def test_it_says_what_is_pinned_and_what_follows_a_branch(vit: Vit) -> None:
    said = " ".join(vit("models").stdout.split())
    assert "Pinned to a commit: vit-base-patch16-224 (3f49326e). The others follow their branch main." in said


def test_an_unknown_format_is_a_usage_error(vit: Vit) -> None:
    assert vit("models", "--format", "xml").returncode == 2


@pytest.mark.parametrize("form", ["table", "json"])
def test_it_needs_neither_torch_nor_numpy_nor_the_client(form: str) -> None:
    code = (
        "import sys; from vitcli.cli import app\n"
        f"app(['models', '--format', {form!r}], standalone_mode=False)\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'huggingface_hub') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
