"""What the JSON files beside the weights say that tensors cannot: heads, epsilon, GELU, pooling, labels, preprocessing.

Such files are hostile input: every value is checked for its type and its bounds, and what is invalid is left out
with a warning. Shapes never come from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from vitcli import escaping
from vitcli.checkpoints import processors
from vitcli.checkpoints.architectures import (
    ADDS,
    ARGUMENTS,
    CLASSES,
    HARMLESS,
    TIMM,
    TRANSFORMERS,
    Architecture,
    known,
)
from vitcli.config import Gelu
from vitcli.errors import CheckpointError
from vitcli.escaping import short
from vitcli.labels import BY_INDEX, BY_NAME, Activation, Labels, names_under
from vitcli.pictures.preprocess import FAMILIES, Preprocess

MAX_JSON = 16 * 2**20  # bytes: ImageNet-21k's labels take one or two

GELUS: dict[str, Gelu] = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_tanh": "tanh",
    "gelu_python_tanh": "tanh",
    "gelu_fast": "tanh",
    "gelu_accurate": "tanh",
    "quick_gelu": "quick",
}
POOLINGS: dict[str, Literal["cls", "mean"]] = {
    "token": "cls",
    "cls": "cls",
    "tok": "cls",
    "avg": "mean",
    "mean": "mean",
    "gap": "mean",
}

# What config.json calls them: transformers' name first, then timm's.
NAMES = {
    "eps": ("layer_norm_eps", "norm_eps"),
    "gelu": ("hidden_act", "act_layer"),
    "pooling": ("global_pool", "pooling", "pool"),
}


T = TypeVar("T")


@dataclass(slots=True)
class Settings:
    """The values that the files state, None where they state none; `warnings` names what was ignored.

    `given_heads` and `given_pooling` are the user's, and take precedence.
    """

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] | None = None
    processor_file: str = "preprocessor_config.json"
    names: Mapping[str, Any] = field(default_factory=dict)  # of classes, as they lie beside the weights in their file
    given_heads: int | None = None
    given_pooling: Literal["cls", "mean"] | None = None
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def beside(
        cls,
        folder: Path,
        heads: int | None = None,
        pooling: Literal["cls", "mean"] | None = None,
        base: Path | None = None,
    ) -> Settings:
        """The `config.json` and the processor's settings of a folder, as far as they are there and readable.

        transformers 5 prefers what `processor_config.json` holds as `image_processor` to `preprocessor_config.json`.
        What the folder of an adapter does not say, that of its `base` does, but for its class and its classes.
        """
        settings = cls(folder, given_heads=heads, given_pooling=pooling)
        settings.config = settings._read(folder / "config.json") or {}
        nested = (settings._read(folder / "processor_config.json") or {}).get("image_processor")
        if isinstance(nested, dict):
            settings.processor, settings.processor_file = nested, "processor_config.json"
        else:
            settings.processor = settings._read(folder / settings.processor_file)
        if base is not None:
            said = cls.beside(base)
            classes = ("architectures", "num_labels", "num_classes", *BY_INDEX, *BY_NAME)
            settings.config = {key: v for key, v in said.config.items() if key not in classes} | dict(settings.config)
            if settings.processor is None:
                settings.processor, settings.processor_file = said.processor, said.processor_file
        return settings

    def _read(self, path: Path) -> Mapping[str, Any] | None:
        if not path.is_file():
            return None
        try:
            if path.stat().st_size > MAX_JSON:
                raise ValueError("too large")
            found = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        self.warnings.append(f"{path.name} cannot be read and was ignored")
        return None

    @property
    def timm(self) -> Mapping[str, Any]:
        """The `pretrained_cfg` of timm, empty if there is none."""
        found = self.config.get("pretrained_cfg")
        return found if isinstance(found, dict) else {}

    def named(self) -> tuple[str, Architecture | None]:
        """The architecture that config.json names, empty if it names none, and what is known of it."""
        for place, key, table in (
            (self.config, "architecture", TIMM),
            (self.timm, "architecture", TIMM),
            (self.config, "model_type", TRANSFORMERS),
        ):
            if isinstance(name := place.get(key), str) and name:
                return name, known(name, table)
        return "", None

    @property
    def matches_texts(self) -> bool:
        """Whether these are the weights of an image tower as CLIP trains it: their last layer gives no classes.

        timm names them after their training alone (`openai`, `laion2b`), and those fine-tuned on classes `..._ft_in1k`.
        """
        tag = self.timm.get("tag")
        return "clip" in self.named()[0] and isinstance(tag, str) and bool(tag) and "ft_" not in tag

    @property
    def architecture(self) -> Architecture:
        """What the name of the architecture tells, nothing where there is none or it is not known."""
        return self.named()[1] or Architecture("")

    def doubts(self) -> Iterator[str]:
        """What may make another network of the same tensors: an unknown name, foreign code, unknown arguments.

        Raises CheckpointError for a name or an argument known to make another network.
        """
        name, row = self.named()
        if row is not None and row.computes:
            raise CheckpointError(f"config.json names the architecture {short(name)}, which is not built here: it has "
                                  f"{row.computes}. Classify with the library it comes from.")  # fmt: skip
        for argument, same in ARGUMENTS.items():
            value = self.argument(argument)
            if value is not None and value not in same:
                raise CheckpointError(
                    f"config.json sets {argument} to {escaping.value(value)}, which makes another network than is "
                    "built here. Classify with the library it comes from."
                )
        doubted = ""
        arguments = self.config.get("model_args")
        for argument in arguments if isinstance(arguments, dict) else ():
            if argument not in (*HARMLESS, *ARGUMENTS, *ADDS):
                doubted = f"the argument {short(argument)}, which is not known here"
        if name and row is None:
            doubted = f"the architecture {short(name)}, which is not known here"
        classes = self.config.get("architectures")
        if isinstance(classes, list) and classes and not any(kind in CLASSES for kind in classes):
            doubted = doubted or f"the class {escaping.value(classes[0])}, which is not known here"
        if self.config.get("auto_map"):
            doubted = doubted or "code of its own (auto_map), which is never run here"
        if doubted:
            yield f"config.json names {doubted}: took it for the plain ViT that its tensors are called after"

    def argument(self, name: str) -> Any:
        """One of timm's `model_args`."""
        arguments = self.config.get("model_args")
        return arguments.get(name) if isinstance(arguments, dict) else None

    @property
    def pools_every_token(self) -> bool:
        """Whether timm's pooling includes the tokens before the patches."""
        said = self.argument("pool_include_prefix")
        return said if isinstance(said, bool) else self.architecture.pools_prefix

    @property
    def knows_its_class(self) -> bool:
        """Whether a class of transformers is named whose function is known, whatever lies among its tensors."""
        classes = self.config.get("architectures")
        return isinstance(classes, list) and any(kind in CLASSES for kind in classes)

    def rectangle(self) -> tuple[str, tuple[int, int]] | None:
        """A size of pictures or patches that is said and not square: what it is of, its height and its width."""
        timm_size = self.timm.get("input_size")
        for what, value in (
            ("pictures", self.config.get("image_size")),
            ("pictures", self.argument("img_size")),
            ("pictures", timm_size[1:] if isinstance(timm_size, list) else None),
            ("patches", self.config.get("patch_size")),
            ("patches", self.argument("patch_size")),
        ):
            if isinstance(value, dict):
                value = [value.get("height"), value.get("width")]
            sides = value if isinstance(value, list) and all(type(side) is int for side in value) else []
            if len(sides) == 2 and sides[0] != sides[1]:
                return what, (sides[0], sides[1])
        return None

    def first(self, *names: str, sound: Callable[[Any], bool], expected: str) -> Any:
        """The first of several names that is given and sound, looking in config.json and in timm's sections of it."""
        arguments = self.config.get("model_args")
        vision = self.config.get("vision_config")  # what transformers says of CLIP's and SigLIP's towers of pictures
        sections = [self.config, arguments, vision, self.timm]
        places = [section for section in sections if isinstance(section, dict)]
        for name in names:
            for place in places:
                value = place.get(name)
                if value is None:
                    continue
                if sound(value):
                    return value
                self.warnings.append(
                    f"config.json says {name} {escaping.value(value)}, not a valid {expected}: ignored"
                )
        return None

    def source(self, what: str, family: str) -> str:
        """Where one of NAMES was found, by the order in which they are believed: the user, a file, a name, a family."""
        if what == "pooling" and self.given_pooling is not None:
            return "--pooling"
        if self.first(*NAMES[what], sound=lambda v: v != "", expected="value") is not None:
            return "config.json"
        if getattr(self.architecture, what) is not None:
            return f"the architecture {short(self.named()[0])}"
        return default_of(family)

    def count(self, *names: str, most: int) -> int | None:
        """A whole number from 1 to `most`."""
        found = self.first(*names, sound=lambda v: type(v) is int and 1 <= v <= most, expected=f"number up to {most}")
        return None if found is None else int(found)

    @property
    def picture_size(self) -> int | None:
        """The side of the pictures that the network takes, in pixels."""
        said = self.argument("img_size") or self.timm.get("input_size") or self.config.get("image_size")
        size = said[-1] if isinstance(said, list) and said else said
        return size if type(size) is int and 1 <= size <= processors.LARGEST_SIDE else None

    @property
    def eps(self) -> tuple[float, str] | None:
        """LayerNorm's epsilon, and where it comes from."""
        found = self.first(
            *NAMES["eps"], sound=lambda v: type(v) in (int, float) and 1e-30 <= v <= 0.1, expected="epsilon"
        )
        return self._or_known(None if found is None else float(found), self.architecture.eps)

    def _or_known(self, said: T | None, known: T | None) -> tuple[T, str] | None:
        """What config.json says itself, else what the name of its architecture tells; and which of the two it was."""
        if said is not None:
            return said, "config.json"
        return None if known is None else (known, f"the architecture {short(self.named()[0])}")

    @property
    def gelu(self) -> tuple[Gelu, str] | None:
        """The kind of GELU, and where it comes from.

        Raises CheckpointError for another activation: the network would be another.
        """
        name = self.first(*NAMES["gelu"], sound=lambda v: isinstance(v, str), expected="name")
        if name is not None and name not in GELUS:
            raise CheckpointError(
                f"{self.folder / 'config.json'} asks for the activation {name[:40]!r}, but only GELU is built here "
                f"({', '.join(GELUS)})."
            )
        return self._or_known(None if name is None else GELUS[name], self.architecture.gelu)

    @property
    def pooling(self) -> tuple[Literal["cls", "mean", "attention"], str] | None:
        """How tokens are pooled, and where that comes from. Raises CheckpointError for a way that is not built here."""
        if self.given_pooling is not None:
            return self.given_pooling, "--pooling"
        # an empty string is what timm writes for a model that does not pool
        name = self.first(*NAMES["pooling"], sound=lambda v: isinstance(v, str), expected="name")
        name, source = self._or_known(name, self.architecture.pooling) or ("", "")
        if name == "map":  # which has tensors of its own, so that nobody need choose it
            return "attention", source
        if name and name not in POOLINGS:
            raise CheckpointError(
                f"{self.folder / 'config.json'} asks for {name[:40]!r} pooling, but only the class token, the mean and "
                "attention are built here."
            )
        return (POOLINGS[name], source) if name else None

    def labels(self, classes: int) -> tuple[Labels | None, str]:
        """The names of `classes` classes, and where they were found; None when nothing names them."""
        if classes == 1000 and self._timm_names() == list((imagenet := Labels.imagenet1k()).wnids):
            return imagenet, "config.json"
        numbered: tuple[Labels, str] | None = None
        odd = ""
        for source, key, found in self._tables():
            if classes > 1 and set(names_under(key, found)) == set(range(1, classes + 1)):
                odd = odd or f"{source} numbers the classes from 1 to {classes}, the network from 0: left out"
                continue
            names = {index: name for index, name in names_under(key, found).items() if index < classes}
            whole = len(names) == len(found) == classes
            if not whole and not numbered:
                odd = odd or f"{source} names {len(names)} of {classes} classes"
            if not names or (key != "id2label" and not whole):  # a list of another length may be of something else
                continue
            labels = Labels.of(names, classes), source if source == "config.json" else f"{key} in {source}"
            if any(name != f"LABEL_{i}" for i, name in names.items()):
                self.warnings.extend([odd] if odd and not whole else [])
                return labels
            numbered = numbered or labels  # what transformers writes when it was given no names
        self.warnings.extend([odd] if odd else [])
        if numbered is None:
            return None, ""
        self.warnings.append("the classes are called LABEL_0, LABEL_1, ...: give their names with --labels")
        return numbered

    def _tables(self) -> Iterator[tuple[str, str, Any]]:
        """Where names of classes may stand: the file, what they are called in it, and what it holds."""
        config = {**self.timm, **self.config, "label_names": self._timm_names()}
        yield from (("config.json", key, config[key]) for key in (*BY_INDEX, *BY_NAME)
                    if isinstance(config.get(key), dict | list))  # fmt: skip
        yield from (("the file of weights", key, found) for key, found in self.names.items())

    def _timm_names(self) -> Any:
        """The `label_names` of timm, by their `label_descriptions` where there are any."""
        names = self.config.get("label_names") or self.timm.get("label_names")
        described = self.config.get("label_descriptions") or self.timm.get("label_descriptions")
        if isinstance(names, list) and isinstance(described, dict):
            return [described.get(name, name) if isinstance(name, str) else name for name in names]
        return names

    def activation(self, classes: int) -> Activation:
        """How logits are scored: one class out of many, several at once or a single logit, or regression."""
        problem = self.config.get("problem_type")
        if problem == "regression":
            return "none"
        if problem == "multi_label_classification" or classes == 1:
            return "sigmoid"
        return "softmax"

    @property
    def prepared_size(self) -> int | None:
        """The side of the pictures that preprocessor_config.json prepares, None where there is none to read."""
        try:
            return None if self.processor is None else processors.from_transformers(self.processor).size
        except CheckpointError:
            return None

    def preprocess(
        self, size: int, family: str, *, chosen: str | Preprocess | None, resized: bool
    ) -> tuple[Preprocess, str]:
        """What to do to pictures before a network of `size` pixels, and where that comes from.

        Chosen by the user, else from the processor's settings, else timm's config.json, else the family's. A file that
        speaks of another size is worth a warning, unless the network itself was `resized`.
        """
        if isinstance(chosen, Preprocess):
            return _at(chosen, size), "as given"
        if chosen is not None:
            if chosen not in FAMILIES:
                raise CheckpointError(f"No preprocessing is called {chosen!r}. Choose one of {', '.join(FAMILIES)}.")
            return FAMILIES[chosen](size), f"--preprocess {chosen}"
        kind = processors.KINDS.get(str(self.config.get("model_type")), "ViT")
        read, file = None, self.processor_file
        try:
            if self.processor is not None:
                read = processors.from_transformers(self.processor, kind=kind)
            elif self.timm:
                file = "config.json"
                read = processors.from_timm(
                    dict(self.timm) | {"input_size": self.timm.get("input_size") or [3, size, size]}
                )
        except CheckpointError as error:
            raise CheckpointError(f"{self.folder / file}: {error}") from error
        if read is not None:
            if read.size != size and not resized:
                self.warnings.append(f"{file} prepares pictures of {read.size} pixels, the network takes {size}: "
                                     "using the network's size")  # fmt: skip
            return _at(read, size), file
        if kind == "DeiT" and family == "hf":
            family = "hf-deit"
        return FAMILIES[family](size), default_of(family)


def default_of(family: str) -> str:
    """Where preprocessing came from when no file and no option named it."""
    return f"the default of {family}"


def _at(preprocess: Preprocess, size: int) -> Preprocess:
    return preprocess if preprocess.size == size else preprocess.at(size)


def scored(labels: Labels, activation: Activation) -> Labels:
    """The same labels under another way of scoring."""
    return labels if labels.activation == activation else replace(labels, activation=activation)
