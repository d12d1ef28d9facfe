"""`vit evaluate`: labelled pictures in, figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vitcli.cli import console, options, run

if TYPE_CHECKING:
    from vitcli.classifier import Classifier
    from vitcli.evaluation.scores import Judged
    from vitcli.labels import Labels
    from vitcli.report import Report
    from vitcli.truth import Source


@options.grouped
def evaluate(
    network: options.Models,
    weights: options.LabelledWeights,
    truths: options.Truths,
    reports: options.Reports,
    decisions: options.Decisions,
    rows: options.JudgedRows,
    inputs: options.Inputs,
    decoding: options.Decoding,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Folders named after classes, tars with .cls, files of labels; or pictures, with --truth.",
        ),
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure how good a model is, on pictures whose classes are known.

    A label is a WordNet id, a name, a synonym or a number; what matches no
    class, or several, is named and counted, and its picture is not judged.

    \b
    vit evaluate val/                              folders named after classes
    vit evaluate photos/ --truth labels.csv        columns file and label
    vit evaluate val/ --truth ILSVRC2012_validation_ground_truth.txt
    vit evaluate val/ -o rows.csv --resume         a row for each picture
    vit evaluate val/ --html report.html           plots, and what went wrong
    vit evaluate val/ --min-score 0.8 --rollup     how often decisions are right
    vit evaluate val/ -m vit-base-patch16-224 --against microsoft/resnet-50
    """
    from vitcli.cli import deciding, reporting
    from vitcli.errors import UsageError

    if not paths and not inputs.stdin_image:
        raise UsageError("Name at least one folder or file of labelled pictures, or - to read names from stdin.")
    if rows.options().resume and rows.output is None:
        raise UsageError("--resume needs an output file: name it with -o.")
    source = labels_of(paths or [], truths)
    reporting.check(network, reports, rows, truths, inputs, source, decisions)
    answers = decisions.answers(reports.accuracy)
    read = [("a file of labels", file) for file in (*source.read, *([truths.classes] if truths.classes else []))]
    read += [("the calibration", decisions.calibration)] if decisions.calibration else []
    written = {"--html": reports.html, "--calibrate": reports.calibrate}
    run.apart(rows, [*run.named(list(source.names), weights), *read], written)
    done: list[reporting.Done] = []
    failed = False
    for load in reporting.loaders(network, weights, rows, quiet):
        given = run.Given.of(list(source.names), network.device, inputs)
        classifier = deciding.applied(answers, among(load(given), truths), quiet)
        numbered = done[0].labels if done else None
        judged, report = evaluated(classifier, given, source, network, decoding, rows, quiet, verbose, numbered)
        if report.interrupted:
            run.settle(report)
        done.append(reporting.Done.of(classifier, given, judged, report, reports.accuracy))
        if reports.calibrate is not None:
            reporting.calibrate(classifier, judged, reports.calibrate, reports.accuracy, quiet)
        failed = failed or bool(report.failed)
        del classifier, report  # the next model needs the room
    reporting.told(done, rows.format, reports.html, quiet)
    if failed:
        raise typer.Exit(3)


def labels_of(paths: list[str], truths: options.Truths) -> Source:
    """The labels of what was named."""
    from vitcli.truth import Columns, Source

    return Source.of(
        paths,
        table=truths.truth,
        columns=Columns(truths.file_column, truths.label_column),
        synsets=truths.synsets,
        real=truths.real,
    )


def among(classifier: Classifier, truths: options.Truths) -> Classifier:
    """The classifier, with the classes of --classes alone."""
    from dataclasses import replace

    from vitcli.decision import Only
    from vitcli.truth import subset

    if truths.classes is None:
        return classifier
    chosen = subset(truths.classes, classifier.labels)
    return replace(classifier, only=Only(chosen, (str(truths.classes),)))


def evaluated(
    classifier: Classifier,
    given: run.Given,
    source: Source,
    network: options.Network,
    decoding: options.Decoding,
    rows: options.Rows,
    quiet: bool,
    verbose: bool,
    numbered: Labels | None = None,
) -> tuple[Judged, Report]:
    """Every input answered and held against its label; `numbered` are the classes that numbers count, if not its own.

    Raises VitError where not one picture could be judged.
    """
    from dataclasses import replace

    from vitcli import writers
    from vitcli.errors import VitError
    from vitcli.evaluation.judging import Judge, Nowhere
    from vitcli.evaluation.scores import Spool, logits_beside
    from vitcli.truth import Labelled

    kind = writers.writer_for(None, rows.output) if rows.output else None
    settings = replace(
        rows.options(),
        topk=min(rows.topk, len(classifier.labels)),
        extra=frozenset({"truth", *["only"] * bool(classifier.only), *["decision"] * bool(classifier.decider)}),
    )
    header = {**classifier.header(), "decode": decoding.decode, "truth": source.record()} if kind else {}
    chosen = frozenset(classifier.only.classes) if classifier.only else None
    labelled = Labelled(source, classifier.labels, chosen, numbered)
    judge = Judge(
        classifier,
        labelled,
        (
            lambda: writers.open_output(rows.output, None, header, settings) if kind else Nowhere(settings),
            lambda: Spool(logits_beside(rows.output), len(classifier.labels), header, resume=settings.resume),
        ),
    )
    report = run.answer(
        judge, classifier, given, lambda: judge,
        network=network, decoding=decoding, rows=rows, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    judged = judge.judged()
    if not quiet and not report.interrupted:
        for sentence in judged.counts.sentences(labelled.classes):
            console.note(sentence)
    if not len(judged) and not report.interrupted:
        raise VitError("Not one picture could be judged: none has both an answer and a label that is a class.")
    return judged, report
