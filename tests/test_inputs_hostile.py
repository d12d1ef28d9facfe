"""Lists without end, devices, and a system that opens no more files: one row each, or a run that stops and says so."""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import noise
from vitcli.errors import TooManyFiles, unopened
from vitcli.sources import inputs, lists


def test_a_list_that_is_a_device_is_never_opened() -> None:
    found = inputs(["@/dev/zero"])
    row = next(found)
    assert row.failure is not None
    assert (row.name, row.failure.error) == ("@/dev/zero", "not_a_file")
    assert next(found, None) is None


def test_a_list_may_be_a_pipe_as_shells_make_them(tmp_path: Path, picture: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_text(f"{picture}\n"), daemon=True).start()
    assert [item.name for item in inputs([f"@{fifo}"])] == [str(picture)]


class Endless(io.RawIOBase):
    """Bytes without a line end; how many were asked for."""

    def __init__(self, most: int) -> None:
        self.left = self.most = most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return b"a" * size


def test_a_list_without_line_ends_is_one_row_and_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    real = lists.as_name

    def watched(name: bytes, separator: bytes) -> str:
        nonlocal longest
        longest = max(longest, len(name))
        return real(name, separator)

    monkeypatch.setattr(lists, "as_name", watched)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (row,) = inputs(["-"], stdin=Endless(300 << 20))  # type: ignore[arg-type]
    assert row.failure is not None
    assert row.failure.error == "bad_name"
    assert len(row.name) == lists.LONGEST
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("letter", ["a", "é", "🐈"])
def test_a_name_that_is_too_long_costs_one_row_and_no_neighbour(letter: str, picture: Path) -> None:
    for length in (lists.LONGEST + 1, 10 * lists.LONGEST):
        listed = f"{picture}\nhttp://{letter * length}\n{picture}\n".encode()
        found = list(inputs(["-"], stdin=io.BytesIO(listed)))
        assert [item.failure.error if item.failure else item.name for item in found] == [
            str(picture), "bad_name", str(picture),
        ]  # fmt: skip


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_system_without_files_is_no_fault_of_an_input(code: int) -> None:
    with pytest.raises(TooManyFiles, match="ulimit"):
        unopened(OSError(code, "no"))


@pytest.mark.parametrize("place", ["os.open", "os.scandir"])
def test_without_files_no_input_is_passed_over_nor_failed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    noise(0).save(tmp_path / "folder" / "picture", "png")  # known by its bytes

    def none(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(place, none)
    with pytest.raises(TooManyFiles):
        list(inputs([str(tmp_path / "folder")]))
    if place == "os.scandir":
        with pytest.raises(TooManyFiles):
            list(inputs([str(tmp_path / "f*" / "p*")]))


def test_a_run_without_files_stops_and_resume_goes_on(
    vit: Callable[..., subprocess.CompletedProcess[str]], tiny: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "o.jsonl"
    folder.mkdir()
    for i in range(20):
        noise(i).save(folder / f"{i}.png")
    command = ["classify", folder, "-o", out, "--model", tiny, "--device", "cpu", "--workers", "8"]
    stopped = 0
    for most in range(7, 16):  # how many files Python itself needs is not ours to say
        done = vit(
            *command,
            *(["--resume"] if out.exists() else []),
            preexec_fn=lambda most=most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
        )
        stopped += "No more files can be opened" in done.stderr
        assert not out.exists() or "failed" not in out.read_text()
    assert stopped
    assert vit(*command, "--resume").returncode == 0
    rows = out.read_text().splitlines()
    assert len(rows) == len(set(rows)) == 20
