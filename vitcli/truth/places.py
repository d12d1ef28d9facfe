"""Labels by where a picture lies: folders named after classes, `.cls` members beside the pictures of a tar."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, cast

from vitcli.sources.archives import BROKEN, StrictHeader, Tar, unpacked
from vitcli.sources.folders import entries, is_folder
from vitcli.sources.input import ARCHIVES, MARK, is_archive
from vitcli.truth.classes import Classes

LONGEST_LABEL = 256  # bytes of a .cls


class Folders:
    """The folder directly below what the user named is the label; of a picture that lies in it itself, its own name.

    So `val/`, `val/n01440764/`, `val/*/*.jpg` and an archive of any of them are the same. In an archive, all may lie
    in one more folder.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        folders = [name for name in names if os.path.isdir(name)]
        self.whole = len(folders) == len(names)  # whether folders are all that was named
        self.roots = {os.path.normpath(name) for name in folders}

    def label(self, name: str) -> str | None:
        """The label of an input by its name, None if it lies nowhere."""
        own = name = os.path.normpath(name)
        while own and own not in self.roots:
            shorter = os.path.dirname(own)
            own = shorter if shorter != own else ""
        if not own:  # nothing above it was named
            return os.path.basename(os.path.dirname(os.path.abspath(name))) if os.path.dirname(name) else None
        below = os.path.relpath(name, own).split(os.sep)
        return below[0] if len(below) > 1 else os.path.basename(os.path.abspath(own)) or None

    def early(self) -> Iterator[str]:
        """What can be told of the labels before the first picture: the folders in what was named, else its names."""
        for root in sorted(self.roots):
            try:
                found = [entry.name for entry in entries(root) if is_folder(entry) and not entry.name.startswith(".")]
            except OSError:
                continue  # it has a row that says why
            yield from found or [os.path.basename(os.path.abspath(root))]


class Packs:
    """The labels of archives: webdataset's `key.cls` for `key.jpg`; without any, the folders in the archive."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.archive = ""  # the last one that was asked for: they come one after the other
        self.labels: dict[str, str] = {}
        self.depth = -1  # of the folders that are classes; -1 before the first picture

    def label(self, name: str) -> str | None:
        """The label of a member by its name."""
        archive, _, member = name.partition(MARK)
        if archive != self.archive:
            self.archive, self.labels, self.depth = archive, dict(labels_in(archive)), -1
        if self.labels:
            return self.labels.get(key(member))
        folders = [part for part in member.split("/")[:-1] if part not in (".", "")]
        if not folders:
            own = os.path.basename(archive)
            return own[: -len(next(ending for ending in ARCHIVES if own.lower().endswith(ending)))] or None
        if self.depth < 0:
            self.depth = int(len(folders) > 1 and not self.classes.find(folders[0]))
        return folders[self.depth] if len(folders) > self.depth else folders[-1]


def is_member(name: str) -> bool:
    """Whether an input is a member of an archive, by its name."""
    archive, mark, member = name.partition(MARK)
    return bool(mark and member) and is_archive(archive)


def key(member: str) -> str:
    """What the files of one sample have in common: the name up to the first dot of its last part."""
    folder, slash, base = member.rpartition("/")
    return folder.removeprefix("./") + slash + base.partition(".")[0]


def labels_in(archive: str) -> Iterator[tuple[str, str]]:
    """(key, label) of each `.cls` in a tar. What is broken ends it: the rows say so."""
    if archive.lower().endswith(".zip"):
        return
    try:
        with io.FileIO(archive) as file:
            if archive.lower().endswith(".tar"):  # from header to header, without reading the pictures
                tar = tarfile.TarFile(
                    fileobj=file, tarinfo=StrictHeader, encoding="utf-8", errors="surrogateescape"
                )  # fmt: skip
                yield from labels_of(tar)
            else:
                with (
                    unpacked(file) as stream,
                    Tar.open(None, "r|", cast("IO[bytes]", stream), encoding="utf-8", tarinfo=StrictHeader) as packed,
                ):
                    packed.forward.packed = file
                    yield from labels_of(packed)
    except (*BROKEN, MemoryError):
        return


def labels_of(tar: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    """The same, of an open one."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        if member.name.lower().endswith(".cls") and member.isfile() and 0 < member.size <= LONGEST_LABEL:
            body = tar.extractfile(member)
            if body is not None:
                yield key(member.name), body.read().decode("utf-8", "replace").strip()
