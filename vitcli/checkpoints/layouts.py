"""The layouts of checkpoints, a row each: whose names mean what, where axes move, and what tensors cannot say.

To add a layout, add a `Layout` to LAYOUTS: nothing else knows how many there are. Names are written as `rules.py` says.
Axis letters: d width, n tokens, c channels, p q rows and columns of a patch, h heads, e width of a head, i o fan-in and
fan-out, s one of query, key, value, t of two, k all numbers of a patch, l block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitcli.checkpoints.positions import Resize
from vitcli.checkpoints.rules import Rule, filled, rules
from vitcli.config import Gelu, Pooling

TORCH_BICUBIC, TORCH_BILINEAR = Resize("bicubic"), Resize("bilinear")


@dataclass(frozen=True, slots=True)
class Layout:
    """One family of checkpoints.

    `signs` are names of theirs (one of them, after a prefix is taken off) that no other layout has; `prefixes` are
    taken off where they stand; `dropped` are shell patterns of what inference does not need. The rest is what a family
    does and its tensors do not say. `bare_attention`: a single head of full width has no output projection;
    `bare_tokens`: the tokens before the patches may have no positions; `either_pooling`: the same tensors may pool by
    the class token or by the mean, and nothing tells; `heads`: by size (width, depth, width of the MLP), where they are
    not those of the published ViTs.
    """

    name: str
    signs: tuple[str, ...]
    rules: tuple[Rule, ...]
    prefixes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    eps: float = 1e-6
    gelu: Gelu = "exact"
    pooling: Pooling | None = None  # None: the class token where there is one
    mean: Pooling = "mean"  # what the family means by mean pooling
    final_norm: bool = True
    pooled_norm: str = ""  # their name of the final norm where it follows pooling
    bare_attention: bool = False
    bare_tokens: bool = False
    heads: Mapping[tuple[int, int, int], int] = field(default_factory=dict)
    either_pooling: bool = False
    preprocess: str = "hf"  # a key of preprocess.FAMILIES
    preprocess_distilled: str = ""  # the same for DeiT's models with a distillation token
    preprocess_doubt: str = ""  # when that default may be wrong, what to say
    resize: Resize = TORCH_BICUBIC
    resize_relative: Resize = TORCH_BILINEAR
    own_resize: bool = True  # False: the family has no way of its own
    any_size: bool = False  # positions are resized to whatever size the processor gives, without being asked

    def ours(self, name: str) -> str:
        """One name for all spellings of a tensor of theirs: the first rule's, or its own where no rule has it."""
        for rule in self.rules:
            if (found := rule.match(name)) is not None:
                return filled(rule.ours, found)
        return name


TOKEN, TOKENS = "... d -> (... d)", "... n d -> (... n) d"  # with or without leading axes of 1
CONVOLUTION, FUSED = "d c p q -> d (c p q)", "(s d) ... -> s d ..."
TWO = "(t d) ... -> t d ..."  # a gate and what it multiplies, keys and values


TRANSFORMERS = rules(
    ("embeddings.cls_token",                                          "class_token", TOKEN),
    ("embeddings.distillation_token",                                 "distillation_token", TOKEN),
    ("embeddings.register_tokens",                                    "register_tokens", TOKENS),
    ("embeddings.position_embeddings",                                "positions", TOKENS),
    ("embeddings.patch_embeddings.projection.weight",                 "patch_embedding.projection.weight", CONVOLUTION),
    ("embeddings.patch_embeddings.projection.bias",                   "patch_embedding.projection.bias"),
    ("{encoder.layer|layers}.{L}.{layernorm_before|norm1}.{p}",       "blocks.{L}.norm1.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.query|q_proj}.{p}", "blocks.{L}.attention.query.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.key|k_proj}.{p}",   "blocks.{L}.attention.key.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.value|v_proj}.{p}", "blocks.{L}.attention.value.{p}"),
    ("{encoder.layer|layers}.{L}.attention.{attention.relative_position_bias|relative_position_bias}"
     ".relative_position_bias_table",                                 "blocks.{L}.attention.relative_positions"),
    ("encoder.relative_position_bias.relative_position_bias_table", "relative_positions"),  # of all blocks
    ("{encoder.layer|layers}.{L}.attention.{output.dense|o_proj}.{p}",    "blocks.{L}.attention.out.{p}"),
    ("{encoder.layer|layers}.{L}.{layer_scale1.lambda1|lambda_1}",    "blocks.{L}.scale1"),
    ("{encoder.layer|layers}.{L}.{layernorm_after|norm2}.{p}",        "blocks.{L}.norm2.{p}"),
    ("{encoder.layer|layers}.{L}.{intermediate.dense|mlp.fc1}.{p}",   "blocks.{L}.mlp.fc1.{p}"),
    ("{encoder.layer|layers}.{L}.mlp.weights_in.{p}",                 "blocks.{L}.mlp.{gate|fc1}.{p}", TWO),
    ("{encoder.layer|layers}.{L}.{output.dense|mlp.fc2|mlp.weights_out}.{p}", "blocks.{L}.mlp.fc2.{p}"),
    ("{encoder.layer|layers}.{L}.{layer_scale2.lambda1|lambda_2}",    "blocks.{L}.scale2"),
    ("{layernorm|pooler.layernorm}.{p}",                              "norm.{p}"),
    ("{classifier|cls_classifier}.{p}",                               "head.{p}"),
    ("distillation_classifier.{p}",                                   "distillation_head.{p}"),
)  # fmt: skip

TIMM = rules(
    ("cls_token",                        "class_token", TOKEN),
    ("dist_token",                       "distillation_token", TOKEN),
    ("reg_token",                        "register_tokens", TOKENS),
    ("pos_embed",                        "positions", TOKENS),
    ("patch_embed.proj.weight",          "patch_embedding.projection.weight", CONVOLUTION),
    ("patch_embed.proj.weight",          "patch_embedding.projection.weight", "d k -> d k"),  # before convolutions
    ("patch_embed.proj.bias",            "patch_embedding.projection.bias"),
    ("rope.freqs",                       "rotary.frequencies", "xy l h f -> l xy h f"),
    ("norm_pre.{p}",                     "norm_pre.{p}"),
    ("blocks.{L}.norm1.{p}",             "blocks.{L}.norm1.{p}"),
    ("blocks.{L}.attn.qkv.{p}",          "blocks.{L}.attention.{query|key|value}.{p}", FUSED),
    ("blocks.{L}.attn.q_proj.{p}",       "blocks.{L}.attention.query.{p}"),
    ("blocks.{L}.attn.k_proj.{p}",       "blocks.{L}.attention.key.{p}"),
    ("blocks.{L}.attn.v_proj.{p}",       "blocks.{L}.attention.value.{p}"),
    ("blocks.{L}.attn.q_bias",           "blocks.{L}.attention.query.bias"),
    ("blocks.{L}.attn.v_bias",           "blocks.{L}.attention.value.bias"),
    ("blocks.{L}.attn.{rel_pos.|}relative_position_bias_table", "blocks.{L}.attention.relative_positions"),
    ("blocks.{L}.attn.rel_pos.mlp.fc1.{p}", "blocks.{L}.attention.relative_mlp.fc1.{p}"),
    ("blocks.{L}.attn.rel_pos.mlp.fc2.{p}", "blocks.{L}.attention.relative_mlp.fc2.{p}"),
    ("{shared_rel_pos|rel_pos_bias}.relative_position_bias_table", "relative_positions"),  # of all blocks
    ("shared_rel_pos.mlp.fc1.{p}",       "relative_mlp.fc1.{p}"),
    ("shared_rel_pos.mlp.fc2.{p}",       "relative_mlp.fc2.{p}"),
    ("blocks.{L}.attn.norm.{p}",         "blocks.{L}.attention.norm.{p}"),
    ("blocks.{L}.attn.proj.{p}",         "blocks.{L}.attention.out.{p}"),
    ("blocks.{L}.{ls1.gamma|gamma_1}",   "blocks.{L}.scale1"),  # gamma_1: as DeiT-3 was first published
    ("blocks.{L}.norm2.{p}",             "blocks.{L}.norm2.{p}"),
    ("blocks.{L}.mlp.{fc1|fc1_x}.{p}",   "blocks.{L}.mlp.fc1.{p}"),
    ("blocks.{L}.mlp.fc1_g.{p}",         "blocks.{L}.mlp.gate.{p}"),
    ("blocks.{L}.mlp.fc1_gx.{p}",        "blocks.{L}.mlp.{gate|fc1}.{p}", TWO),  # so called by `arrange.ungated`
    ("blocks.{L}.mlp.norm.{p}",          "blocks.{L}.mlp.norm.{p}"),
    ("blocks.{L}.mlp.fc2.{p}",           "blocks.{L}.mlp.fc2.{p}"),
    ("blocks.{L}.{ls2.gamma|gamma_2}",   "blocks.{L}.scale2"),
    ("{norm|fc_norm}.{p}",               "norm.{p}"),
    ("attn_pool.latent",                 "attention_pool.probe", TOKEN),
    ("attn_pool.q.{p}",                  "attention_pool.attention.query.{p}"),
    ("attn_pool.kv.{p}",                 "attention_pool.attention.{key|value}.{p}", TWO),
    ("attn_pool.proj.{p}",               "attention_pool.attention.out.{p}"),
    ("attn_pool.norm.{p}",               "attention_pool.norm.{p}"),
    ("attn_pool.mlp.fc1.{p}",            "attention_pool.mlp.fc1.{p}"),
    ("attn_pool.mlp.fc2.{p}",            "attention_pool.mlp.fc2.{p}"),
    ("head.{p}",                         "head.{p}"),
    ("head_dist.{p}",                    "distillation_head.{p}"),
)  # fmt: skip

# CLIP's and SigLIP's towers of pictures in transformers.
CLIP_BLOCK = "encoder.layers.{L}"
CLIP = rules(
    ("embeddings.class_embedding",                   "class_token", TOKEN),
    ("embeddings.position_embedding.weight",         "positions"),
    ("embeddings.patch_embedding.weight",            "patch_embedding.projection.weight", CONVOLUTION),
    ("embeddings.patch_embedding.bias",              "patch_embedding.projection.bias"),
    ("pre_layrnorm.{p}",                             "norm_pre.{p}"),  # so spelled there
    (f"{CLIP_BLOCK}.layer_norm1.{{p}}",              "blocks.{L}.norm1.{p}"),
    (f"{CLIP_BLOCK}.self_attn.q_proj.{{p}}",         "blocks.{L}.attention.query.{p}"),
    (f"{CLIP_BLOCK}.self_attn.k_proj.{{p}}",         "blocks.{L}.attention.key.{p}"),
    (f"{CLIP_BLOCK}.self_attn.v_proj.{{p}}",         "blocks.{L}.attention.value.{p}"),
    (f"{CLIP_BLOCK}.self_attn.out_proj.{{p}}",       "blocks.{L}.attention.out.{p}"),
    (f"{CLIP_BLOCK}.layer_norm2.{{p}}",              "blocks.{L}.norm2.{p}"),
    (f"{CLIP_BLOCK}.mlp.fc1.{{p}}",                  "blocks.{L}.mlp.fc1.{p}"),
    (f"{CLIP_BLOCK}.mlp.fc2.{{p}}",                  "blocks.{L}.mlp.fc2.{p}"),
    ("post_layernorm.{p}",                           "norm.{p}"),
    ("classifier.{p}",                               "head.{p}"),
)  # fmt: skip

TORCHVISION_BLOCK = "encoder.layers.encoder_layer_{L}"
TORCHVISION = rules(
    ("class_token",                                         "class_token", TOKEN),
    ("encoder.pos_embedding",                               "positions", TOKENS),
    ("conv_proj.weight",                                    "patch_embedding.projection.weight", CONVOLUTION),
    ("conv_proj.bias",                                      "patch_embedding.projection.bias"),
    (f"{TORCHVISION_BLOCK}.ln_1.{{p}}",                     "blocks.{L}.norm1.{p}"),
    (f"{TORCHVISION_BLOCK}.self_attention.in_proj_{{p}}",   "blocks.{L}.attention.{query|key|value}.{p}", FUSED),
    (f"{TORCHVISION_BLOCK}.self_attention.out_proj.{{p}}",  "blocks.{L}.attention.out.{p}"),
    (f"{TORCHVISION_BLOCK}.ln_2.{{p}}",                     "blocks.{L}.norm2.{p}"),
    (f"{TORCHVISION_BLOCK}.mlp.{{0|linear_1}}.{{p}}",       "blocks.{L}.mlp.fc1.{p}"),  # linear_1: before 0.13
    (f"{TORCHVISION_BLOCK}.mlp.{{3|linear_2}}.{{p}}",       "blocks.{L}.mlp.fc2.{p}"),
    ("encoder.ln.{p}",                                      "norm.{p}"),
    ("heads.head.{p}",                                      "head.{p}"),
)  # fmt: skip

# Their patches are (p q c), ours (c p q): the norm in front of the projection is permuted with it.
VIT_PYTORCH_PATCHES = (
    ("to_patch_embedding.1.{p}",                "patch_embedding.norm_in.{p}", "(p q c) -> (c p q)"),
    ("to_patch_embedding.2.weight",             "patch_embedding.projection.weight", "d (p q c) -> d (c p q)"),
    ("to_patch_embedding.2.bias",               "patch_embedding.projection.bias"),
    ("to_patch_embedding.3.{p}",                "patch_embedding.norm_out.{p}"),
)  # fmt: skip
VIT_PYTORCH = rules(
    *VIT_PYTORCH_PATCHES,
    ("cls_token",                               "class_token", TOKEN),
    ("pos_embedding",                           "positions", TOKENS),
    ("transformer.layers.{L}.0.norm.{p}",       "blocks.{L}.norm1.{p}"),
    ("transformer.layers.{L}.0.to_qkv.weight",  "blocks.{L}.attention.{query|key|value}.weight", FUSED),
    ("transformer.layers.{L}.0.to_out.0.{p}",   "blocks.{L}.attention.out.{p}"),
    ("transformer.layers.{L}.1.net.0.{p}",      "blocks.{L}.norm2.{p}"),
    ("transformer.layers.{L}.1.net.1.{p}",      "blocks.{L}.mlp.fc1.{p}"),
    ("transformer.layers.{L}.1.net.4.{p}",      "blocks.{L}.mlp.fc2.{p}"),
    ("transformer.norm.{p}",                    "norm.{p}"),
    ("mlp_head.{p}",                            "head.{p}"),
)  # fmt: skip


def old_vit_pytorch(*patches: tuple[str, ...]) -> tuple[Rule, ...]:
    """Its names before 1.4, when a norm stood around each branch (once within a sum), and the last one in the head."""
    layer = "transformer.layers.{L}"
    return rules(
        *patches,
        ("cls_token",                                    "class_token", TOKEN),
        ("pos_embedding",                                "positions", TOKENS),
        (f"{layer}.{{0|0.fn}}.norm.{{p}}",               "blocks.{L}.norm1.{p}"),
        (f"{layer}.{{0.fn|0.fn.fn}}.to_qkv.weight",      "blocks.{L}.attention.{query|key|value}.weight", FUSED),
        (f"{layer}.{{0.fn|0.fn.fn}}.to_out.0.{{p}}",     "blocks.{L}.attention.out.{p}"),
        (f"{layer}.{{1|1.fn}}.norm.{{p}}",               "blocks.{L}.norm2.{p}"),
        (f"{layer}.{{1.fn|1.fn.fn}}.net.0.{{p}}",        "blocks.{L}.mlp.fc1.{p}"),
        (f"{layer}.{{1.fn|1.fn.fn}}.net.3.{{p}}",        "blocks.{L}.mlp.fc2.{p}"),
        ("mlp_head.0.{p}",                               "norm.{p}"),
        ("mlp_head.1.{p}",                               "head.{p}"),
    )  # fmt: skip


# https://github.com/open-mmlab/mmpretrain: models/backbones/vision_transformer.py and deit.py, models/heads. It gives
# its networks a second norm, ln2, where they pool by the mean; those that keep the first beside it are not built here.
MMPRETRAIN = rules(
    ("cls_token",                        "class_token", TOKEN),
    ("dist_token",                       "distillation_token", TOKEN),
    ("pos_embed",                        "positions", TOKENS),
    ("patch_embed.projection.weight",    "patch_embedding.projection.weight", CONVOLUTION),
    ("patch_embed.projection.bias",      "patch_embedding.projection.bias"),
    ("layers.{L}.ln1.{p}",               "blocks.{L}.norm1.{p}"),
    ("layers.{L}.attn.qkv.{p}",          "blocks.{L}.attention.{query|key|value}.{p}", FUSED),
    ("layers.{L}.attn.proj.{p}",         "blocks.{L}.attention.out.{p}"),
    ("layers.{L}.attn.gamma1.weight",    "blocks.{L}.scale1"),
    ("layers.{L}.ln2.{p}",               "blocks.{L}.norm2.{p}"),
    ("layers.{L}.ffn.layers.0.0.{p}",    "blocks.{L}.mlp.fc1.{p}"),
    ("layers.{L}.ffn.layers.1.{p}",      "blocks.{L}.mlp.fc2.{p}"),
    ("layers.{L}.ffn.gamma2.weight",     "blocks.{L}.scale2"),
    ("{ln1|ln2}.{p}",                    "norm.{p}"),
    ("head.{layers.head|fc}.{p}",        "head.{p}"),
    ("head.layers.head_dist.{p}",        "distillation_head.{p}"),
)  # fmt: skip

# Two early ports of Google's weights to PyTorch: https://github.com/jeonsworld/ViT-pytorch, models/modeling.py, and
# https://github.com/lukemelas/PyTorch-Pretrained-ViT, pytorch_pretrained_vit/model.py. Both have the exact GELU.
JEONSWORLD_BLOCK = "encoder.layer.{L}"
JEONSWORLD = rules(
    ("embeddings.cls_token",                     "class_token", TOKEN),
    ("embeddings.position_embeddings",           "positions", TOKENS),
    ("embeddings.patch_embeddings.weight",       "patch_embedding.projection.weight", CONVOLUTION),
    ("embeddings.patch_embeddings.bias",         "patch_embedding.projection.bias"),
    (f"{JEONSWORLD_BLOCK}.attention_norm.{{p}}", "blocks.{L}.norm1.{p}"),
    (f"{JEONSWORLD_BLOCK}.attn.query.{{p}}",     "blocks.{L}.attention.query.{p}"),
    (f"{JEONSWORLD_BLOCK}.attn.key.{{p}}",       "blocks.{L}.attention.key.{p}"),
    (f"{JEONSWORLD_BLOCK}.attn.value.{{p}}",     "blocks.{L}.attention.value.{p}"),
    (f"{JEONSWORLD_BLOCK}.attn.out.{{p}}",       "blocks.{L}.attention.out.{p}"),
    (f"{JEONSWORLD_BLOCK}.ffn_norm.{{p}}",       "blocks.{L}.norm2.{p}"),
    (f"{JEONSWORLD_BLOCK}.ffn.fc1.{{p}}",        "blocks.{L}.mlp.fc1.{p}"),
    (f"{JEONSWORLD_BLOCK}.ffn.fc2.{{p}}",        "blocks.{L}.mlp.fc2.{p}"),
    ("encoder.encoder_norm.{p}",                 "norm.{p}"),
    ("head.{p}",                                 "head.{p}"),
)  # fmt: skip

LUKEMELAS_BLOCK = "transformer.blocks.{L}"
LUKEMELAS = rules(
    ("class_token",                          "class_token", TOKEN),
    ("positional_embedding.pos_embedding",   "positions", TOKENS),
    ("patch_embedding.weight",               "patch_embedding.projection.weight", CONVOLUTION),
    ("patch_embedding.bias",                 "patch_embedding.projection.bias"),
    (f"{LUKEMELAS_BLOCK}.norm1.{{p}}",       "blocks.{L}.norm1.{p}"),
    (f"{LUKEMELAS_BLOCK}.attn.proj_q.{{p}}", "blocks.{L}.attention.query.{p}"),
    (f"{LUKEMELAS_BLOCK}.attn.proj_k.{{p}}", "blocks.{L}.attention.key.{p}"),
    (f"{LUKEMELAS_BLOCK}.attn.proj_v.{{p}}", "blocks.{L}.attention.value.{p}"),
    (f"{LUKEMELAS_BLOCK}.proj.{{p}}",        "blocks.{L}.attention.out.{p}"),
    (f"{LUKEMELAS_BLOCK}.norm2.{{p}}",       "blocks.{L}.norm2.{p}"),
    (f"{LUKEMELAS_BLOCK}.pwff.fc1.{{p}}",    "blocks.{L}.mlp.fc1.{p}"),
    (f"{LUKEMELAS_BLOCK}.pwff.fc2.{{p}}",    "blocks.{L}.mlp.fc2.{p}"),
    ("norm.{p}",                             "norm.{p}"),
    ("fc.{p}",                               "head.{p}"),
)  # fmt: skip


def flax(positions: str, attention: str, mlp: str, norm2: str) -> tuple[Rule, ...]:
    """JAX's names, for the numbers that two code bases gave their modules; with all blocks stacked in one, or not.

    Flax writes a linear layer's kernel [i o], the transpose of torch's weight, and gives heads an axis of their own.
    """
    block = (
        ("LayerNorm_0/scale",         "norm1.weight", "d -> d"),
        ("LayerNorm_0/bias",          "norm1.bias", "d -> d"),
        (f"{attention}/query/kernel", "attention.query.weight", "d h e -> (h e) d"),
        (f"{attention}/query/bias",   "attention.query.bias", "h e -> (h e)"),
        (f"{attention}/key/kernel",   "attention.key.weight", "d h e -> (h e) d"),
        (f"{attention}/key/bias",     "attention.key.bias", "h e -> (h e)"),
        (f"{attention}/value/kernel", "attention.value.weight", "d h e -> (h e) d"),
        (f"{attention}/value/bias",   "attention.value.bias", "h e -> (h e)"),
        (f"{attention}/out/kernel",   "attention.out.weight", "h e d -> d (h e)"),
        (f"{attention}/out/bias",     "attention.out.bias", "d -> d"),
        (f"{norm2}/scale",            "norm2.weight", "d -> d"),
        (f"{norm2}/bias",             "norm2.bias", "d -> d"),
        (f"{mlp}/Dense_0/kernel",     "mlp.fc1.weight", "i o -> o i"),
        (f"{mlp}/Dense_0/bias",       "mlp.fc1.bias", "d -> d"),
        (f"{mlp}/Dense_1/kernel",     "mlp.fc2.weight", "i o -> o i"),
        (f"{mlp}/Dense_1/bias",       "mlp.fc2.bias", "d -> d"),
    )  # fmt: skip
    apart = [(f"Transformer/encoderblock_{{L}}/{name}", f"blocks.{{L}}.{ours}", axes) for name, ours, axes in block]
    stacked = [
        (f"Transformer/encoderblock/{name}", f"blocks.{{L}}.{ours}", "l " + axes.replace("-> ", "-> l "))
        for name, ours, axes in block
    ]
    return rules(
        ("cls",                            "class_token", TOKEN),
        (positions,                        "positions", TOKENS),
        ("embedding/kernel",               "patch_embedding.projection.weight", "p q c d -> d (c p q)"),
        ("embedding/bias",                 "patch_embedding.projection.bias"),
        *apart,
        *stacked,
        ("Transformer/encoder_norm/scale", "norm.weight"),
        ("Transformer/encoder_norm/bias",  "norm.bias"),
        ("head/kernel",                    "head.weight", "i o -> o i"),
        ("head/bias",                      "head.bias"),
    )  # fmt: skip


# scipy.ndimage.zoom(order=1). For a few pairs of sizes (24 -> 22) its rounding loses the last row and column, which
# become zeros; that is not repeated here.
SCIPY_ZOOM = Resize("bilinear", corners=True)

UNTOLD = "took mean and std .5 (--preprocess, or a preprocessor_config.json beside it, says otherwise)"

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "dinov2",  # with registers: positions are resized otherwise than without
        signs=("embeddings.register_tokens",),
        prefixes=("dinov2_with_registers.",),
        rules=TRANSFORMERS,
        dropped=("embeddings.mask_token",),
        bare_tokens=True,
        preprocess="deit",
        resize=Resize("bicubic", antialias=True),
        any_size=True,
    ),
    Layout(
        "dinov2",
        signs=("encoder.layer.0.layer_scale1.lambda1", "layers.0.layer_scale1.lambda1"),
        prefixes=("dinov2.",),
        rules=TRANSFORMERS,
        dropped=("embeddings.mask_token",),
        preprocess="deit",
        any_size=True,
    ),
    Layout(
        "transformers",
        signs=("embeddings.patch_embeddings.projection.weight",),
        prefixes=("vit.", "deit.", "beit.", "data2vec_vision.", "ijepa."),
        rules=TRANSFORMERS,
        dropped=("pooler.dense.*", "embeddings.mask_token", "*.relative_position_index"),
        eps=1e-12,
        pooled_norm="pooler.layernorm.weight",
        preprocess_distilled="hf-deit",
        preprocess_doubt="took mean and std .5, as Google's ViTs have (--preprocess hf-deit for ImageNet's)",
    ),
    Layout(
        "clip",
        signs=("embeddings.class_embedding",),
        prefixes=("vision_model.",),
        rules=CLIP,
        # the head reads the mean of what the last block gives, not what CLIP compares with words
        dropped=("post_layernorm.*", "*.position_ids"),
        eps=1e-5,
        gelu="quick",
        pooling="mean",
        final_norm=False,
        preprocess="clip",
    ),
    Layout(
        "siglip",
        signs=("embeddings.patch_embedding.weight",),
        prefixes=("vision_model.",),
        rules=CLIP,
        dropped=("head.*", "*.position_ids"),  # which pools by attention; the classifier reads a mean
        gelu="tanh",
        preprocess="siglip",
    ),
    Layout(
        "timm",
        signs=("patch_embed.proj.weight",),
        rules=TIMM,
        # as timm itself does: see `checkpoint_filter_fn` in its vision_transformer.py
        dropped=("pre_logits.*", "*.relative_position_index"),
        pooled_norm="fc_norm.weight",
        bare_tokens=True,
        preprocess="timm",
        preprocess_distilled="deit",
        # the same names hold Google's weights, trained on pixels from -1 to 1, and Facebook's, on ImageNet's mean
        preprocess_doubt="took timm's way, mean and std .5 (--preprocess deit for DeiT's weights)",
        resize=Resize("bicubic", antialias=True),
        resize_relative=Resize("geometric"),
    ),
    Layout(
        "torchvision",
        signs=("conv_proj.weight",),
        rules=TORCHVISION,
        preprocess="torchvision",
        preprocess_doubt="took that of torchvision's V1 weights",
        resize=Resize("bicubic", corners=True),
    ),
    Layout(
        "vit_jax",
        signs=("Transformer/posembed_input/pos_embedding",),
        prefixes=("opt/target/", "params/"),
        rules=flax(
            positions="Transformer/posembed_input/pos_embedding",
            attention="MultiHeadDotProductAttention_1",
            mlp="MlpBlock_3",
            norm2="LayerNorm_2",
        ),
        dropped=("opt/*", "pre_logits/*"),  # the optimiser's state
        gelu="tanh",
        resize=SCIPY_ZOOM,
    ),
    Layout(
        "big_vision",
        signs=("embedding/kernel",),
        prefixes=("params/img/", "params/"),
        rules=flax(
            positions="pos_embedding",
            attention="MultiHeadDotProductAttention_0",
            mlp="MlpBlock_0",
            norm2="LayerNorm_1",
        ),
        dropped=("opt/*", "pre_logits/*"),
        gelu="tanh",
        resize=SCIPY_ZOOM,
    ),
    Layout(
        "vit-pytorch",
        signs=("transformer.norm.weight",),
        rules=VIT_PYTORCH,
        eps=1e-5,
        mean="mean_all",
        bare_attention=True,
        either_pooling=True,
        preprocess_doubt=UNTOLD,
        own_resize=False,
    ),
    Layout(
        "vit-pytorch",  # from 1.0 on, with norms before and after the patch projection
        signs=("to_patch_embedding.2.weight",),
        rules=old_vit_pytorch(*VIT_PYTORCH_PATCHES),
        eps=1e-5,
        mean="mean_all",
        pooled_norm="mlp_head.0.weight",
        bare_attention=True,
        either_pooling=True,
        preprocess_doubt=UNTOLD,
        own_resize=False,
    ),
    Layout(
        "vit-pytorch",  # from 0.7 on
        signs=("to_patch_embedding.1.weight",),
        rules=old_vit_pytorch(
            ("to_patch_embedding.1.weight", "patch_embedding.projection.weight", "d (p q c) -> d (c p q)"),
            ("to_patch_embedding.1.bias", "patch_embedding.projection.bias"),
        ),
        eps=1e-5,
        mean="mean_all",
        pooled_norm="mlp_head.0.weight",
        bare_attention=True,
        either_pooling=True,
        preprocess_doubt=UNTOLD,
        own_resize=False,
    ),
    Layout(
        "mmpretrain",
        signs=("layers.0.ffn.layers.0.0.weight",),
        prefixes=("backbone.",),
        rules=MMPRETRAIN,
        pooled_norm="ln2.weight",
        heads={(768, 8, 2304): 8, (1408, 40, 6144): 16},  # its "small" is not DeiT's
        preprocess="timm",
        preprocess_distilled="deit",
        preprocess_doubt="took mean and std .5, as mmpretrain's ViTs have (--preprocess deit for its DeiT and MAE)",
    ),
    Layout(
        "jeonsworld/ViT-pytorch",
        signs=("embeddings.patch_embeddings.weight",),
        prefixes=("transformer.",),
        rules=JEONSWORLD,
        resize=SCIPY_ZOOM,
    ),
    Layout(
        "pytorch-pretrained-vit",
        signs=("positional_embedding.pos_embedding",),
        rules=LUKEMELAS,
        resize=SCIPY_ZOOM,
    ),
)
