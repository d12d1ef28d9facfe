"""`vit calibrate`: labelled pictures in, a file that says how sure a model has to be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitcli.cli import options, run


@options.grouped
def calibrate(
    network: options.Network,
    weights: options.LabelledWeights,
    truths: options.Truths,
    inputs: options.Inputs,
    decoding: options.Decoding,
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, metavar="FILE", help="Where the calibration goes.")
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Labelled pictures, as `vit evaluate` takes them."),
    ] = None,
    accuracy: options.TargetAccuracy = 0.95,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find out how sure a model has to be, on pictures whose classes are known.

    The file holds, for several accuracies, the score from which on answers are
    right so often, and how many pictures then get an answer; for this model,
    its preprocessing and its classes alone. Use pictures like those that are
    to be classified, which the model was not trained on: some thousands.

    \b
    vit calibrate val/ -o calibration.json
    vit classify photos/ --accuracy 0.95 --calibration calibration.json
    """
    from vitcli.cli import evaluate, reporting
    from vitcli.errors import UsageError

    if not paths and not inputs.stdin_image:
        raise UsageError("Name at least one folder or file of labelled pictures, or - to read names from stdin.")
    source, rows = evaluate.labels_of(paths or [], truths), options.JudgedRows(force=force)
    reports = options.Reports(accuracy=accuracy, calibrate=output)
    reports.check()
    reporting.check(options.Models(model=[network.model]), reports, rows, truths, inputs, source)
    read = [("a file of labels", file) for file in source.read]
    run.apart(rows, [*run.named(list(source.names), weights), *read], {"-o": output})
    given = run.Given.of(list(source.names), network.device, inputs)
    classifier = run.load(network, weights, rows, given, quiet)
    judged, report = evaluate.evaluated(classifier, given, source, network, decoding, rows, quiet, verbose)
    if not report.interrupted:
        reporting.calibrate(classifier, judged, output, accuracy, quiet)
    run.settle(report)
