"""The library a checkpoint came from, with the same weights: `of(checkpoint)` gives logits that owe nothing to ours.

    files -> the library's own loader -> its own network \\
                                                           logits [k]
    picture -> the library's own preprocessing           /

A library builds the network from the settings beside the weights where there are any it understands. A file alone says
no more to it than to us: then its class is told the shape that we read, and it names and arranges the tensors itself.
No layout's rules are applied on this side, so a wrong one shows. What a library cannot load is not compared.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint, convert, processors
from vitcli.config import Config
from vitcli.errors import CheckpointError, MissingExtra
from vitcli.escaping import first_line, short
from vitcli.evaluation.against import quiet
from vitcli.network.backend import Logits
from vitcli.pictures.preprocess import Preprocess

PROCESSORS = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class Preparer:
    """The library's preprocessing: `call(picture)` gives pixels [1 3 s s].

    `settings` are ours that the library was given, None where it read its own; then a crop leans as `rounding` says.
    """

    call: Callable[[Image.Image], Any]
    settings: Preprocess | None = None
    rounding: Literal["down", "even"] = "down"


@dataclass(frozen=True, slots=True)
class Reference:
    """A checkpoint in the library it came from, float32 on the CPU.

    `network` is the library's class; `own_shape` says whether the library itself read what to build; `preparer` is
    None where it has no preprocessing.
    """

    library: str  # with its version
    network: str
    own_shape: bool
    forward: Callable[[Any], Any]  # pixels [1 3 s s] -> logits [1 k], both of torch
    preprocess: Preprocess
    preparer: Preparer | None

    def prepares(self, picture: Image.Image) -> bool:
        """Whether the library can prepare this picture as the checkpoint asks: its crops lean one way only."""
        if self.preparer is None:
            return False
        if self.preparer.settings is None:
            return True
        alike = replace(self.preprocess, rounding=self.preparer.rounding)
        return alike == self.preprocess or np.array_equal(alike.resized(picture), self.preprocess.resized(picture))

    def logits(self, picture: Image.Image) -> Logits:
        """Upright RGB picture -> float32 [k]."""
        import torch

        if self.preparer is not None and self.prepares(picture):
            pixels = self.preparer.call(picture)
        else:
            pixels = torch.from_numpy(self.preprocess.normalised(self.preprocess.resized(picture)[None]))
        with torch.inference_mode():
            logits: Logits = self.forward(pixels)[0].float().numpy()
        return logits


@dataclass(frozen=True, slots=True)
class Library:
    """Where weights of a layout come from: a package, the extra that brings it, and how it loads them."""

    package: str
    extra: str
    load: Callable[[Checkpoint], Reference]
    whose: str = ""  # when the layout is not the library's own


def of(checkpoint: Checkpoint) -> Reference:
    """The checkpoint in the library whose layout it has.

    Raises MissingExtra where that is not installed, CheckpointError where it cannot load the checkpoint.
    """
    library = LIBRARIES.get(checkpoint.layout)
    if library is None:
        raise CheckpointError(
            f"{checkpoint.path}: nothing was compared: no library's loader is known here for the layout "
            f"{checkpoint.layout}."
        )
    whose = library.whose or f"these weights are {library.package}'s"
    try:
        importlib.import_module(library.package.replace("-", "_"))
    except ImportError as error:
        raise MissingExtra(f"Nothing was compared: {whose}, and comparing with it", library.extra) from error
    except Exception as error:  # torchvision built for another torch
        raise CheckpointError(
            f"Nothing was compared: {whose}, and {library.package} fails as it is imported ({first_line(error)}). "
            f"Install the one that belongs to this torch: pip install 'vitcli[{library.extra}]'."
        ) from error
    try:
        reference = library.load(checkpoint)
        reference.logits(Image.new("RGB", (16, 16)))  # what a library makes of settings, it may say only now
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.path}: nothing was compared: {error}") from error
    except Exception as error:  # settings may say anything, and torch says what it misses on the second line
        why = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{checkpoint.path}: nothing was compared: {_named(library.package)} cannot load it ({short(why, 200)})."
        ) from error
    return reference


def _named(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def _folder(checkpoint: Checkpoint) -> Path | None:
    """The folder, if it alone says the same network: its own file of weights, no option that changed anything."""
    folder = checkpoint.files[0].parent
    try:
        plain = checkpoints.peek(folder)
    except CheckpointError:
        return None
    native = replace(checkpoint.config, image_size=checkpoint.resized_from or checkpoint.config.image_size)
    return folder if (plain.files, plain.config) == (checkpoint.files, native) else None


def _tensors(checkpoint: Checkpoint) -> dict[str, Any]:
    """The state dict of the library's own network, as the library names and shapes it."""
    import torch

    return {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in checkpoints.stored(checkpoint.path).items()
    }


def _transformers(checkpoint: Checkpoint) -> Reference:
    import torch
    import transformers

    with quiet(transformers):
        model, folder = None, _folder(checkpoint)
        if folder is not None and (folder / "config.json").is_file():
            with contextlib.suppress(Exception):  # a config.json may say anything
                model = _whole(
                    transformers.AutoModelForImageClassification.from_pretrained(
                        folder,
                        dtype=torch.float32,
                        local_files_only=True,
                        trust_remote_code=False,
                        output_loading_info=True,
                    )
                )
        own_shape = model is not None
        if model is None:
            prefix = convert.prefix(convert.architecture(checkpoint.config))
            tensors = _tensors(checkpoint)
            model = _transformers_network(
                checkpoint, {n if "classifier" in n else prefix + n: t for n, t in tensors.items()}
            )
        preparer = _transformers_processor(checkpoint, transformers)
    model = model.eval()
    resized = checkpoint.resized_from is not None

    def forward(pixels: Any) -> Any:
        return (model(pixels, interpolate_pos_encoding=True) if resized else model(pixels)).logits

    name = f"transformers {transformers.__version__}"
    return Reference(name, type(model).__name__, own_shape, forward, checkpoint.preprocess, preparer)


def _transformers_network(checkpoint: Checkpoint, state: dict[str, Any]) -> Any:
    """The ViT or DeiT of transformers in our shape, at the size of the stored positions, with tensors it names so."""
    import torch
    import transformers

    config = replace(checkpoint.config, image_size=checkpoint.resized_from or checkpoint.config.image_size)
    kind = getattr(transformers, convert.architecture(config))
    shape = kind.config_class.from_dict(convert.hub_config(config, checkpoint.labels))
    loaded = kind.from_pretrained(None, config=shape, state_dict=state, dtype=torch.float32, output_loading_info=True)
    if (model := _whole(loaded)) is None:
        raise CheckpointError(f"transformers {transformers.__version__} finds tensors missing, or of another shape.")
    return model


def in_transformers(checkpoint: Checkpoint) -> Any:
    """Weights of any layout in transformers' class, through `convert`: to measure beside ours, not to prove them right.

    Raises MissingExtra without transformers, CheckpointError for a network that it has no class for.
    """
    import torch

    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("Measuring beside transformers", "bench") from error
    state = {name: torch.from_numpy(tensor) for name, tensor in convert.hub_tensors(checkpoint).items()}
    with quiet(transformers):
        return _transformers_network(replace(checkpoint, resized_from=None), state).eval()


def _whole(loaded: tuple[Any, Mapping[str, Any]]) -> Any:
    """The model, None where it did not get every tensor it has."""
    model, loading = loaded
    return None if loading["missing_keys"] or loading["mismatched_keys"] else model


def _transformers_processor(checkpoint: Checkpoint, transformers: Any) -> Preparer:
    """The image processor that the files name, on Pillow; where no file is followed, ViT's or DeiT's as we are told."""
    folder = checkpoint.files[0].parent
    if checkpoint.sources["preprocess"] in PROCESSORS:
        with contextlib.suppress(Exception):
            own = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
            # where the file's size is not the network's, we put it right and transformers would not
            if processors.from_transformers(own.to_dict()) == replace(checkpoint.preprocess, rounding="down"):
                call = partial(_pixels, own)
                call(Image.new("RGB", (16, 16)))
                return Preparer(call, None if checkpoint.preprocess.rounding == "down" else checkpoint.preprocess)
    settings = convert.hub_preprocess(checkpoint.preprocess)
    named = str(settings["image_processor_type"])
    try:
        # the plain names become torchvision's way of resizing where torchvision is installed
        from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil as DeiT
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil as ViT
    except ImportError:  # before they had names of their own
        DeiT, ViT = transformers.DeiTImageProcessor, transformers.ViTImageProcessor  # noqa: N806
    processor = (DeiT if named.startswith("DeiT") else ViT).from_dict(settings)
    return Preparer(partial(_pixels, processor), checkpoint.preprocess)


def _pixels(processor: Any, picture: Image.Image) -> Any:
    return processor(images=picture, return_tensors="pt")["pixel_values"]


def _timm(checkpoint: Checkpoint) -> Reference:
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    config, model, folder = checkpoint.config, None, _folder(checkpoint)
    resized = {"img_size": config.image_size} if checkpoint.resized_from else {}
    if folder is not None and (folder / "config.json").is_file():
        with contextlib.suppress(Exception):  # an architecture that timm does not know, or not in this size
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, **resized)
    own_shape = model is not None
    if model is None:
        model = _timm_network(checkpoint, **_told(checkpoint))
        model.load_state_dict(checkpoint_filter_fn(_tensors(checkpoint), model, adapt_layer_scale=True))
    preparer = _torchvision_transform(checkpoint.preprocess)
    if own_shape and not resized and checkpoint.sources["preprocess"] == "config.json":
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        preparer = Preparer(lambda picture: transform(picture)[None])
    return Reference(f"timm {timm.__version__}", type(model).__name__, own_shape, model.eval(), checkpoint.preprocess,
                     preparer)  # fmt: skip


def _google(checkpoint: Checkpoint) -> Reference:
    import timm
    import torch

    if checkpoint.resized_from:
        raise CheckpointError("timm resizes positions in another way than the code that these weights come from.")
    (file,) = checkpoint.files
    # flax.linen.gelu, which that code calls, is the tanh form unless told otherwise
    model = _timm_network(checkpoint, act_layer=partial(torch.nn.GELU, approximate="tanh"), **_told(checkpoint))
    model.load_pretrained(str(file))
    return Reference(f"timm {timm.__version__}", type(model).__name__, False, model.eval(), checkpoint.preprocess,
                     _torchvision_transform(checkpoint.preprocess))  # fmt: skip


def _timm_network(checkpoint: Checkpoint, **told: Any) -> Any:
    """The class of timm in our shape. Raises CheckpointError for what it has no argument for."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    config = checkpoint.config
    _plain(config, "timm's VisionTransformer", "pooling", "class_token", "distillation_token", "register_tokens",
           "prefix_positions", "qkv_bias", "layer_scale", "pooled_norm")  # fmt: skip
    kind = VisionTransformerDistilled if config.distillation_token else VisionTransformer
    return kind(
        img_size=config.image_size,
        patch_size=config.patch_size,
        num_classes=config.classes,
        global_pool="token" if config.pooling == "cls" else "map" if config.pools_by_attention else "avg",
        pool_include_prefix=config.pooling.endswith("_all"),
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=(config.mlp_width + 0.5) / config.width,  # which timm multiplies and truncates
        qkv_bias=config.qkv_bias,
        init_values=1.0 if config.layer_scale else None,
        class_token=config.class_token,
        reg_tokens=config.register_tokens,
        no_embed_class=not config.prefix_positions,
        fc_norm=config.pooled_norm,
        **told,
    )


def _torchvision(checkpoint: Checkpoint) -> Reference:
    import torchvision
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    config, state = checkpoint.config, _tensors(checkpoint)
    _plain(config, "torchvision's VisionTransformer")
    if checkpoint.resized_from:
        state = interpolate_embeddings(config.image_size, config.patch_size, state)
    model = VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_layers=config.depth,
        num_heads=config.heads,
        hidden_dim=config.width,
        mlp_dim=config.mlp_width,
        num_classes=config.classes,
        **_told(checkpoint),
    )
    model.load_state_dict(state)
    return Reference(f"torchvision {torchvision.__version__}", "VisionTransformer", False, model.eval(),
                     checkpoint.preprocess, _torchvision_transform(checkpoint.preprocess))  # fmt: skip


def _told(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the files say of epsilon and GELU, as arguments; a library's own defaults stand where they are silent."""
    import torch

    config = checkpoint.config
    told: dict[str, Any] = {}
    if not checkpoint.sources["eps"].startswith("the default"):
        told["norm_layer"] = partial(torch.nn.LayerNorm, eps=config.norm_eps)
    if not checkpoint.sources["gelu"].startswith("the default"):
        told["act_layer"] = partial(torch.nn.GELU, approximate="tanh" if config.gelu == "tanh" else "none")
    return told


def _torchvision_transform(preprocess: Preprocess) -> Preparer | None:
    """The transforms of torchvision, which are timm's too, in our settings; None where it is not installed."""
    try:
        from torchvision import transforms
    except Exception:  # not installed, or built for another torch
        return None
    side = (preprocess.resize,) * 2 if preprocess.fit == "squash" else preprocess.resize
    steps = transforms.Compose([
        transforms.Resize(side, transforms.InterpolationMode(preprocess.filter)),
        transforms.CenterCrop(preprocess.size),
        transforms.ToTensor(),
        transforms.Normalize(preprocess.mean, preprocess.std),
    ])  # fmt: skip
    return Preparer(lambda picture: steps(picture)[None], preprocess, "even")


def _vit_pytorch(checkpoint: Checkpoint) -> Reference:
    from vit_pytorch.vit import ViT

    config = checkpoint.config
    if checkpoint.resized_from:
        raise CheckpointError("vit-pytorch has no way of its own to resize positions.")
    _plain(config, "vit-pytorch's ViT", "pooling", "class_token", "patch_norms", "qkv_bias", "attention_out",
           "head_width", "pooled_norm")  # fmt: skip
    model = ViT(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_classes=config.classes,
        dim=config.width,
        depth=config.depth,
        heads=config.heads,
        mlp_dim=config.mlp_width,
        pool="cls" if config.pooling == "cls" else "mean",
        channels=config.channels,
        dim_head=config.head_width,
    )
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tensors = _tensors(checkpoint)
    if tensors.keys() != shapes.keys():
        raise CheckpointError(f"{_named('vit-pytorch')} calls its layers otherwise. Install the version that these "
                              "weights come from.")  # fmt: skip
    # earlier versions gave tokens and positions a leading axis of 1
    state = {name: tensor.reshape(shapes[name]) for name, tensor in tensors.items()}
    model.load_state_dict(state)
    return Reference(_named("vit-pytorch"), "ViT", False, model.eval(), checkpoint.preprocess,
                     _torchvision_transform(checkpoint.preprocess))  # fmt: skip


SHAPE = {"image_size", "patch_size", "width", "depth", "heads", "head_width", "mlp_width", "classes"}
ASKED = {"norm_eps", "gelu"}  # told where the files say them, else the library's own


def _plain(config: Config, kind: str, *told: str) -> None:
    """Raise CheckpointError, naming it, for what a network has and the library's class is not `told` of."""
    usual = Config()
    names = [field.name for field in fields(config) if field.name not in (SHAPE | ASKED).union(told)]
    apart = [name for name in names if getattr(config, name) != getattr(usual, name)]
    if "head_width" not in told and config.heads * config.head_width != config.width:
        apart.append("head_width")
    if apart:
        raise CheckpointError(f"{kind} cannot express this network: it has another {', '.join(apart)}.")


LIBRARIES: dict[str, Library] = {
    "transformers": Library("transformers", "verify", _transformers),
    "dinov2": Library("transformers", "verify", _transformers),
    "clip": Library("transformers", "verify", _transformers),
    "siglip": Library("transformers", "verify", _transformers),
    "timm": Library("timm", "timm", _timm),
    "torchvision": Library("torchvision", "torchvision", _torchvision),
    "vit_jax": Library("timm", "timm", _google, "these weights are Google's, which timm reads too"),
    "big_vision": Library("timm", "timm", _google, "these weights are Google's, which timm reads too"),
    "vit-pytorch": Library("vit-pytorch", "vit-pytorch", _vit_pytorch),
}
