"""The same weights in other people's engines, for `vit bench --against`: float32 [b c h w] -> logits [b k].

`PEERS` is the list: a name, and what builds its network from transformers' own model of the weights. A peer that
cannot compute in a dtype on a device says so with None, and is left out.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitcli.errors import MissingExtra

if TYPE_CHECKING:
    import torch

Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
Build = Callable[["torch.nn.Module", int, str, str, int], "Network | None"]


def transformers(model: torch.nn.Module, side: int, dtype: str, device: str, threads: int) -> Network | None:
    """The reference as people call it: eager, with its default attention."""
    import copy

    import torch

    kind = getattr(torch, dtype)
    own = copy.deepcopy(model).to(device, kind)

    def run(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = (
                own(torch.from_numpy(pixels).to(device, kind)).logits.float().cpu().numpy()
            )
        return logits

    return run


def onnxruntime(model: torch.nn.Module, side: int, dtype: str, device: str, threads: int) -> Network | None:
    """Exported to ONNX, all optimisations on. Its CPU kernels are float32."""
    try:
        import onnx  # noqa: F401  # the exporter needs it
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra("Running ONNX Runtime beside vit", "bench") from error
    import torch

    if dtype != "float32" or device != "cpu":
        return None
    file, axes = io.BytesIO(), {"pixels": {0: "b"}, "logits": {0: "b"}}
    with _quiet():
        torch.onnx.export(
            logits_only(model), (torch.zeros(2, 3, side, side),), file,  # type: ignore[arg-type]
            dynamo=False, input_names=["pixels"], output_names=["logits"], dynamic_axes=axes, opset_version=17,
        )  # fmt: skip
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def openvino(model: torch.nn.Module, side: int, dtype: str, device: str, threads: int) -> Network | None:
    """Converted by OpenVINO itself, with the dtype and the threads set."""
    try:
        import openvino as ov
    except ImportError as error:
        raise MissingExtra("Running OpenVINO beside vit", "bench") from error
    import torch

    precisions = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    if device != "cpu":
        return None
    with _quiet():
        converted = ov.convert_model(logits_only(model), example_input=torch.zeros(2, 3, side, side))
    settings = {
        "INFERENCE_PRECISION_HINT": precisions[dtype],
        "PERFORMANCE_HINT": "LATENCY",  # one request at a time with all threads, as the others run
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = ov.Core().compile_model(converted, "CPU", settings)
    return lambda pixels: np.asarray(compiled(pixels)[0])


PEERS: dict[str, Build] = {"transformers": transformers, "onnxruntime": onnxruntime, "openvino": openvino}


def logits_only(model: torch.nn.Module) -> torch.nn.Module:
    """`model` as a module from pixels to logits: transformers' models return a record, exporters want a tensor."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> Any:
            return self.model(pixel_values=pixels).logits

    return Wrapped().eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings: exporters warn about every `if` of the model they trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
