"""One picture from a cold start on a CPU: whole processes, side by side, in one run.

    python benchmarks/cold_start.py --model DIR_OR_NAME [--picture FILE] [--rounds 7]

Runs, in turn and interleaved, `import torch` alone, `vit classify` with each engine, and a script that uses the
transformers pipeline (if it is installed). Prints medians, the ratios a cold start is judged by, and peak memory. The
first round only brings the files into the page cache. A round takes about 15 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

TORCH = "python -c 'import torch'"
AUTO = "vit classify"
PIPELINE = "transformers pipeline"
PIPELINE_SCRIPT = """
import json, sys
from transformers import pipeline
print(json.dumps(pipeline("image-classification", model=sys.argv[1])(sys.argv[2])))
"""


class Run(NamedTuple):
    """One process: seconds from start to end, processor seconds, the most memory it held, and its stdout."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    answer: str


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint of google/vit-base-patch16-224's size")
    parser.add_argument("--picture", type=Path, default=ROOT / "sample_images" / "flower.jpg")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    vit = [str(Path(sys.executable).with_name("vit")), "classify", str(options.picture), "--model", options.model]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        TORCH: [sys.executable, "-c", "import torch"],
        AUTO: vit,
        f"{AUTO} --engine torch": [*vit, "--engine", "torch", "--device", "cpu"],
    }
    if find_spec("transformers"):
        commands[PIPELINE] = [sys.executable, "-c", PIPELINE_SCRIPT, options.model, str(options.picture)]
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(options.rounds + 1):
        for name, command in commands.items():
            run = measured(command)
            if number:
                runs[name].append(run)
        print(f"round {number} of {options.rounds}", file=sys.stderr)
    report(runs)


def measured(command: list[str]) -> Run:
    """Run a command to its end. Raises SystemExit if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{command} ended with status {process.returncode}:\n{err.read().decode(errors='replace')}")
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, out.read().decode())


def report(runs: dict[str, list[Run]]) -> None:
    """Print medians, ratios, and whether everybody gave the same answer."""
    median = {name: statistics.median(run.seconds for run in done) for name, done in runs.items()}
    width = max(map(len, runs))
    print(f"{processor()}, {os.cpu_count()} processors, Python {platform.python_version()}\n")
    print(f"| {'one picture, whole process':{width}} | median s |  min s | CPU s | peak MB | of import torch |")
    print(f"| {'-' * width} | -------: | -----: | ----: | ------: | --------------: |")
    for name, done in runs.items():
        least, cpu = min(run.seconds for run in done), statistics.median(run.cpu_seconds for run in done)
        peak, ratio = max(run.peak_bytes for run in done) / 1e6, median[name] / median[TORCH]
        print(f"| {name:{width}} | {median[name]:8.2f} | {least:6.2f} | {cpu:5.2f} | {peak:7.0f} | {ratio:15.2f} |")
    if PIPELINE in runs:
        label = json.loads(runs[PIPELINE][0].answer)[0]["label"].split(",")[0]
        others = [name for name in runs if name.startswith(AUTO) and label not in runs[name][0].answer]
        print(f"\n{AUTO} is {median[PIPELINE] / median[AUTO]:.1f} times as fast as the {PIPELINE}, which says "
              f"{label!r}. {'So does everybody.' if not others else f'NOT SO: {others}'}")  # fmt: skip


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
