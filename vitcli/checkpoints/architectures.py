"""What the name of an architecture tells that tensors cannot: whether it is the network built here, and its settings.

Networks that compute different things can have the same tensors: rotary positions are computed, a norm may stand before
or after its branch. So a name known to be another network is refused, a name known to be this one gives what it fixes
(heads, GELU, pooling), and an unknown name is worth a warning. Names are timm's, from its registry (1.0.31), where a
config.json has an `architecture`, else transformers' `model_type`. To teach another name, add a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from vitcli.config import Gelu, Rotary

# Size in timm's names -> (width, heads), for heads that are not those of the published ViTs or not 64 wide.
SIZES: dict[str, tuple[int, int]] = {
    "wee": (256, 4),
    "xsmall": (256, 4),
    "little": (320, 5),
    "medium": (512, 8),
    "mediumd": (512, 8),
    "betwixt": (640, 10),
    "tiny": (192, 3),
    "small": (384, 6),
    "base": (768, 12),
    "large": (1024, 16),
    "so150m": (896, 14),
    "so150m2": (832, 13),
    "so400m": (1152, 16),
    "huge": (1280, 16),
    "giant": (1408, 16),
    "giantopt": (1536, 16),
    "gigantic": (1664, 16),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of names, as a regular expression in which `SIZE` is a size and `N` a number.

    `computes` is what sets another network apart from the one built here; empty for the same network.
    `heads` belong to `width` only: who makes a model of another width by hand has other heads.
    `layout` and `lacks` are checked: the layout such a network is stored in, and a tensor (of ours) that it has not.
    So are the tensors of timm's, as patterns: those that it `has`, and those of SPECIAL that it `may` have besides.
    """

    names: str
    computes: str = ""
    width: int | None = None
    heads: int | None = None
    gelu: Gelu | None = None
    eps: float | None = None
    pooling: str | None = None
    rotary: Rotary | None = None
    post_norm: bool = False
    pools_prefix: bool = False
    layout: str = ""
    lacks: str = ""
    has: tuple[str, ...] = ("*.attn.qkv.bias",)
    may: tuple[str, ...] = ("*.ls1.gamma", "attn_pool.*")

    def contradicted(self, names: Iterable[str], added: Iterable[str] = (), without: Iterable[str] = ()) -> bool:
        """Whether tensors called so in timm cannot be such a network's.

        Patterns of what arguments asked for: to have besides (`added`), or to have not (`without`).
        """
        names, allowed = list(names), (*self.has, *self.may, *added)
        needed = {*self.has, *added} - set(without)
        return any(not present(pattern, names) for pattern in needed) or any(
            present(pattern, names) for pattern in SPECIAL if pattern not in allowed
        )


# Tensors that only some of timm's families have. Layer scale goes by two names, for two classes.
QKV_BIAS, GATE, TABLE, NORM_PRE = "*.attn.qkv.bias", "*.mlp.fc1_g*", "*.relative_position_bias_table", "norm_pre.*"
Q_BIAS, SPLIT, SCALE, EVA_SCALE = "*.attn.q_bias", "*.attn.q_proj.*", "*.ls1.gamma", "*.gamma_1"
ATTENTION_NORM, MLP_NORM, POOL = "blocks.*.attn.norm.*", "blocks.*.mlp.norm.*", "attn_pool.*"
FREQUENCIES, RELATIVE = "rope.freqs", "*rel_pos.*"
SPECIAL = (GATE, TABLE, NORM_PRE, Q_BIAS, SPLIT, SCALE, EVA_SCALE, ATTENTION_NORM, MLP_NORM, POOL, FREQUENCIES,
           RELATIVE)  # fmt: skip

ROTARY = "rotary positions, computed in every block"
BIAS = "a bias by relative position in every attention"
HYBRID = "a convolutional network before the blocks"
PARALLEL = "attention and MLP side by side"
SWIGLU = "a gated MLP (SwiGLU)"
BARE = "no norm after the blocks"

EVA02 = Rotary(grid=16)  # pre-trained on pictures of 224 pixels in patches of 14
ROPE_VIT = Rotary(temperature=100.0, columns_first=True)  # https://github.com/naver-ai/rope-vit
ROPE_MIXED = Rotary(columns_first=True, learned=True)

# The first row that has a name decides: variants stand before what they vary.
TIMM: tuple[Architecture, ...] = (
    Architecture(r"vit_SIZE_patchN_rope_mixed_ape_N", rotary=ROPE_MIXED, layout="timm",
                 has=(FREQUENCIES, EVA_SCALE, "pos_embed")),
    Architecture(r"vit_SIZE_patchN_rope_mixed_N", rotary=ROPE_MIXED, layout="timm", has=(FREQUENCIES, EVA_SCALE)),
    Architecture(r"vit_SIZE_patchN_rope_ape_N", rotary=ROPE_VIT, layout="timm",
                 has=(EVA_SCALE, QKV_BIAS, "pos_embed")),
    Architecture(r"vit_SIZE_patchN_rope_N", rotary=ROPE_VIT, layout="timm", has=(EVA_SCALE, QKV_BIAS)),
    Architecture(r"vit_SIZE_patchN_rope_regN_gap_N", rotary=EVA02, layout="timm", has=(EVA_SCALE, "reg_token"),
                 may=(Q_BIAS,)),
    Architecture(r"eva02_enormous_patchN_clip_N", width=1792, heads=16, post_norm=True, layout="timm", has=(Q_BIAS,)),
    Architecture(r"eva02_SIZE_patchN_(clip_)?N", rotary=EVA02, layout="timm", has=(GATE,),
                 may=(Q_BIAS, SPLIT, ATTENTION_NORM, MLP_NORM)),
    Architecture(r"eva_giant_patchN_(clip_)?N", layout="timm", has=(Q_BIAS,)),
    Architecture(r".*_rope_.*|eva02_.*|vit_pe_.*|.*_dinov3.*|.*_lingbot|.*_sapiens2", ROTARY),
    Architecture(r"beit3_SIZE_patchN_N", eps=1e-5, has=(ATTENTION_NORM, MLP_NORM)),
    Architecture(r"(beit|beitv2)_SIZE_patchN_N", has=(TABLE,), may=(Q_BIAS, EVA_SCALE)),
    Architecture(r"vit_relpos_base_patchN_plus_rpn_N", width=896, heads=14, post_norm=True, layout="timm",
                 has=(RELATIVE, QKV_BIAS), may=(TABLE,)),
    Architecture(r"vit_relpos_base_patchN_plus_N", width=896, heads=14, layout="timm",
                 has=(RELATIVE, QKV_BIAS, SCALE), may=(TABLE,)),
    Architecture(r"vit_relpos_SIZE_patchN_rpn_N", post_norm=True, layout="timm", has=(RELATIVE,),
                 may=(TABLE,)),
    Architecture(r"vit_s?relpos_SIZE_patchN_((cls|clsgap)_)?N", layout="timm", has=(RELATIVE, SCALE),
                 may=(TABLE,)),
    Architecture(r"test_vit_relpos", width=96, heads=3, layout="timm", has=(RELATIVE, SCALE), may=(TABLE,)),
    Architecture(r".*_s?relpos.*|samvit_.*", BIAS),
    Architecture(r"vit_base_patchN_plus_clip_N", width=896, heads=14, eps=1e-5, has=(NORM_PRE,)),
    Architecture(r"vit_SIZE_patchN_clip_quickgelu_N", gelu="quick", eps=1e-5, has=(NORM_PRE,)),
    Architecture(r"vit_SIZE_patchN_(clip_N|N_clip_laion2b)", eps=1e-5, has=(NORM_PRE,)),
    Architecture(r"vit_SIZE_patchN_rpn_N", post_norm=True, layout="timm", has=(), may=()),
    Architecture(r".*_NxN_N", "two branches of each kind side by side in a block"),
    Architecture(r".*_xp_.*|vit_d?pwee_.*", PARALLEL),
    Architecture(r"vit_d(wee|little)_.*", "differential attention"),
    Architecture(r"vit_giant_patchN_(regN_)?(dinov2|tipsv2)|aimv2_.*", SWIGLU),
    Architecture(r".*_radio_.*|vit_intern300m_.*", BARE),
    Architecture(r"vit_SIZE_r(N)?_sN(_pN)?_N|vit_SIZE_resnet.*|vit_base_mci_N", HYBRID),
    Architecture(r"naflexvit_.*", "positions and patches of pictures of any shape"),
    Architecture(r"cait_.*|xcit_.*", "attention of another kind"),
    Architecture(r"test_vit4", "RMSNorm"),
    Architecture(r"test_vit3", width=96, heads=3, pooling="map", pools_prefix=True),
    Architecture(r"test_vit2?", width=64, heads=2),
    Architecture(r"vit_base_patchN_gap_N", width=768, heads=16),
    Architecture(r"vit_base_patchN_plus_N", width=896, heads=14),
    Architecture(r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip_gap_N|vit_large_patch16_siglip_gap_512",
                 gelu="tanh"),
    Architecture(r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip_N|vit_large_patch16_siglip_512",
                 gelu="tanh", pooling="map"),
    Architecture(r"vit_SIZE_patchN_(siglip|regN_map)_N", pooling="map"),
    # without biases of queries, keys and values
    Architecture(r"vit_(medium|betwixt)_patchN_gap_N|vit_so150m2_patchN_regN_gap_N|vit_base_patchN_N_miil(_in21k)?",
                 has=()),
    Architecture(r"deit3_SIZE_patchN_N(_in21ft1k)?", may=(SCALE, EVA_SCALE)),
    Architecture(r"(vit_)?(vit|deit|deit3)_SIZE_(distilled_)?patchN_((siglip_)?gap_|regN_gap_|sam_)?N"
                 r"(_in21k|_in21ft1k|_in1k|_sam|_dino)?"),
    Architecture(r"vit_SIZE_patchN_(regN_)?(dinov2|tipsv2)"),
    Architecture(r"vit_small_patchN_36x1_N|flexivit_SIZE|eva_large_patchN_N"),
)  # fmt: skip

# transformers' classes. A class of its own library is known by its model_type, an epsilon is that class's default.
TRANSFORMERS: tuple[Architecture, ...] = (
    Architecture(r"vit|deit"),
    Architecture(r"vit_msn", eps=1e-6),
    Architecture(r"timm_wrapper"),  # names timm's architecture beside it
    Architecture(r"beit|data2vec-vision", lacks="blocks.0.attention.key.bias"),
    Architecture(r"ijepa", lacks="class_token"),
    Architecture(r"dinov2|dinov2_with_registers", eps=1e-6, layout="dinov2"),
    # of a config.json that says only what is not the class's default
    Architecture(r"siglip|siglip_vision_model", width=768, heads=12, gelu="tanh", eps=1e-6, layout="siglip"),
    Architecture(r"clip|clip_vision_model|metaclip_2", width=768, heads=12, gelu="quick", eps=1e-5, layout="clip"),
    Architecture(r"siglip2|siglip2_vision_model", "positions and patches of pictures of any shape"),
    Architecture(r"dinov3_vit", ROTARY),
    Architecture(r"mlcd|mlcd_vision_model", ROTARY),
    Architecture(r"vit_hybrid|levit|cvt|mobilevit|mobilevitv2", HYBRID),
    Architecture(r"swin|swinv2|donut-swin|hiera|pvt|pvt_v2|focalnet", "stages of shrinking grids"),
    Architecture(r"vivit|videomae|timesformer|vjepa2", "video, not pictures"),
    Architecture(r"audio-spectrogram-transformer", "spectrograms, not pictures"),
    Architecture(r"vit_mae", "a decoder for pre-training in place of a head"),
    Architecture(r"yolos|vitpose|vitpose_backbone|vitmatte|vitdet|dpt", "another output than classes"),
)

# The classes of transformers that compute the network built here, whatever is among their tensors besides.
CLASSES = (
    "ViTForImageClassification",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "ViTMSNForImageClassification",
    "TimmWrapperForImageClassification",
    "TFViTForImageClassification",
    "FlaxViTForImageClassification",
    "BeitForImageClassification",
    "CLIPForImageClassification",
    "Data2VecVisionForImageClassification",
    "Dinov2ForImageClassification",
    "Dinov2WithRegistersForImageClassification",
    "IJepaForImageClassification",
    "MetaClip2ForImageClassification",
    "SiglipForImageClassification",
)

# Names of tensors that no ViT built here has -> what they are part of.
TELLTALES = {
    "text_model.*": "a tower for words, and tells pictures by them: it has no classes",
    "*rope.*": ROTARY,
    "*rel_pos*": BIAS,
    "*.q_norm.*": "norms of queries and keys",
    "*.lambda_q1": "differential attention",
    "*.w12.*": SWIGLU,
    "*.fc1_g.*": SWIGLU,
    "*normalize.mean": "a normalisation of pictures of its own",
    "*lora_A*": "LoRA adapters that are not merged into it",
    "*.SCB": "quantised weights (bitsandbytes; use those from before)",
    "*.quant_state.*": "quantised weights (bitsandbytes; use those from before)",
    "patch_embed.backbone.*": HYBRID,
    "*hybrid_model.*": HYBRID,
    "transformer.layers.*.0.to_out.weight": "computed positions, as SimpleViT has",
}

# Names of no layout known here that tell what a file holds -> that.
ELSEWHERE = {
    "*patch_to_embedding.weight": "the names of vit-pytorch before 0.7, whose versions scale attention differently and "
    "cannot be told apart, so they are not read here",
    "*encoder/layer/0/*/kernel": "the names of transformers' Flax classes, which are not read here: load them there "
    "with from_flax=True, and save that",
    "*visual.transformer.resblocks.0.*": "a CLIP of OpenAI's or open_clip, which is not built here",
    "*lora_A*": "a LoRA adapter: merge it into its network first (PEFT: merge_and_unload) and save that",
}

# Arguments of timm's VisionTransformer that change what it computes, and the values under which it is the one built
# here. Whether a norm or a bias is there, the tensors tell: see HARMLESS.
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "qk_norm": (False,),
    "final_norm": (True,),
    "norm_layer": ("layernorm",),
    "embed_norm_layer": (),
    "block_fn": ("Block",),
    "mlp_layer": ("Mlp", "mlp"),
    "attn_layer": ("Attention", "attn"),
    "attn_type": (),
    "attn_pool_num_heads": (),
    "attn_pool_mlp_ratio": (),
    "rel_pos_type": ("mlp", "bias"),
    "use_rot_pos_emb": (False,),
    "rope_type": (),
    "rope_temperature": (),
    "rope_grid_offset": (),
    "rope_grid_indexing": (),
    "rope_rotate_half": (False,),
    "rope_mrope_section": (),
    "ref_feat_shape": (),
    "embed_layer": (),
    "dynamic_img_pad": (False,),
    "use_post_norm": (False,),
    "swiglu_mlp": (False,),
    "scale_mlp": (False,),
}


# The same of arguments that add a tensor (of timm's).
ADDS = {
    "pre_norm": NORM_PRE,
    "scale_attn_norm": ATTENTION_NORM,
    "scale_mlp_norm": MLP_NORM,
}

# Arguments of timm's classes whose effect the tensors show, that Settings reads, or that count in training alone.
HARMLESS = (
    "img_size", "patch_size", "in_chans", "num_classes", "global_pool", "pool_include_prefix", "embed_dim",
    "depth", "num_heads", "num_kv_heads", "mlp_ratio", "qkv_bias", "qkv_fused", "proj_bias", "init_values",
    "attn_only_layer_scale", "class_token", "reg_tokens", "num_reg_tokens", "pos_embed", "no_embed_class",
    "use_abs_pos_emb", "use_rel_pos_bias", "use_shared_rel_pos_bias", "shared_rel_pos", "rel_pos_dim", "fc_norm",
    "use_fc_norm", "use_pre_transformer_norm", "use_post_transformer_norm", "scale_attn_inner", "swiglu_align_to",
    "act_layer", "dynamic_img_size", "strict_img_size", "drop_rate", "pos_drop_rate", "patch_drop_rate",
    "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "rope_shift_coords", "rope_jitter_coords",
    "rope_rescale_coords", "weight_init", "fix_init", "head_init_scale", "device", "dtype",
)  # fmt: skip


def known(name: str, table: tuple[Architecture, ...]) -> Architecture | None:
    """The row of a name, without the tag that timm puts after a dot and whatever path stands before it."""
    name = name.rpartition("/")[2].partition(".")[0][:100]
    for row in table:
        if re.fullmatch(row.names.replace("SIZE", f"(?:{'|'.join(SIZES)})").replace("N", r"\d+"), name):
            sizes = [word for word in name.split("_") if word in SIZES]
            if row.computes or row.heads or not sizes:
                return row
            width, heads = SIZES[sizes[0]]
            return replace(row, width=width, heads=heads)
    return None


def present(pattern: str, names: Iterable[str]) -> bool:
    """Whether one of the names is of the pattern."""
    return any(fnmatchcase(name, pattern) for name in names)


def telltale(names: Iterable[str], table: Mapping[str, str] = TELLTALES) -> str:
    """What the first pattern with one of the names tells; empty if there is none."""
    names = list(names)
    return next((what for pattern, what in table.items() if present(pattern, names)), "")
