"""`vit inspect`: what a checkpoint is, from its headers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitcli import escaping
from vitcli.cli import console, options

if TYPE_CHECKING:
    from vitcli.checkpoints import Checkpoint

FIRST = 3  # labels shown
# Small tensors at the end of the network: training gone wrong shows in each of them.
PROBES = ("norm_pre.bias", "norm.weight", "norm.bias", "head.bias")


@options.grouped
def inspect(
    model: options.ModelArgument,
    weights: options.LabelledWeights,
    check: Annotated[
        bool, typer.Option("--check", help="Read every weight too: its hash, and whether NaN is among them.")
    ] = False,
    form: options.Format = "table",
) -> None:
    """Say what a model is: layout, architecture, preprocessing, labels, and
    where each of these was found.

    Reads headers and settings, not the weights, unless told to --check: that
    exits with 1 for weights that hold NaN or are not what the hub says. The
    options show what they would change.

    \b
    vit inspect google/vit-base-patch16-224
    vit inspect weights.npz --image-size 384
    vit inspect model.safetensors --format json | jq .architecture
    """
    from vitcli import checkpoints, hub

    name, path, _ = hub.resolve(model)
    checkpoint = checkpoints.peek(path, **weights.given())
    found = record(name, checkpoint, check)
    if form == "json":
        console.document(found)
    else:
        # plain text, because importing rich's console takes as long as all the rest; a pipe gets no bold
        typer.echo(table(found, checkpoint), color=False if os.environ.get("NO_COLOR") else None)
    if check and (found["not_finite"] or found["damaged"]):
        raise typer.Exit(1)


def record(name: str, checkpoint: Checkpoint, check: bool) -> dict[str, Any]:
    """Everything known, as JSON-ready values; null where it was not looked at, or nobody says."""
    from dataclasses import asdict

    import numpy as np

    from vitcli import hub
    from vitcli.checkpoints import ZERO_HEAD
    from vitcli.hub.guard import SHA256

    config, warnings = checkpoint.config, list(checkpoint.warnings)
    if check:
        bad = checkpoint.not_finite()
    else:
        tensors = checkpoint.tensors
        bad = [probe for probe in PROBES if probe in tensors and not np.isfinite(tensors[probe]).all()]
    if bad:
        shown = ", ".join(bad[:FIRST]) + (f" and {len(bad) - FIRST} more" if len(bad) > FIRST else "")
        warnings.append(f"NaN or infinity among the weights ({shown}): this model cannot classify")
    if not checkpoint.tensors["head.weight"].any():
        warnings.append(ZERO_HEAD)
    origin = hub.origin(checkpoint.files[0])
    stated = hub.blob_name(checkpoint.files[0]) if len(checkpoint.files) == 1 else None
    stated = stated if stated and SHA256.fullmatch(stated) else None
    sha256 = checkpoint.sha256() if check else None
    if damaged := bool(sha256 and stated and sha256 != stated):
        warnings.append("the weights are not what the hub says they are: fetch them again with vit download-weights")
    return {
        "name": name,
        "path": str(checkpoint.path),
        "files": [str(file) for file in checkpoint.files],
        "bytes": sum(file.stat().st_size for file in checkpoint.files),
        "repository": origin[0] if origin else None,
        "revision": origin[1] if origin else None,
        "sha256": sha256,
        "sha256_stated": stated,
        "layout": checkpoint.layout,
        "dtype": checkpoint.dtype,
        "architecture": config.name,
        "config": asdict(config),
        "parameters": config.parameters,
        "flops": config.flops,
        "preprocess": checkpoint.preprocess.record(),
        "classes": config.classes,
        "labels": list(checkpoint.labels.names),
        "activation": checkpoint.labels.activation,
        "sources": dict(checkpoint.sources),
        "dropped": list(checkpoint.dropped),
        "checked": check,
        "not_finite": bad,
        "damaged": damaged,
        "warnings": warnings,
    }


def table(found: dict[str, Any], checkpoint: Checkpoint) -> str:
    """The same for a person, a line each."""
    config, sources = checkpoint.config, found["sources"]
    shape = (
        f"{config.name}, {config.image_size}, {three(config.parameters / 1e6)} M parameters, "
        f"{three(config.flops / 1e9)} GFLOP an image"
    )
    first = ", ".join(name.split(",")[0] for name in found["labels"][:FIRST])  # of WordNet's synonyms the first
    labels = f"{config.classes}: {first}{', ...' if config.classes > FIRST else ''} ({sources['labels']})"
    hashed = f"sha256 {found['sha256'] or found['sha256_stated']}"
    if found["damaged"]:
        hashed = f"sha256 {found['sha256']}, and the hub says {found['sha256_stated']}"
    elif found["sha256"] is None:
        hashed = f"{hashed} (as the hub states; --check computes it)" if found["sha256_stated"] else "with --check"
    if found["sha256"] and len(found["files"]) > 1:
        hashed += " (of the hashes of its files)"
    stored = ", ".join(Path(file).name for file in found["files"][:FIRST])
    more = f" and {len(found['files']) - FIRST} more" if len(found["files"]) > FIRST else ""
    lines = [
        ("layout", found["layout"]),
        ("architecture", shape),
        ("details", details(checkpoint)),
        ("preprocessing", f"{checkpoint.preprocess.describe()} ({sources['preprocess']})"),
        ("labels", labels),
        ("scores", {"none": "the logits (regression)"}.get(found["activation"], found["activation"])),
        ("stored as", f"{found['dtype']}, {found['bytes'] / 1e6:.1f} MB, {stored}{more}"),
        ("hash", hashed),
        ("path", found["path"]),
    ]
    if found["repository"]:
        lines.append(("hub", f"{found['repository']}, commit {found['revision']}"))
    if found["dropped"]:
        lines.append(("not needed", ", ".join(found["dropped"])))
    lines += [("warning", warning) for warning in found["warnings"]]
    if found["checked"] and not found["not_finite"]:
        lines.append(("weights", "all finite"))
    return "\n".join(f"{typer.style(f'{key:13}', bold=True)}  {escaping.printable(value)}" for key, value in lines)


def three(value: float) -> str:
    """Three digits, or more where they stand before the point: 0.0838, 5.72, 86.6, 1013."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def details(checkpoint: Checkpoint) -> str:
    """What the name of an architecture leaves open."""
    config, sources = checkpoint.config, checkpoint.sources
    pooling = {
        "cls": "class token",
        "mean": "mean of the patches",
        "mean_all": "mean of all tokens",
        "cls_mean": "class token and mean of the patches",
        "attention": "attention over the patches",
        "attention_all": "attention over all tokens",
    }[config.pooling]
    parts = [
        f"{config.heads} heads of {config.head_width} ({sources['heads']})",
        f"LayerNorm eps {config.norm_eps:g} ({sources['eps']})",
        "SwiGLU (the tensors)" if config.gated_mlp else f"{config.gelu} GELU ({sources['gelu']})",
        f"{pooling} ({sources['pooling']})",
    ]
    if config.rotary:
        parts.append(f"{'learned ' * config.rotary.learned}rotary positions ({sources['rotary']})")
    if config.relative_positions:
        parts.append(f"relative positions ({sources['relative_positions']})")
    if "image_size" in sources:
        parts.append(f"pictures of {config.image_size} pixels ({sources['image_size']})")
    if config.post_norm:
        parts.append(f"norms after the branches ({sources['post_norm']})")
    variants = {
        "distillation token": config.distillation_token,
        f"{config.register_tokens} register tokens": config.register_tokens,
        "no class token": not config.class_token,
        "positions for patches only": not config.prefix_positions,
        "norms around the patch embedding": config.patch_norms,
        "no learned positions": not config.positions,
        "norm before the blocks": config.norm_pre,
        "no patch bias": not config.patch_bias,
        "no qkv bias": not config.qkv_bias,
        "no key bias": config.qkv_bias and not config.key_bias,
        "norm inside attention": config.attention_norm,
        "norm inside the MLP": config.mlp_norm,
        "no norm after the blocks": not config.final_norm,
        "no attention output": not config.attention_out,
        "layer scale": config.layer_scale,
        "norm after pooling": config.pooled_norm,
    }
    return ", ".join(parts + [what for what, present in variants.items() if present])
