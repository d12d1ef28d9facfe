"""Options shared by the commands, so that one option reads and behaves the same everywhere.

A `Group` holds options: a command that is `grouped` and has a parameter of that type has all of them.
Choices are spelled out here, so that help imports none of the tables they come from; tests hold them to those tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

if TYPE_CHECKING:
    from vitcli import checkpoints, sources, writers

DEFAULT_MODEL = "google/vit-base-patch16-224"  # catalog.DEFAULT, without importing it for a help text
MOST_WORKERS = 256
MOST_PIXELS = 10**12  # no picture has more, and a float must hold them


def model_names(incomplete: str) -> list[str]:
    """For a shell's completion: the known models."""
    from vitcli.hub import catalog

    names = (name for model in catalog.MODELS for name in (model.name, model.repository))
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def devices(incomplete: str) -> list[str]:
    """For a shell's completion."""
    return [name for name in ("auto", "cpu", "cuda", "cuda:0", "mps") if name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        autocompletion=model_names,
        envvar="VIT_MODEL",
        metavar="NAME|DIR|FILE",
        help="A known model's name, a hub repository, or weights on disk.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="VIT_DEVICE",
        metavar="auto|cpu|cuda|cuda:N|mps",
        autocompletion=devices,
        help="Where the network runs.",
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(envvar="VIT_DTYPE", help="Arithmetic: auto is float32, and bfloat16 on CUDA."),
]
Engine = Annotated[
    Literal["auto", "numpy", "torch"],
    typer.Option(envvar="VIT_ENGINE", help="What computes: auto takes numpy for a few pictures on a CPU."),
]
Compile = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        envvar="VIT_COMPILE", help="Compile the network for the card, which takes a minute; auto does for long jobs."
    ),
]
AutoBatch = Annotated[
    int | None,
    typer.Option(
        envvar="VIT_BATCH",
        min=1,
        max=4096,
        metavar="N",
        help="Pictures that go through the network at once, up to 4096; by default what suits the device.",
    ),
]
Workers = Annotated[
    str,
    typer.Option(envvar="VIT_WORKERS", metavar="auto|N", help="Threads that decode: auto is one for each processor."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch the weights first if they are not here.")]


def stdout(path: Path | None) -> Path | None:
    """`-` is stdout, as everywhere."""
    return None if path == Path("-") else path


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        dir_okay=False,
        metavar="FILE",
        callback=stdout,
        help="Write the results to this file instead of stdout.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors on stderr.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also say where the time went, and what limited the run.")
]

INPUTS, PICTURES, ANSWERS, ROWS, RUN = "Inputs", "Decoding", "Answers", "Rows", "Long runs"  # panels of the help text

Recursive = Annotated[bool, typer.Option(rich_help_panel=INPUTS, help="Include the folders of a folder.")]
Hidden = Annotated[bool, typer.Option("--hidden", rich_help_panel=INPUTS, help="Include hidden files and folders.")]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", rich_help_panel=INPUTS, help="Follow links to folders, never in a loop."),
]
Excluding = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="PATTERN", rich_help_panel=INPUTS,
        help="Leave out files and folders of this name, '*.gif', backup/ or 'raw/*.jpg'; repeatable.",
    ),
]  # fmt: skip
NoDefaultExcludes = Annotated[
    bool,
    typer.Option(
        "--no-default-excludes", rich_help_panel=INPUTS,
        help="Do not leave out what systems keep: @eaDir, #recycle, $RECYCLE.BIN, .thumbnails, __MACOSX and the like.",
    ),
]  # fmt: skip
Null = Annotated[
    bool,
    typer.Option("--null", "-0", rich_help_panel=INPUTS, help="Names on stdin end with NUL, as from find -print0."),
]
StdinImage = Annotated[
    bool, typer.Option("--stdin-image", rich_help_panel=INPUTS, help="One picture's bytes are on stdin.")
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        envvar="VIT_MAX_PIXELS", metavar="N", min=1, max=MOST_PIXELS, rich_help_panel=PICTURES,
        help="Refuse pictures of more pixels before decoding them; by default 201 million.",
    ),
]  # fmt: skip
Decode = Annotated[
    Literal["exact", "fast"],
    typer.Option(
        envvar="VIT_DECODE", rich_help_panel=PICTURES,
        help="fast reads large JPEGs at a fraction of their size; scores differ a little.",
    ),
]  # fmt: skip
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", rich_help_panel=ANSWERS,
        help="Answer among these classes only: a name, a broader term (dog), a WordNet id or an index; repeatable.",
    ),
]  # fmt: skip
MinScore = Annotated[
    float | None,
    typer.Option(
        metavar="P", rich_help_panel=ANSWERS, help="Decide: the best label if its score is P or more, else unknown."
    ),
]
Accuracy = Annotated[
    float | None,
    typer.Option(
        metavar="A", rich_help_panel=ANSWERS,
        help="Decide so that the share A of the answers is right, 0.95 say, by --calibration.",
    ),
]  # fmt: skip
Calibration = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, metavar="FILE", rich_help_panel=ANSWERS,
        help="What was measured of this model: a file of `vit calibrate`.",
    ),
]  # fmt: skip
Rollup = Annotated[
    bool,
    typer.Option(
        "--rollup", rich_help_panel=ANSWERS,
        help="Where no label is sure enough, decide on a broader term that is (dog, vehicle).",
    ),
]  # fmt: skip
RowFormat = Annotated[
    Literal["table", "json", "jsonl", "csv", "tsv", "parquet", "sqlite"] | None,
    typer.Option("--format", "-f", rich_help_panel=ROWS, help="Default: by the ending of -o."),
]
Topk = Annotated[
    int, typer.Option("--topk", "-k", metavar="N", min=1, rich_help_panel=ROWS, help="How many labels for a picture.")
]
Threshold = Annotated[
    float | None, typer.Option(metavar="P", rich_help_panel=ROWS, help="Leave out labels with a lower score.")
]
Fields = Annotated[
    str | None, typer.Option(metavar="A,B,..", rich_help_panel=ROWS, help="Only these fields, as path,label,score.")
]
Long = Annotated[bool, typer.Option("--long", rich_help_panel=ROWS, help="csv and tsv: a line for each label.")]
Bom = Annotated[
    bool,
    typer.Option("--bom", rich_help_panel=ROWS, help="csv and tsv: begin with the mark by which Excel knows UTF-8."),
]
Resume = Annotated[bool, typer.Option("--resume", rich_help_panel=RUN, help="Continue where an earlier run stopped.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", rich_help_panel=RUN, help="Resume, and try failed inputs again.")
]
ByContent = Annotated[
    bool,
    typer.Option(
        "--by-content", rich_help_panel=RUN, help="Recognise files by content: renamed ones are not done again."
    ),
]
Force = Annotated[bool, typer.Option("--force", rich_help_panel=RUN, help="Overwrite an existing output.")]
SummaryJson = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, metavar="FILE", rich_help_panel=RUN, help="Write counts and times to this file, as JSON."
    ),
]
Failures = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, metavar="FILE", rich_help_panel=RUN, help="Write the failed inputs to this file, as JSON lines."
    ),
]
Form = Literal["table", "json"]  # how a report is written
Format = Annotated[Form, typer.Option("--format", "-f", help="For a person, or JSON with everything known.")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=model_names,
        help="A known model's name, a hub repository, or weights on disk.",
    ),
]
Preprocess = Annotated[
    Literal["hf", "timm", "deit", "torchvision", "clip", "siglip", "hf-deit"] | None,
    typer.Option(envvar="VIT_PREPROCESS", help="Prepare pictures as this family does, whatever the checkpoint says."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        envvar="VIT_IMAGE_SIZE",
        metavar="PIXELS",
        min=1,
        help="Classify at another size, a multiple of the patch; position embeddings are resized.",
    ),
]
Heads = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Attention heads, for weights that do not say (vit-pytorch).")
]
Pooling = Annotated[
    Literal["cls", "mean"] | None,
    typer.Option(help="What the head reads, for weights that do not say (vit-pytorch)."),
]
ModelNames = Annotated[
    list[str],
    typer.Option(
        "--model", "-m", autocompletion=model_names, envvar="VIT_MODEL", metavar="NAME|DIR|FILE",
        help="A known model's name, a hub repository, or weights on disk. Several are compared.",
    ),
]  # fmt: skip
COMPARED = "Reports"
Against = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|DIR", rich_help_panel=COMPARED,
        help="Any image classifier of transformers (ResNet, ConvNeXt, Swin ...), to compare with. Repeatable.",
    ),
]  # fmt: skip
TargetAccuracy = Annotated[
    float,
    typer.Option(metavar="P", rich_help_panel=COMPARED, help="How many pictures can be answered with this accuracy?"),
]
Html = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, metavar="FILE", rich_help_panel=COMPARED,
        help="Write a page with plots, confusions and the wrong pictures.",
    ),
]  # fmt: skip
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, metavar="FILE", rich_help_panel=COMPARED,
        help="Write what `vit classify --accuracy` needs to say when it does not know.",
    ),
]  # fmt: skip
TRUTH = "Labels"
TruthFile = Annotated[
    Path | None,
    typer.Option(
        "--truth", exists=True, dir_okay=False, metavar="FILE", rich_help_panel=TRUTH,
        help="Labels of the pictures: csv, tsv, jsonl, parquet, lines of file and label, or ILSVRC's numbers.",
    ),
]  # fmt: skip
FileColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=TRUTH, help="Its column of files; by default a usual name."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=TRUTH, help="Its column of labels; by default a usual name."),
]
Synsets = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, metavar="FILE", rich_help_panel=TRUTH,
        help="Which class has which of ILSVRC's numbers: meta.mat, or lines of wnid and number.",
    ),
]  # fmt: skip
RealFile = Annotated[
    Path | None,
    typer.Option(
        "--real", exists=True, dir_okay=False, metavar="FILE", rich_help_panel=TRUTH,
        help="ReaL labels of ImageNet's validation pictures (real.json), found by the names of files.",
    ),
]  # fmt: skip
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        "--classes", exists=True, dir_okay=False, metavar="FILE", rich_help_panel=TRUTH,
        help="Rank these classes only, one a line by WordNet id, name or number (ImageNet-A, -R).",
    ),
]  # fmt: skip
Labels = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Names of the classes: .txt with one a line, .json or .csv by index.",
    ),
]


class Group:
    """Options that belong together: their types are annotations, their defaults values of the class."""

    def __init__(self, **chosen: Any) -> None:  # a dataclass would do, and take half a millisecond each to be made
        vars(self).update(chosen)

    def check(self) -> None:
        """Raise UsageError for values that typer cannot tell are wrong."""


class Network(Group):
    """Which model, and what runs it."""

    model: Model = DEFAULT_MODEL
    batch: AutoBatch = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    engine: Engine = "auto"
    compile: Compile = "auto"
    download: Download = False


class Weights(Group):
    """What a checkpoint does not say, or says wrongly, but for its labels."""

    preprocess: Preprocess = None
    image_size: ImageSize = None
    heads: Heads = None
    pooling: Pooling = None

    def given(self) -> checkpoints.Options:
        """Those that were given, as `checkpoints.load` takes them."""
        options: checkpoints.Options = {}
        if self.preprocess is not None:
            options["preprocess"] = self.preprocess
        if self.image_size is not None:
            options["image_size"] = self.image_size
        if self.heads is not None:
            options["heads"] = self.heads
        if self.pooling is not None:
            options["pooling"] = self.pooling
        return options


class LabelledWeights(Weights):
    """The same, and the names of the classes."""

    labels: Labels = None

    def given(self) -> checkpoints.Options:
        """Those that were given. Raises UsageError for labels that cannot be read."""
        from vitcli.labels import Labels

        options = super().given()
        if self.labels is not None:
            options["labels"] = Labels.read(self.labels)
        return options


class Inputs(Group):
    """How names become inputs, as `sources.inputs` takes it."""

    recursive: Recursive = True
    hidden: Hidden = False
    follow_links: FollowLinks = False
    exclude: Excluding = None
    no_default_excludes: NoDefaultExcludes = False
    null: Null = False
    stdin_image: StdinImage = False

    def check(self) -> None:
        if self.exclude:
            self.excluding()

    def excluding(self) -> sources.Exclude:
        """What is left out of folders. Raises UsageError for a pattern that matches nothing."""
        from vitcli import sources

        return sources.Exclude(tuple(self.exclude or ()), usual=not self.no_default_excludes)


class Decoding(Group):
    """How pictures are read."""

    workers: Workers = "auto"
    decode: Decode = "exact"
    max_pixels: MaxPixels = None

    @property
    def threads(self) -> int | None:
        """How many threads decode, None for the default."""
        return None if self.workers == "auto" else int(self.workers)

    def check(self) -> None:
        from vitcli.errors import UsageError

        workers = self.workers
        if workers != "auto" and not (workers.isdecimal() and len(workers) < 4 and 1 <= int(workers) <= MOST_WORKERS):
            raise UsageError(f"--workers {workers!r} is neither auto nor a whole number from 1 to {MOST_WORKERS}.")


class Answers(Group):
    """Among which classes an answer is looked for, and when it is sure enough."""

    only: Only = None
    min_score: MinScore = None
    accuracy: Accuracy = None
    calibration: Calibration = None
    rollup: Rollup = False

    @property
    def extra(self) -> frozenset[str]:
        """The columns that such rows have beyond the usual, as `writers.Options` takes them."""
        decides = self.min_score is not None or self.accuracy is not None
        return frozenset([*["only"] * bool(self.only), *["decision"] * decides])

    def check(self) -> None:
        from vitcli.errors import UsageError

        if (self.accuracy is None) != (self.calibration is None):
            raise UsageError("--accuracy and --calibration go together: the file says how sure that is for this model.")
        if self.accuracy is not None and self.min_score is not None:
            raise UsageError("--accuracy and --min-score are two ways to decide: give one of them.")
        if self.accuracy is not None and self.only:
            raise UsageError("--accuracy was measured among all classes: with --only, decide by --min-score.")
        if self.rollup and self.accuracy is None and self.min_score is None:
            raise UsageError(
                "--rollup needs to know what is sure enough: give --accuracy with --calibration, or --min-score."
            )
        for option, value in (("--accuracy", self.accuracy), ("--min-score", self.min_score)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{option} {value:g} lies outside 0 to 1{meant(value)}")


class Decisions(Group):
    """When an answer is sure enough, for a command that has an --accuracy of its own."""

    min_score: MinScore = None
    calibration: Calibration = None
    rollup: Rollup = False

    @property
    def asked(self) -> bool:
        """Whether anything is decided."""
        return self.min_score is not None or self.calibration is not None

    def answers(self, accuracy: float) -> Answers:
        """The same for a target accuracy, which a calibration has. Raises UsageError."""
        accurate = None if self.calibration is None else accuracy
        answers = Answers(min_score=self.min_score, accuracy=accurate, calibration=self.calibration, rollup=self.rollup)
        answers.check()
        return answers


class Rows(Group):
    """Where results go, how they look there, and runs that are too long to lose."""

    output: Output = None
    format: RowFormat = None
    topk: Topk = 5
    threshold: Threshold = None
    fields: Fields = None
    long: Long = False
    bom: Bom = False
    resume: Resume = False
    retry_failed: RetryFailed = False
    by_content: ByContent = False
    force: Force = False
    failures: Failures = None
    summary_json: SummaryJson = None

    def check(self) -> None:
        self.check_threshold()

    def check_threshold(self, activation: str | None = None) -> None:
        """Raise UsageError for a threshold that no score is above or below, of whatever is behind the head."""
        from vitcli.errors import UsageError

        threshold = self.threshold
        if threshold is None:
            return
        if not math.isfinite(threshold):
            raise UsageError(f"--threshold {threshold} is no number that a score can be compared with.")
        if activation not in (None, "none") and not 0 <= threshold <= 1:
            raise UsageError(f"--threshold {threshold:g}: scores are from 0 to 1{meant(threshold)}")

    def options(self) -> writers.Options:
        """What `writers.open_output` takes."""
        from vitcli import writers

        return writers.Options(
            topk=self.topk,
            threshold=self.threshold,
            fields=tuple(self.fields.split(",")) if self.fields else (),
            long=self.long,
            bom=self.bom,
            force=self.force,
            resume=self.resume or self.retry_failed,
            retry_failed=self.retry_failed,
            by_content=self.by_content,
        )


class Pages(Group):
    """What people look at besides rows."""

    html: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, metavar="FILE", rich_help_panel=ROWS,
            help="Also write a page to look through: thumbnails, labels, what failed.",
        ),
    ] = None  # fmt: skip
    show: Annotated[
        bool,
        typer.Option(
            "--show", rich_help_panel=ROWS, help="table: each picture beside its row, where the terminal can."
        ),
    ] = False


class JudgedRows(Rows):
    """The same for a command whose --format is that of its report: rows go to -o alone, in the format of its ending."""

    format: Format = "table"


class Models(Network):
    """Which models, and what runs them: one after the other, over the same pictures."""

    model: ModelNames = [DEFAULT_MODEL]  # type: ignore[assignment]  # noqa: RUF012  (no one writes to it)
    against: Against = None

    @property
    def each(self) -> list[Network]:
        """The options of each model alone."""
        own = {name: value for name, value in vars(self).items() if name not in ("model", "against")}
        return [Network(**own, model=name) for name in self.model]


class Reports(Group):
    """What is told of an evaluation, and where."""

    accuracy: TargetAccuracy = 0.95
    html: Html = None
    calibrate: CalibrationFile = None

    def check(self) -> None:
        from vitcli.errors import UsageError

        if not 0 < self.accuracy < 1:
            raise UsageError(f"--accuracy {self.accuracy:g} is no fraction between 0 and 1: 0.95 means 95 %.")


class Truths(Group):
    """Where the labels of pictures are, as `truth.Source.of` takes it."""

    truth: TruthFile = None
    file_column: FileColumn = None
    label_column: LabelColumn = None
    synsets: Synsets = None
    real: RealFile = None
    classes: ClassesFile = None


def meant(share: float) -> str:
    """The end of a sentence about a share that is none: scores are shown in per cent, and so people type them."""
    return f"; did you mean {share / 100:g}?" if 1 < share <= 100 else "."


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups are replaced by the options these hold, which is what typer reads."""
    types = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in types.items() if isinstance(kind, type) and issubclass(kind, Group)}
    held = {name: get_type_hints(group, include_extras=True) for name, group in groups.items()}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            parameters += [
                Parameter(option, Parameter.KEYWORD_ONLY, default=getattr(groups[name], option), annotation=kind)
                for option, kind in held[name].items()
            ]
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=types[name]))

    @wraps(command)
    def spread(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option: given.pop(option) for option in held[name]})
            given[name].check()
        command(**given)

    spread.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread
