"""Pictures and names that go wrong, and readers of every machine format; for the tests and `benchmarks/stress.py`."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = (
    b"plain.png", b"two words.png", b"new\nline.png", b"carriage\rreturn.png", b"tab\there.png", b"=1+1.png", b"+1.png",
    b"-1.png", b"@sum.png", b"'quoted'.png", b'"double".png', b"[red]markup[red].png", b"escape\x1b[31m.png",
    b"caf\xe9.png", b"caf\xc3\xa9.png", b"\xff\xfe.png", b"bidi\xe2\x80\xae.png", b"comma,semi;.png", b"#x{}$`!.png",
    b"\xf0\x9f\x90\x88.png", b"<b>&amp;.png", b"back\\slash.png", b"%s%n.png", b"NULL.png", b"*.png", b"[a-z].png",
)  # fmt: skip
FORMATS: dict[str, dict[str, Any]] = {
    "jpeg": {}, "png": {}, "webp": {}, "gif": {}, "bmp": {}, "tiff": {"compression": "tiff_lzw"}, "ppm": {}, "avif": {},
}  # fmt: skip


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A random RGB picture."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(kind: str, seed: int = 0) -> bytes:
    """A small picture in one of FORMATS."""
    file = io.BytesIO()
    noise(seed).save(file, kind, **FORMATS[kind])
    return file.getvalue()


def mutated(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of damaged pictures."""
    rng = random.Random(seed)
    whole = {kind: encoded(kind) for kind in FORMATS}
    for i in range(count):
        kind = rng.choice(list(whole))
        yield f"{i:05}.{kind}", damaged(whole[kind], list(whole.values()), rng)


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Bytes flipped, ends cut, pieces lost, doubled or taken from others."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, to = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        match rng.choice(["flip", "flip", "head", "cut", "remove", "double", "splice"]):
            case "flip":
                for _ in range(rng.randint(1, 8)):
                    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
            case "head":
                out[rng.randrange(min(64, len(out)))] = rng.randrange(256)
            case "cut":
                del out[max(1, at) :]
            case "remove":
                del out[max(1, at) : to]
            case "double":
                out[at:at] = out[at:to]
            case "splice":
                other = rng.choice(others)
                out[at:to] = other[rng.randrange(len(other)) :][: to - at + 1]
    return bytes(out)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress,
}  # fmt: skip


def mutated_archives(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of damaged archives, the damage before or after they are packed."""
    rng = random.Random(seed)
    kinds = [*PACKED, "zip"]
    zipped = [zip_of(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)]
    tars = [tar_of(form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    for i in range(count):
        kind = rng.choice(kinds)
        if kind == "zip":
            data = damaged(rng.choice(zipped), zipped, rng)
        elif rng.random() < 0.5:
            data = PACKED[kind](summed(damaged(rng.choice(tars), tars, rng), rng))
        else:
            data = damaged(PACKED[kind](rng.choice(tars)), tars, rng)
        yield f"{i:05}.{kind}", data


def summed(data: bytes, rng: random.Random) -> bytes:
    """A tar whose headers have other fields, half of them with the right checksum: the rest is not looked at."""
    out = bytearray(data)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar" and rng.random() < 0.5:
            if rng.random() < 0.3:
                out[at + rng.randrange(100, 160)] = rng.choice(b"\0 07\x80\xffxgLKSV")
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


MEMBERS = {
    "a.png": "png", "folder/" + 30 * "long name " + ".jpeg": "jpeg", "caf\u00e9": "gif", "notes.txt": "bmp",
    "z.webp": "webp",
}  # fmt: skip


def zip_of(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as pack:
        for name, kind in MEMBERS.items():
            pack.writestr(name, encoded(kind))
    return file.getvalue()


def tar_of(form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as pack:
        for name, kind in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(encoded(kind))
            pack.addfile(info, io.BytesIO(encoded(kind)))
    return file.getvalue()


def awkward(folder: Path) -> int:
    """Fill a folder with what goes wrong, and return how many inputs it holds; none is ignored."""
    folder.mkdir(parents=True)
    for kind in FORMATS:
        data = encoded(kind)
        (folder / f"whole.{kind}").write_bytes(data)
        (folder / f"half.{kind}").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not a picture")
    (folder / "page.png").write_text("<!doctype html><title>404</title>")
    (folder / "bomb.png").write_bytes(claiming(60_000, 60_000))
    (folder / "one.png").write_bytes(png(Image.new("RGB", (1, 1))))
    (folder / "thin.png").write_bytes(png(Image.new("L", (1, 5000))))
    (folder / "deep.png").write_bytes(png(Image.fromarray(np.full((8, 8), 40_000, np.uint16))))
    (folder / "clear.png").write_bytes(png(Image.new("RGBA", (8, 8))))
    os.mkfifo(folder / "fifo.png")
    (folder / "nowhere.png").symlink_to("not-there.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "self").symlink_to(".")
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.png").write_bytes(encoded("png"))
    return 2 * len(FORMATS) + 8 + 3 + 1


def png(image: Image.Image) -> bytes:
    """A picture as PNG."""
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def rows(path: Path) -> list[tuple[bytes, str, tuple[Any, ...]]]:
    """Name, status and the rest of each row of an output, sorted; for every format that can be resumed."""
    return sorted(READERS[path.suffix](path), key=repr)


def jsonl(path: Path) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
    return records(json.loads(line) for line in path.read_bytes().splitlines())


def document(path: Path) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
    return records(json.loads(path.read_bytes())["results"])


def records(found: Iterable[dict[str, Any]]) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
    for row in found:
        rest = [(key, repr(value)) for key, value in row.items() if key not in ("path", "path_bytes", "status")]
        exact = b64decode(row["path_bytes"]) if "path_bytes" in row else row["path"].encode()
        yield exact, row["status"], tuple(rest)


def table(path: Path) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter=delimiter):
            exact = b64decode(row["path_bytes"]) or row["path"].removeprefix("'").encode()
            yield exact, row["status"], tuple(row.items())


def parquet(path: Path) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
    import pyarrow.parquet

    for row in pyarrow.parquet.read_table(io.BytesIO(path.read_bytes())).to_pylist():
        yield row["path_bytes"] or row["path"].encode(), row["status"], tuple(map(repr, row.items()))


def sqlite(path: Path) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        for number, text, exact, status, *rest in db.execute("SELECT * FROM inputs"):
            query = "SELECT rank, label, score, class, wnid FROM labels WHERE input = ? ORDER BY rank"
            yield exact or text.encode(), status, (*rest, *db.execute(query, (number,)))


READERS = {".jsonl": jsonl, ".json": document, ".csv": table, ".tsv": table, ".parquet": parquet, ".sqlite": sqlite}
