"""Runs that fail, tear or are killed at a chosen call to the system, and are resumed: each ends with an unbroken run's
rows. For `test_faults.py` and `benchmarks/stress.py`.

    study(".jsonl", points=4)

Every point is a process of its own, forked from one that has imported everything, under a library (`fault.c`) that
stands between SQLite, pyarrow or Python and the system. It needs a C compiler, and Linux.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

KINDS = {"before": 1, "after": 2, "torn": 3, "full": 4, "broken": 5, "stays full": 6}
PHASES = ("first", "resume", "retry")
ENDINGS = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".sqlite")
COUNT = 40


def study(ending: str, points: int | None = None, seed: int = 0) -> dict[str, int]:
    """Break runs off at every call, or at `points` for each phase and kind -> how many points of each.

    Raises AssertionError with the points that lost something, and OSError without a compiler.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fault.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or not sys.platform.startswith("linux"):
            raise OSError("no C compiler")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, HERE / "fault.c", "-ldl"], check=True)
        done = subprocess.run(
            [sys.executable, __file__, ending, str(points or 0), str(seed), str(library), folder],
            env=os.environ | {"LD_PRELOAD": str(library)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return found


def classify(out: Path, count: int, good: bool, **options: Any) -> None:
    """What the engine does, in batches of six, with made-up answers."""
    from vitcli.results import Failure, Label, Prediction, Result
    from vitcli.sources import Input
    from vitcli.writers import Options, open_output

    def answer(i: int) -> Result:
        if i % 3 == 0 and not good:
            return Failure(f"p{i}.png", "corrupt", "x" * (i * 7))
        return Prediction(f"p{i}.png", tuple(Label(k, None, "l" * (i % 5 + k), 0.5) for k in range(2)), (i + 1, 2))

    with open_output(out, None, {"model": "m"}, Options(topk=2, **options)) as rows:
        rows.flush_rows = 4  # type: ignore[misc]
        waiting = []
        for item in (Input(f"p{i}.png", data=b"%d" % i, size=i, mtime_ns=1) for i in range(count)):
            if rows.wanted(item):
                waiting.append(int(item.name[1:-4]))
            if len(waiting) == 6:
                for i in waiting:
                    rows.write(answer(i))
                waiting = []
        for i in waiting:
            rows.write(answer(i))


def damaged(ending: str, what: str, count: int, seed: int = 0) -> Counter[str]:
    """Damage the journal or the output of a run in `count` ways and resume it -> how many were "refused" and "right".

    "wal" is what SQLite keeps beside the journal, or the database, of a run that was killed.

    Raises AssertionError, with the number of the way, where a row was lost, doubled or changed, or a file that was
    refused is not as it was.
    """
    from vitcli.errors import VitError

    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"out{ending}"
        classify(out, 12, False)
        expected = contents(out)
        journal = out if ending == ".sqlite" else out.with_name(f".{out.name}.vit-journal")
        target = {"journal": journal, "output": out, "wal": journal.with_name(f"{journal.name}-wal")}[what]
        if what == "wal":
            for file in out.parent.iterdir():
                file.unlink()
            killed(out, 12)

        def there() -> dict[Path, bytes]:
            """Without an index of the -wal, which whoever reads makes, and a lock that nobody holds."""
            files = (file for file in out.parent.iterdir() if not file.name.endswith(("-shm", ".vit-lock")))
            return {file: file.read_bytes() for file in files}

        whole = there()
        for number in range(count):
            for file in out.parent.iterdir():
                file.unlink()
            for file, data in whole.items():
                file.write_bytes(data if file != target else mutated(data, Random(f"{seed} {number}")))
            before = there()
            try:
                classify(out, 12, False, resume=True)
            except VitError:
                after = there()
                assert after == before, (number, {file.name: len(data) for file, data in after.items()})
                found["refused"] += 1
            else:
                assert contents(out) == expected, (number, contents(out))
                found["right"] += 1
    return found


def killed(out: Path, count: int) -> None:
    """A run that ends, without a word to anybody, when its last row is written."""
    from vitcli.writers.base import Output

    child = os.fork()
    if child == 0:
        Output.close = lambda self: os._exit(0)  # type: ignore[method-assign]
        classify(out, count, False)
    assert os.waitpid(child, 0)[1] == 0


def mutated(data: bytes, chance: Random) -> bytes:
    """The same with something wrong: bits, zeros, an end or a piece that is missing, doubled or somewhere else."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at, to = sorted(chance.randrange(len(found) + 1) for _ in range(2))
        match chance.choice(("flip", "flip", "flip", "head", "zeros", "cut", "remove", "double", "swap", "text")):
            case "flip":
                for _ in range(chance.randint(1, 4)):
                    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
            case "head":
                found[chance.randrange(min(100, len(found)))] = chance.randrange(256)
            case "zeros":
                found[at:to] = bytes(to - at)
            case "cut":
                del found[max(1, at) :]
            case "remove":
                del found[max(1, at) : to]
            case "double":
                found[at:at] = found[at:to]
            case "swap":
                found[:] = found[at:to] + found[:at] + found[to:]
            case "text":
                digits = [i for i, byte in enumerate(found) if byte in b"0123456789"]
                if digits:
                    found[chance.choice(digits)] = chance.choice(b"0123456789")
    return bytes(found)


def apart(work: Callable[[], object]) -> tuple[int, str]:
    """Do it in a process of its own: its status (0, 1 for an error in words, 2 for any other), and what it said."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        from vitcli.errors import VitError

        status, said = 0, ""
        try:
            said = json.dumps(work())
        except VitError as error:
            status, said = 1, str(error)
        except BaseException:
            status, said = 2, traceback.format_exc()
        with os.fdopen(theirs, "w") as pipe:
            pipe.write(said)
        os._exit(status)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def contents(out: Path) -> list[str]:
    """The rows of an output in any order, or the table as it is."""
    from awkward import rows

    return [out.read_text()] if out.suffix == ".txt" else [str(row) for row in rows(out)]


def main(ending: str, points: int, seed: int, library: str, folder: str) -> int:
    """Print the points that lost something, and at last how many there were."""
    import awkward  # noqa: F401  (imported once, before the forks)

    if ending == ".parquet":
        import pyarrow.parquet  # noqa: F401

    import vitcli.writers  # noqa: F401

    faults, chance = ctypes.CDLL(library), Random(seed)
    home, ready = Path(folder), Path(folder) / "ready"
    ready.mkdir()
    problems, counts = 0, {}
    for phase in PHASES if ending != ".txt" else PHASES[:1]:
        before = {"first": None, "resume": COUNT // 2, "retry": COUNT}[phase]
        good = phase == "retry"
        options = {"resume": phase != "first", "retry_failed": good}
        again = options | ({"resume": True} if ending != ".txt" else {"force": True})

        def broken(out: Path, number: int, kind: int) -> int:
            faults.fault_arm(number, kind, f"{out.parent}/".encode())
            try:
                classify(out, COUNT, good, **options)  # noqa: B023
            finally:
                last = faults.fault_seen()
                faults.fault_arm(0, 0, b"")
            return int(last)

        def resumed(out: Path) -> list[str]:
            classify(out, COUNT, good, **again)  # noqa: B023
            return contents(out)

        def begun(name: str) -> Path:
            """A folder as the phase finds it."""
            place = home / name
            shutil.copytree(ready, place)
            return place / f"out{ending}"

        shutil.rmtree(ready)
        ready.mkdir()
        if before is not None:
            assert apart(lambda: classify(ready / f"out{ending}", before, False))[0] == 0  # noqa: B023
        whole = begun("whole")
        status, said = apart(lambda: broken(whole, 0, 0))  # noqa: B023
        assert status == 0, said
        total = int(said)
        expected = json.loads(apart(lambda: contents(whole))[1])  # noqa: B023
        shutil.rmtree(whole.parent)
        for name, kind in KINDS.items():
            some = range(1, total + 1) if not points else sorted(chance.sample(range(1, total + 1), min(points, total)))
            for number in some:
                out = begun(f"{name}-{number}")
                status, said = apart(lambda: broken(out, number, kind))  # noqa: B023
                what = f"{ending} {phase} {name} at {number} of {total}"
                if status == 2 or "Traceback" in said:
                    problems += 1
                    print(f"{what}: {said}")
                after, told = apart(lambda: resumed(out))  # noqa: B023
                left = {file.name for file in out.parent.iterdir()} - {out.name, f".{out.name}.vit-journal"}
                if after != 0 or json.loads(told) != expected or left:
                    problems += 1
                    print(f"{what}: status {status}, then {after}, left {left}: {said[-300:]} | {told[-600:]}")
                shutil.rmtree(out.parent)
            counts[f"{phase} {name}"] = len(some)
    print(json.dumps(counts))
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
