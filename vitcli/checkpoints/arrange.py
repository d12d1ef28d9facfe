"""Stored tensors in anybody's layout -> canonical tensors and the Config that they imply.

Shapes are rehearsed on arrays that take no memory (one zero, seen under any shape), so every misfit is known and named
before a weight is read.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import EinopsError, parse_shape, rearrange

from vitcli import escaping
from vitcli.checkpoints.architectures import ADDS, ELSEWHERE, telltale
from vitcli.checkpoints.files import FLOATS, Stored
from vitcli.checkpoints.layouts import LAYOUTS, Layout
from vitcli.checkpoints.rules import Rule
from vitcli.checkpoints.settings import Settings
from vitcli.checkpoints.source import Array, Place
from vitcli.config import SIZES, Config, Pooling
from vitcli.errors import CheckpointError, LayoutError, UsageError
from vitcli.escaping import listed, short

PATCHES = "patch_embedding.projection.weight"
MAX_BLOCKS = 1000  # the deepest published ViT has 56
MAX_SIDE = 4096  # pixels
MAX_CLASSES = 1_000_000  # ImageNet-21k has 21,843

# What training leaves among the weights and inference never reads: counters, and the weights of a loss.
ASIDE = re.compile(
    r".*(num_batches_tracked|n_averaged|global_step|total_ops|total_params|position_ids)|epoch"
    r"|(model\.)?(loss|loss_f\w*|criterion)\..*"
)

# What people call the module that they put in the place of a head, and what stands inside it (0, 1, ...: a Sequential).
HEAD = re.compile(
    r"(heads?|classifier|cls_head|mlp_head|linear_head|class_head|classification_head|output(_layer)?|out|final(_layer)?"
    r"|last_linear|last_layer|logits|(fc|linear|dense)\d*(_out|_head)?)"
    r"(\.(\d+|head|classifier|pre_logits|out|out_proj|(fc|linear|dense)\d*))*"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A canonical tensor: all of a stored one, or what lies at `index` of its first axis after axes have moved."""

    source: str
    stored: Stored
    rule: Rule
    index: int | None
    shape: tuple[int, ...]
    lengths: Mapping[str, int]

    @property
    def place(self) -> Place | None:
        """Where the numbers lie in the file as they are needed, None where they have to be converted or moved."""
        if self.stored.place is None or self.rule.moves:
            return None
        return self.stored.place.part(self.index or 0, self.shape)

    def read(self, moved: MutableMapping[str, Array]) -> Array:
        """The numbers, in memory that nobody else has or only the parts of the same stored tensor.

        `moved` remembers what was read, so that the parts of one stored tensor share it.
        """
        if self.place is not None:
            return self.place.read()
        if self.source not in moved:
            moved[self.source] = moved_axes(self.stored.read(), self.rule, self.lengths)
        whole = moved[self.source]
        return (whole if self.index is None else whole[self.index]).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Computed(Part):
    """One that is computed from others."""

    inputs: tuple[Part, ...]
    compute: Callable[..., Array]

    @property
    def place(self) -> None:
        """The file does not hold it."""

    def read(self, moved: MutableMapping[str, Array]) -> Array:
        """What `compute` makes of what `inputs` hold."""
        return self.compute(*(part.read(moved) for part in self.inputs))

    @classmethod
    def of(cls, compute: Callable[..., Array], *inputs: Part) -> Computed:
        """From parts of which the first lends its name and its rule; the shape is rehearsed."""
        first, shape = inputs[0], compute(*(nothing(part.shape) for part in inputs)).shape
        return cls(first.source, first.stored, first.rule, None, shape, first.lengths, inputs, compute)


class Arranged(NamedTuple):
    """A checkpoint sorted out; `sources` says where what the tensors do not tell comes from."""

    layout: Layout
    config: Config
    parts: Mapping[str, Part]
    dtype: str
    sources: Mapping[str, str]  # where what tensors do not say was found: "heads", "eps", "gelu", "pooling" ...
    dropped: tuple[str, ...]


def arrange(path: Path, stored: Mapping[str, Stored], settings: Settings) -> Arranged:
    """Find the layout, rename, move axes, and check every name and shape.

    Raises LayoutError naming whatever is missing, left over or misshapen; CheckpointError for settings that contradict
    the tensors, UsageError for a number of heads that does.
    """
    try:
        settings.warnings.extend(settings.doubts())
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if rectangle := settings.rectangle():
        what, (height, width) = rectangle
        raise CheckpointError(f"{path}: config.json speaks of {what} of {height} x {width} pixels; only square ones "
                              "are built here.")  # fmt: skip
    layout, named, unread = as_named(path, stored, settings)
    named = ungated(named)
    patch, channels = patch_of(path, layout, named, settings)
    lengths = {"p": patch, "q": patch, "c": channels, "s": 3, "t": 2}
    parts: dict[str, Part] = {}
    dropped = sorted(unread)
    problems: dict[str, list[str]] = {kind: [] for kind in ("left over", "twice", "not floating-point", "misshapen")}
    for name, tensor in named.items():
        if math.prod(tensor.shape) == 0:
            continue  # holds nothing: vit-pytorch's class token when it pools by the mean
        if any(fnmatchcase(name, pattern) for pattern in layout.dropped):
            dropped.append(name)
            continue
        rules = [(rule, found) for rule in layout.rules if (found := rule.match(name)) is not None]
        if not rules:
            problems["left over"].append(name)
            continue
        if tensor.dtype not in FLOATS:
            problems["not floating-point"].append(f"{name} ({tensor.dtype})")
            continue
        fitting = [(rule, found) for rule, found in rules if rule.fits(len(tensor.shape))]
        try:
            rule, found = fitting[0]
            shape = moved_axes(nothing(tensor.shape), rule, lengths).shape
        except (IndexError, EinopsError):
            problems["misshapen"].append(f"{name} {list(tensor.shape)}")
            continue
        if rule.stacked(found) and shape[0] > MAX_BLOCKS:
            problems["misshapen"].append(f"{name} {list(tensor.shape)}")
            continue
        for ours, index in rule.targets(found, shape[0] if shape else 0):
            if ours in parts:
                problems["twice"].append(f"{parts[ours].source} and {name}")
            parts[ours] = Part(name, tensor, rule, index, shape if index is None else shape[1:], lengths)
    if any("pre_logits" in name for name in dropped):
        settings.warnings.append("pre_logits left out, as timm does: that layer is for pre-training, and so may the "
                                 "head be")  # fmt: skip
    if any(fnmatchcase(name, "pooler.dense.*") for name in dropped) and not settings.knows_its_class:
        settings.warnings.append("a pooler lies between network and head, and was left out, as transformers' "
                                 "classifiers do: a head trained on its output would be wrong here")  # fmt: skip
    if layout.name == "timm" and settings.named()[1] is None:
        unnamed(path, named, settings)
    if parts and not any(ours.startswith("head.") for ours in parts):
        head = theirs(layout, "head.weight", named)
        if problems["left over"]:  # a head under a strange name may be among them
            refuse(path, layout, settings, problems | {"missing": [head]})
        raise LayoutError(f"{path}: a backbone without a classification head (no {head}), so there are no classes to "
                          "tell apart. Use a checkpoint fine-tuned for classification.")  # fmt: skip
    refuse(path, layout, settings, problems)
    if "distillation_token" in parts and "distillation_head.weight" not in parts:
        # a DeiT fine-tuned with one head: its second token is carried along but never read, as a register is
        token = parts.pop("distillation_token")
        parts["register_tokens"] = replace(token, shape=(1, *token.shape))
    if layout.any_size and "register_tokens" in parts and "positions" in parts and "class_token" in parts:
        # the registers of DINOv2 have no positions, the class token has: its position becomes a part of it
        first, positions = parts["class_token"], parts["positions"]
        parts["class_token"] = Computed.of(lambda token, rows: token + rows[0], first, positions)
        parts["positions"] = Computed.of(lambda rows: rows[1:], positions)
    placed = settings.architecture.rotary or "blocks.0.attention.relative_positions" in parts
    essential = [PATCHES, "blocks.0.attention.query.weight", "blocks.0.mlp.fc1.weight", "head.weight"]
    essential[1:1] = [] if placed else ["positions"]
    if missing := [theirs(layout, ours, named) for ours in essential if ours not in parts]:
        if parts and missing == [theirs(layout, "positions", named)]:
            raise LayoutError(f"{path}: looks like the {layout.name} layout, but has no learned positions (no "
                              f"{missing[0]}); computed ones, as SimpleViT has, are not built here.")  # fmt: skip
        refuse(path, layout, settings, {"missing": missing})
    refuse(path, layout, settings, {"misshapen": [f"{parts[ours].source} {list(parts[ours].stored.shape)}"
                                                  for ours in essential if len(parts[ours].shape) != 2]})  # fmt: skip
    config, sources = config_of(path, layout, parts, named, settings, patch, channels)
    expected = config.tensors()
    problems = {
        "missing": [theirs(layout, ours, named) for ours in expected if ours not in parts],
        "left over": [part.source for ours, part in parts.items() if ours not in expected],
        "misshapen": [
            f"{parts[ours].source} {list(parts[ours].stored.shape)}"
            for ours, shape in expected.items()
            if ours in parts and parts[ours].shape != shape
        ],
    }
    refuse(path, layout, settings, problems)
    stored_as: Counter[str] = Counter()
    for ours, shape in expected.items():
        stored_as[parts[ours].stored.dtype] += math.prod(shape)
    ordered = {ours: parts[ours] for ours in expected}
    return Arranged(layout, config, ordered, stored_as.most_common(1)[0][0], sources, tuple(dropped))


def as_named(
    path: Path, stored: Mapping[str, Stored], settings: Settings
) -> tuple[Layout, dict[str, Stored], frozenset[str]]:
    """The layout, the tensors as its library names them, and what was put aside. No rule of the layout is applied.

    Raises LayoutError when no layout fits, or the head is not one linear layer.
    """
    unread = frozenset(name for name in stored if ASIDE.fullmatch(name))
    layout, named = recognise(path, {name: tensor for name, tensor in stored.items() if name not in unread}, settings)
    return layout, with_usual_head(path, layout, named, settings), unread


def recognise(path: Path, stored: Mapping[str, Stored], settings: Settings) -> tuple[Layout, dict[str, Stored]]:
    """The first layout with a sign among the names, and the tensors under their names without prefixes.

    Raises LayoutError when no layout fits.
    """
    bare = dict(stored)
    # what DistributedDataParallel (module.), torch.compile (_orig_mod.) and Lightning (anything) put before every name
    while len({name.partition(".")[0] for name in bare}) == 1 and all("." in name for name in bare):
        bare = {name.partition(".")[2]: tensor for name, tensor in bare.items()}
    for layout in LAYOUTS:
        named = bare
        for prefix in layout.prefixes:
            stripped = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
            if len(stripped) == len(named):
                named = stripped
        if any(sign in named for sign in layout.signs):
            return layout, named
    if whose := telltale(bare, ELSEWHERE):
        raise LayoutError(f"{path}: holds {whose} ({listed(list(stored), 3)}).")
    for layout in LAYOUTS:
        found = {name.removesuffix(sign) for sign in layout.signs for name in bare if name.endswith(f".{sign}")}
        if len(found) > 1:
            raise LayoutError(f"{path}: holds several networks (under {listed(sorted(found))}). Save the one you "
                              "mean alone.")  # fmt: skip
        if found and len(named := within(bare, found.pop())) == len(bare):
            return layout, named
    kinds = ", ".join(layout.name for layout in LAYOUTS)
    raise LayoutError(f"{path}: {len(bare)} tensors in no layout known here ({listed(list(stored), 3)})"
                      f"{_another(settings)}. Known layouts: {kinds}.")  # fmt: skip


def within(stored: Mapping[str, Stored], prefix: str) -> dict[str, Stored]:
    """Names without as much of a prefix as they have: `model.vit.` is taken off a network, `model.` off its head."""
    steps = [prefix[: match.end()] for match in re.finditer(r"\.", prefix)][::-1]
    named = {}
    for name, tensor in stored.items():
        named[name.removeprefix(next((step for step in steps if name.startswith(step)), ""))] = tensor
    return named


def with_usual_head(path: Path, layout: Layout, named: dict[str, Stored], settings: Settings) -> dict[str, Stored]:
    """The head under the layout's own name, if it is a lone linear layer under any usual one: `heads`, `head.1`, `fc`.

    What stands around it in a Sequential without weights is taken for Dropout, which does nothing here.
    Raises LayoutError for a head of several linear layers: what stands between them cannot be seen.
    """
    own = [rule for rule in layout.rules if rule.ours.startswith("head.")]
    rest = [rule for rule in layout.rules if rule not in own]
    stems = []
    for name, tensor in named.items():
        stem, _, end = name.rpartition(".")
        if end != "weight" or len(tensor.shape) != 2:
            continue
        named_so = HEAD.fullmatch(stem) or any(rule.match(name) for rule in own)
        if named_so and not any(rule.match(name) for rule in rest):
            stems.append(stem)
    if len(stems) > 1:
        raise LayoutError(f"{path}: the head is {listed(stems)}: more than one linear layer, which is not built "
                          "here.")  # fmt: skip
    if not stems or any(rule.match(f"{stems[0]}.weight") for rule in own):
        return named
    head = theirs(layout, "head.weight", named).removesuffix(".weight")
    if stems[0] != "heads":  # torchvision's own, with a linear layer in the place of its Sequential
        inside = ", and what stands before it, without weights, for Dropout" if re.search(r"\d", stems[0]) else ""
        settings.warnings.append(f"the head is called {short(stems[0])}: took it for a linear layer{inside}")
    return {f"{head}.{name.rpartition('.')[2]}" if name.rpartition(".")[0] == stems[0] else name: tensor
            for name, tensor in named.items()}  # fmt: skip


def ungated(named: dict[str, Stored]) -> dict[str, Stored]:
    """Under a name of its own the first layer of an MLP that holds a gate as well (timm's GluMlp)."""
    renamed = {}
    for name, tensor in named.items():
        stem, _, end = name.rpartition("mlp.fc1.")
        second = named.get(f"{stem}mlp.fc2.weight")
        gated = end and second is not None and len(second.shape) == 2 and tensor.shape[:1] == (2 * second.shape[1],)
        renamed[f"{stem}mlp.fc1_gx.{end}" if gated else name] = tensor
    return renamed


def unnamed(path: Path, named: Mapping[str, Stored], settings: Settings) -> None:
    """Warn of what timm's tensors leave open where no known name tells it.

    Raises CheckpointError where they are certainly of a family whose members compute different things.
    """
    ends = {name.split(".", 2)[-1] for name in named}
    eva = {"attn.q_bias", "attn.q_proj.weight", "mlp.fc1_g.weight", "mlp.fc1_gx.weight", "rope.freqs"}
    beit = "attn.relative_position_bias_table" in ends
    if not beit and (eva & ends or "pos_embed" not in named):
        raise CheckpointError(f"{path}: nothing names an architecture known here, and timm has several of such tensors "
                              "that compute different things (rotary positions, post-norm). Put the config.json of its "
                              "repository beside it.")  # fmt: skip
    if settings.named()[0]:
        return
    if "norm_pre.weight" in named:
        settings.warnings.append("nothing names the architecture: took CLIP's epsilon and exact GELU, but OpenAI's "
                                 "weights have QuickGELU")  # fmt: skip
    if "gamma_1" in ends and not beit:
        settings.warnings.append("nothing names the architecture: took it for DeiT-3, but timm's networks with "
                                 "computed rotary positions (vit_*_rope_ape_*) have the same tensors")  # fmt: skip


def patch_of(path: Path, layout: Layout, named: Mapping[str, Stored], settings: Settings) -> tuple[int, int]:
    """Size of a patch in pixels, and channels: from the axes of the kernel, or from its size where it is flat.

    Raises LayoutError for patches that are not square.
    """
    rules = [rule for rule in layout.rules if rule.ours == PATCHES]
    kernel = next(((name, named[name].shape) for rule in rules for name in named if rule.match(name) is not None), None)
    if kernel is None:
        raise misfit(path, layout, settings, {"missing": [theirs(layout, PATCHES, named)]})
    name, shape = kernel
    rule = next((rule for rule in rules if rule.fits(len(shape))), None)
    if rule is None or math.prod(shape) == 0:
        raise LayoutError(f"{path}: {name} of shape {list(shape)} is not a patch embedding.")
    if "(" not in rule.left and "p" in rule.left.split():
        axes = parse_shape(nothing(shape), rule.left)
        if axes["p"] != axes["q"]:
            raise LayoutError(f"{path}: patches of {axes['p']} x {axes['q']} pixels; only square ones are built here.")
        return axes["p"], axes["c"]
    said = settings.count("num_channels", "in_chans", "channels", most=1024)
    for channels in (said, 3, 1):
        if channels and shape[-1] % channels == 0 and math.isqrt(shape[-1] // channels) ** 2 * channels == shape[-1]:
            return math.isqrt(shape[-1] // channels), channels
    raise LayoutError(f"{path}: {name} of shape {list(shape)} holds no square patches of 3 channels.")


def config_of(
    path: Path,
    layout: Layout,
    parts: Mapping[str, Part],
    named: Mapping[str, Stored],
    settings: Settings,
    patch: int,
    channels: int,
) -> tuple[Config, dict[str, str]]:
    """The Config that shapes imply, and where comes from what they do not: "heads", "eps", "gelu", "pooling" ..."""
    if channels != 3:
        raise CheckpointError(f"{path}: takes pictures of {channels} channels; only 3 (RGB) are classified here.")
    width = parts[PATCHES].shape[0]
    inner, mlp_width = parts["blocks.0.attention.query.weight"].shape[0], parts["blocks.0.mlp.fc1.weight"].shape[0]
    depth = len({ours.split(".")[1] for ours in parts if ours.startswith("blocks.")})
    classes = parts["head.weight"].shape[0]
    class_token, distilled = "class_token" in parts, "distillation_token" in parts
    registers = parts["register_tokens"].shape[0] if "register_tokens" in parts else 0
    attention_out = "blocks.0.attention.out.weight" in parts or not layout.bare_attention
    pooled_norm = layout.pooled_norm in named
    prefix = class_token + distilled + registers
    grid, prefix_positions = grid_of(path, parts, settings, prefix, patch)
    if grid * patch > MAX_SIDE or classes > MAX_CLASSES:
        raise CheckpointError(f"{path}: a network for {classes:,} classes and pictures of {grid * patch:,} pixels; "
                              f"what is built here has up to {MAX_CLASSES:,} and {MAX_SIDE:,}.")  # fmt: skip
    known, sources = settings.architecture, {}
    if not attention_out:
        heads, sources["heads"] = 1, "the tensors"  # nothing to project: one head of full width
    else:
        heads, sources["heads"] = heads_of(path, parts, settings, inner, (width, depth, mlp_width))
    clip = "norm_pre.weight" in parts and not settings.named()[0]
    eps, sources["eps"] = settings.eps or ((1e-5, "CLIP") if clip else (layout.eps, f"the default of {layout.name}"))
    gelu, sources["gelu"] = settings.gelu or (layout.gelu, f"the default of {layout.name}")
    pooling: Pooling = layout.pooling or ("mean" if pooled_norm or not class_token else "cls")
    sources["pooling"] = "the tensors" if pooled_norm or not class_token else f"the default of {layout.name}"
    if parts["head.weight"].shape[1:] == (2 * width,) and class_token:
        pooling, sources["pooling"] = "cls_mean", "the tensors"  # a head that reads both
    elif (told := settings.pooling) is not None:
        said, sources["pooling"] = told
        mean = "mean_all" if settings.pools_every_token else layout.mean if class_token else "mean"
        pooling = mean if said == "mean" else said
    elif layout.either_pooling and class_token:
        settings.warnings.append("nothing says how tokens are pooled: took the class token (--pooling mean if not)")
    rotary = known.rotary
    if rotary or known.post_norm:
        sources["rotary" if rotary else "post_norm"] = f"the architecture {short(settings.named()[0])}"
    adds = [ours for argument, ours in ADDS.items() if settings.argument(argument) is True]
    if (
        (known.layout and known.layout != layout.name)
        or known.lacks in parts
        or any(ours not in parts for ours in adds)
        or ("rotary.frequencies" in parts) != bool(rotary and rotary.learned)
    ):
        raise CheckpointError(f"{path}: config.json names the architecture {short(settings.named()[0])}, and these "
                              "are the tensors of another.")  # fmt: skip
    if pooling == "cls" and not class_token:
        raise CheckpointError(f"{path}: config.json asks for the class token, and there is none among the tensors.")
    if "blocks.0.attention.relative_positions" in parts and prefix > class_token:
        raise CheckpointError(f"{path}: relative positions with tokens that have none are not built here.")
    if pooling != "cls" and distilled:
        raise CheckpointError(f"{path}: mean pooling is asked for, but a distilled network reads its two tokens.")
    config = Config(
        image_size=grid * patch,
        patch_size=patch,
        channels=channels,
        width=width,
        depth=depth,
        heads=heads,
        head_width=inner // heads,
        mlp_width=mlp_width,
        classes=classes,
        norm_eps=eps,
        gelu=gelu,
        pooling=pooling,
        class_token=class_token,
        distillation_token=distilled,
        register_tokens=registers,
        positions="positions" in parts,
        prefix_positions=prefix_positions,
        relative_positions="blocks.0.attention.relative_positions" in parts,
        rotary=rotary,
        patch_bias="patch_embedding.projection.bias" in parts or "norm_pre.weight" not in parts,
        patch_norms="patch_embedding.norm_in.weight" in parts,
        norm_pre="norm_pre.weight" in parts,
        qkv_bias="blocks.0.attention.query.bias" in parts,
        key_bias="blocks.0.attention.key.bias" in parts or "blocks.0.attention.query.bias" not in parts,
        attention_norm="blocks.0.attention.norm.weight" in parts,
        attention_out=attention_out,
        gated_mlp="blocks.0.mlp.gate.weight" in parts,
        mlp_norm="blocks.0.mlp.norm.weight" in parts,
        layer_scale="blocks.0.scale1" in parts,
        post_norm=known.post_norm,
        final_norm=layout.final_norm,
        pooled_norm=pooled_norm,
    )
    _compare(settings, config)
    return config, sources


def grid_of(path: Path, parts: Mapping[str, Part], settings: Settings, prefix: int, patch: int) -> tuple[int, bool]:
    """Patches a side of a picture, and whether the tokens before the patches have positions.

    From the rows of positions, else of relative ones, else from config.json. Raises LayoutError where no square fits.
    """
    if "positions" in parts:
        rows = parts["positions"].shape[0]
        if _square(rows - prefix) and not (_square(rows) and prefix > 1):
            return math.isqrt(rows - prefix), True
        if _square(rows):
            return math.isqrt(rows), False
        raise LayoutError(f"{path}: {parts['positions'].source} has {rows} rows, {prefix} of them for tokens before "
                          "the patches: no square number of patches, and only square pictures are built "
                          "here.")  # fmt: skip
    table = parts.get("blocks.0.attention.relative_positions")
    if table is not None:
        rows = table.shape[0] - 3 * prefix
        if rows % 2 == 1 and _square(rows):
            return (math.isqrt(rows) + 1) // 2, True
        raise LayoutError(f"{path}: {table.source} has {table.shape[0]} rows, which is not what square pictures "
                          "have.")  # fmt: skip
    if (size := settings.picture_size) is None or size % patch:
        raise CheckpointError(f"{path}: nothing says how large pictures are, and these tensors fit any size. Put the "
                              "config.json of its repository beside it.")  # fmt: skip
    return size // patch, True


def heads_of(
    path: Path, parts: Mapping[str, Part], settings: Settings, inner: int, size: tuple[int, int, int]
) -> tuple[int, str]:
    """The number of attention heads, and where it was found. Shapes tell it only where heads have an axis.

    Raises UsageError or CheckpointError when heads do not divide the width, LayoutError when nothing tells them.
    """
    query = parts["blocks.0.attention.query.weight"]
    if (given := settings.given_heads) is not None:
        if given < 1 or inner % given:
            raise UsageError(f"--heads {given} does not divide the width of attention, {inner}.")
        return given, "--heads"
    if (table := parts.get("blocks.0.attention.relative_positions")) is not None:
        return table.shape[1], "the tensors"
    if (learned := parts.get("rotary.frequencies")) is not None:
        return learned.shape[2], "the tensors"
    if "h" in query.rule.left.split():
        return query.stored.shape[query.rule.left.split().index("h")], "the tensors"
    said = settings.count("num_attention_heads", "num_heads", "heads", most=inner)
    if said is not None:
        if inner % said:
            raise CheckpointError(f"{path}: config.json says {said} heads, which does not divide the width {inner}.")
        return said, "config.json"
    known = settings.architecture
    if known.heads is not None and known.width == inner:
        return known.heads, f"the architecture {short(settings.named()[0])}"
    width = settings.count("dim_head", "head_dim", most=inner)
    if width is not None and inner % width == 0:
        return inner // width, "config.json"
    for name, row in SIZES.items():
        if size == (row["width"], row["depth"], row["mlp_width"]) and inner == row["width"]:
            return row["heads"], f"the published ViT-{name}"
    if inner % 64 == 0:
        settings.warnings.append(f"nothing says how many heads: took {inner // 64} of the usual width 64 "
                                 "(--heads says otherwise)")  # fmt: skip
        return inner // 64, "heads of the usual width 64"
    raise LayoutError(f"{path}: nothing says how many attention heads share the width {inner}. Give --heads.")


def moved_axes(array: Array, rule: Rule, lengths: Mapping[str, int]) -> Array:
    """Apply a rule's pattern. Raises EinopsError when the shape does not fit."""
    if not rule.axes:
        return array
    inside = "".join(re.findall(r"\(([^)]*)\)", rule.left)).split()
    return rearrange(array, rule.axes, **{axis: lengths[axis] for axis in inside if axis in lengths})


def nothing(shape: tuple[int, ...]) -> Array:
    """An array of any shape that takes no memory, to rehearse on."""
    return np.broadcast_to(np.float32(0), shape)


def refuse(path: Path, layout: Layout, settings: Settings, problems: Mapping[str, list[str]]) -> None:
    """Raise LayoutError if there are problems (kind -> tensors)."""
    if any(problems.values()):
        raise misfit(path, layout, settings, problems)


def misfit(path: Path, layout: Layout, settings: Settings, problems: Mapping[str, list[str]]) -> LayoutError:
    """The error that names every tensor in the way."""
    found = "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
    what = telltale([name for names in problems.values() for name in names])
    apart = f"has {what}, which is not built here" if what else "does not fit it"
    return LayoutError(f"{path}: looks like the {layout.name} layout, but {apart}{_another(settings)}. "
                       f"Tensors {found}.")  # fmt: skip


def theirs(layout: Layout, ours: str, named: Mapping[str, Stored]) -> str:
    """What a tensor of ours would be called in the file: of several spellings the one most like the file's names."""
    spellings = [name for rule in layout.rules for name in rule.spellings(ours)]
    kinds = {re.sub(r"\d+", "0", name) for name in named}
    return next((name for name in spellings if re.sub(r"\d+", "0", name) in kinds), (spellings or [ours])[0])


def _another(settings: Settings) -> str:
    kind = settings.config.get("model_type") or settings.config.get("architecture")
    return f" (config.json calls it {kind[:60]!r})" if isinstance(kind, str) else ""


def _square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def _compare(settings: Settings, config: Config) -> None:
    """Warn where config.json contradicts the tensors, which are used."""
    for field, value in {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "intermediate_size": config.mlp_width,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "qkv_bias": config.qkv_bias,
        "num_labels": config.classes,
        "num_classes": config.classes,
    }.items():
        said: Any = settings.config.get(field)
        if said is not None and said != value and said != [value, value]:
            settings.warnings.append(f"config.json says {field} {escaping.value(said)}, the tensors say {value}: "
                                     "using the tensors")  # fmt: skip
