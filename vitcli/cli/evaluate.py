"""`vit evaluate`: labelled pictures in, figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vitcli.cli import console, options, run

if TYPE_CHECKING:
    from vitcli.classifier import Classifier
    from vitcli.evaluation.scores import Judged
    from vitcli.report import Report
    from vitcli.truth import Source


@options.grouped
def evaluate(
    network: options.Network,
    weights: options.LabelledWeights,
    truths: options.Truths,
    inputs: options.Inputs,
    decoding: options.Decoding,
    rows: options.JudgedRows,
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
    """
    from vitcli.errors import UsageError

    if not paths and not inputs.stdin_image:
        raise UsageError("Name at least one folder or file of labelled pictures, or - to read names from stdin.")
    source = labels_of(paths or [], truths)
    read = [("a file of labels", file) for file in (*source.read, *([truths.classes] if truths.classes else []))]
    run.apart(rows, [*run.named(list(source.names), weights), *read])
    given = run.Given.of(list(source.names), network.device, inputs)
    classifier = among(run.load(network, weights, rows, given, quiet), truths)
    judged, report = evaluated(classifier, given, source, network, decoding, rows, quiet, verbose)
    if not report.interrupted:
        told(judged, report)
    run.settle(report)


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
) -> tuple[Judged, Report]:
    """Every input answered and held against its label. Raises VitError where not one picture could be judged."""
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
        extra=frozenset({"truth", *(["only"] if classifier.only else [])}),
    )
    header = {**classifier.header(), "decode": decoding.decode, "truth": source.record()} if kind else {}
    chosen = frozenset(classifier.only.classes) if classifier.only else None
    labelled = Labelled(source, classifier.labels, chosen)
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


def told(judged: Judged, report: Report) -> None:
    """The figures on stdout."""
    typer.echo(f"{len(judged):,} pictures: top-1 {judged.right.mean():.2%}, top-5 {judged.right5.mean():.2%}")
