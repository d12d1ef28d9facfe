"""Write the report of `vit bench --format json` into documents, between `<!-- bench -->` and `<!-- /bench -->`.

Between `<!-- speed -->` and `<!-- /speed -->` goes the short of it: pictures a second of each engine.

vit bench --against transformers,onnxruntime,openvino --format json > report.json
python benchmarks/write_table.py report.json docs/performance.md README.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Replace what stands between the markers, wherever a document has them."""
    source, *documents = map(Path, sys.argv[1:])
    report = json.loads(source.read_text())
    for document in documents:
        for name, text in (("bench", markdown(report)), ("speed", short(report))):
            before, start, rest = document.read_text().partition(f"<!-- {name} -->")
            _, end, after = rest.partition(f"<!-- /{name} -->")
            if end:
                document.write_text(f"{before}{start}\n{text}\n{end}{after}")
                print(f"{document}: {name} written")


def short(report: dict[str, Any]) -> str:
    """Pictures a second through the network: a row for each engine, a column for each dtype and batch size."""
    rows = [row for row in report["rows"] if row["stage"] == "forward"]
    columns = list(dict.fromkeys((row["dtype"], row["batch"]) for row in rows))
    rates = {(row["engine"], row["dtype"], row["batch"]): f"{row['images_per_second']:.1f}" for row in rows}
    lines = [
        f"| pictures a second | {' | '.join(f'{dtype}, batch {batch}' for dtype, batch in columns)} |",
        f"| --- | {' | '.join('---:' for _ in columns)} |",
    ]
    for engine in dict.fromkeys(row["engine"] for row in rows):
        cells = [rates.get((engine, *column), "") for column in columns]
        lines.append(f"| {engine} | {' | '.join(cells)} |")
    machine = report["machine"]
    return "\n".join([*lines, "", f"{report['model']} on {machine['processor']}, {machine['cores']} cores."])


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
        lines += ["", f"Peak memory of vit alone, a network for each row: {report['peak_memory_bytes'] / 1e6:.0f} MB."]
    return "\n".join([*lines, "", report["limit"]])


if __name__ == "__main__":
    main()
