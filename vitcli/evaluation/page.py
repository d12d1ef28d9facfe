"""Evaluations as one page that needs nothing else: tables, plots drawn as SVG, and thumbnails of what went wrong.

The page runs no script and fetches nothing, and its own policy forbids both; whatever comes from outside (names of
pictures, of classes, of models) is escaped. Pictures are made small and encoded anew, so none of their bytes are in it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitcli.errors import PictureError
from vitcli.escaping import printable
from vitcli.evaluation import report
from vitcli.evaluation.comparing import Difference
from vitcli.evaluation.measured import Evaluation
from vitcli.evaluation.metrics import Bin
from vitcli.evaluation.scores import Judged
from vitcli.pictures import images
from vitcli.pictures.thumbnails import SIDE, jpeg
from vitcli.report import written
from vitcli.sources import Input, fetched
from vitcli.writers.base import explained

if TYPE_CHECKING:
    from PIL import Image

THUMBNAILS = 200  # wrong pictures that are shown
MATRIX = 20  # classes of the confusion matrix: those that are confused most
WORST = 30

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --dim: #666b73; --paper: #fff; --line: #d9dce1; --bar: #2a6fdb;
  --soft: #e8effb; --mark: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --dim: #9aa1ab; --paper: #15171a; --line: #33373d;
  --bar: #6ea3f5; --soft: #1f2a3d; --mark: #fb923c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; } p, figcaption { color: var(--dim); margin: .25rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); } th { font-weight: 600; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; } td.note { color: var(--dim); }
.plots { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; } svg { width: 100%; height: auto; max-width: 34rem; }
svg.matrix { max-width: none; min-width: 40rem; }
svg text { fill: var(--ink); font-size: 11px; } .axis { stroke: var(--dim); fill: none; }
.grid { stroke: var(--line); fill: none; } .bar { fill: var(--bar); fill-opacity: .75; } .curve { stroke: var(--bar);
  stroke-width: 2; fill: none; } .mark { stroke: var(--mark); stroke-width: 2; } .cell { fill: var(--bar); }
.right { fill: var(--dim); } .frame { fill: var(--soft); }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); padding: 0; }
.pictures li { list-style: none; font-size: .85rem; overflow-wrap: anywhere; }
.pictures img, .none { width: 100%; height: 9rem; object-fit: contain; background: var(--soft); display: block; }
.pictures b { color: var(--mark); } .pictures small { color: var(--dim); display: block; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


def write(
    path: Path,
    evaluations: Sequence[Evaluation],
    differences: Sequence[Difference],
    judged: Judged,
    again: Callable[[], Iterator[Input]] | None,
) -> None:
    """The page in a file; `judged` is of the first model, `again` lists the inputs once more. Raises OutputError."""
    wrong = surest_wrong(judged)
    found = thumbnails({judged.paths[i] for i in wrong}, again() if again else iter(()))
    with explained(path):
        written(path, (line.encode() for line in lines(evaluations, differences, judged, wrong, found)))


def surest_wrong(judged: Judged, most: int = THUMBNAILS) -> list[int]:
    """The wrong pictures, those with the highest scores first."""
    wrong = np.flatnonzero(~judged.right)
    order = np.argsort(-judged.score[wrong], kind="stable")[:most]
    return [int(i) for i in wrong[order]]


def thumbnails(wanted: set[str], inputs: Iterator[Input]) -> dict[str, bytes]:
    """Small JPEGs of the inputs with these names; what cannot be read any more is left out."""
    found: dict[str, bytes] = {}
    for given in inputs:
        if len(found) == len(wanted):
            break
        if given.name not in wanted or given.name in found or given.failure is not None:
            continue
        here = fetched(given)
        source = here.data if here.data is not None else here.file
        if source is None or here.failure is not None:
            continue
        try:
            found[given.name] = small(images.load(source).image)
        except (PictureError, OSError, MemoryError):
            continue
    return found


def small(picture: Image.Image) -> bytes:
    """RGB picture -> JPEG of at most SIDE pixels, with nothing of its metadata."""
    picture.thumbnail((SIDE, SIDE))
    return jpeg(picture)


def safe(text: str, most: int = 200) -> str:
    """Text from outside as it may stand in the page."""
    text = printable(text)
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def lines(
    evaluations: Sequence[Evaluation],
    differences: Sequence[Difference],
    judged: Judged,
    wrong: Sequence[int],
    found: dict[str, bytes],
) -> Iterator[str]:
    """The page."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    first = evaluations[0]
    names = " and ".join(safe(one.name) for one in evaluations)
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(digest)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>{names}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{names}, {first.top1.n:,} pictures</h1>"
    if len(evaluations) > 1:
        yield from beside(evaluations, differences)
    for one in evaluations:
        if len(evaluations) > 1:
            yield f"<h2>{safe(one.name)}</h2>"
        yield from detail(one)
    yield from pictures(first, judged, wrong, found)
    yield "</body></html>"


def beside(evaluations: Sequence[Evaluation], differences: Sequence[Difference]) -> Iterator[str]:
    """Several models in one table, and how they differ."""
    head, rows = report.columns(evaluations)
    yield '<div class="wide"><table><tr>' + "".join(f"<th>{safe(name)}</th>" for name in head) + "</tr>"
    for row in rows:
        cells = "".join(f'<td class="n">{safe(cell)}</td>' for cell in row[1:])
        yield f"<tr><td>{safe(row[0])}</td>{cells}</tr>"
    yield "</table></div>"
    for other, one in zip(evaluations[1:], differences, strict=True):
        yield f"<p>{safe(report.sentence(evaluations[0], other, one), 1000)}</p>"


def detail(found: Evaluation) -> Iterator[str]:
    """One model."""
    yield '<div class="wide"><table>'
    for name, value, note in report.figures(found):
        yield f'<tr><th>{safe(name)}</th><td class="n">{safe(value)}</td><td class="note">{safe(note)}</td></tr>'
    yield '</table></div><div class="plots">'
    if found.scored.bins is not None:
        yield from reliability(found.scored.bins)
    if len(found.scored.curve) > 1:
        yield from risk_coverage(found.scored.curve)
    yield "</div>"
    if found.confusions:
        yield from matrix(found)
    yield from classes(found)


def frame(height: int = 320) -> Iterator[str]:
    """The axes of a plot of fractions: x and y from 0 to 1 are 40..390 and 280..10."""
    yield f'<svg viewBox="0 0 400 {height}" role="img"><rect class="frame" x="40" y="10" width="350" height="270"/>'
    for i in range(0, 11, 2):
        x, y = 40 + 35 * i, 280 - 27 * i
        yield f'<path class="grid" d="M{x} 10V280M40 {y}H390"/>'
        yield f'<text x="{x}" y="294" text-anchor="middle">{i * 10}</text>'
        yield f'<text x="35" y="{y + 4}" text-anchor="end">{i * 10}</text>'


def reliability(bins: Sequence[Bin]) -> Iterator[str]:
    """Accuracy by score, and where the mean score is."""
    yield "<figure><h3>Reliability</h3>"
    yield from frame()
    for b in bins:
        if not b.n:
            continue
        x, width, top = 40 + 350 * b.low, 350 * (b.high - b.low) - 1, 280 - 270 * b.accuracy
        mean = 280 - 270 * b.confidence
        told = f"scores {b.low:.2f} to {b.high:.2f}: {b.n:,} pictures, {report.percent(b.accuracy)} right"
        yield (
            f'<rect class="bar" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{280 - top:.1f}">'
            f"<title>{told}, mean score {b.confidence:.3f}</title></rect>"
            f'<path class="mark" d="M{x:.1f} {mean:.1f}h{width:.1f}"/>'
        )
    yield '<path class="axis" stroke-dasharray="4" d="M40 280L390 10"/>'
    yield '<text x="215" y="312" text-anchor="middle">score of the best class, in percent</text></svg>'
    yield "<figcaption>Bars: how many were right, in percent. Lines: their mean score.</figcaption></figure>"


def risk_coverage(curve: Sequence[tuple[float, float]]) -> Iterator[str]:
    """The accuracy of the answers by how many are given."""
    yield "<figure><h3>Risk and coverage</h3>"
    yield from frame()
    points = " ".join(f"{40 + 350 * covered:.1f},{280 - 270 * accuracy:.1f}" for covered, accuracy in curve)
    yield f'<polyline class="curve" points="{points}"/>'
    yield '<text x="215" y="312" text-anchor="middle">pictures answered, the surest first, in percent</text></svg>'
    yield "<figcaption>How many of the answers are right, in percent.</figcaption></figure>"


def matrix(found: Evaluation) -> Iterator[str]:
    """What is taken for what, among the classes that are confused most."""
    pairs = [classes for *classes, _ in found.confusions]
    confused = list(dict.fromkeys(index for pair in pairs for index in pair))
    chosen = sorted(confused[:MATRIX])
    place = {index: i for i, index in enumerate(chosen)}
    cells = {(place[t], place[a]): n for t, a, n in found.confusions if t in place and a in place}
    right = {place[c.index]: c.rate.hits for c in found.by_class if c.index in place and c.rate.hits}
    cells |= {(i, i): n for i, n in right.items()}
    most = max((n for (t, a), n in cells.items() if t != a), default=1)
    side, left, top = 24, 170, 150
    width, height = left + side * len(chosen) + 110, top + side * len(chosen) + 10
    all_of_them = len(chosen) == len(confused)
    yield f"<h3>Confusions{'' if all_of_them else f', of the {len(chosen)} classes that are confused most'}</h3>"
    yield "<p>A row is what a picture shows, a column what was answered; grey is right.</p>"
    yield f'<div class="wide"><svg class="matrix" viewBox="0 0 {width} {height}" role="img">'
    for i, index in enumerate(chosen):
        name = safe(found.labels.names[index], 26)
        x, y = left + side * i, top + side * i
        yield f'<path class="grid" d="M{left} {y}h{side * len(chosen)}M{x} {top}v{side * len(chosen)}"/>'
        yield f'<text x="{left - 6}" y="{y + 16}" text-anchor="end">{name}</text>'
        yield f'<text transform="translate({x + 14} {top - 6}) rotate(-50)">{name}</text>'
    for (t, a), n in sorted(cells.items()):
        x, y = left + side * a, top + side * t
        kind, strength = ("right", 0.25) if t == a else ("cell", 0.2 + 0.7 * n / most)
        told = f"{safe(found.labels.names[chosen[t]])}, answered {safe(found.labels.names[chosen[a]])}: {n:,}"
        yield (
            f'<rect class="{kind}" fill-opacity="{strength:.2f}" x="{x}" y="{y}" width="{side}" height="{side}">'
            f'<title>{told}</title></rect><text x="{x + 12}" y="{y + 16}" text-anchor="middle">{n}</text>'
        )
    yield "</svg></div>"


def classes(found: Evaluation) -> Iterator[str]:
    """The classes with errors, the worst first."""
    worst = report.worst(found)
    if not worst:
        return
    more = f", the worst {WORST} of {len(worst):,} with errors" if len(worst) > WORST else ""
    yield f'<h3>Classes{more}</h3><div class="wide"><table>'
    yield "<tr><th>class</th><th>right</th><th>interval, %</th><th>taken for</th></tr>"
    for c in worst[:WORST]:
        others = ", ".join(f"{safe(found.labels.names[other])} ({n})" for other, n in c.taken_for)
        yield (
            f'<tr><td>{safe(found.labels.names[c.index])}</td><td class="n">{c.rate.hits}/{c.rate.n}</td>'
            f'<td class="n">{report.interval(c.rate)}</td><td>{others}</td></tr>'
        )
    yield "</table></div>"


def pictures(first: Evaluation, judged: Judged, wrong: Sequence[int], found: dict[str, bytes]) -> Iterator[str]:
    """The wrong ones."""
    count = int((~judged.right).sum())
    if not count:
        return
    yield f"<h2>Wrong pictures{f', {len(wrong)} of {count:,}' if count > len(wrong) else ''}</h2>"
    yield f"<p>The surest first{f', by {safe(first.name)}' if first.name else ''}.</p>" + '<ul class="pictures">'
    names = judged.labels.names
    for i in wrong:
        path, truth = judged.paths[i], int(judged.truth[i])
        data = found.get(path)
        shown = '<span class="none"></span>'
        if data is not None:
            shown = f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
        label = safe(names[truth]) if truth >= 0 else "several labels"
        answer, score = safe(names[int(judged.best[i, 0])]), f"{judged.score[i]:.3f}"
        yield f"<li>{shown}{label}<br><b>{answer}</b> {score}<small>{safe(path, 120)}</small></li>"
    yield "</ul>"
