"""What lies among pictures and is none: told by its name, so that it need not be opened, and counted by kind.

Folders and archives pass such files over; `Passed` counts them, and the summary of a run says so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from vitcli.pictures.formats import is_picture
from vitcli.sources.input import is_archive

# Kinds by the endings of their files. What has none of these, nor that of a picture, is looked into: `x.jpg_large`,
# `Screenshot 10.22.33` and `cat.jpg.1` are pictures as often as not.
ENDINGS = {
    "packed file": ".7z .rar .zst .gz .bz2 .xz .lz .lz4 .lzma .br .cab .iso .dmg .jar .whl .apk",
    "video": ".mp4 .m4v .mov .avi .mkv .webm .wmv .flv .mpg .mpeg .mts .m2ts .3gp .lrv .insv",
    "sound": ".mp3 .wav .flac .ogg .oga .opus .m4a .aac .wma .aif .aiff",
    "unfinished download": ".part .crdownload .download .partial .aria2",
    "other file": (
        ".txt .md .rst .log .csv .tsv .json .jsonl .ndjson .xml .xmp .yaml .yml .toml .ini .cfg .conf .html .htm .css "
        ".js .ts .py .pyc .ipynb .sh .bat .ps1 .c .h .cpp .java .go .rs .doc .docx .xls .xlsx .ppt .pptx .odt .ods "
        ".rtf .db .sqlite .sqlite3 .parquet .pq .pkl .pickle .npy .npz .h5 .hdf5 .mat .pt .pth .ckpt .bin .safetensors "
        ".onnx .tfrecord .cls .cap .caption .lst .idx .rec .mdb .aae .thm .pp3 .dop .cos .lnk .url .torrent .md5 .sha1 "
        ".sha256 .exe .dll .so .o .ttf .otf .woff .woff2"
    ),
}
KIND = {ending: kind for kind, endings in ENDINGS.items() for ending in endings.split()}

# What is counted, in the order in which it is told: one, many, and what takes it.
TOLD = {
    "archive": ("archive", "archives", "name {them} to open {them}"),
    "nested archive": ("archive within an archive", "archives within archives", "unpack {them}"),
    "packed file": ("packed file that is not opened", "packed files that are not opened", "unpack {them}"),
    "video": ("video", "videos", ""),
    "sound": ("sound file", "sound files", ""),
    "unfinished download": ("unfinished download", "unfinished downloads", ""),
    "hidden picture": ("hidden picture", "hidden pictures", "--hidden takes {them}"),
    "link": ("link to a folder", "links to folders", "--follow-links follows {them}"),
    "usual": ("system file or folder", "system files and folders", "--no-default-excludes takes {them}"),
    "excluded": ("excluded by name", "excluded by name", ""),
    "other file": ("other file", "other files", ""),
}  # fmt: skip


def could_be_picture(name: str) -> bool | None:
    """Whether a file of this name is taken for a picture; None where only its first bytes can tell."""
    if is_picture(name):
        return True
    return False if kind(name) else None


def kind(name: str) -> str | None:
    """The kind, a key of TOLD, of a file that is no picture by its name; None where the name does not tell."""
    if is_archive(name):
        return "archive"
    return KIND.get(os.path.splitext(name)[1].lower())


class Passed(Counter[str]):
    """How much was passed over, by kind: the keys of TOLD."""

    def file(self, name: str, *, nested: bool = False) -> None:
        """Count a file that is no picture."""
        found = kind(name) or "other file"
        self["nested archive" if nested and found == "archive" else found] += 1

    def sentence(self) -> str:
        """`Passed over: 3 archives (name them to open them), 12 other files.` Nothing where nothing was."""
        told = ", ".join(self.parts())
        return f"Passed over: {told}." if told else ""

    def parts(self) -> Iterator[str]:
        """What was passed over, kind by kind."""
        for what, (one, many, advice) in TOLD.items():
            if count := self[what]:
                hint = f" ({advice.format(them='it' if count == 1 else 'them')})" if advice else ""
                yield f"{count:,} {one if count == 1 else many}{hint}"
