"""The same weights and pictures through `transformers` and through ours: how far apart are the logits?

    picture -> transformers' image processor and network -> logits [k] \\
                                                                        largest difference, and the five best
    picture -> our preprocessing and each engine         -> logits [k] /

Weights in the hub's layout are read by transformers itself; others are first written in it (`convert`), so what is
verified then is everything but the reading of names.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint, convert, processors
from vitcli.errors import CheckpointError, MissingExtra
from vitcli.network import backend
from vitcli.network.backend import Engine, Logits

TOLERANCE = 1e-4  # of float32 logits; a wrong LayerNorm epsilon moves them by 7e-4
TOP = 5


@dataclass(frozen=True, slots=True)
class Golden:
    """The first logits that transformers' own tests publish for a picture, known by its name and size in pixels."""

    logits: tuple[float, ...]
    picture: str = "000000039769.png"  # two cats on a sofa: COCO, validation set of 2017
    size: tuple[int, int] = (640, 480)


# huggingface/transformers, tests/models/vit/test_modeling_vit.py and tests/models/deit/test_modeling_deit.py
GOLDEN: dict[str, Golden] = {
    "google/vit-base-patch16-224": Golden((-0.2744, 0.8215, -0.0836)),
    "facebook/deit-base-distilled-patch16-224": Golden((-1.0266, 0.1912, -1.2861)),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One picture. `differences` holds the largest difference of a logit from the reference's, for each engine.

    `same_best` says whether all give the same five best classes in the same order, places changed by less than the
    tolerance apart; `own_preprocessing` whether transformers prepared the picture itself; `published` is the largest
    difference from published logits, None where there are none.
    """

    name: str
    differences: Mapping[str, float]
    same_best: bool
    own_preprocessing: bool
    published: float | None

    @property
    def worst(self) -> float:
        """The largest difference of all, from published logits too; NaN if any is."""
        found = [*self.differences.values(), *([] if self.published is None else [self.published])]
        return float(np.max(found))

    def agrees(self, tolerance: float = TOLERANCE) -> bool:
        """Whether everything measured lies within the tolerance; NaN does not."""
        return self.worst <= tolerance

    def record(self) -> dict[str, Any]:
        """The comparison as JSON-ready values."""
        return {
            "path": self.name,
            "differences": dict(self.differences),
            "same_top5": self.same_best,
            "own_preprocessing": self.own_preprocessing,
            "published": self.published,
        }


class Reference:
    """The checkpoint in transformers, float32 on the CPU: `logits(picture)`, and `version`, `converted`.

    Raises MissingExtra without transformers, CheckpointError for a network that it has no class for.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        try:
            import transformers
        except ImportError as error:
            raise MissingExtra("Comparing with transformers", "verify") from error
        self.version: str = transformers.__version__
        self.network = getattr(transformers, convert.architecture(checkpoint.config))
        self.preprocess = checkpoint.preprocess
        with _silence(transformers):
            model = self._as_it_is(checkpoint)
            self.converted = model is None
            self.model = (model or self._through_convert(checkpoint)).eval()
            self.processor = _processor(checkpoint, "DeiT" if self.network.__name__.startswith("DeiT") else "ViT")

    def _as_it_is(self, checkpoint: Checkpoint) -> Any:
        """The folder as transformers reads it; None where it is not the same checkpoint to it, or none at all."""
        folder = checkpoint.files[0].parent
        try:
            plain = checkpoints.peek(folder)
        except CheckpointError:
            return None
        same = (plain.files, plain.config) == (checkpoint.files, checkpoint.config)
        if not same or plain.layout != "transformers":
            return None
        try:
            return self._read(folder)
        except Exception:  # whatever a library makes of a config.json that may say anything
            return None

    def _through_convert(self, checkpoint: Checkpoint) -> Any:
        with tempfile.TemporaryDirectory(prefix="vit-verify-", ignore_cleanup_errors=True) as folder:
            convert.convert(checkpoint, Path(folder), force=True)
            model = self._read(Path(folder))
        if model is None:
            raise CheckpointError(f"{checkpoint.path}: transformers finds tensors missing after conversion.")
        return model

    def _read(self, folder: Path) -> Any:
        import torch

        model, loading = self.network.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        return None if loading["missing_keys"] or loading["mismatched_keys"] else model

    def prepares(self, picture: Image.Image) -> bool:
        """Whether transformers can prepare this picture as the checkpoint asks; it rounds uneven margins down only."""
        down = replace(self.preprocess, rounding="down")
        return down == self.preprocess or np.array_equal(down.resized(picture), self.preprocess.resized(picture))

    def logits(self, picture: Image.Image) -> Logits:
        """Upright RGB picture -> float32 [k]."""
        import torch

        if self.prepares(picture):
            pixels = self.processor(images=picture, return_tensors="pt")["pixel_values"]
        else:
            pixels = torch.from_numpy(self.preprocess.normalised(self.preprocess.resized(picture)[None]))
        with torch.inference_mode():
            logits: Logits = self.model(pixels).logits[0].float().numpy()
        return logits


def verify(
    checkpoint: Checkpoint,
    reference: Reference,
    pictures: Iterable[tuple[str, Image.Image]],
    *,
    engines: Iterable[Engine] = ("numpy", "torch"),
    device: str = "cpu",
    repository: str | None = None,
) -> Iterator[Comparison]:
    """Compare on each picture (name, upright RGB), in float32.

    `repository` is the model's name on the hub, under which published logits may be known. Raises DeviceError and
    UsageError as `backend.load` does.
    """
    networks = {
        engine: backend.load(checkpoint, engine=engine, device=device, dtype="float32", pictures=None)
        for engine in engines
    }
    golden = GOLDEN.get(repository or "")
    for name, picture in pictures:
        theirs = reference.logits(picture)
        pixels = checkpoint.preprocess.resized(picture)[None]
        ours = {engine: network.logits(pixels)[0] for engine, network in networks.items()}
        published = None
        if golden and (Path(name).name, picture.size) == (golden.picture, golden.size):
            known = np.array(golden.logits)
            published = max(_apart(logits[: len(known)], known) for logits in ours.values())
        yield Comparison(
            name,
            {engine: _apart(logits, theirs) for engine, logits in ours.items()},
            all(_same_best(logits, theirs) for logits in ours.values()),
            reference.prepares(picture),
            published,
        )


def synthetic() -> Iterator[tuple[str, Image.Image]]:
    """Three pictures, the same on every machine: noise, which shows any error of resampling, and soft shapes."""
    for seed, (width, height, cells) in enumerate([(640, 480, 0), (333, 500, 8), (224, 224, 3)]):
        random = np.random.default_rng(seed)
        shape = (cells, cells, 3) if cells else (height, width, 3)
        picture = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        kind = "soft shapes" if cells else "noise"
        yield f"{kind} {width}x{height}", picture.resize((width, height), Image.Resampling.BICUBIC)


def _apart(ours: Logits, theirs: Any) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def _same_best(ours: Logits, theirs: Logits) -> bool:
    mine, reference = (np.argsort(-logits, kind="stable")[:TOP] for logits in (ours, theirs))
    return bool((np.abs(theirs[mine] - theirs[reference]) <= 2 * TOLERANCE).all())


def _processor(checkpoint: Checkpoint, kind: str) -> Any:
    """The image processor of transformers on Pillow, with the folder's own settings where those are followed.

    `kind` ("ViT" or "DeiT") is what it takes when the file names no processor.
    """
    settings = convert.hub_preprocess(checkpoint.preprocess)
    if checkpoint.sources["preprocess"] == "preprocessor_config.json":
        own = json.loads((checkpoint.files[0].parent / "preprocessor_config.json").read_bytes())
        # where the file's size is not the network's, we put it right and transformers would not
        if processors.from_transformers(own, kind=kind) == checkpoint.preprocess:
            settings = own
    named = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or kind)
    try:
        # the plain names become torchvision's way of resizing where torchvision is installed
        from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil as DeiT
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil as ViT
    except ImportError:  # before they had names of their own
        from transformers import DeiTImageProcessor as DeiT
        from transformers import ViTImageProcessor as ViT
    return (DeiT if named.startswith("DeiT") else ViT).from_dict(settings)


@contextlib.contextmanager
def _silence(transformers: Any) -> Iterator[None]:
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
