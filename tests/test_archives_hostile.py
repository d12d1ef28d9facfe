"""Archives that are small on the disk and large in memory or time, or bad in one place: one row, the rest is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import resource
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.test_sources import PNG, names, reasons, tar_of, zip_of
from vitcli.sources import archives, inputs

END = bytes(1024)  # two blocks of zeros, which end a tar


def member(name: str, data: bytes = PNG) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf() + data + bytes(-len(data) % 512)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytearray:
    """A header with a size that no program writes, and the checksum that belongs to it."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(format=tarfile.GNU_FORMAT))
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + (size & ((1 << 88) - 1)).to_bytes(11, "big")
    return checked(block)


def checked(block: bytearray) -> bytearray:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return block


def pax(fields: dict[str, object], kind: bytes = tarfile.XHDTYPE) -> bytes:
    out = b""
    for key, value in fields.items():
        text = f" {key}={value}\n".encode()
        length = len(text)
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        out += str(length).encode() + text
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(out)
    return info.tobuf() + out + bytes(-len(out) % 512)


@pytest.mark.parametrize("size", [1 << 62, (1 << 63) - 1, 1 << 80])
def test_a_member_that_claims_more_than_there_is_ends_the_tar_at_once(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(member("a.png") + header("huge.png", size) + member("b.png", PNG + bytes(1 << 16)) + END)
    assert names(path) == [f"{path}!/a.png", f"{path}!/huge.png", str(path)]
    assert reasons(path) == {f"{path}!/huge.png": "too_large", str(path): "corrupt"}


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
@pytest.mark.parametrize("skipped", ["huge.txt", "huge"])
def test_the_same_for_a_member_that_nobody_wants(skipped: str, name: str, tmp_path: Path) -> None:
    data = bytes(header(skipped, 1 << 62)) + member("b.png", bytes(1 << 16)) + END
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert reasons(tmp_path / name) == {str(tmp_path / name): "corrupt"}


@pytest.mark.parametrize("size", [-1, -512, -1024, -(1 << 40)])
@pytest.mark.parametrize("how", ["header", "pax", "sparse"])
def test_a_negative_size_is_never_passed_over_in_silence(how: str, size: int, tmp_path: Path) -> None:
    bad = {
        "header": bytes(header("bad.png", size)),
        "pax": pax({"size": size}) + member("bad.png"),
        "sparse": pax({"GNU.sparse.realsize": size, "GNU.sparse.map": "0,1", "GNU.sparse.name": "bad.png"})
        + member("b"),
    }[how]
    path = tmp_path / "x.tar"
    path.write_bytes(member("a.png") + bad + member("after.png") + END)
    assert names(path)[0] == f"{path}!/a.png"
    assert reasons(path) == {str(path): "corrupt"}


def old_sparse() -> bytes:
    block = header("cat.png", 0, tarfile.GNUTYPE_SPARSE)
    block[386:410] = b"00000000001\x0000000000001\x00"
    block[482], block[483:495] = 1, b"00000000010\x00"
    return bytes(checked(block))


EXTENTS = b"00000000001\x0000000000001\x00" * 21 + b"\x01" + bytes(7)  # a block of them, and another follows


@pytest.mark.parametrize("how", ["old", "1.0", "chain", "global"])
def test_headers_without_end_are_bounded(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_HEADERS", 1 << 18)
    sparse = pax({"GNU.sparse.major": 1, "GNU.sparse.minor": 0, "GNU.sparse.realsize": 10, "GNU.sparse.name": "c.png"})
    endless = {
        "old": old_sparse() + EXTENTS * 20_000,
        "1.0": sparse + bytes(header("c.png", 512)) + b"999999999\n" + b"0\n" * 5_000_000,
        "chain": pax({"path": "a"}) * 10_000,
        "global": pax({"path": "a"}, tarfile.XGLTYPE) * 10_000,
    }[how]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(endless + END, 1))
    read = 0
    real = archives.Forward.read

    def counted(self: archives.Forward, size: int) -> bytes:
        nonlocal read
        read += size
        return real(self, size)

    monkeypatch.setattr(archives.Forward, "read", counted)
    assert reasons(path) == {str(path): "corrupt"}
    assert read < 1 << 20


def test_global_headers_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(
        b"".join(pax({f"comment{i}": "x" * 1000}, tarfile.XGLTYPE) + member(f"{i}.png") for i in range(30)) + END
    )
    kept = []
    real = archives.Tar.next

    def watched(self: archives.Tar) -> tarfile.TarInfo | None:
        found = real(self)
        kept.append(len(self.pax_headers))
        return found

    monkeypatch.setattr(archives.Tar, "next", watched)
    assert len(names(path)) == 30
    assert max(kept) == 0


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_a_sparse_header_that_is_cut_off_is_a_row(blocks: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(member("a.png") + old_sparse() + EXTENTS * blocks)
    assert reasons(path) == {str(path): "corrupt"}


def changed(path: Path, name: bytes, at: int, new: bytes) -> None:
    """Change bytes of one entry of a zip's table of contents: `at` from the start of the entry."""
    data = bytearray(path.read_bytes())
    start = data.rindex(name) - 46  # the last place is in the table
    assert data[start : start + 4] == b"PK\x01\x02"
    data[start + at : start + at + len(new)] = new
    path.write_bytes(data)


def rows(path: Path) -> dict[str, str]:
    return {item.name.split("!/")[-1]: item.failure.error if item.failure else "ok" for item in inputs([str(path)])}


def test_a_name_that_is_not_what_its_flag_says_costs_one_row(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"a.png": PNG, "éé.png": PNG, "c.png": PNG})
    path.write_bytes(path.read_bytes().replace("éé".encode(), b"\xff\xfe\xff\xfe"))
    found = rows(path)
    assert found.pop("\udcff\udcfe\udcff\udcfe.png") in ("ok", "corrupt")
    assert found == {"a.png": "ok", "c.png": "ok"}


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (6, b"\xff"),  # made by a version to come
        (10, b"\x63\x00"),  # a method nobody knows
        (16, b"\0\0\0\0"),  # another CRC
        (20, b"\xff\xff\xff\x7f"),  # a packed size beyond the end
        (42, b"\xff\xff\xff\x7f"),  # a place beyond the end
        (8, b"\xff\xff"),  # every flag
        (12, b"\xff\xff\xff\xff"),  # no date
        (38, b"\xff\xff\xff\xff"),  # attributes of no kind
    ],
)
def test_a_bad_entry_of_a_zip_costs_one_row(at: int, new: bytes, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"a.png": PNG, "bad.png": PNG, "c.png": PNG})
    changed(path, b"bad.png", at, new)
    found = rows(path)
    assert (found.pop("a.png"), found.pop("c.png")) == ("ok", "ok")
    assert list(found) == ["bad.png"]


@pytest.mark.parametrize(
    "extra",
    [
        struct.pack("<HH", 0x1234, 500) + b"abcd",
        struct.pack("<HH", 0x7075, 3) + b"\x01ab",
        struct.pack("<HHBL", 0x7075, 9, 1, zlib.crc32(b"bad.png")) + b"\xff\xfe\xff\xfe",
        b"ab",
    ],
    ids=["length", "short-name", "name", "rest"],
)
def test_a_bad_extra_field_costs_one_row(extra: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as pack:
        for name in ("a.png", "bad.png", "c.png"):
            info = zipfile.ZipInfo(name)
            info.extra = (
                struct.pack("<HH", 0x7777, len(extra) - 4) + bytes(len(extra) - 4) if len(extra) >= 4 else b"zz"
            )
            pack.writestr(info, PNG)
    changed(path, b"bad.png", 46 + len("bad.png"), extra)
    assert rows(path) == {"a.png": "ok", "bad.png": "ok", "c.png": "ok"}


def test_a_wide_size_that_is_not_there_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as pack:
        for name in ("a.png", "bad.png", "c.png"):
            info = zipfile.ZipInfo(name)
            info.extra = struct.pack("<HHL", 0x7777, 4, 0)
            pack.writestr(info, PNG)
    changed(path, b"bad.png", 46 + len("bad.png"), struct.pack("<HHL", 1, 4, 0))
    changed(path, b"bad.png", 24, b"\xff" * 4)
    assert rows(path) == {"a.png": "ok", "bad.png": "too_large", "c.png": "ok"}


def test_a_member_that_takes_too_much_memory_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "x.zip", {"a.png": PNG, "bad.png": PNG, "c.png": PNG})
    real = zipfile.ZipExtFile.read

    def read(self: zipfile.ZipExtFile, size: int | None = -1) -> bytes:
        if self.name == "bad.png":
            raise MemoryError
        return real(self, size)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", read)
    assert rows(path) == {"a.png": "ok", "bad.png": "too_large", "c.png": "ok"}


@pytest.mark.parametrize("inside", [False, True], ids=["same-place", "one-in-another"])
def test_bytes_that_several_members_share_are_unpacked_once(inside: bool, tmp_path: Path) -> None:
    kernel = zip_of(tmp_path / "kernel.zip", {"k.png": bytes(1 << 20)}).read_bytes()
    end = kernel.rindex(b"PK\x01\x02")
    local, entry = kernel[:end], bytearray(kernel[end : kernel.rindex(b"PK\x05\x06")])
    table = b""
    for number in range(100):
        struct.pack_into("<L", entry, 42, number * len(local) if inside else 0)
        if inside:
            struct.pack_into("<L", entry, 20, len(local) * (100 - number) - 35)
        table += entry
    body = local * 100 if inside else local
    last = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 100, 100, len(table), len(body), 0)
    (tmp_path / "x.zip").write_bytes(body + table + last)
    found = list(inputs([str(tmp_path / "x.zip")]))
    assert len(found) == 100
    assert sum(item.failure is None for item in found) <= 1


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_damage_is_a_row_and_never_an_error_nor_a_hang(name: str, tmp_path: Path) -> None:
    """The parts that hold sizes, kinds and maps are damaged more often than chance would."""
    chance = random.Random(name)
    path = tmp_path / name
    if name.endswith(".zip"):
        zip_of(path, {f"{i}.png": PNG for i in range(4)})
        places = list(range(path.read_bytes().index(b"PK\x01\x02"), path.stat().st_size))
    else:
        sparse = pax(
            {"GNU.sparse.major": 1, "GNU.sparse.minor": 0, "GNU.sparse.realsize": 10, "GNU.sparse.name": "c.png"}
        )
        path.write_bytes(
            old_sparse() + EXTENTS[:504] + bytes(8) + sparse + member("c.png", b"1\n0\n8\n" + bytes(506)) + END
        )
        places = list(range(path.stat().st_size - 1024))
    whole = path.read_bytes()
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 2, 5])):
            damaged[chance.choice(places)] = chance.choice([0, 0x30, 0x39, 0x80, 0xFF, chance.randrange(256)])
        if name.endswith(".tar"):  # a header is only looked at when its checksum is right
            for at in range(0, len(damaged) - 1024, 512):
                if whole[at + 257 : at + 262] == b"ustar":
                    damaged[at : at + 512] = checked(damaged[at : at + 512])
        path.write_bytes(damaged)
        list(inputs([str(path)], max_bytes=1 << 20))


def test_reading_a_hostile_header_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(old_sparse())
        for _ in range(100):
            file.write(EXTENTS * 2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reasons(path) == {str(path): "corrupt"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_an_honest_sparse_file_is_read(tmp_path: Path) -> None:
    sparse = pax({"GNU.sparse.major": 1, "GNU.sparse.minor": 0, "GNU.sparse.realsize": 24, "GNU.sparse.name": "c.png"})
    data = (b"1\n0\n%d\n" % len(PNG)).ljust(512, b"\0") + PNG
    path = tmp_path / "x.tar"
    path.write_bytes(sparse + member("GNUSparseFile.0/c.png", data) + member("d.png") + END)
    first, second = inputs([str(path)])
    assert first.data == PNG.ljust(24, b"\0")
    assert second.data == PNG


def test_a_tar_is_read_whole_after_large_members(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "x.tar", {"a.txt": bytes(3 << 20), "b.png": PNG, "c.png": PNG + bytes(2 << 20), "d.png": PNG}
    )
    found = list(inputs([str(path)], max_bytes=1 << 20))
    assert [item.failure.error if item.failure else "ok" for item in found] == ["ok", "too_large", "ok"]
    assert isinstance(found[0].data, bytes)
    assert io.BytesIO(found[2].data or b"").read() == PNG


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("ending", PACKERS)
def test_a_wrong_checksum_is_said_and_costs_no_picture_before_it(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.tar{ending}"
    packed = bytearray(PACKERS[ending](member("a.png") + member("b.png") + END))
    assert reasons_of(path, packed) == {"a.png": "ok", "b.png": "ok"}
    packed[{".gz": -6, ".bz2": -5, ".xz": -30}[ending]] ^= 0xFF
    found = reasons_of(path, packed)
    assert found.pop(str(path)) == "corrupt"
    assert ending != ".gz" or found == {"a.png": "ok", "b.png": "ok"}  # the others check a block before they give it


def reasons_of(path: Path, data: bytes) -> dict[str, str]:
    path.write_bytes(data)
    return rows(path)


def test_what_stands_behind_a_packed_tar_is_ignored_as_gzip_ignores_it(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    packed = gzip.compress(member("a.png") + END)
    for more in (b"garbage" * 100, bytes(10_000), packed):
        assert reasons_of(path, packed + more) == {"a.png": "ok"}


def test_the_rest_of_a_packed_tar_is_read_for_its_checksum_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_TAIL", 4 * archives.PIECE)
    read = []
    real = archives.Patient.read
    monkeypatch.setattr(archives.Patient, "read", lambda self, size: read.append(size) or real(self, size))
    path = tmp_path / "x.tar.gz"
    assert reasons_of(path, gzip.compress(member("a.png") + bytes(50 << 20))) == {"a.png": "ok"}
    assert sum(read) < 6 * archives.PIECE


def test_a_tar_that_unpacks_to_hundreds_of_times_its_size_is_left_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SWOLLEN", 1 << 20)
    path = tmp_path / "x.tar.gz"
    packed = gzip.compress(member("a.png") + member("notes.txt", bytes(50 << 20)) + member("b.png") + END)
    assert reasons_of(path, packed) == {"a.png": "ok", str(path): "too_large"}
    honest = member("a.png") + member("b.txt", random.Random(0).randbytes(3 << 20)) + member("c.png") + END
    assert reasons_of(path, gzip.compress(honest)) == {"a.png": "ok", "c.png": "ok"}


@pytest.mark.parametrize("body", [b"0 path=x\n", b"00 path=x\n", b"1 path=x\n", b"999999999 path=x\n", b"x"])
def test_an_extended_header_that_cannot_be_read_loses_nothing_in_silence(body: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 20
    (tmp_path / "a.tar").write_bytes(
        member("a.png") + info.tobuf() + body.ljust(512, b"\0") + member("b.png") + member("c.png") + END
    )
    found = list(inputs([str(tmp_path / "a.tar")]))
    lost = 3 - sum(item.failure is None for item in found)
    assert found[0].name.endswith("!/a.png")
    assert lost == 0 or [item.failure.error for item in found if item.failure] == ["corrupt"]


@pytest.mark.parametrize("at", [28, 30, 32], ids=["name", "extra", "comment"])
def test_a_list_of_contents_that_leads_nowhere_loses_nothing_in_silence(at: int, tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", dict.fromkeys(("a.png", "b.png", "c.png"), PNG)).read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + at : second + at + 2] = b"\xff\xff"
    (tmp_path / "a.zip").write_bytes(data)
    found = list(inputs([str(tmp_path / "a.zip")]))
    assert found[-1].name == str(tmp_path / "a.zip")
    assert found[-1].failure is not None
    assert found[-1].failure.error == "corrupt"
