"""Zip and tar archives, read from front to back and never unpacked: members are inputs named `shard.tar!/dir/a.jpg`.

The rules are those of a folder: members with the ending of a picture, or with one that says nothing and the first bytes
of one; hidden ones on request; the rest, archives within archives too, is passed over and counted. The order is the
archive's. A member is held in memory, at most `max_bytes` of it. What no member can be trusted with becomes its
Failure: a name that is absolute or climbs out ("unsafe_name"), a link or device ("not_a_file"), a password
("encrypted"), wrong bytes ("corrupt"). An archive that ends early is one more Failure, under its own name, after the
members that could be read. A zip has a table of contents, so a bad member costs its own row only; in a tar there is no
way to what follows a broken header.

Names are exact: bytes that are not UTF-8 come as surrogate escapes. A zip without the UTF-8 flag is taken at its bytes.
"""

from __future__ import annotations

import io
import itertools
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Literal, cast

from vitcli.escaping import short
from vitcli.pictures.formats import HEAD, is_picture, recognised
from vitcli.sources.folders import Walk
from vitcli.sources.input import MARK, Input, failed, refused
from vitcli.sources.kinds import could_be_picture

MAX_HEADER = 1 << 20  # bytes of a tar's extended header: a long name, times, owners
MAX_HEADERS = 2 * MAX_HEADER  # bytes of all the headers of one member, the map of a sparse one among them
PIECE = 1 << 16  # bytes read at a time on the way to the next header
MAX_TAIL = 16 << 20  # bytes after a tar's own end that are unpacked for the checksum behind them
MAX_RATIO, SWOLLEN = 200, 1 << 29  # how much a packed tar may unpack to, once it has unpacked to so many bytes
EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
HEADER_ERRORS = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]

# what the two modules raise for bytes that are not what they should be
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, OSError, ValueError,
    NotImplementedError, RuntimeError, LookupError, ArithmeticError,
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
    except Swollen:
        yield failed(
            archive.name, "too_large", f"It unpacks to more than {MAX_RATIO} times its size: unpack it if you trust it."
        )
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
    with (
        io.FileIO(archive.file) as file,
        unpacked(file) as stream,
        Tar.open(
            None, "r|", cast("IO[bytes]", stream), encoding="utf-8", errors="surrogateescape", tarinfo=StrictHeader
        ) as tar,
    ):
        tar.forward.packed = file
        while (member := tar.next()) is not None:
            # tarfile keeps every member it has seen: a shard of a million would not fit
            tar.members.clear()  # type: ignore[attr-defined]
            if member.isdir() or not wanted(member.name, how, only):
                continue
            body = tar.extractfile(member) if member.isfile() else None
            yield from picture(archive, member.name, member.size, body, max_bytes, how, only)
        if only is None:
            check_rest(stream)


def check_rest(stream: Patient) -> None:
    """Read what follows a tar's own end: what is packed ends with a checksum. Raises what unpacking raises."""
    try:
        for _ in range(MAX_TAIL // PIECE):
            if not stream.read(PIECE):
                return
    except OSError as error:
        if not str(error).startswith("Not a gzipped file"):  # something else behind it, which gzip ignores too
            raise


def unpacked(file: io.FileIO) -> Patient:
    """A tar's stream, of one that is packed too. Closing it does not close the file."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        import gzip

        return Patient(gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        import bz2

        return Patient(bz2.BZ2File(file))
    if start.startswith((b"\xfd7zXZ\0", b"\x5d\0\0\x80")):
        return Patient(lzma.LZMAFile(file))
    return Patient(io.BufferedReader(file))


class Patient:
    """A stream that gives what it has before it says what is wrong behind that: a checksum, or the end.

    A tar is read in blocks, and the last picture would be lost with what follows it.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        if self.error is not None:
            raise self.error
        pieces = []
        try:
            while size > 0 and (piece := self.stream.read1(size)):
                pieces.append(piece)
                size -= len(piece)
        except BROKEN as error:
            if not pieces:
                raise
            self.error = error
        return b"".join(pieces)

    def __enter__(self) -> Patient:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def close(self) -> None:
        """For tarfile, which closes what it was given."""


class Swollen(tarfile.ReadError):
    """A packed tar that is out of all proportion to its file."""


class Forward:
    """A tar's stream on its way to the end, which tarfile itself does not notice when it skips a member.

    While `allowance` is a number, it is how many bytes may still be read: the parts of a header are as many as it says.
    What unpacks to far more than the `packed` file holds is not read to its end.
    """

    allowance: int | None = None
    packed: io.FileIO | None = None

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.tell, self.close = stream.tell, stream.close

    def read(self, size: int) -> bytes:
        if self.allowance is not None:
            self.allowance -= size
            if self.allowance < 0:
                raise tarfile.ReadError("the headers of a member are too large")
        return self._piece(size)

    def seek(self, position: int) -> int:
        while (ahead := position - self.stream.tell()) > 0:
            if not self._piece(min(ahead, PIECE)):
                raise tarfile.ReadError("unexpected end of data")
        return self.stream.seek(position)

    def _piece(self, size: int) -> bytes:
        place = self.stream.tell()
        if place > SWOLLEN and self.packed is not None and place > MAX_RATIO * self.packed.tell():
            raise Swollen
        return self.stream.read(size)


class Tar(tarfile.TarFile):
    """A tar of which no header is read without a bound, nor taken at its word when it cannot be."""

    def __init__(self, name: str | None, mode: Literal["r"], fileobj: IO[bytes], **how: Any) -> None:
        self.forward = Forward(fileobj)
        super().__init__(name, mode, self.forward, **how)  # type: ignore[arg-type]

    def next(self) -> tarfile.TarInfo | None:
        self.forward.allowance = MAX_HEADERS
        try:
            member = super().next()
        finally:
            self.forward.allowance = None
        for field in set(self.pax_headers) - set(tarfile.PAX_FIELDS):  # global ones, which would pile up
            del self.pax_headers[field]  # type: ignore[attr-defined]
        if member is not None and member.size < 0:
            raise tarfile.ReadError("a member has a negative size")
        return member


class StrictHeader(tarfile.TarInfo):
    """A broken header within an archive is an error: tarfile would take it for the end, and lose what follows."""

    @classmethod
    def fromtarfile(cls, pack: tarfile.TarFile) -> StrictHeader:
        try:
            return super().fromtarfile(pack)
        except HEADER_ERRORS as error:  # of what extends a header
            raise tarfile.ReadError(str(error)) from None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> StrictHeader:
        try:
            header = super().frombuf(buf, encoding, errors)
        except HEADER_ERRORS as error:
            raise tarfile.ReadError(str(error)) from None
        if header.type in EXTENSIONS and header.size > MAX_HEADER:  # tarfile would read all of it into memory
            raise tarfile.ReadError("an extended header is too large")
        if header.size < 0:  # tarfile would step back, or over the next member
            raise tarfile.ReadError("a member has a negative size")
        return header


def zip_members(archive: Input, how: Walk, max_bytes: int, only: str | None) -> Iterator[Input]:
    """Members of a zip."""
    assert archive.file is not None
    with Directory(io.FileIO(archive.file)) as file, zipfile.ZipFile(file) as pack:
        file.opening = False
        shared = overlapping(pack.infolist())
        for info in pack.infolist():
            member = exact_name(info)
            if info.is_dir() or not wanted(member, how, only):
                continue
            if id(info) in shared:  # a bomb: the same bytes, once for each member
                yield failed(archive.name + MARK + member, "corrupt", "This member shares its bytes with another.")
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
                yield unopened(archive.name + MARK + member, info, error)
                continue
            # unlike a tar's, a member that is broken leaves those after it readable
            yield from picture(archive, member, info.file_size, body, max_bytes, how, only)
        if not file.whole and only is None:
            yield failed(
                archive.name, "corrupt", "The archive's list of contents is broken: what comes after that is lost."
            )


class Directory(io.BufferedReader):
    """A zip whose table of contents is mended as it is read: zipfile gives up on all of it for one bad entry."""

    opening = True
    whole = True  # whether its entries end where the table does

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.opening and data.startswith(b"PK\x01\x02"):
            data, self.whole = mended(data)
        return data


def mended(table: bytes) -> tuple[bytes, bool]:
    """A zip's table of contents without what zipfile refuses, and whether its entries end where it does.

    What is wrong with a member shows when it is read.
    """
    out, at = bytearray(table), 0
    while at + 46 <= len(out) and out[at : at + 4] == b"PK\x01\x02":
        version, flags, packed, size, name, extra, comment, place = struct.unpack_from("<6xBxH10xLLHHH8xL", out, at)
        start = at + 46 + name
        if flags & 0x800 and not is_utf8(out[at + 46 : start]):
            struct.pack_into("<H", out, at + 8, flags & ~0x800)  # then it is taken at its bytes
        if version > zipfile.MAX_EXTRACT_VERSION:
            out[at + 6] = zipfile.DEFAULT_VERSION
        wide = 8 * [packed, size, place].count(0xFFFF_FFFF)
        if extra >= 4 and not is_extra(out[start : start + extra], wide):
            struct.pack_into("<HH", out, start, 0xFFFF, extra - 4)  # of a kind that nobody reads
        at = start + extra + comment
    return bytes(out), at == len(out)


def is_extra(extra: bytes | bytearray, wide: int) -> bool:
    """Whether the extra field of an entry is what it should be; `wide` is how many bytes of sizes it must hold."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        data, extra = extra[4 : 4 + length], extra[4 + length :]
        if len(data) < length or (kind == 0x0001 and length < wide):
            return False
        if kind == 0x7075 and not (length >= 5 and is_utf8(data[5:])):  # another name, in UTF-8
            return False
    return True


def is_utf8(data: bytes | bytearray) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """The ids of the members that reach into the one that begins after them."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    return {
        id(info)
        for info, after in itertools.pairwise(ordered)
        if info.header_offset + 30 + info.compress_size > after.header_offset
    }


PACKED = {1: "Shrink", 6: "Implode", 9: "Deflate64", 10: "Implode", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 94: "MP3",
          95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "a cipher"}  # fmt: skip


def unopened(name: str, info: zipfile.ZipInfo, error: BaseException) -> Input:
    """A member of a zip that cannot be opened: whole, but packed in a way that Python does not know, or broken."""
    if isinstance(error, NotImplementedError):
        way = PACKED.get(info.compress_type, f"method {info.compress_type}")
        message = f"This member is packed in a way ({way}) that is not read here: unpack the archive, or pack it again."
        return failed(name, "unsupported", message)
    return failed(name, "corrupt", f"This member is broken ({plain(error)}).")


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
    why = how.exclude.of_member(member)
    if why is None and could_be_picture(member) is not False:
        return True
    if how.passed is not None:
        if why:
            how.passed[why] += 1
        else:
            how.passed.file(member, nested=True)
    return False


def picture(
    archive: Input, member: str, size: int, body: IO[bytes] | None, max_bytes: int, how: Walk, only: str | None
) -> Iterator[Input]:
    """The input that a member is; nothing if neither its name nor its beginning is a picture's. Closes `body`.

    A member that was named is one in any case.

    Raises what the archive's module raises when a tar is broken here: there is no way to what follows.
    """
    name = archive.name + MARK + member
    if body is None:
        if is_picture(member) or only is not None:
            yield failed(name, "not_a_file", "This member is a link or a device, which is never followed.")
        return
    with body:
        try:
            head = body.read(HEAD)
            if only is None and not is_picture(member) and recognised(head) is None:
                if how.passed is not None:
                    how.passed.file(member, nested=True)
                return
            if unsafe(member):
                yield failed(
                    name, "unsafe_name", "The name leads out of the archive: it is absolute or has '..' in it."
                )
                return
            # what the archive says of the size is a claim: zip bombs say little and inflate for ever
            data = b"" if size > max_bytes else head + body.read(max_bytes + 1 - len(head))
        except (*BROKEN, MemoryError) as error:
            if isinstance(error, MemoryError):
                yield failed(name, "too_large", "This member takes more memory than there is to unpack.")
            else:
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
    if isinstance(error, RecursionError):  # it takes each header in the one before
        return "headers follow one another without end"
    return short(str(error).splitlines()[0], 100) if str(error) else type(error).__name__
