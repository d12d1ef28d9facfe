"""A name of an architecture is believed where it is known, doubted where it is not, and refused where it is another."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.test_layouts import agrees
from vitcli import checkpoints
from vitcli.checkpoints.architectures import ADDS, ARGUMENTS, HARMLESS, TIMM, TRANSFORMERS, known
from vitcli.checkpoints.positions import Resize, resized_relative
from vitcli.config import Rotary
from vitcli.errors import CheckpointError, LayoutError
from vitcli.network.accelerator import fuse
from vitcli.network.cpu import pack
from vitcli.network.model import ViT
from vitcli.network.numpy_model import NumpyViT


def edited(source: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a folder with fields of its config.json changed, None to take them out."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


# What timm calls it -> what its Config has that a plain ViT's has not.
FAMILIES: dict[str, dict[str, Any]] = {
    "vit_base_patch16_clip_224": dict(norm_pre=True, patch_bias=False, norm_eps=1e-5),
    "vit_base_patch16_clip_quickgelu_224": dict(norm_pre=True, gelu="quick", norm_eps=1e-5),
    "beit_base_patch16_224": dict(relative_positions=True, positions=False, key_bias=False, pooled_norm=True),
    "beit3_base_patch16_224": dict(attention_norm=True, mlp_norm=True, norm_eps=1e-5),
    "eva_giant_patch14_224": dict(key_bias=False, pooling="mean"),
    "eva02_tiny_patch14_336": dict(rotary=Rotary(grid=16), gated_mlp=True, key_bias=False),
    "eva02_base_patch14_448": dict(rotary=Rotary(grid=16), gated_mlp=True, mlp_norm=True),
    "eva02_base_patch16_clip_224": dict(rotary=Rotary(grid=16), attention_norm=True, pooling="cls"),
    "eva02_enormous_patch14_clip_224": dict(post_norm=True, key_bias=False),
    "vit_base_patch16_rope_reg1_gap_256": dict(rotary=Rotary(grid=16), positions=False, register_tokens=1),
    "vit_small_patch16_rope_224": dict(rotary=Rotary(100.0, columns_first=True), positions=False),
    "vit_small_patch16_rope_ape_224": dict(rotary=Rotary(100.0, columns_first=True), positions=True),
    "vit_small_patch16_rope_mixed_224": dict(rotary=Rotary(columns_first=True, learned=True), positions=False),
    "vit_small_patch16_rope_mixed_ape_224": dict(rotary=Rotary(columns_first=True, learned=True), positions=True),
    "vit_base_patch16_rpn_224": dict(post_norm=True, qkv_bias=False),
    "vit_relpos_base_patch16_224": dict(relative_positions=True, positions=False, class_token=False, qkv_bias=False),
    "vit_srelpos_small_patch16_224": dict(relative_positions=True, pooling="mean", pooled_norm=False),
    "vit_relpos_medium_patch16_cls_224": dict(relative_positions=True, pooling="cls", class_token=True),
    "vit_relpos_base_patch16_clsgap_224": dict(relative_positions=True, pooling="mean", class_token=True),
    "vit_relpos_medium_patch16_rpn_224": dict(relative_positions=True, post_norm=True, layer_scale=False),
    "beit_shared": dict(relative_positions=True, positions=False, key_bias=False),
    "relpos_table": dict(relative_positions=True, positions=False),
    "relpos_shared_table": dict(relative_positions=True, positions=False),
    "vit_so150m_patch16_reg4_map_256": dict(pooling="attention", register_tokens=4),
    "test_vit3": dict(pooling="attention_all", register_tokens=1),
}


@pytest.mark.parametrize("case", FAMILIES)
def test_a_name_known_to_have_more_than_a_plain_vit_gives_its_logits(oracles: Path, case: str) -> None:
    checkpoint = agrees(oracles / "families" / case, "timm")
    assert {name: getattr(checkpoint.config, name) for name in FAMILIES[case]} == FAMILIES[case]
    assert not [warning for warning in checkpoint.warnings if not warning.startswith("nothing names the classes")]


@pytest.mark.parametrize("case", FAMILIES)
def test_packed_and_fused_they_give_the_same(oracles: Path, case: str) -> None:
    checkpoint = checkpoints.load(oracles / "families" / case)
    expected = np.load(oracles / "families" / case / "expected.npz")
    for change in (pack, fuse):
        network = ViT.from_tensors(checkpoint.config, checkpoint.tensors)
        change(network, torch.float32, 2) if change is pack else change(network)
        with torch.inference_mode():
            logits = network(torch.from_numpy(expected["pixels"])).numpy()
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", FAMILIES)
def test_each_of_these_differences_counts(oracles: Path, case: str) -> None:
    """Without it, where it adds no tensor, logits are far from timm's: a test that passed would see nothing."""
    checkpoint = checkpoints.load(oracles / "families" / case)
    expected = np.load(oracles / "families" / case / "expected.npz")
    plain = {"rotary": None, "post_norm": False, "gelu": "exact", "norm_eps": 1e-2, "pooling": "mean_all"}
    swapped = {"attention": "attention_all", "attention_all": "attention"}
    plain["pooling"] = swapped.get(checkpoint.config.pooling, "mean_all")
    for name in FAMILIES[case].keys() & plain.keys():
        if not checkpoint.config.prefix and name == "pooling":
            continue  # a mean of patches is one of all tokens
        if name == "rotary" and checkpoint.config.rotary and checkpoint.config.rotary.learned:
            continue  # which does add one
        config = replace(checkpoint.config, **{name: plain[name]})
        with torch.inference_mode():
            network = ViT.from_tensors(config, checkpoint.tensors)
            logits = network(torch.from_numpy(expected["pixels"])).numpy()
        assert np.abs(logits - expected["logits"]).max() > 1e-4, name


@pytest.mark.parametrize("case", ["eva02_base_patch14_448", "vit_small_patch16_rope_224", "eva_giant_patch14_224"])
def test_where_only_the_name_can_tell_its_absence_is_refused(oracles: Path, tmp_path: Path, case: str) -> None:
    shutil.copy(oracles / "families" / case / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="nothing names an architecture known here"):
        checkpoints.load(tmp_path)


def test_a_clip_without_a_name_carries_a_warning(oracles: Path, tmp_path: Path) -> None:
    shutil.copy(oracles / "families" / "vit_base_patch16_clip_224" / "model.safetensors", tmp_path)
    found = checkpoints.load(tmp_path, heads=3)
    assert found.config.norm_eps == 1e-5
    assert any("QuickGELU" in warning for warning in found.warnings)


SIZES = (24, 64, 72)
RESIZED = (
    "beit_base_patch16_224", "vit_relpos_medium_patch16_cls_224", "vit_srelpos_small_patch16_224",
    "vit_small_patch16_rope_ape_224", "vit_small_patch16_rope_mixed_224", "eva02_tiny_patch14_336",
    "vit_so150m_patch16_reg4_map_256",
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", RESIZED)
def test_pictures_of_another_size_give_what_timm_gives_for_it(oracles: Path, case: str, size: int) -> None:
    checkpoint = agrees(oracles / "families" / case, "timm", f"expected_at_{size}.npz", image_size=size)
    assert (checkpoint.config.image_size, checkpoint.resized_from) == (size, 40)


@pytest.mark.parametrize("case", ["beit_base_patch16_224", "vit_relpos_medium_patch16_cls_224"])
def test_a_table_of_relative_positions_is_not_resized_as_positions_are(oracles: Path, case: str) -> None:
    """The two ways differ: a test of the sizes that passed with the other one would see nothing."""
    table = checkpoints.load(oracles / "families" / case).tensors["blocks.1.attention.relative_positions"]
    right = checkpoints.load(oracles / "families" / case, image_size=72)
    wrong = resized_relative(table, 9, Resize("bicubic"))
    assert right.config.differences == len(wrong)
    assert np.abs(right.tensors["blocks.1.attention.relative_positions"] - wrong).max() > 1e-2


def test_a_table_beside_one_that_all_blocks_share_is_refused(oracles: Path, tmp_path: Path) -> None:
    folder = oracles / "families" / "beit_shared"
    shutil.copy(folder / "config.json", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    table = tensors["rel_pos_bias.relative_position_bias_table"]
    save_file(tensors | {"blocks.1.attn.relative_position_bias_table": table}, tmp_path / "model.safetensors")
    with pytest.raises(LayoutError, match=r"left over: rel_pos_bias\.relative_position_bias_table"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize(("end", "change", "problem"), [
    ("fc2.bias", None, "missing: blocks.1.attn.rel_pos.mlp.fc2.bias"),  # as Swin's variant has it, with a sigmoid
    ("fc1.weight", (128, 3), "misshapen: blocks.1.attn.rel_pos.mlp.fc1.weight"),
    ("fc2.weight", (4, 128), "misshapen: blocks.1.attn.rel_pos.mlp.fc1.weight"),
    ("fc1.bias", (), "misshapen: blocks.1.attn.rel_pos.mlp.fc1.weight"),
])  # fmt: skip
def test_a_network_of_relative_positions_in_another_shape_is_refused(
    oracles: Path, tmp_path: Path, end: str, change: tuple[int, ...] | None, problem: str
) -> None:
    folder = oracles / "families" / "vit_relpos_base_patch16_224"
    shutil.copy(folder / "config.json", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = f"blocks.1.attn.rel_pos.mlp.{end}"
    tensors.pop(name)
    if change is not None:
        tensors[name] = np.zeros(change, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(LayoutError, match=re.escape(problem)):
        checkpoints.load(tmp_path)


def test_pooling_by_attention_is_built_whatever_names_it(oracles: Path, tmp_path: Path) -> None:
    folder = oracles / "named" / "attention_pool"
    assert agrees(folder, "timm").config.pooling == "attention"
    assert agrees(oracles / "named" / "attention_pool_of_all", "timm").config.pooling == "attention_all"
    for name in ("model.safetensors", "expected.npz"):
        shutil.copy(folder / name, tmp_path)
    found = agrees(tmp_path, "timm")
    assert (found.config.pooling, found.sources["pooling"]) == ("attention", "the tensors")


def test_pooling_by_attention_over_registers_is_a_guess_without_a_name(oracles: Path, tmp_path: Path) -> None:
    shutil.copy(oracles / "named" / "attention_pool_of_all" / "model.safetensors", tmp_path)
    assert any("the patches alone" in warning for warning in checkpoints.load(tmp_path).warnings)


def test_another_pooling_than_the_one_among_the_tensors_is_refused(oracles: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--pooling asks for another pooling than that by attention"):
        checkpoints.load(oracles / "named" / "attention_pool", pooling="mean")
    folder = edited(oracles / "named" / "attention_pool", tmp_path / "model", global_pool="avg")
    with pytest.raises(CheckpointError, match=r"config\.json asks for another pooling than that by attention"):
        checkpoints.load(folder)


def test_the_same_tensors_without_a_name_carry_a_warning(oracles: Path, tmp_path: Path) -> None:
    shutil.copy(oracles / "named" / "rope_ape" / "model.safetensors", tmp_path)
    assert any("rotary positions" in warning for warning in checkpoints.load(tmp_path).warnings)


def test_an_unknown_name_of_known_tensors_is_classified_with_a_warning(oracles: Path) -> None:
    checkpoint = agrees(oracles / "named" / "unheard_of", "timm", heads=2)
    assert any("vit_next_year, which is not known here" in warning for warning in checkpoint.warnings)


def test_a_known_name_gives_its_heads(oracles: Path) -> None:
    checkpoint = agrees(oracles / "named" / "narrow_heads", "timm")
    assert (checkpoint.config.heads, checkpoint.sources["heads"]) == (2, "the architecture test_vit")
    assert not any("heads" in warning for warning in checkpoint.warnings)


def test_a_known_name_gives_its_gelu(oracles: Path) -> None:
    assert agrees(oracles / "named" / "tanh", "timm").config.gelu == "tanh"


def test_timms_mean_may_include_the_tokens_before_the_patches(oracles: Path) -> None:
    assert agrees(oracles / "named" / "mean_of_all", "timm").config.pooling == "mean_all"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every ViT-like architecture of timm; what it is made with where the table says that it is built here."""
    file = tmp_path_factory.mktemp("registry") / "registry.json"
    script = Path(__file__).parent / "oracles" / "registry.py"

    def asked(names: list[str]) -> dict[str, Any]:
        command = [sys.executable, str(script), str(file), " ".join(names)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    return asked([name for name in asked([])["architectures"] if (row := known(name, TIMM)) and not row.computes])


def test_the_table_has_every_architecture_of_timms_registry(registry: dict[str, Any]) -> None:
    assert len(registry["architectures"]) > 300
    assert [name for name in registry["architectures"] if known(name, TIMM) is None] == []


def test_the_table_has_every_argument_of_timms_classes(registry: dict[str, Any]) -> None:
    assert [name for name in registry["arguments"] if name not in (*ARGUMENTS, *ADDS, *HARMLESS)] == []
    assert not {*ARGUMENTS, *ADDS} & {*HARMLESS}


def test_what_the_table_says_of_a_name_is_what_timm_makes(registry: dict[str, Any]) -> None:
    gelus = {"GELU none": "exact", "GELU tanh": "tanh", "GELUTanh ": "tanh", "QuickGELU ": "quick"}
    built = {name: made for name, made in registry["architectures"].items() if made}
    assert len(built) > 180
    for name, made in built.items():
        row = known(name, TIMM)
        assert row is not None
        said = {
            "heads": row.heads,
            "width": row.width,
            "eps": [row.eps or 1e-6],
            "post_norm": row.post_norm,
            "rope": bool(row.rotary),
            "pools_prefix": row.pools_prefix,
            "pool": row.pooling or made["pool"],
            "act": made["act"] if made["mlp"] in ("GluMlp", "SwiGLU") else row.gelu or "exact",  # a gate has another
        }
        assert said == {
            "heads": made["heads"],
            "width": made["width"],
            "eps": made["eps"],
            "post_norm": "Post" in made["block"],
            "rope": made["rope"] != "NoneType",
            "pools_prefix": made["pools_prefix"],
            "pool": made["pool"],
            "act": gelus.get(made["act"], made["act"]),
        }, name
        tensors = made["tensors"]
        if made["mlp"] == "GluMlp":  # under the name that `ungated` gives them
            tensors = [tensor.replace("mlp.fc1", "mlp.fc1_gx") for tensor in tensors]
        assert not row.contradicted(tensors), name


# Pairs of families with the same tensors: which it is, a name alone can tell, and is believed.
ALIKE = (
    {"eva_giant_patch14_224", "eva02_enormous_patch14_clip_224"},
    {"vit_base_patch16_clip_224", "vit_base_patch16_clip_quickgelu_224"},
    {"test_vit3", "vit_so150m_patch16_reg4_map_256"},
    {"test_vit3", "vit_base_patch16_224"},
    {"test_vit3", "vit_base_patch14_dinov2"},
)


@pytest.mark.parametrize("case", FAMILIES)
def test_a_name_over_tensors_of_another_family_is_refused_or_makes_no_difference(
    oracles: Path, tmp_path: Path, case: str
) -> None:
    source = oracles / "families" / case
    expected = np.load(source / "expected.npz")
    shutil.copy(source / "model.safetensors", tmp_path)
    config = json.loads((source / "config.json").read_text())
    refused = 0
    for name in (*FAMILIES, "vit_base_patch16_224", "vit_base_patch14_dinov2"):
        if known(name, TIMM) is None or {name, case} in ALIKE:
            continue
        (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": name}))
        try:
            found = checkpoints.load(tmp_path)
        except CheckpointError:
            refused += 1
            continue
        by_numpy = NumpyViT(found.config, found.tensors)(expected["pixels"])
        np.testing.assert_allclose(by_numpy, expected["logits"], atol=1e-4, rtol=0, err_msg=name)
    assert refused > 5


@pytest.mark.parametrize("argument", ["rope_temperature", "ref_feat_shape", "attn_pool_num_heads", "dynamic_img_pad"])
def test_an_argument_that_makes_another_network_is_refused(oracles: Path, tmp_path: Path, argument: str) -> None:
    arguments = {"num_heads": 3, argument: 100.5}
    folder = edited(oracles / "families" / "vit_small_patch16_rope_224", tmp_path / "model", model_args=arguments)
    with pytest.raises(CheckpointError, match=f"config.json sets {argument} to 100.5"):
        checkpoints.load(folder)


def test_an_argument_that_is_not_known_carries_a_warning(oracles: Path, tmp_path: Path) -> None:
    arguments = {"num_heads": 3, "drop_path_rate": 0.1, "mixing": "soft"}
    folder = edited(oracles / "families" / "vit_base_patch16_rpn_224", tmp_path / "model", model_args=arguments)
    assert any(
        "the argument mixing, which is not known here" in warning for warning in checkpoints.load(folder).warnings
    )


@pytest.mark.parametrize("said", [64, [64, 64]])
def test_where_tensors_fit_any_size_the_networks_own_is_believed_before_the_processors(
    oracles: Path, tmp_path: Path, said: object
) -> None:
    """The network is built for `img_size`, whatever `input_size` says of the weights that training began with."""
    source = oracles / "families" / "vit_srelpos_small_patch16_224"
    folder = edited(source, tmp_path / "model", model_args={"num_heads": 3, "img_size": said})
    checkpoint = agrees(folder, "timm", "expected_at_64.npz")
    assert (checkpoint.config.image_size, checkpoint.sources["image_size"]) == (64, "config.json")


@pytest.mark.parametrize(("name", "heads", "width"), [
    ("vit_base_patch16_224.augreg_in21k_ft_in1k", 12, 768),
    ("vit_base_patch16_gap_224", 16, 768),
    ("vit_so400m_patch14_siglip_gap_378", 16, 1152),
    ("vit_giant_patch14_224", 16, 1408),
    ("vit_giantopt_patch16_siglip_gap_256", 16, 1536),
    ("timm/deit3_medium_patch16_224.fb_in22k_ft_in1k", 8, 512),
    ("vit_so150m2_patch16_reg1_gap_384", 13, 832),
    ("vit_base_patch16_224_in21k", 12, 768),
])  # fmt: skip
def test_the_table_knows_timms_heads(name: str, heads: int, width: int) -> None:
    row = known(name, TIMM)
    assert row is not None
    assert (row.computes, row.heads, row.width) == ("", heads, width)


@pytest.mark.parametrize("name", [
    "samvit_base_patch16_224", "vit_small_patch16_18x2_224", "vit_giant_patch14_reg4_dinov2", "vit_tiny_r_s16_p8_224",
    "vit_dwee_patch16_reg1_gap_256",
    "vit_base_patch16_xp_224", "vit_7b_patch16_dinov3", "naflexvit_base_patch16_gap",
    "vit_intern300m_patch14_448", "vit_pe_core_base_patch16_224",
])  # fmt: skip
def test_the_table_knows_timms_other_networks(name: str) -> None:
    row = known(name, TIMM)
    assert row is not None
    assert row.computes


@pytest.mark.parametrize("name", ["vit_base_patch16_224_new", "vit_base", "vit_base_patch16_rotary_224", ""])
def test_a_name_that_only_resembles_a_known_one_is_not_known(name: str) -> None:
    assert known(name, TIMM) is None


@pytest.mark.parametrize("changes", [
    {"model_type": "ijepa"}, {"model_type": "beit"}, {"model_type": "dinov2"}, {"model_type": "siglip"},
    {"model_type": None, "architecture": "vit_base_patch16_rope_ape_224"},
    {"model_args": {"pre_norm": True}}, {"model_args": {"norm_layer": "rmsnorm"}}, {"hidden_act": "silu"},
    {"image_size": [16, 64]}, {"image_size": {"height": 16, "width": 64}}, {"patch_size": [4, 64]},
    {"global_pool": "map"}, {"architecture": "vit_base_patch16_siglip_224"},
])  # fmt: skip
def test_settings_of_another_network_are_refused(tiny: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json (names|sets|asks|speaks)"):
        checkpoints.load(edited(tiny, tmp_path / "model", **changes))


@pytest.mark.parametrize(("changes", "word"), [
    ({"model_type": "my-vit"}, "the architecture my-vit"),
    ({"architectures": ["ViTWithTricks"]}, "the class 'ViTWithTricks'"),
    ({"auto_map": {"AutoModel": "modeling.MyViT"}}, "code of its own"),
    ({"qkv_bias": False}, "qkv_bias False, the tensors say True"),
])  # fmt: skip
def test_settings_that_may_make_another_network_carry_a_warning(
    tiny: Path, tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    assert any(word in warning for warning in checkpoints.load(edited(tiny, tmp_path / "model", **changes)).warnings)
    assert not any("not known" in warning for warning in checkpoints.load(tiny).warnings)


def test_transformers_tanh_gelu_by_its_third_name(tiny: Path, tmp_path: Path) -> None:
    folder = edited(tiny, tmp_path / "model", hidden_act="gelu_python_tanh")
    assert checkpoints.load(folder).config.gelu == "tanh"


def test_an_epsilon_that_is_not_said_is_the_classs_own(tiny: Path, tmp_path: Path) -> None:
    for kind, eps in (("vit", 1e-12), ("vit_msn", 1e-6)):
        assert (
            checkpoints.load(edited(tiny, tmp_path / kind, model_type=kind, layer_norm_eps=None)).config.norm_eps == eps
        )
    assert known("vit", TRANSFORMERS) == known("deit", TRANSFORMERS)


@pytest.mark.parametrize(
    ("tag", "warned"), [("openai", True), ("laion2b", True), ("openai_ft_in1k", False), ("", False)]
)
def test_the_outputs_of_a_clip_tower_are_not_taken_for_classes_in_silence(
    oracles: Path, tmp_path: Path, tag: str, warned: bool
) -> None:
    source = oracles / "families" / "vit_base_patch16_clip_224"
    shutil.copytree(source, tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    config.setdefault("pretrained_cfg", {})["tag"] = tag
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    warnings = checkpoints.peek(tmp_path / "model").warnings
    assert any("match pictures with texts" in warning for warning in warnings) == warned


@pytest.mark.parametrize("gone", [
    ["vit.encoder.layer.0.attention.attention.key.bias"],
    ["vit.encoder.layer.1.attention.attention.query.bias"],
    ["vit.encoder.layer.0.attention.attention.query.bias", "vit.encoder.layer.1.attention.attention.value.bias"],
    ["vit.encoder.layer.1.attention.attention.value.bias"],
])  # fmt: skip
def test_biases_of_a_part_of_attention_alone_are_refused(tiny: Path, tmp_path: Path, gone: list[str]) -> None:
    folder = edited(tiny, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if name not in gone}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: |left over: |tensors of another"):
        checkpoints.load(folder)
