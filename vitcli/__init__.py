"""vit: pictures go in, ImageNet labels come out, with the reference's numbers.

    >>> import vitcli
    >>> classifier = vitcli.load("google/vit-base-patch16-224")
    >>> classifier("cat.jpg").top[0].label
    'Egyptian cat'

Names are imported when they are first used (PEP 562), so that `import vitcli` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vitcli.version import __version__ as __version__

if TYPE_CHECKING:
    from vitcli.classifier import Classifier as Classifier
    from vitcli.classifier import load as load
    from vitcli.config import Config as Config
    from vitcli.errors import VitError as VitError
    from vitcli.explainer import Explainer as Explainer
    from vitcli.explainer import Explanation as Explanation
    from vitcli.network.model import ViT as ViT
    from vitcli.pictures.preprocess import Preprocess as Preprocess
    from vitcli.results import Failure as Failure
    from vitcli.results import Label as Label
    from vitcli.results import Prediction as Prediction
    from vitcli.sources import Input as Input
    from vitcli.sources import inputs as inputs
    from vitcli.streaming import stream as stream

_HOME = {
    "load": "classifier",
    "Classifier": "classifier",
    "Explainer": "explainer",
    "Explanation": "explainer",
    "stream": "streaming",
    "inputs": "sources",
    "Input": "sources",
    "Prediction": "results",
    "Failure": "results",
    "Label": "results",
    "Config": "config",
    "ViT": "network.model",
    "Preprocess": "pictures.preprocess",
    "VitError": "errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vitcli.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
