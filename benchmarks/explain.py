"""`vit explain`: what each method costs, and whether its maps mark what the network needs.

    python benchmarks/explain.py --model DIR_OR_NAME --photos FOLDER [--count 100]

For the best class of each picture: how far the score falls when the 10 % of the picture that the map marks are
replaced by its mean colour, beside a random 10 %. The cost is in forward passes of the same network, in turns with
them, deletion check included. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitcli import classifier
from vitcli.explainer import CLASS_SPECIFIC, Explainer
from vitcli.pictures import images

TIMED = 15  # pictures whose explanations are timed


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    model = classifier.load(options.model, device="cpu", engine="torch", dtype="float32", batch=1)
    files = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = files[:: max(1, len(files) // options.count)][: options.count]
    pictures = [model.prepare(images.load(path).image) for path in chosen]
    print(f"{len(pictures)} pictures, {model!r}\n")
    print("| method | by class | forward passes | score | without the 10 % marked | a random 10 % | falls further |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for method, by_class in CLASS_SPECIFIC.items():
        explainer = Explainer(model, method)
        explainer.explained(pictures[0])
        cost = [took(explainer.explained, picture) / took(model.logits, picture[None]) for picture in pictures[:TIMED]]
        found = [explainer.explained(picture)[1][0] for picture in pictures]
        score, marked, random = (
            float(np.mean(values))
            for values in zip(*((r.label.score, r.without, r.without_random) for r in found), strict=True)
        )
        further = float(np.mean([reason.tells_something for reason in found]))
        print(
            f"| {method} | {'yes' if by_class else 'no'} | {statistics.median(cost):.1f} | {score:.3f} | "
            f"{marked:.3f} | {random:.3f} | {further:.0%} |",
            flush=True,
        )


def took(work: Callable[[Any], object], given: Any) -> float:
    """Seconds."""
    start = time.perf_counter()
    work(given)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
