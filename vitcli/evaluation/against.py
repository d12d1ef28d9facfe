"""Any image classifier that transformers loads, in the place of a `Classifier`: ResNet, ConvNeXt, Swin, ...

    picture -> its own image processor -> float32 [3 h w] -> its own network -> logits [k]

Pictures are decoded by vit, as for every other model; everything after that is transformers' own, in float32.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitcli.checkpoints import Checkpoint
from vitcli.classifier import Classifier
from vitcli.errors import CheckpointError, MissingExtra, NotDownloaded, OutOfMemory, PictureError
from vitcli.escaping import first_line, short
from vitcli.hub import catalog
from vitcli.hub.client import cache
from vitcli.labels import Activation, Labels
from vitcli.memory import lacking
from vitcli.network.backend import Logits, Pixels
from vitcli.network.hardware import choose_device

if TYPE_CHECKING:
    from vitcli.pictures.reduced import Reduced


@dataclass(frozen=True)
class Shape:
    """What is told of a network that is not ours."""

    name: str
    classes: int
    parameters: int


class Processor:
    """An image processor of transformers, where a `Preprocess` is expected."""

    at_least = 0  # of a picture decoded smaller nothing is known here: none is

    def __init__(self, own: Any) -> None:
        self.own = own
        self.shape: tuple[int, ...] | None = None
        self.shape = self.resized(Image.new("RGB", (64, 64))).shape

    def resized(self, picture: Image.Image, reduced: Reduced | None = None) -> npt.NDArray[np.float32]:
        """Upright RGB picture -> float32 [3 h w], normalised. Raises PictureError for one of another size."""
        assert reduced is None
        pixels = np.asarray(self.own(images=picture, return_tensors="np")["pixel_values"], np.float32)[0]
        if self.shape not in (None, pixels.shape):
            height, width = pixels.shape[1:]
            raise PictureError(
                "unsupported",
                f"The model's own image processor makes it {width} x {height}, and others not: such pictures cannot go "
                "through the network together.",
            )
        return np.ascontiguousarray(pixels)

    @property
    def size(self) -> int:
        """The side of a square of bytes, of each colour, that takes as much memory as these float32 numbers do."""
        height, width = (self.shape or (3, 1, 1))[1:]
        return math.ceil(2 * math.sqrt(height * width))

    def record(self) -> dict[str, Any]:
        """Its settings as JSON-ready values."""
        return {"image_processor": type(self.own).__name__}


@dataclass(frozen=True)
class Files:
    """The part of a `Checkpoint` that a `Classifier` asks for."""

    path: Path
    config: Shape
    preprocess: Processor
    labels: Labels
    read: tuple[Path, ...]
    model: Any
    warnings: tuple[str, ...] = ()

    def not_finite(self) -> list[str]:
        """Names of parameters that hold NaN or infinity."""
        return [name for name, tensor in self.model.named_parameters() if not bool(tensor.isfinite().all())]

    def sha256(self) -> str | None:
        """Not told: the files are transformers' business."""
        return None


class Network:
    """A model of transformers, where a `Backend` is expected."""

    engine, dtype = "transformers", "float32"
    warnings: tuple[str, ...] = ()

    def __init__(self, model: Any, device: str) -> None:
        self.model, self.device = model.to(device), device

    def logits(self, pixels: npt.NDArray[Any]) -> Logits:
        """float32 [b 3 h w] -> float32 [b k]. Raises OutOfMemory when it does not fit."""
        import torch

        try:
            with torch.inference_mode():
                found = self.model(pixel_values=torch.from_numpy(pixels).to(self.device)).logits
                return np.asarray(found.float().cpu().numpy())
        except Exception as error:
            if not lacking(error):
                raise
            raise OutOfMemory(f"A batch of {len(pixels)} pictures does not fit in memory.") from error

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """Classify a batch now; waiting for it takes no time."""
        logits = self.logits(pixels)
        return lambda: logits


def load(name: str, device: str = "auto") -> Classifier:
    """The model in a folder, or of the hub and in its cache; nothing is fetched, and no code of it is run.

    Raises MissingExtra without transformers, NotDownloaded for a model that is not here, CheckpointError for what is no
    image classifier or cannot be loaded.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra("Comparing with other models", "verify") from error
    path = Path(name).expanduser()
    repository, _, revision = name.partition("@")
    if path.is_dir():
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(path)}
    else:
        known = catalog.find(repository)
        here = known.repository if known else repository
        where = {"pretrained_model_name_or_path": here, "revision": revision or "main", "cache_dir": str(cache())}
    with quiet(transformers):
        try:
            model, loading = transformers.AutoModelForImageClassification.from_pretrained(
                **where, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
            processor = Processor(
                transformers.AutoImageProcessor.from_pretrained(
                    **where, backend="pil", local_files_only=True, trust_remote_code=False
                )
            )
        except Exception as error:  # settings may say anything
            if not path.is_dir() and isinstance(error, OSError):
                raise NotDownloaded(
                    f"{short(name)} is neither a folder nor a model in the cache ({cache()}). "
                    f"If it is on the hub, fetch it with: hf download {short(name)}"
                ) from None
            raise CheckpointError(f"{short(name)}: transformers cannot load it as an image classifier "
                                  f"({first_line(error)}).") from error  # fmt: skip
    if missing := sorted({*loading["missing_keys"], *(str(key) for key in loading["mismatched_keys"])}):
        raise CheckpointError(
            f"{short(name)}: weights of {short(missing[0])} are missing, so its answers would be chance: it is not "
            "trained for classification, or the files are not whole."
        )
    return _classifier(name, path, model.eval(), processor, choose_device(device))


def _classifier(name: str, path: Path, model: Any, processor: Processor, device: str) -> Classifier:
    config = model.config
    labels = Labels.of({int(i): str(label) for i, label in config.id2label.items()}, config.num_labels)
    problem = getattr(config, "problem_type", None)
    activation: Activation = {"multi_label_classification": "sigmoid", "regression": "none"}.get(  # type: ignore[assignment]
        problem or "", "softmax"
    )
    labels = Labels(labels.names, labels.wnids, activation)
    shape = Shape(type(model).__name__, len(labels), sum(tensor.numel() for tensor in model.parameters()))
    files = Files(path, shape, processor, labels, tuple(path.glob("*")) if path.is_dir() else (), model)
    return Classifier(name, None, cast(Checkpoint, files), Network(model, device))


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """No progress bars and no advice while transformers loads."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
