"""Long runs of `vit classify` that must lose nothing: what is asked of each is checked, and figures are printed.

    make stress
    python benchmarks/stress.py kills --times 50 --inputs 2000
    VIT_TEST_WEIGHTS=DIR VIT_TEST_EDGE=DIR VIT_TEST_IMAGES=DIR python benchmarks/stress.py

corpus     the awkward pictures of VIT_TEST_EDGE: one row each
mutations  damaged pictures of every format: one row each, no traceback, 10 s without a row or 1 GiB of memory
archives   the same with damaged archives
kills      kill -9 at random moments, each followed by --resume: the rows of an unbroken run, in every format
disk       the same with a disk that fills up
faults     killed, torn or refused at every single call to the system, in every format; needs a C compiler
checkpoints  damaged weights, indices and settings of every kind: a picture classified, or a sentence
damage     journals, outputs and what SQLite keeps beside them, damaged: refused and left as they are, or resumed right
memory     the peak of a run over many inputs against that over few
overlap    a run against decoding alone and the network alone, on the pictures of VIT_TEST_IMAGES
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import damage as checkpoint_damage
import faults as study
from awkward import encoded, mutated, mutated_archives, noise, rows
from conftest import save_reference

VIT = Path(sys.executable).with_name("vit")
LATE = 10.0  # seconds
EACH = 1000  # checkpoints that one process tries
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".sqlite")


def vit(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([VIT, *map(str, arguments)], capture_output=True, text=True, errors="replace", **options)  # type: ignore[call-overload]
    assert "Traceback" not in done.stderr, done.stderr
    return done  # type: ignore[no-any-return]


def corpus(home: Path, small: list[object], _: argparse.Namespace) -> None:
    edge = os.environ.get("VIT_TEST_EDGE")
    if not edge:
        print("corpus     skipped: VIT_TEST_EDGE is not set")
        return
    from vitcli.sources import inputs

    names = [os.fsencode(item.name) for item in inputs([edge], hidden=True)]
    vit("classify", edge, "--hidden", "-o", home / "corpus.jsonl", *small)
    found = rows(home / "corpus.jsonl")
    assert Counter(name for name, _, _ in found) == Counter(names)
    print(f"corpus     {len(found)} inputs, {len(found)} rows, {sum(row[1] == 'ok' for row in found)} ok")


def mutations(home: Path, small: list[object], given: argparse.Namespace) -> None:
    survived(home, small, "mutations", mutated(given.mutations, given.seed), given.seed)


def archives(home: Path, small: list[object], given: argparse.Namespace) -> None:
    survived(home, small, "archives", mutated_archives(given.mutations, given.seed), given.seed)


def survived(home: Path, small: list[object], what: str, files: Iterable[tuple[str, bytes]], seed: int) -> None:
    """One row for each input that damaged files hold, none later than LATE after the one before, in little memory."""
    from vitcli.sources import inputs

    folder = home / what
    folder.mkdir()
    for name, data in files:
        (folder / name).write_bytes(data)
    listed, out, said = home / f"{what}.txt", home / f"{what}.jsonl", home / f"{what}.err"
    listed.write_text("".join(f"{path}\n" for path in sorted(folder.iterdir())))
    expected = Counter(os.fsencode(item.name) for item in inputs([f"@{listed}"]))
    start = last = time.perf_counter()
    longest = 0.0
    with said.open("wb") as err, out.open("wb") as file:
        command = [str(part) for part in (VIT, "classify", f"@{listed}", "-f", "jsonl", *small)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err) as run:
            assert run.stdout is not None
            for line in run.stdout:
                file.write(line)
                longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
            _, status, usage = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
    took, peak = time.perf_counter() - start, usage.ru_maxrss >> 10
    assert run.returncode == 3, (run.returncode, said.read_text(errors="replace")[-2000:])
    assert b"Traceback" not in said.read_bytes()
    assert Counter(name for name, _, _ in rows(out)) == expected
    reasons = Counter(json.loads(line).get("error", "ok") for line in out.read_bytes().splitlines())
    assert "crashed" not in reasons, [line for line in out.read_bytes().splitlines() if b'"crashed"' in line][:3]
    assert longest < LATE, f"{longest:.1f} s without a row"
    assert peak < 1024, f"{peak} MiB"
    count = len(listed.read_text().splitlines())
    print(f"{what:<10} {count} files of seed {seed}, {expected.total()} inputs, as many rows in {took:.0f} s", end="")
    print(f", at most {longest:.1f} s without one, {peak} MiB at peak: {dict(reasons.most_common())}")


def broken_off(
    home: Path, small: list[object], given: argparse.Namespace, what: str, run: Callable[[list[object], float], None]
) -> None:
    """Break runs off with `run`, resume them, and compare their rows with an unbroken run's, in every format."""
    folder = home / what
    folder.mkdir()
    for i in range(given.inputs):
        name = f"{i}.png"
        (folder / name).write_bytes(b"broken" if i % 50 == 0 else encoded("png", i % 97))
    rng = random.Random(given.seed)
    for ending in ENDINGS:
        command = ["classify", folder, *small]
        start = time.perf_counter()
        vit(*command, "-o", home / f"{what}-whole{ending}")
        took = time.perf_counter() - start
        whole = rows(home / f"{what}-whole{ending}")
        assert len(whole) == given.inputs
        for i in range(given.times):
            out = home / f"{what}-{i}{ending}"
            run([*command, "-o", out], rng.uniform(0.05, 1.0) * took)
            done = vit(*command, "-o", out, "--resume")
            assert done.returncode in (0, 3), (i, done.stderr)
            assert rows(out) == whole, (i, out)
        print(f"{what:<10} {ending[1:]}: {given.times} of {given.times} ended with the same {len(whole)} rows", end="")
        print(f"; an unbroken run takes {took:.1f} s")


def kills(home: Path, small: list[object], given: argparse.Namespace) -> None:
    def killed(command: list[object], after: float) -> None:
        run = subprocess.Popen([VIT, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        run.send_signal(signal.SIGKILL)
        run.wait()

    broken_off(home, small, given, "kills", killed)


def disk(home: Path, small: list[object], given: argparse.Namespace) -> None:
    rng = random.Random(given.seed)

    def full(command: list[object], _: float) -> None:
        room = int(10 ** rng.uniform(3, 6))

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as it does on a full disk

        done = vit(*command, preexec_fn=limited)
        assert done.returncode in (1, 3), done.stderr  # 3: there was room

    broken_off(home, small, argparse.Namespace(**{**vars(given), "times": min(given.times, 10)}), "disk", full)


def faults(_home: Path, _small: list[object], given: argparse.Namespace) -> None:
    for ending in study.ENDINGS:
        start = time.perf_counter()
        try:
            done = study.study(ending, given.points, given.seed)
        except OSError as error:
            print(f"faults     skipped: {error}")
            return
        print(
            f"faults     {ending[1:]}: {sum(done.values())} of {sum(done.values())} points ended with every row", end=""
        )
        print(f", in {time.perf_counter() - start:.0f} s")


def checkpoints(home: Path, _small: list[object], given: argparse.Namespace) -> None:
    """In processes of a thousand each, as many at once as there are processors: one that hangs ends its process."""
    seeds = range(given.seed, given.seed + -(-given.mutations // EACH))

    def tried(seed: int) -> dict[str, Any]:
        command = [sys.executable, checkpoint_damage.__file__, home / f"checkpoints-{seed}", str(EACH), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=EACH)
        assert done.returncode == 0, (seed, done.returncode, done.stderr[-3000:])
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(tried, seeds))
    outcomes = sum((Counter(one["outcomes"]) for one in found), Counter[str]())
    slowest, peak = max(one["slowest"] for one in found), max(one["peak"] for one in found) >> 20
    assert slowest < LATE, f"{slowest:.1f} s for one"
    assert peak < 1024, f"{peak} MiB"
    print(
        f"checkpoints {outcomes.total()} of seeds {seeds[0]} to {seeds[-1]} in {time.perf_counter() - start:.0f} s",
        end="",
    )
    print(f", at most {slowest:.1f} s for one, {peak} MiB at peak: {dict(outcomes.most_common())}")


def damage(_home: Path, _small: list[object], given: argparse.Namespace) -> None:
    """Each kind in a process of its own, as many at once as there are processors."""
    kinds = [(ending, what) for ending in ENDINGS for what in ("journal", "output", "wal")]
    kinds.remove((".sqlite", "journal"))  # the output holds it

    def tried(kind: tuple[str, str]) -> dict[str, int]:
        code = "import json, sys, faults; print(json.dumps(faults.damaged(*sys.argv[1:3], *map(int, sys.argv[3:]))))"
        command = [sys.executable, "-c", code, *kind, str(given.damaged), str(given.seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(study.__file__).parent)
        assert done.returncode == 0, (kind, given.seed, done.stderr[-3000:])
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (ending, what), done in zip(kinds, pool.map(tried, kinds), strict=True):
            print(f"damage     {ending[1:]}, {what}: {done} of {given.damaged}, seed {given.seed}")


def memory(home: Path, small: list[object], given: argparse.Namespace) -> None:
    weights = os.environ.get("VIT_TEST_WEIGHTS")
    model = ["--model", weights] if weights and not given.tiny else [*small[:2], "--engine", "torch"]
    for i in range(3):
        noise(i, (64, 64)).save(home / f"{i}.jpg")
    peaks = {}
    for count in (2000, given.many):
        folder = home / f"many-{count}"
        folder.mkdir()
        for i in range(count):
            (folder / f"picture {i}.jpg").hardlink_to(home / f"{i % 3}.jpg")
        out = home / f"many-{count}.jsonl"
        start = time.perf_counter()
        pid = os.posix_spawn(VIT, [str(a) for a in (VIT, "classify", folder, "-o", out, "-q", *model)], os.environ)
        _, status, usage = os.wait4(pid, 0)
        assert status == 0
        peaks[count] = usage.ru_maxrss / 1024
        with out.open("rb") as file:
            assert sum(1 for _ in file) == count
        print(f"memory     {count} inputs: {peaks[count]:.0f} MiB at peak, {time.perf_counter() - start:.0f} s")
    few, many = peaks.values()
    assert many <= 1.1 * few, f"{many / few:.3f} times the memory"
    name = "the ViT of VIT_TEST_WEIGHTS" if model[1] == weights else "a tiny ViT"
    print(f"memory     {many / few:.3f} times the peak of 2000 inputs, with {name}")


def overlap(home: Path, small: list[object], given: argparse.Namespace) -> None:
    if not (os.environ.get("VIT_TEST_IMAGES") and os.environ.get("VIT_TEST_WEIGHTS")):
        print("overlap    skipped: VIT_TEST_IMAGES or VIT_TEST_WEIGHTS is not set")
        return
    import numpy as np

    import vitcli
    from vitcli.sources import inputs
    from vitcli.streaming import BATCH_ON_CPU, Prepared, look_ahead, prepare, stream

    classifier = vitcli.load(os.environ["VIT_TEST_WEIGHTS"], device="cpu", engine="torch")
    given_inputs = list(inputs([str(Path(os.environ["VIT_TEST_IMAGES"]) / "labelled")]))
    items = [prepare(classifier.preprocess, item) for item in given_inputs]
    pixels = np.stack([item.pixels for item in items if isinstance(item, Prepared)])
    cores = os.cpu_count() or 1

    def decoding() -> None:
        list(
            look_ahead(lambda item: prepare(classifier.preprocess, item), given_inputs, cores, 2 * BATCH_ON_CPU + cores)
        )

    def network() -> None:
        for start in range(0, len(pixels), BATCH_ON_CPU):
            classifier.logits(pixels[start : start + BATCH_ON_CPU])

    def both() -> None:
        list(stream(classifier, given_inputs))

    network()
    times: dict[str, list[float]] = {}
    for _ in range(given.rounds):  # one after another within a round, as the machine may change between rounds
        for work in (decoding, network, both):
            start = time.perf_counter()
            work()
            times.setdefault(work.__name__, []).append(time.perf_counter() - start)
    best = {name: min(found) for name, found in times.items()}
    ratio = best["both"] / max(best["decoding"], best["network"])
    seconds = ", ".join(f"{name} {found:.2f} s" for name, found in best.items())
    print(f"overlap    {len(items)} pictures, best of {given.rounds}: {seconds}: {ratio:.3f} times the larger")


PARTS = {
    part.__name__: part
    for part in (corpus, mutations, archives, kills, disk, faults, checkpoints, damage, memory, overlap)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--times", type=int, default=50, help="runs broken off for each format")
    parser.add_argument("--inputs", type=int, default=2000, help="inputs of each of those")
    parser.add_argument("--mutations", type=int, default=10_000, help="pictures, archives and checkpoints")
    parser.add_argument("--points", type=int, help="calls that go wrong in a phase and kind; by default all")
    parser.add_argument("--damaged", type=int, default=10_000, help="journals, outputs and -wal files, for each format")
    parser.add_argument("--many", type=int, default=100_000, help="inputs of the run whose memory is compared")
    parser.add_argument("--tiny", action="store_true", help="compare memory with a tiny model, whatever the weights")
    parser.add_argument("--rounds", type=int, default=5, help="of the overlap")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        small: list[object] = ["--model", save_reference(home / "tiny"), "--engine", "numpy"]
        for part in given.parts or PARTS:
            PARTS[part](home, small, given)


if __name__ == "__main__":
    main()
