"""Zip and tar archives, read from front to back and never unpacked: members are inputs named `shard.tar!/dir/a.jpg`.

The rules are those of a folder: members with the ending of a picture, or with none and the first bytes of one; hidden
ones on request; the rest, archives within archives too, is passed over. The order is the archive's. A member is held in
memory, at most `max_bytes` of it. What no member can be trusted with becomes its Failure: a name that is absolute or
climbs out ("unsafe_name"), a link or device ("not_a_file"), a password ("encrypted"), wrong bytes ("corrupt"). An
archive that ends early is one more Failure, under its own name, after the members that could be read.

Names are exact: bytes that are not UTF-8 come as surrogate escapes. A zip without the UTF-8 flag is taken at its bytes.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from vitcli.pictures.formats import HEAD, is_picture, recognised
from vitcli.sources.folders import Walk
from vitcli.sources.input import MARK, Input, failed, refused

MAX_HEADER = 1 << 20  # bytes of a tar's extended header: a long name, times, owners
EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
HEADER_ERRORS = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]

# what the two modules raise for bytes that are not what they should be
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, OSError, ValueError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


def members(archive: Input, how: Walk, max_bytes: int, only: str | None = None) -> Iterator[Input]:
    """The pictures in an archive, or just the member called `only`."""
    assert archive.file is not None
    read = zip_members if archive.name.lower().endswith(".zip") else tar_members
    try:
        for member in read(archive, how, max_bytes, only):
            yield member
            if only is not None:
                return
    except MemoryError:
        yield failed(archive.name, "too_large", "The archive's list of contents does not fit in memory.")
        return
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            yield refused(archive.name, error)
        else:
            yield failed(archive.name, "corrupt", f"The archive is broken or ends early ({plain(error)}).")
        return
    if only is not None:
        yield failed(archive.name + MARK + only, "missing", "The archive has no such member.")


def tar_members(archive: Input, how: Walk, max_bytes: int, only: str | None) -> Iterator[Input]:
    """Members of a tar, plain or compressed."""
    assert archive.file is not None
    with tarfile.open(archive.file, "r|*", encoding="utf-8", errors="surrogateescape", tarinfo=StrictHeader) as tar:
        while (member := tar.next()) is not None:
            # tarfile keeps every member it has seen: a shard of a million would not fit
            tar.members.clear()  # type: ignore[attr-defined]
            if member.isdir() or not wanted(member.name, how, only):
                continue
            body = tar.extractfile(member) if member.isfile() else None
            yield from picture(archive, member.name, member.size, body, max_bytes)


class StrictHeader(tarfile.TarInfo):
    """A broken header within an archive is an error: tarfile would take it for the end, and lose what follows."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> StrictHeader:
        try:
            header = super().frombuf(buf, encoding, errors)
        except HEADER_ERRORS as error:
            raise tarfile.ReadError(str(error)) from None
        if header.type in EXTENSIONS and header.size > MAX_HEADER:  # tarfile would read all of it into memory
            raise tarfile.ReadError("an extended header is too large")
        return header


def zip_members(archive: Input, how: Walk, max_bytes: int, only: str | None) -> Iterator[Input]:
    """Members of a zip."""
    assert archive.file is not None
    with zipfile.ZipFile(archive.file) as pack:
        for info in pack.infolist():
            member = exact_name(info)
            if info.is_dir() or not wanted(member, how, only):
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                if is_picture(member) or only:
                    yield failed(
                        archive.name + MARK + member, "encrypted", "This member of the archive has a password."
                    )
                continue
            try:
                body = pack.open(info) if kind in (0, stat.S_IFREG) else None
            except BROKEN as error:
                yield failed(archive.name + MARK + member, "corrupt", f"This member is broken ({plain(error)}).")
                continue
            # unlike a tar's, a member that is broken leaves those after it readable
            yield from picture(archive, member, info.file_size, body, max_bytes)


def exact_name(info: zipfile.ZipInfo) -> str:
    """A member's name from its bytes: without the UTF-8 flag zipfile reads them as an MS-DOS code page."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return os.fsdecode(info.filename.encode("cp437"))
    except UnicodeEncodeError:  # the name came from a Unicode extra field
        return info.filename


def wanted(member: str, how: Walk, only: str | None) -> bool:
    """Whether a member can be an input, as far as its name says."""
    if only is not None:
        return member == only
    parts = re.split(r"[/\\]", member)
    if not how.hidden and any(part.startswith(".") and part not in (".", "..") for part in parts):
        return False
    return is_picture(member) or not os.path.splitext(member)[1]


def picture(archive: Input, member: str, size: int, body: IO[bytes] | None, max_bytes: int) -> Iterator[Input]:
    """The input that a member is; nothing if it has no ending and does not begin as a picture. Closes `body`.

    Raises what the archive's module raises when a tar is broken here: there is no way to what follows.
    """
    name = archive.name + MARK + member
    if body is None:
        if is_picture(member):
            yield failed(name, "not_a_file", "This member is a link or a device, which is never followed.")
        return
    with body:
        try:
            head = body.read(HEAD)
            if not is_picture(member) and recognised(head) is None:
                return
            if unsafe(member):
                yield failed(
                    name, "unsafe_name", "The name leads out of the archive: it is absolute or has '..' in it."
                )
                return
            # what the archive says of the size is a claim: zip bombs say little and inflate for ever
            data = b"" if size > max_bytes else head + body.read(max_bytes + 1 - len(head))
        except BROKEN as error:
            yield failed(name, "corrupt", f"This member is broken ({plain(error)}).")
            if isinstance(body, zipfile.ZipExtFile):
                return
            raise
    if max(size, len(data)) > max_bytes:
        yield failed(name, "too_large", f"This member is larger than {max_bytes >> 20} MiB.")
    else:
        yield Input(name, data=data, size=len(data), mtime_ns=archive.mtime_ns)


def unsafe(member: str) -> bool:
    """Whether a name is absolute or climbs out of where it is, on any system."""
    return member.startswith(("/", "\\")) or member[1:2] == ":" or ".." in re.split(r"[/\\]", member)


def plain(error: BaseException) -> str:
    """What a module of the standard library has to say, short enough for a row."""
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__
