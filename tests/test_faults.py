"""Wherever a run is killed, torn or refused by the system, --resume ends with the rows of an unbroken run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import faults
import pytest

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("cc"), reason="no C compiler, or not Linux"
)
@pytest.mark.parametrize("ending", faults.ENDINGS)
def test_a_run_cut_short_anywhere_ends_with_the_rows_of_an_unbroken_one(ending: str) -> None:
    done = faults.study(ending, points=3)  # every point: make stress
    assert len(done) == len(faults.KINDS) * (1 if ending == ".txt" else len(faults.PHASES))
    assert set(done.values()) == {3}


@pytest.mark.parametrize("what", ["journal", "output", "wal"])
@pytest.mark.parametrize("ending", [ending for ending in faults.ENDINGS if ending != ".txt"])
def test_whatever_is_damaged_is_refused_or_resumed_right(ending: str, what: str) -> None:
    if (ending, what) != (".sqlite", "journal"):  # the output holds it
        done = faults.damaged(ending, what, 100)  # more: make stress
        assert done["refused" if what != "wal" or ending not in (".parquet", ".sqlite") else "right"] > 50


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
@pytest.mark.parametrize("ending", [ending for ending in faults.ENDINGS if ending != ".txt"])
def test_a_killed_run_goes_on_in_a_place_of_any_name(ending: str, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"a ?#%41&mode=rw \xff")
    folder.mkdir()
    out = folder / f"file:o?%20{ending}"
    faults.killed(out, 12)
    assert out.exists() or ending == ".parquet"
    faults.classify(out, 12, False, resume=True)
    assert len(faults.contents(out)) == 12
    assert {file.name for file in folder.iterdir()} <= {out.name, f".{out.name}.vit-journal"}
