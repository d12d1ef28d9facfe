"""`vit classify` as a user runs it: the installed command, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import noise

Vit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in two folders, a broken one, and a file that is no picture."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for i, name in enumerate(["img10.png", "img2.png", "more/last.jpg"]):
        noise(i).save(tmp_path / "pictures" / name)
    whole = (tmp_path / "pictures" / "img2.png").read_bytes()
    (tmp_path / "pictures" / "img3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


def test_a_folder_gives_one_row_for_each_picture_in_natural_order(vit: Vit, tiny: Path, folder: Path) -> None:
    done = vit("classify", folder, "--model", tiny, "--format", "jsonl", "--topk", 3)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = [os.path.relpath(row["path"], folder) for row in rows]
    assert names == ["img2.png", "img3.png", "img10.png", "more/last.jpg"]
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok"]
    assert done.returncode == 3


def test_a_row_is_the_documented_record(vit: Vit, tiny: Path, folder: Path) -> None:
    done = vit("classify", folder / "img2.png", folder / "img3.png", "--model", tiny, "--format", "jsonl", "-k", 2)
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert list(good) == ["path", "status", "top", "size", "notes"]
    assert [list(label) for label in good["top"]] == [["index", "wnid", "label", "score"]] * 2
    assert (good["path"], good["size"], good["notes"]) == (str(folder / "img2.png"), [48, 40], [])
    assert good["top"][0]["score"] > good["top"][1]["score"]
    assert list(bad) == ["path", "status", "error", "message"]
    assert bad["error"] == "truncated"


def test_json_is_one_document_that_says_how_it_was_made(vit: Vit, tiny: Path, picture: Path) -> None:
    done = vit("classify", picture, "--model", tiny, "--format", "json")
    document = json.loads(done.stdout)
    header = document["header"]
    assert header["model"] == str(tiny)
    assert len(header["sha256"]) == 64
    assert header["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert (header["device"], header["dtype"]) == ("cpu", "float32")
    assert len(document["results"]) == 1
    assert done.returncode == 0


def test_the_engines_agree(vit: Vit, tiny: Path, folder: Path) -> None:
    def scores(engine: str) -> list[float]:
        done = vit("classify", folder / "img2.png", "--model", tiny, "-f", "jsonl", "--engine", engine)
        return [label["score"] for label in json.loads(done.stdout)["top"]]

    assert scores("numpy") == pytest.approx(scores("torch"), abs=1e-5)


def test_the_order_and_number_of_batches_do_not_show(vit: Vit, tiny: Path, folder: Path) -> None:
    def rows(*options: object) -> list[dict[str, object]]:
        done = vit("classify", folder, folder, "--model", tiny, "-f", "jsonl", "--engine", "torch", *options)
        return [json.loads(line) for line in done.stdout.splitlines()]

    one, many = rows("--batch", 1), rows("--batch", 32)
    assert [row["path"] for row in one] == [row["path"] for row in many]
    assert len(one) == 8


def test_a_name_that_is_not_there_is_a_row_like_any_other(vit: Vit, tiny: Path, picture: Path) -> None:
    done = vit("classify", "nowhere.jpg", picture, "--model", tiny, "-f", "jsonl")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["path"], first["status"], first["error"]) == ("nowhere.jpg", "failed", "missing")
    assert second["status"] == "ok"
    assert done.returncode == 3


def test_without_weights_the_way_to_get_them_is_said(vit: Vit, picture: Path) -> None:
    done = vit("classify", picture, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "vit download-weights" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--model", "no/such/folder/here"], 2, "no such file or folder"),
        (["--format", "xml"], 2, "'xml' is not one of table, json"),
        (["--device", "tpu"], 2, "not one of auto, cpu"),
        (["--device", "cuda"], 1, "--device cpu"),
        (["--dtype", "float8"], 2, "not one of auto, float32"),
        (["--engine", "numpy", "--dtype", "bfloat16"], 2, "float32"),
        (["--topk", "0"], 2, "topk"),
        (["--no-such-option"], 2, "There is no option --no-such-option"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_clear_sentence(
    vit: Vit, tiny: Path, picture: Path, options: list[str], status: int, says: str
) -> None:
    arguments = options if "--model" in options else ["--model", str(tiny), *options]
    done = vit("classify", picture, *arguments)
    assert done.returncode == status, done.stderr
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(vit: Vit, tiny: Path, picture: Path) -> None:
    for how in ({"env": {"VIT_DEBUG": "1"}}, {}):
        extra = [] if how else ["--debug"]
        done = vit("classify", picture, "--model", tiny, "--engine", "torch", "--device", "cuda", *extra, **how)
        assert "Traceback" in done.stderr


def test_debug_after_two_dashes_is_the_name_of_a_picture(vit: Vit, tiny: Path) -> None:
    done = vit("classify", "--model", tiny, "--format", "jsonl", "--", "--debug")
    assert json.loads(done.stdout)["path"] == "--debug"


def test_the_environment_mirrors_the_options(vit: Vit, tiny: Path, picture: Path) -> None:
    done = vit("classify", picture, "-f", "json", env={"VIT_MODEL": str(tiny), "VIT_ENGINE": "torch"})
    assert json.loads(done.stdout)["header"]["engine"] == "torch"


def test_a_folder_without_pictures_is_no_success(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = vit("classify", tmp_path / "empty", "--model", tiny, "-f", "jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There are no pictures in " in done.stderr
    done = vit("classify", "-", "--model", tiny, "-f", "jsonl", input="")
    assert (done.returncode, done.stdout) == (1, "")


def test_existing_output_is_kept_unless_force_is_said(vit: Vit, tiny: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("precious\n")
    assert vit("classify", picture, "--model", tiny, "-o", out).returncode == 1
    assert out.read_text() == "precious\n"
    assert vit("classify", picture, "--model", tiny, "-o", out, "--force").returncode == 0
    assert json.loads(out.read_text())["status"] == "ok"


def test_the_table_is_plain_on_a_pipe(vit: Vit, tiny: Path, folder: Path) -> None:
    done = vit("classify", folder, "--model", tiny)
    assert "\x1b" not in done.stdout
    assert "img2.png" in done.stdout
    assert "ends too early" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["classify", "--help"], ["classify"], ["classify", "x", "--topk", "many"], ["models"]],
    ids=" ".join,
)
def test_what_needs_no_network_never_imports_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from vitcli.cli import main; sys.argv[0] = 'vit'\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        'sys.stderr.write(f\'heavy: {[m for m in ("torch", "transformers") if m in sys.modules]}\')'
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr.endswith("heavy: []"), done.stderr


def test_completion_needs_no_torch_either() -> None:
    code = "import sys; sys.argv[0] = 'vit'\nfrom vitcli.cli import main\n"
    code += "try: main()\nfinally: print('torch' in sys.modules)"
    env = {**os.environ, "_VIT_COMPLETE": "complete_bash", "COMP_WORDS": "vit cl", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "classify" in done.stdout
    assert done.stdout.rstrip().endswith("False")


def test_the_python_api_gives_the_commands_answer(vit: Vit, tiny: Path, picture: Path) -> None:
    import vitcli

    row = vitcli.load(tiny)(picture).record()
    done = vit("classify", picture, "--model", tiny, "-f", "jsonl", "--engine", "torch")
    theirs = json.loads(done.stdout)
    assert row["top"][0]["score"] == pytest.approx(theirs["top"].pop(0)["score"], abs=1e-6)
    assert (row["path"], row["size"]) == (theirs["path"], theirs["size"])


def test_photographs_get_their_labels(vit: Vit, weights: Path, images: Path) -> None:
    """Scores measured with the reference on the same weights, to the digits quoted."""
    expected = {
        "inception_shuttle": ("space shuttle", 0.999), "inception_pizza": ("pizza, pizza pie", 0.991),
        "resnet50_taxis": ("cab, hack, taxi, taxicab", 0.997), "resnet50_coffee": ("espresso", 0.925),
        "resnet50_burger": ("cheeseburger", 0.891), "scene_bakery": ("bakery, bakeshop, bakehouse", 0.866),
        "cameratrap_african_elephants": ("tusker", 0.564),
    }  # fmt: skip
    done = vit("classify", images / "photos", "--model", weights, "-f", "jsonl", "-k", 1)
    found = {Path(row["path"]).stem: row["top"][0] for row in map(json.loads, done.stdout.splitlines())}
    for name, (label, score) in expected.items():
        assert (found[name]["label"], round(found[name]["score"], 3)) == (label, score)


def test_a_checkpoint_keeps_its_own_labels(vit: Vit, tmp_path: Path, tiny: Path, picture: Path) -> None:
    mine = shutil.copytree(tiny, tmp_path / "mine")
    config = json.loads((mine / "config.json").read_text())
    config["id2label"] = {str(i): f"breed {i}" for i in range(10)}
    (mine / "config.json").write_text(json.dumps(config))
    done = vit("classify", picture, "--model", mine, "-f", "jsonl")
    top = json.loads(done.stdout)["top"]
    assert all(label["label"] == f"breed {label['index']}" and label["wnid"] is None for label in top)
