"""One table of picture formats: what opens a picture also finds it, in folders and archives, without its ending."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from conftest import noise

from vitcli.pictures import formats, images
from vitcli.pictures.formats import ENDINGS, FORMATS, OTHERS, recognised
from vitcli.sources import inputs

README = (Path(__file__).parents[1] / "README.md").read_text()

HEADS = {
    "JPEG": b"\xff\xd8\xff\xe0",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "WEBP": b"RIFF\x10\0\0\0WEBPVP8 ",
    "GIF": b"GIF89a",
    "BMP": b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    "BMP with reserved words": b"BM\x46\0\0\0\x01\x02\x03\x04\x36\0\0\0\x28\0\0\0",
    "TIFF": b"II*\0",
    "CR2": b"II*\0\x10\0\0\0CR\x02\0",
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
    "RAF": b"FUJIFILMCCD-RAW 0201FF",
    "ORF": b"IIRO\x08\0\0\0",
    "ORF, big-endian": b"MMOR\0\0\0\x08",
    "RW2": b"IIU\0\x18\0\0\0",
    "BigTIFF": b"MM\0+\0\x08",
    "BigTIFF, little-endian": b"II+\0\x08\0",
    "PPM": b"P6\n1 1\n255\n",
    "PPM that begins with a comment": b"P6#made by hand\n1 1\n255\n",
    "float PFM": b"Pf\n1 1\n-1.0\n",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0",
    "AVIF sequence": b"\0\0\0\x1cftypavis\0\0\0\0",
    "AVIF that calls itself mif1": b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafavif",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "HEIC sequence": b"\0\0\0\x18ftyphevc\0\0\0\0",
    "HEIC multiview": b"\0\0\0\x18ftypheim\0\0\0\0",
    "JXL": b"\xff\x0a",
    "JXL in a box": b"\0\0\0\x0cJXL \r\n\x87\n",
}


def test_every_format_has_a_head_here() -> None:
    found = {form.name for head in HEADS.values() if (form := recognised(head))}
    assert found == {form.name for form in FORMATS}


@pytest.mark.parametrize("name", HEADS)
def test_what_images_knows_is_found_without_its_ending(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "nameless").write_bytes(HEADS[name] + bytes(100))
    (folder / "notes").write_bytes(b"BMW, and other words")
    assert [item.name for item in inputs([str(folder)])] == [str(folder / "nameless")]
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.write(folder / "nameless", "nameless")
        pack.write(folder / "notes", "notes")
    assert [item.name for item in inputs([str(tmp_path / "pack.zip")])] == [f"{tmp_path}/pack.zip!/nameless"]


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_every_ending_is_found_in_a_folder_in_capitals_too(tmp_path: Path, ending: str) -> None:
    for name in ("a" + ending, "b" + ending.upper()):
        (tmp_path / name).write_bytes(b"")
    assert len(list(inputs([str(tmp_path)]))) == 2


def test_no_ending_belongs_to_two_formats() -> None:
    assert len(ENDINGS) == sum(len(form.endings.split()) for form in (*FORMATS, *OTHERS))


@pytest.mark.parametrize("name", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_pillow_s_files_of_a_format_are_recognised_and_opened(tmp_path: Path, name: str) -> None:
    file = tmp_path / "nameless"
    noise(0).save(file, name)
    form = recognised(file.read_bytes()[: formats.HEAD])
    assert form is not None
    assert form.name == name
    assert images.load(file).size == (48, 40)


def test_the_readme_lists_every_format_its_endings_and_its_extra() -> None:
    for form in FORMATS:
        extra = f"`{form.extra}`" if form.extra else ""
        assert f"| {form.name} | {' '.join(f'`{e}`' for e in form.endings.split())} | {extra} |" in README
