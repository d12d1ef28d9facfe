"""Wherever a run is killed, torn or refused by the system, --resume ends with the rows of an unbroken run."""

from __future__ import annotations

import shutil
import sys

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
