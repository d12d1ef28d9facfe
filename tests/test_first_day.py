"""What people type on their first day, and what they are told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from test_terminal import lines, on_terminal

from vitcli.cli.wording import ALIASES, COMMANDS, NEARLY
from vitcli.hub.catalog import MODELS

Vit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import noise

    path = tmp_path_factory.mktemp("first") / "cat.png"
    noise(0).save(path)
    return path


@pytest.mark.parametrize("words", [[], ["--topk", "2"], ["-k2"]], ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["picture first", "options first"])
def test_a_picture_needs_no_command(vit: Vit, tiny: Path, cat: Path, words: list[str], first: bool) -> None:
    named: list[object] = [cat, *words, "-m", tiny, "--json"] if first else [*words, "-m", tiny, "--json", cat]
    done = vit(*named)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["results"]) == 1


def test_a_folder_needs_no_command(vit: Vit, tiny: Path, cat: Path) -> None:
    assert vit(cat.parent, "-m", tiny, "--jsonl").returncode == 0


@pytest.mark.parametrize(("alias", "meant"), ALIASES.items(), ids=list(ALIASES))
def test_an_option_by_another_name_is_understood(
    vit: Vit, tiny: Path, cat: Path, tmp_path: Path, alias: str, meant: tuple[str, ...]
) -> None:
    value = {"--batch-size": ["4"], "--top-k": ["3"]}.get(alias, [])
    where = ["-o", tmp_path / "out.jsonl"] if alias == "--overwrite" else []
    done, usual = (vit("classify", cat, "-m", tiny, *where, *words) for words in ([alias, *value], [*meant, *value]))
    assert (done.returncode, done.stdout) == (0, usual.stdout), done.stderr
    if value:
        assert vit("classify", cat, "-m", tiny, f"{alias}={value[0]}").stdout == usual.stdout


def test_what_stands_behind_two_dashes_is_a_name(vit: Vit, tiny: Path) -> None:
    done = vit("classify", "-m", tiny, "-f", "jsonl", "--", "--json")
    assert json.loads(done.stdout)["path"] == "--json"


@pytest.mark.parametrize(("wrong", "right"), [*NEARLY.items(), ("--jsno", "--json"), ("--formt", "--format")])
def test_a_wrong_option_leads_to_the_right_one(vit: Vit, wrong: str, right: str) -> None:
    done = vit("classify", "x.png", wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: There is no option {wrong}: did you mean {right}?\n"


@pytest.mark.parametrize(("wrong", "right"), [*COMMANDS.items(), ("clasify", "classify"), ("model", "models")])
def test_a_wrong_command_leads_to_the_right_one(vit: Vit, wrong: str, right: str) -> None:
    done = vit(wrong, "x")
    assert done.returncode == 2
    assert done.stderr == f"error: There is no command '{wrong}': did you mean vit {right}?\n"


def test_a_name_that_is_neither_command_nor_picture_is_said(vit: Vit) -> None:
    done = vit("frob")
    assert done.returncode == 2
    assert done.stderr == "error: There is no command 'frob', nor a file of that name. vit --help lists them.\n"


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["help"], ["--help"]),
        (["help", "classify"], ["classify", "--help"]),
        (["version"], ["--version"]),
        (["-V"], ["--version"]),
    ],
    ids=str,
)
def test_help_and_version_have_their_usual_names(vit: Vit, words: list[str], same: list[str]) -> None:
    done, usual = vit(*words), vit(*same)
    assert (done.returncode, done.stdout) == (0, usual.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify", "x", "--topk", "abc"], "--topk 'abc' is not a whole number from 1."),
        (["classify", "x", "--topk", "0"], "--topk 0 is not a whole number from 1."),
        (["classify", "x", "--batch", "1.5"], "--batch '1.5' is not a whole number from 1 to 4096."),
        (["classify", "x", "--threshold", "p"], "--threshold 'p' is not a number."),
        (
            ["classify", "x", "--engine", "nump"],
            "--engine 'nump' is not one of auto, numpy, torch. Did you mean numpy?",
        ),
        (["classify", "x", "--labels", "no.txt"], "--labels: 'no.txt' does not exist."),
        (["classify", "x", "--topk"], "--topk needs a value."),
        (["classify", "x", "--quiet=1"], "--quiet takes no value."),
        (["inspect"], "MODEL is missing. --help says more."),
        (["inspect", "a", "b"], "There is nothing to be done with 'b'. --help says more."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_value_is_said_in_one_sentence(vit: Vit, words: list[str], said: str) -> None:
    done = vit(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")


def test_a_picture_in_place_of_a_list_is_said(vit: Vit, tiny: Path, cat: Path) -> None:
    for words in (["@" + str(cat)], ["@" + str(cat), "--jsonl"]):
        done = vit("classify", *words, "-m", tiny)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is a PNG picture: pipe one into --stdin-image" in done.stderr


@pytest.mark.parametrize("name", ["out.onnx", "out.pth", "out.h5", "out.npz", "out.tflite", "out.json", "OUT.ONNX"])
def test_convert_makes_no_folder_that_is_named_as_a_file(vit: Vit, tiny: Path, tmp_path: Path, name: str) -> None:
    done = vit("convert", tiny, tmp_path / name)
    assert done.returncode == 2
    assert "a file ending in .safetensors" in done.stderr
    assert list(tmp_path.iterdir()) == []


def completed(vit: Vit, words: str) -> list[str]:
    """What bash is offered after these words."""
    count = len(words.split()) - (not words.endswith(" "))
    env = {"_VIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    return vit(env=env).stdout.split()


def test_a_shell_completes_commands_options_and_values(vit: Vit) -> None:
    assert completed(vit, "vit cl") == ["classify"]
    assert "--dtype" in completed(vit, "vit classify --d")
    assert completed(vit, "vit classify --dtype ") == ["auto", "float32", "bfloat16", "float16"]
    assert completed(vit, "vit classify --device cu") == ["cuda", "cuda:0"]
    for words in ("vit classify --model vit-b", "vit inspect vit-b", "vit download-weights vit-b"):
        assert completed(vit, words) == [m.name for m in MODELS if m.name.startswith("vit-b")]


def test_a_download_is_asked_for_with_its_size_and_place(
    tmp_path: Path, cat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    shown, status = on_terminal(200, "classify", cat, typed="n\n")
    said = "".join(lines(shown))
    assert "Download it (about 346 MB, to ~/hub-home/hub, where it stays)? [y/N]" in said
    assert status == 1
    assert not (tmp_path / "hub-home").exists()


def test_loading_is_said_at_once_on_a_terminal_only(vit: Vit, tiny: Path, cat: Path) -> None:
    shown, _ = on_terminal(80, "classify", cat, "-m", tiny)
    assert "Loading" in shown.split("Picture")[0]
    assert "Loading" not in vit("classify", cat, "-m", tiny).stderr
