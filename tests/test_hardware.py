"""What this machine computes with is found out, and what it does not have is refused with a way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from vitcli.errors import DeviceError, UsageError
from vitcli.network import hardware


@pytest.mark.parametrize(
    ("flags", "dtype", "expected"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_tile", "bfloat16", True),
        ("flags\t\t: fpu avx2 fma", "bfloat16", False),
        ("flags\t\t: fpu avx2 fma", "float32", True),
        ("flags\t\t: fpu avx512_bf16", "float16", False),
        ("Features\t: fp asimd asimdhp bf16", "float16", True),
        ("Features\t: fp asimd asimdhp bf16", "bfloat16", True),
        ("nothing of the kind", "bfloat16", True),
    ],
)
def test_the_system_s_word_on_the_cpu_is_read(
    flags: str, dtype: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(hardware, "Path", lambda _: cpuinfo)
    assert hardware.hardware_has(dtype) is expected


def test_no_more_threads_than_processors_are_used() -> None:
    assert 1 <= hardware.processors() <= (os.cpu_count() or 1)


def test_one_processor_allowed_is_one_processor_used() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity masks")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert hardware.processors() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_device_that_is_not_here_is_refused_with_a_way_out() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cpu"):
            hardware.choose_device("cuda")
    with pytest.raises(UsageError, match="not one of"):
        hardware.choose_device("tpu")
    with pytest.raises(UsageError, match="not one of"):
        hardware.choose_dtype("int8", "cpu")
