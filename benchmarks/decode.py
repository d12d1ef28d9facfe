"""`vit classify --decode fast` against exact on a folder of large photographs: whole runs, in turns.

    python benchmarks/decode.py --model DIR_OR_NAME --photos FOLDER [--count 500] [--rounds 3] [--keep FOLDER] [...]

Photographs of 12 million pixels are made from those in FOLDER, the same ones every time: a part of one at random,
mirrored or not, enlarged to 4000 x 3000 (upright ones to 3000 x 4000), with the noise of a sensor (--clean: without),
saved as JPEG of quality 90 to 95 with the colours at half resolution. Of every fifth, 1 to 15 rows and columns are cut
off, as by somebody who crops: its sides no longer divide by 8. 500 take 2 GB and some minutes to make; --keep keeps
them for the next time. The photographs themselves are compared too, where they are large enough for fast decoding.

Other options go to `vit classify`, such as --dtype bfloat16. Prints seconds, processor seconds (they hardly depend on
what else the machine does), how often the best label is the same, and how sure the network was where it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

LONG, SHORT = 4000, 3000
WAYS = ("exact", "fast")

Rows = dict[str, dict[str, Any]]  # by path


def main() -> None:
    """Make the photographs, measure, and print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of real photographs, JPEG")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the made photographs stay, and are taken from if there")
    parser.add_argument("--clean", action="store_true", help="no noise, which makes smaller files")
    options, others = parser.parse_known_args()
    vit = [str(Path(sys.executable).with_name("vit")), "classify", "--model", options.model, *others]

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "photographs"
        make(sorted(options.photos.glob("*.jpg")), folder, options.count, options.clean)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{options.count} photographs, {size / options.count / 1e6:.1f} MB each\n", flush=True)

        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        rows: dict[str, Rows] = {}
        for number in range(options.rounds):
            for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                took, rows[way] = classified(vit, folder, way, Path(temporary))
                seconds[way].append(took)
                print(
                    f"round {number + 1} of {options.rounds}: {way} {took[0]:.1f} s, {took[1]:.1f} processor s",
                    file=sys.stderr,
                )
        speed(seconds, options.count)
        real = {way: classified(vit, options.photos, way, Path(temporary))[1] for way in WAYS}
        agreement({
            f"{LONG} x {SHORT}": chosen(rows, lambda row: sum(row["size"]) == LONG + SHORT),
            "cut by 1 to 15 pixels": chosen(rows, lambda row: sum(row["size"]) != LONG + SHORT),
            "real photographs as they are": chosen(real, lambda row: True),
        })  # fmt: skip


def make(photos: list[Path], folder: Path, count: int, clean: bool) -> None:
    """`count` large photographs in `folder`; those that are there already stay."""
    if not photos:
        sys.exit("There are no .jpg files in --photos.")
    folder.mkdir(parents=True, exist_ok=True)
    grain = np.random.default_rng(0).normal(128, 6, (LONG, LONG, 3)).clip(0, 255).astype(np.uint8)
    noise = Image.fromarray(grain).filter(ImageFilter.GaussianBlur(0.6))  # demosaicing smears it over neighbours

    def save(number: int) -> None:
        path = folder / f"{number:04}.jpg"
        if path.exists():
            return
        with Image.open(photos[number % len(photos)]) as photo:
            image, quality = enlarged(photo.convert("RGB"), None if clean else noise, number)
        part = path.with_suffix(".part")
        image.save(part, "JPEG", quality=quality, subsampling="4:2:0")
        part.replace(path)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(save, range(count)))


def enlarged(photo: Image.Image, noise: Image.Image | None, number: int) -> tuple[Image.Image, int]:
    """A part of a photograph as a camera with 12 million pixels would have it, and the JPEG quality to save it with."""
    random = np.random.default_rng(number)
    size = (LONG, SHORT) if photo.width >= photo.height else (SHORT, LONG)
    scale = min(photo.width / size[0], photo.height / size[1]) * random.uniform(0.6, 1)
    width, height = size[0] * scale, size[1] * scale
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    image = photo.resize(size, Image.Resampling.LANCZOS, (left, top, left + width, top + height))
    if random.integers(2):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = random.integers(LONG, size=2).tolist()
    if noise:
        image = ImageChops.add(image, ImageChops.offset(noise, left, top).crop((0, 0, *size)), offset=-128)
    if number % 5 == 4:
        right, below = random.integers(1, 16, size=2).tolist()
        image = image.crop((0, 0, size[0] - right, size[1] - below))
    return image, int(random.integers(90, 96))


def classified(vit: list[str], folder: Path, way: str, temporary: Path) -> tuple[tuple[float, float], Rows]:
    """Seconds and processor seconds that a whole `vit classify` took, and its rows. Raises SystemExit if it fails."""
    output = temporary / f"{way}.jsonl"
    command = [*vit, str(folder), "--decode", way, "-o", str(output), "--force", "--quiet"]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}.")
    found = [json.loads(line) for line in output.read_text().splitlines()]
    return (took, usage.ru_utime + usage.ru_stime), {row["path"]: row for row in found if "top" in row}


def chosen(rows: dict[str, Rows], wanted: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The exact and the fast row of each picture that was decoded fast, and is wanted."""
    pairs = [(row, rows["fast"][path]) for path, row in rows["exact"].items()]
    return [pair for pair in pairs if "fast decode" in pair[1].get("notes", ()) and wanted(pair[0])]


def speed(seconds: dict[str, list[tuple[float, float]]], count: int) -> None:
    """Print how long the runs took."""
    print("| --decode | median s | min s | max s | pictures/s | processor s |")
    print("| -------- | -------: | ----: | ----: | ---------: | ----------: |")
    for way, runs in seconds.items():
        took, processor = zip(*runs, strict=True)
        middle, busy = statistics.median(took), statistics.median(processor)
        print(
            f"| {way:8} | {middle:8.1f} | {min(took):5.1f} | {max(took):5.1f} | {count / middle:10.1f} | {busy:11.1f} |"
        )
    pairs = list(zip(*seconds.values(), strict=True))
    ratios, busy_ratios = ([exact[i] / fast[i] for exact, fast in pairs] for i in (0, 1))
    print(f"\nFast is {statistics.median(ratios):.2f} times as fast ({', '.join(f'{r:.2f}' for r in ratios)}); "
          f"exact takes {statistics.median(busy_ratios):.2f} times its processor seconds.\n")  # fmt: skip


def agreement(sets: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]) -> None:
    """Print how often the best label is the same, and the lead that the best one had where it is not."""
    print("| photographs | pictures | same best label | score moved, median | most |")
    print("| ----------- | -------: | --------------: | ------------------: | ---: |")
    everything = [pair for pairs in sets.values() for pair in pairs]
    for name, pairs in sets.items():
        if pairs:
            same = sum(best(exact) == best(fast) for exact, fast in pairs)
            moved = [abs(exact["top"][0]["score"] - score_of(best(exact), fast)) for exact, fast in pairs]
            share = f"{same} ({same / len(pairs):.1%})"
            print(f"| {name} | {len(pairs)} | {share} | {statistics.median(moved):.3f} | {max(moved):.3f} |")
    changed = sorted(lead(exact) for exact, fast in everything if best(exact) != best(fast))
    print(f"\nOf {len(everything)}, {len(changed)} changed.", end=" ")
    if changed:
        near = sum(lead(exact) <= changed[-1] for exact, _ in everything)
        print(f"In those the best score led the second by {leads(changed)}; {near} pictures have no larger lead.")


def best(row: dict[str, Any]) -> int:
    """The index of the best label."""
    return int(row["top"][0]["index"])


def lead(row: dict[str, Any]) -> float:
    """By how much the best score exceeds the second."""
    return float(row["top"][0]["score"] - row["top"][1]["score"])


def leads(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def score_of(index: int, row: dict[str, Any]) -> float:
    """A label's score in a row; 0 where it is not among the best."""
    return next((float(label["score"]) for label in row["top"] if label["index"] == index), 0.0)


if __name__ == "__main__":
    main()
