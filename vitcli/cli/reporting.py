"""What `vit evaluate` and `vit calibrate` make of judged pictures: reports, comparisons, pages, calibrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcli.cli import console, options, run

if TYPE_CHECKING:
    from vitcli.classifier import Classifier
    from vitcli.evaluation.measured import Evaluation
    from vitcli.evaluation.scores import Judged
    from vitcli.labels import Labels
    from vitcli.report import Report
    from vitcli.truth import Source


@dataclass(frozen=True)
class Done:
    """One model over all pictures; `labels` are all of its classes."""

    labels: Labels
    given: run.Given
    judged: Judged
    evaluation: Evaluation

    @classmethod
    def of(cls, classifier: Classifier, given: run.Given, judged: Judged, report: Report, accuracy: float) -> Done:
        """With the figures."""
        from vitcli.evaluation.measured import measure

        found = measure(judged, about(classifier, report), accuracy=accuracy, decider=classifier.decider)
        return cls(classifier.labels, given, judged, found)


def about(classifier: Classifier, report: Report) -> dict[str, Any]:
    """What a report says of a model besides its figures."""
    config, backend = classifier.checkpoint.config, classifier.backend
    return {
        "model": classifier.name,
        "revision": classifier.revision,
        "architecture": config.name,
        "parameters": config.parameters,
        "engine": backend.engine,
        "device": backend.device,
        "dtype": backend.dtype,
        "seconds": round(report.took, 3),
        "pictures_per_second": round(report.rate, 3) if report.done else None,
    }


def check(
    network: options.Models,
    reports: options.Reports,
    rows: options.Rows,
    truths: options.Truths,
    inputs: options.Inputs,
    source: Source,
    decisions: options.Decisions | None = None,
) -> None:
    """Raise UsageError for options that cannot go together."""
    from vitcli.errors import UsageError

    several = len(network.model) + len(network.against or ()) > 1
    if several and (rows.output or rows.failures or rows.summary_json or reports.calibrate):
        raise UsageError("-o, --failures, --summary-json and --calibrate are of one model: evaluate each alone.")
    if several and (inputs.stdin_image or "-" in source.names):
        raise UsageError("Every model reads the pictures anew, and stdin can be read once: name them, or use @FILE.")
    if several and truths.classes:
        raise UsageError("--classes is of one model: evaluate each alone.")
    if decisions and decisions.asked and (truths.classes or reports.calibrate):
        raise UsageError("Decisions are among all classes, by a rule that is there: leave out --classes, --calibrate.")
    if several and decisions and decisions.calibration:
        raise UsageError("--calibration is of one model: evaluate each alone.")
    if reports.calibrate is not None and truths.classes:
        raise UsageError("A calibration is of all classes of a model: leave out --classes.")
    if len(set(network.model)) < len(network.model):
        raise UsageError("One --model is named twice.")


def loaders(
    network: options.Models, weights: options.LabelledWeights, rows: options.Rows, quiet: bool
) -> Iterator[Callable[[run.Given], Classifier]]:
    """What loads each model; a `load` that is done with is not kept, nor is its model."""
    for own in network.each:
        yield partial(run.load, own, weights, rows, quiet=quiet)
    for name in network.against or ():
        yield partial(foreign, name, network.device, quiet=quiet)


def foreign(name: str, device: str, given: run.Given, quiet: bool) -> Classifier:
    """A model of transformers."""
    from vitcli.evaluation import against

    with console.doing(f"Loading {name}", not quiet):
        return against.load(name, device)


def told(done: list[Done], form: options.Form, html: Path | None, quiet: bool) -> None:
    """The figures on stdout, and a page where one was asked for."""
    from vitcli.evaluation.measured import compare
    from vitcli.evaluation.report import show

    evaluations = [one.evaluation for one in done]
    differences = [compare(done[0].judged, other.judged) for other in done[1:]]
    if form == "table":
        show(console.out(), evaluations, differences)
    elif len(done) == 1:
        console.document(evaluations[0].record())
    else:
        against = zip(evaluations[1:], differences, strict=True)
        console.document({
            "models": [found.record() for found in evaluations],
            "comparisons": [{"model": evaluations[0].name, "against": other.name, **found.record()}
                            for other, found in against],
        })  # fmt: skip
    if html is not None:
        from vitcli.evaluation import page

        page.write(html, evaluations, differences, done[0].judged, done[0].given.again)
        if not quiet:
            console.say(f"Wrote {html}.")


def calibrate(classifier: Classifier, judged: Judged, path: Path, accuracy: float, quiet: bool) -> None:
    """A calibration of this model in a file, and what makes it doubtful. Raises UsageError and OutputError."""
    import json
    from datetime import date

    from vitcli.errors import UsageError
    from vitcli.escaping import strict
    from vitcli.evaluation import fitting
    from vitcli.report import written
    from vitcli.writers.base import explained

    if classifier.labels.activation == "none":
        raise UsageError("A calibration needs scores that are probabilities; this model gives plain numbers.")
    header: Mapping[str, Any] = classifier.header()
    found = fitting.calibration(
        judged, header, header["sha256"] or classifier.checkpoint.sha256(), accuracy, date.today().isoformat()
    )
    with explained(path):
        written(path, [json.dumps(strict(found.record()), indent=2).encode()])
    if quiet:
        return
    for sentence in fitting.doubts(found):
        console.note(sentence)
    console.say(f"Wrote {path}.")
