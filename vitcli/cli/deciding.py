"""The options of `options.Answers`, applied to a classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vitcli.cli import console, options

if TYPE_CHECKING:
    from pathlib import Path

    from vitcli.classifier import Classifier
    from vitcli.decision import Decider


def applied(answers: options.Answers, classifier: Classifier, quiet: bool) -> Classifier:
    """The classifier that answers so; itself where nothing was asked for.

    Raises UsageError for classes that there are not, and for a calibration that does not speak of this model.
    """
    if not answers.extra:
        return classifier
    from vitcli import decision

    labels = classifier.labels
    if answers.only:
        classifier = replace(classifier, only=decision.Only.of(labels, answers.only))
    if answers.min_score is not None:
        decider = decision.by_score(labels, answers.min_score, rollup=answers.rollup)
        return replace(classifier, decider=decider)
    if answers.accuracy is not None and answers.calibration is not None:
        decider = calibrated(classifier, answers.calibration, answers.accuracy, answers.rollup, quiet)
        return replace(classifier, decider=decider)
    return classifier


def calibrated(classifier: Classifier, path: Path, accuracy: float, rollup: bool, quiet: bool) -> Decider:
    """Decisions by a file, which must fit the model; what makes it doubtful is said, unless `quiet`."""
    from vitcli import decision
    from vitcli.calibration import Calibration
    from vitcli.errors import UsageError

    calibration, header = Calibration.read(path), classifier.header()
    if why := calibration.misfit(header, header["sha256"] or classifier.checkpoint.sha256()):
        raise UsageError(f"{path} does not speak of this model: {why}. `vit calibrate` makes one that does.")
    try:
        decider = decision.by_accuracy(classifier.labels, calibration, accuracy, rollup=rollup)
        point = calibration.point("rollup" if rollup else "thresholds", accuracy)
    except ValueError as error:
        raise UsageError(f"{path}: {error}. `vit calibrate` measures others.") from None
    for doubt in calibration.doubts(header, point) if not quiet else ():
        console.note(f"{path}: {doubt}.")
    return decider
