"""One budget of memory for all workers: they wait for each other, and none is refused for it."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy._core._exceptions import _ArrayMemoryError
from PIL import Image

from tests.conftest import noise
from vitcli import memory
from vitcli.errors import PictureError
from vitcli.pictures import budget, images
from vitcli.pictures.budget import Budget
from vitcli.pictures.preprocess import Preprocess
from vitcli.sources import Input
from vitcli.streaming import opened


def together(budget: Budget, sizes: list[int], workers: int) -> tuple[int, int]:
    """The most bytes, and the most shares, that were taken at once."""
    now: list[int] = []
    peaks = [(0, 0)]
    lock = threading.Lock()

    def work(size: int) -> None:
        with budget.share() as share:
            share.take(size)
            with lock:
                now.append(size)
                peaks.append((sum(now), len(now)))
            time.sleep(0.002)
            with lock:
                now.remove(size)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, sizes))
    assert budget.taken == 0
    return max(size for size, _ in peaks), max(count for _, count in peaks)


@pytest.mark.parametrize("workers", [4, 64])
def test_any_number_of_workers_stay_within_the_budget(workers: int) -> None:
    most, _ = together(Budget(100), [30, 20, 45] * 40, workers)
    assert most <= 100


def test_what_is_larger_than_the_budget_is_decoded_alone() -> None:
    most, shares = together(Budget(100), [1000] * 8, 8)
    assert (most, shares) == (1000, 1)


def test_small_pictures_do_not_wait() -> None:
    assert together(Budget(1000), [1] * 64, 64)[1] > 8


def test_a_share_is_given_back_when_its_picture_fails() -> None:
    budget = Budget(100)
    with suppress(ValueError), budget.share() as share:
        share.take(100)
        raise ValueError
    assert budget.taken == 0


def test_a_share_does_not_grow() -> None:
    with Budget(100).share() as share:
        share.take(60)
        share.take(30)
        assert share.size == 60


def test_the_machine_is_asked_only_when_much_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(budget, "available", lambda: asked.append(1) or 8 << 30)
    room = Budget()
    with room.share() as first, room.share() as second:
        first.take(budget.FLOOR // 2)
        second.take(budget.FLOOR // 2)
        assert not asked
        with room.share() as third:
            third.take(1)
        assert asked == [1]
    assert room.most == (8 << 30) // budget.PART


def test_a_machine_with_little_memory_still_has_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available", lambda: 1 << 20)
    assert Budget().most == budget.FLOOR


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/proc/meminfo": "MemTotal: 99 kB\nMemAvailable:    4096 kB\n"}, 4 << 20),
        ({"/proc/meminfo": "MemAvailable: 4096 kB\n", "/proc/self/cgroup": "0::/a/b\n",
          "/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "1000\n",
          "/sys/fs/cgroup/a/b/memory.max": "2000\n"}, 1000),
        ({"/proc/self/cgroup": "4:memory:/a\n3:cpu:/\n",
          "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "3000\n"}, 3000),
    ],
    ids=["machine", "cgroup 2", "cgroup 1"],
)  # fmt: skip
def test_free_memory_is_that_of_the_machine_within_its_limits(
    files: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_text", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(memory, "addressable", lambda: sys.maxsize)
    assert memory.available() == expected


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), _ArrayMemoryError((9,), np.dtype("f4")),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), RuntimeError("MPS backend out of memory"),
        RuntimeError("std::bad_alloc"), RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"), RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libgomp.so.1: cannot open shared object: Cannot allocate memory"),
    ],
    ids=str,
)  # fmt: skip
def test_whatever_says_that_memory_is_lacking_is_understood(error: Exception) -> None:
    assert memory.lacking(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match"), OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"), ImportError("No module named 'torch'"), KeyError("out of memory"),
        OSError("image file is truncated"),
    ],
    ids=repr,
)  # fmt: skip
def test_nothing_else_is_taken_for_a_lack_of_memory(error: Exception) -> None:
    assert not memory.lacking(error)


def test_the_words_of_torch_and_numpy_for_no_memory_are_among_those_that_are_known() -> None:
    """Not as they were written down once, but as the libraries that are installed say it."""
    code = """
import resource, torch, numpy as np
from vitcli.memory import lacking
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for claim in (lambda: np.zeros(1 << 34), lambda: torch.zeros(1 << 34), lambda: bytearray(1 << 34)):
    try: claim()
    except Exception as error: print(lacking(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3


def test_the_limit_of_the_address_space_counts() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, before[1]))
    try:
        left = memory.addressable()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert (1 << 40) - (100 << 30) < left < 1 << 40


def test_libraries_start_no_more_threads_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "environ", environ := {"OMP_NUM_THREADS": "5"})
    monkeypatch.setattr(memory, "addressable", lambda: 1 << 30)
    memory.fit_threads()
    assert environ == {"OMP_NUM_THREADS": "5", "OPENBLAS_NUM_THREADS": "8"}
    environ.clear()
    monkeypatch.setattr(memory, "addressable", lambda: sys.maxsize)
    memory.fit_threads()
    assert environ == {}


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.ENOMEM, "no"), ImportError("x.so: failed to map segment from shared object"),
     ImportError("x.so: cannot allocate memory in static TLS block"), RuntimeError("can't start new thread"),
     SystemError("error return without exception set"), AttributeError("half imported")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_no_memory_is_known_in_whatever_words(error: Exception) -> None:
    if isinstance(error, AttributeError):
        error.__context__ = ValueError("because of")
        error.__context__.__cause__ = MemoryError()
    assert memory.lacking(error)
    assert not memory.lacking(AttributeError("half imported"))
    assert not memory.lacking(RuntimeError("another"))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space")
@pytest.mark.parametrize("command", [["--help"], ["models"], ["inspect"], ["numpy"], ["torch"], ["verify"]], ids=str)
def test_too_little_address_space_is_one_sentence(command: list[str], tiny: Path, picture: Path) -> None:
    if command[0] in ("numpy", "torch"):
        command = ["classify", str(picture), "--model", str(tiny), "--format", "jsonl", "-q", "--engine", *command]
    elif command[0] in ("inspect", "verify"):
        command = [*command, str(tiny)]
    for megabytes in (250, 330, 480, 620, 640):
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20}, {megabytes << 20}))"
        code = f"{limit}; import vitcli.__main__ as it; it.main()"
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, timeout=60)
        said = done.stderr.decode().splitlines()
        assert (done.returncode, len(said)) in ((0, 0), (1, 1)), (megabytes, done.stderr)
        assert all(line.startswith("error: ") for line in said)


def test_a_picture_takes_its_share_by_its_header_and_holds_it_until_it_is_resized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(1)
    monkeypatch.setattr("vitcli.streaming.BUDGET", budget)
    held = []
    real = Preprocess.resized
    monkeypatch.setattr(Preprocess, "resized", lambda *a: held.append(budget.taken) or real(*a))
    for ending, each in ((".jpg", 12), (".png", 12), (".webp", 24), (".avif", 24)):
        path = tmp_path / f"a{ending}"
        noise(0, (100, 80)).save(path)
        held.clear()
        opened(Preprocess(), Input("a", path))
        assert held[0] >= 100 * 80 * each
        assert held[0] < 100 * 80 * each + 4 * path.stat().st_size
        assert budget.taken == 0


def test_a_decoder_that_takes_memory_when_it_is_given_the_file_has_its_share_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(1)
    monkeypatch.setattr("vitcli.streaming.BUDGET", budget)
    noise(0, (100, 80)).save(tmp_path / "a.webp")
    factory, accept = Image.OPEN["WEBP"]
    held = []
    monkeypatch.setitem(Image.OPEN, "WEBP", (lambda *a: held.append(budget.taken) or factory(*a), accept))
    opened(Preprocess(), Input("a", tmp_path / "a.webp"))
    assert held[0] >= 100 * 80 * 24


def test_what_did_not_fit_beside_others_is_tried_again_alone(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(1000 << 20)
    monkeypatch.setattr("vitcli.streaming.BUDGET", budget)
    real, beside = images.load, []

    def load(*given: object, **how: object) -> images.Picture:
        beside.append(budget.taken)
        if len(beside) == 1:
            raise PictureError("out_of_memory", "There is not enough memory to decode it.")
        return real(*given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "load", load)
    other = budget.share()
    other.take(5)
    threading.Timer(0.05, other.__exit__).start()
    assert opened(Preprocess(), Input("a", picture)).size == (48, 40)
    assert len(beside) == 2
    assert beside[1] > 1 << 60  # all there is


def test_large_pictures_wait_for_each_other_in_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(3 * 12 * 200 * 200)
    monkeypatch.setattr("vitcli.streaming.BUDGET", budget)
    now, most = 0, 0
    lock = threading.Lock()
    real = Image.Image.load

    def load(image: Image.Image) -> object:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1
        return real(image)

    monkeypatch.setattr(Image.Image, "load", load)
    noise(0, (200, 200)).save(tmp_path / "a.bmp")
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda _: opened(Preprocess(), Input("a", tmp_path / "a.bmp")), range(64)))
    assert most <= 3


def test_what_large_pictures_took_goes_back_to_the_system_before_others_are_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Budget(1 << 40)
    left = []
    monkeypatch.setattr(budget, "give_back", lambda: left.append(own.taken))
    for size in (budget.LARGE, budget.LARGE + 1):
        with own.share() as share:
            share.take(size)
    assert left == [budget.LARGE + 1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_given_back() -> None:
    code = """
import resource, threading
from vitcli.memory import give_back
def held(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def work():
    blocks = [bytearray(b"x" * 50_000) for _ in range(2000)]
    kept.append(blocks[-1])  # the last one holds all that lies below it
kept = []
worker = threading.Thread(target=work); worker.start(); worker.join()
before = held(); give_back(); print(before - held())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50 << 20


def test_a_transparent_picture_takes_its_own_memory_and_that_of_its_result(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from vitcli.pictures.images import load
load(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = load(Path(sys.argv[2])).size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (size[0] * size[1]))
"""
    for mode in ("LA", "RGBA"):
        for side in (16, 5000):
            Image.new(mode, (side, side), (1, 2, 3, 4)[: len(mode)]).save(tmp_path / f"{side}.png")
        command = [sys.executable, "-c", code, tmp_path / "16.png", tmp_path / "5000.png"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert float(done.stdout) < 9  # bytes a pixel: four of each, and some
