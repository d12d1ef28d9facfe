"""Write the report of `vit bench --format json` into documents, between `<!-- bench -->` and `<!-- /bench -->`.

vit bench --against transformers,onnxruntime,openvino --format json > report.json
python benchmarks/write_table.py report.json docs/performance.md README.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

START, END = "<!-- bench -->", "<!-- /bench -->"


def main() -> None:
    """Replace what stands between the markers; a document without them is left alone."""
    report, *documents = map(Path, sys.argv[1:])
    text = markdown(json.loads(report.read_text()))
    for document in documents:
        before, start, rest = document.read_text().partition(START)
        _, end, after = rest.partition(END)
        if not end:
            print(f"{document}: no {START} ... {END}, left as it is")
            continue
        document.write_text(f"{before}{start}\n{text}\n{end}{after}")
        print(f"{document}: written")


def markdown(report: dict[str, Any]) -> str:
    """The machine, a table of every row, and the sentence on what limits it."""
    machine = report["machine"]
    accelerator = f"{machine['accelerator']['name']}, " if "accelerator" in machine else ""
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in machine else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    ceilings = ", ".join(f"{rate:.0f} GFLOP/s in {dtype}" for dtype, rate in report["ceilings_gflops"].items())
    lines = [
        f"{report['model']} on {accelerator}{machine['processor']}, {machine['cores']} cores{memory}; {versions}.",
        f"Best product of two matrices in the same turns: {ceilings}.",
        "",
        "| stage | engine | dtype | batch | ms a picture | images/s | GFLOP/s | of ceiling | to transformers |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    reference = {
        (row["dtype"], row["batch"]): row["milliseconds"]
        for row in report["rows"]
        if row["stage"] == "forward" and row["engine"] == "transformers"
    }
    for row in report["rows"]:
        theirs = reference.get((row["dtype"], row["batch"])) if row["stage"] == "forward" else None
        cells = [
            row["stage"], row["engine"], row["dtype"] or "", str(row["batch"]), f"{row['milliseconds']:.4g}",
            f"{row['images_per_second']:.4g}", f"{row['gflops']:.0f}" if row["gflops"] else "",
            f"{row['share_of_ceiling']:.0%}" if row["share_of_ceiling"] else "",
            f"{theirs / row['milliseconds']:.2f}x" if theirs else "",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if report["peak_memory_bytes"]:
        lines += ["", f"Peak memory of vit alone, all dtypes loaded: {report['peak_memory_bytes'] / 1e6:.0f} MB."]
    return "\n".join([*lines, "", report["limit"]])


if __name__ == "__main__":
    main()
