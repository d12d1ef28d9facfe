"""Evaluations for a person at a terminal: figures with their intervals, what goes wrong, two plots in characters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from vitcli.escaping import printable, short
from vitcli.evaluation.comparing import Difference
from vitcli.evaluation.measured import Evaluation
from vitcli.evaluation.metrics import Bin, OfClass, Rate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WORST, CONFUSED = 10, 10  # classes and confusions that are told of
ENOUGH = 5  # pictures of a class, before its accuracy says anything; fewer count only where no class has so many
PIPE_WIDTH, WIDEST, NARROWEST = 100, 110, 32
HEIGHT = 8  # lines of the risk-coverage curve

# full, empty, mark; of terminals that have only ASCII
BLOCKS, ASCII = ("█", "░", "│"), ("#", ".", "|")

Line: TypeAlias = "Text | str"


def show(console: Console, evaluations: Sequence[Evaluation], differences: Sequence[Difference] = ()) -> None:
    """Print the report: one model in detail, or several side by side; `differences` are the first's from each other."""
    width = PIPE_WIDTH if not console.file.isatty() else max(NARROWEST, min(WIDEST, console.width))
    drawn = ASCII if console.options.ascii_only else BLOCKS
    first = evaluations[0]
    lines = detail(first, width, drawn) if len(evaluations) == 1 else beside(evaluations, differences, width)
    console.width = width
    for line in lines:
        console.print(line)


def percent(value: float, places: int = 2) -> str:
    """A fraction in percent; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value * 100:.{places}f} %"


def bare(value: float, places: int = 2) -> str:
    """The same, where the sign stands above."""
    return percent(value, places).removesuffix(" %")


def interval(rate: Rate) -> str:
    """The ends in percent."""
    low, high = rate.interval
    return f"{low * 100:.1f} to {high * 100:.1f}"


def figures(found: Evaluation) -> Iterator[tuple[str, str, str]]:
    """(name, value, what to know of it)."""
    scored, coverage = found.scored, found.scored.coverage
    yield "top-1", percent(found.top1.value), interval(found.top1)
    yield "top-5", percent(found.top5.value), interval(found.top5)
    if found.real is not None:
        yield "ReaL", percent(found.real.value), f"{interval(found.real)}, of {found.real.n:,} with ReaL labels"
    if found.by_class:
        yield "class mean", percent(found.class_accuracy), f"top-1, the mean of {len(found.by_class):,} classes"
    if scored.ece is not None:
        yield "ECE", f"{scored.ece:.4f}", "scores and accuracy apart, over 15 bins"
    if scored.temperature is not None:
        at = "" if scored.ece_at_temperature is None else f"; with it the ECE is {scored.ece_at_temperature:.4f}"
        yield "temperature", f"{scored.temperature:.3f}", f"fits scores best{at}"
    if not math.isnan(scored.auroc):
        yield "AUROC", f"{scored.auroc:.3f}", "how often a right answer has the higher score than a wrong one"
    yield "AURC", f"{scored.aurc:.4f}", "mean error rate, answering the surest first"
    name = f"{found.accuracy * 100:g} % right"
    if coverage.answered:
        yield (
            name,
            percent(coverage.coverage, 1),
            f"of the pictures, those with a score of {coverage.threshold:.3f} or more",
        )
    else:
        yield name, "none", "no score is high enough for this accuracy"
    if (decided := found.decided) is not None:
        told = decided.answered
        broader = f", {decided.broader.n:,} of them by a broader term" if decided.broader.n else ""
        share = told.n / decided.n if decided.n else math.nan
        yield "answered", percent(share, 1), f"{told.n:,} of {decided.n:,}{broader}; the rest is unknown"
        yield "right of these", percent(told.value, 1), interval(told)
    if found.about.get("pictures_per_second"):
        yield (
            "speed",
            f"{pace(found)}/s",
            " ".join(str(found.about[k]) for k in ("device", "dtype") if k in found.about),
        )


def detail(found: Evaluation, width: int, drawn: tuple[str, str, str]) -> Iterator[Line]:
    """One model."""
    from rich.text import Text

    yield Text(
        f"{short(found.name)}, {found.top1.n:,} pictures" if found.name else f"{found.top1.n:,} pictures", "bold"
    )
    rows = list(figures(found))
    left, middle = max(len(name) for name, _, _ in rows), max(len(value) for _, value, _ in rows)
    for name, value, note in rows:
        room = width - left - middle - 6
        shown = next((part for part in (note, note.split(",")[0], note.split(";")[0]) if len(part) <= room), "")
        yield Text.assemble(
            f"  {name:<{left}}  ", (f"{value:>{middle}}", "cyan"), ("  " + shown if shown else "", "dim")
        )
    yield from worst_classes(found, width)
    yield from confused(found, width)
    if found.scored.bins is not None:
        yield from reliability_plot(found.scored.bins, width, drawn)
    if len(found.scored.curve) > 1:
        yield from curve_plot(found.scored.curve, width, drawn)


def worst(found: Evaluation) -> list[OfClass]:
    """The classes that have errors, those with the lowest accuracy first, then those with many pictures."""
    enough = [c for c in found.by_class if c.rate.n >= ENOUGH] or found.by_class
    return sorted((c for c in enough if c.rate.hits < c.rate.n), key=lambda c: (c.rate.value, -c.rate.n))


def worst_classes(found: Evaluation, width: int) -> Iterator[Line]:
    """A few of them."""
    wrong = worst(found)
    if not wrong:
        return
    yield ""
    yield heading("Worst classes", f"{len(wrong)} of {len(found.by_class)} have errors" if len(wrong) > WORST else "")
    room = max(12, width - 16)
    for c in wrong[:WORST]:
        others = ", ".join(short(found.labels.names[other], 40) for other, _ in c.taken_for[:2])
        named = short(found.labels.names[c.index], room // 2)
        yield cut(f"  {c.rate.hits:>4}/{c.rate.n:<4}  {named}" + (f", taken for {others}" if others else ""), width)


def confused(found: Evaluation, width: int) -> Iterator[Line]:
    """What is most often taken for what."""
    often = [one for one in found.confusions if one[2] > 1] or found.confusions
    if not often:
        return
    yield ""
    yield heading("Most frequent confusions", "the label, and what was answered")
    for truth, answer, n in often[:CONFUSED]:
        yield cut(f"  {n:>5}  {printable(found.labels.names[truth])}, {printable(found.labels.names[answer])}", width)


def reliability_plot(bins: Sequence[Bin], width: int, drawn: tuple[str, str, str]) -> Iterator[Line]:
    """A bar of the accuracy for each bin, and a mark where the mean score is: they should end together."""
    from rich.text import Text

    full, empty, mark = drawn
    yield ""
    yield heading("Reliability", f"the bar is the accuracy, {mark} the mean score; in between, what is amiss")
    bar = max(6, min(60, width - 26))
    for b in reversed(bins):
        if not b.n:
            continue
        at, score = round(b.accuracy * bar), min(bar - 1, round(b.confidence * bar))
        cells = [full if i < at else empty for i in range(bar)]
        cells[score] = mark
        yield Text.assemble(
            f"  {b.low:.2f}-{b.high:.2f} ", (f"{b.n:>6,}  ", "dim"), ("".join(cells[:score]), "green"),
            (mark, "bold yellow"), ("".join(cells[score + 1 :]), "green"),
        )  # fmt: skip


def curve_plot(curve: Sequence[tuple[float, float]], width: int, drawn: tuple[str, str, str]) -> Iterator[Line]:
    """The accuracy of the answers (upwards) against how many are answered (to the right)."""
    from rich.text import Text

    full, _, _ = drawn
    columns = max(16, min(60, width - 12))
    accuracies = [nearest(curve, (i + 0.5) / columns) for i in range(columns)]
    low = math.floor(min(accuracies) * 20) / 20
    low = low if low < 1 else 0.95
    yield ""
    yield heading("Risk and coverage", "the accuracy of the answers, if only the surest so many are given")
    for line in range(HEIGHT, 0, -1):
        floor, ceiling = (low + (1 - low) * (i / HEIGHT) for i in (line - 1, line))
        cells = "".join(full if a > floor or line == 1 else " " for a in accuracies)
        yield Text.assemble((f"  {ceiling * 100:5.1f} % ", "dim"), (cells.rstrip(), "green"))
    ends = f"{'':10}0 %{'100 % answered':>{columns - 3}}"
    yield Text(ends, "dim")


def nearest(curve: Sequence[tuple[float, float]], coverage: float) -> float:
    """The accuracy at the first point that covers so much."""
    return next((accuracy for covered, accuracy in curve if covered >= coverage), curve[-1][1])


def columns(found: Sequence[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Several models side by side: the names of the columns, and a row of each."""
    same = len({one.top1.n for one in found}) == 1
    cells = [("model", [short(one.name, 40) for one in found])]
    if not same:
        cells.append(("n", [f"{one.top1.n:,}" for one in found]))
    cells += [
        ("top-1 %", [bare(one.top1.value) for one in found]),
        ("95 % int.", [interval(one.top1).replace(" to ", "-") for one in found]),
        ("top-5 %", [bare(one.top5.value) for one in found]),
        *([("ReaL %", [bare(o.real.value) if o.real else "-" for o in found])] if any(o.real for o in found) else []),
        ("ECE", [f"{one.scored.ece:.4f}" if one.scored.ece is not None else "-" for one in found]),
        ("coverage %", [bare(one.scored.coverage.coverage, 1) for one in found]),
        ("params", [millions(one.about.get("parameters")) for one in found]),
        ("pictures/s", [pace(one) for one in found]),
    ]
    return [name for name, _ in cells], [list(row) for row in zip(*(column for _, column in cells), strict=True)]


def pace(found: Evaluation) -> str:
    """Pictures a second."""
    rate = found.about.get("pictures_per_second")
    return f"{rate:,.3g}" if rate else "-"


def beside(found: Sequence[Evaluation], differences: Sequence[Difference], width: int) -> Iterator[Line]:
    """Several models: a table, then how the first differs from each other one."""
    from rich.text import Text

    head, body = columns(found)
    same = "n" not in head
    yield Text(f"{len(found)} models, {found[0].top1.n:,} pictures" if same else f"{len(found)} models", "bold")
    rows = [head, *body]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= width:
        for i, row in enumerate(rows):
            first, *rest = (f"{cell:<{w}}" if j == 0 else f"{cell:>{w}}"
                            for j, (cell, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
            yield Text("  " + "  ".join([first, *rest]), "dim" if i == 0 else "")
    else:  # too narrow for a table
        for row in rows[1:]:
            yield ""
            yield Text(f"  {row[0]}", "bold")
            for name, cell in zip(rows[0][1:], row[1:], strict=True):
                yield Text.assemble((f"    {name:<{max(map(len, rows[0]))}}  ", "dim"), cell)
    if differences:
        yield ""
        yield heading("Differences in top-1", "on the pictures that both answered; interval by bootstrap, p by McNemar")
    for other, one in zip(found[1:], differences, strict=True):
        yield from wrapped(sentence(found[0], other, one), width)


def millions(parameters: object) -> str:
    """A number of parameters."""
    return f"{parameters / 1e6:,.1f} M" if isinstance(parameters, int) else "-"


def sentence(ours: Evaluation, theirs: Evaluation, found: Difference) -> str:
    """A comparison in words."""
    if not found.n:
        return f"{short(theirs.name)}: no picture was answered by both."
    low, high = (f"{end * 100:+.2f}" for end in found.interval)
    p = "p < 0.0001" if found.p < 0.0001 else f"p = {found.p:.4f}"
    verdict = "more than chance" if found.clear else "may be chance"
    return (
        f"{short(ours.name)} is {found.value * 100:+.2f} points from {short(theirs.name)} ({low} to {high}, {p}): "
        f"{verdict}. It alone is right on {found.only_ours:,}, the other alone on {found.only_theirs:,} of {found.n:,}."
    )


def wrapped(text: str, width: int) -> Iterator[str]:
    """A paragraph."""
    import textwrap

    yield from textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ")


def heading(name: str, note: str = "") -> Text:
    """Above a part."""
    from rich.text import Text

    return Text.assemble((name, "bold"), (f": {note}" if note else "", "dim"))


def cut(text: str, width: int) -> str:
    """In one line."""
    text = printable(text)
    return text if len(text) <= width else text[: width - 3] + "..."
