"""Files of weights -> named tensors still in their file: shape and dtype are known, numbers are read on demand.

One reader a kind of file. Each refuses what is not a checkpoint with a sentence that says what the file is instead,
and believes no size that the file's own bytes do not back.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli import escaping
from vitcli.checkpoints import pickles
from vitcli.checkpoints.source import Array, Place, Source
from vitcli.errors import CheckpointError, NotWeights
from vitcli.escaping import first_line, listed, short
from vitcli.hub.repository import weight_map
from vitcli.impostors import impostor
from vitcli.labels import BY_INDEX, BY_NAME, names_under

if TYPE_CHECKING:
    import zipfile  # imported where archives are read: most checkpoints are none

# No published ViT comes near: the header of ViT-B/16 is 23 kB, its index of shards as much.
MAX_HEADER = 16 * 2**20
MAX_TENSORS = 100_000
MAX_FIELDS = 1000  # of a dictionary that is searched for names of classes
# Compressed weights shrink by a tenth; a file that grows a hundredfold is a trap, unless what it grows to is small.
MAX_INFLATION, HARMLESS = 100, 64 * 2**20
# What torch.save writes beside the numbers: 100 kB for ViT-B/16 with its optimizer. Read at a million steps a second.
MAX_PICKLE = 4 * 2**20
MAX_SHARING = 4  # times the file that its tensors may take: weights are tied, and averages kept beside them

DTYPES = {  # safetensors' name of a dtype -> how numpy reads it (bfloat16 by its bits) and its usual name
    "F64": ("<f8", "float64"),
    "F32": ("<f4", "float32"),
    "F16": ("<f2", "float16"),
    "BF16": ("<u2", "bfloat16"),
    "I64": ("<i8", "int64"),
    "I32": ("<i4", "int32"),
    "I16": ("<i2", "int16"),
    "I8": ("i1", "int8"),
    "U8": ("u1", "uint8"),
    "BOOL": ("?", "bool"),
}
NUMPY = {usual: numpy for numpy, usual in DTYPES.values()}
FLOATS = ("float64", "float32", "float16", "bfloat16")


class Stored(NamedTuple):
    """A tensor in a file. `read()` gives it as float32; `place` is where the file holds it just so, if it does."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]
    place: Place | None = None


Tensors: TypeAlias = Mapping[str, Stored]


@dataclass(frozen=True, slots=True)
class Contents:
    """What files of weights hold: tensors, remarks for whoever chose them, and the files, which are open.

    `names` are tables of classes that lie beside the weights, by what they are called.
    """

    tensors: Tensors
    remarks: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    names: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Contents:
    """The tensors of one file, by the reader of what it holds, or of its ending where its first bytes do not tell.

    Raises NotWeights for anything that is not a sound checkpoint, CheckpointError for what nobody reads.
    """
    refuse_impostors(path)
    reader = _reader(path)
    if reader is None:
        raise CheckpointError(f"{path}: no kind of weights that is read here ({', '.join(READERS)}).")
    contents = reader(path)
    if not contents.tensors:
        raise NotWeights(f"{path}: the file is sound, but holds no tensors.")
    return contents


def _reader(path: Path) -> Callable[[Path], Contents] | None:
    """Whose file it is by its first bytes, else by its ending. Raises NotWeights for formats of other frameworks."""
    with path.open("rb") as file:
        start = file.read(512)
    for magic, place, endings, what in FOREIGN:
        if path.name.lower().endswith(endings) or (magic and start[place:].startswith(magic)):
            raise NotWeights(f"{path}: {what}.")
    if start.startswith(b"PK\3\4"):
        import zipfile

        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception:  # a damaged archive can raise anything: the reader of its ending says so
            names = []
        if any(name.endswith("data.pkl") for name in names):
            return read_torch
        if names and all(name.endswith(".npy") for name in names):
            return read_npz
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        return read_safetensors
    elif start.startswith(b"\x80\2"):
        return read_torch
    return next((reader for ending, reader in READERS.items() if path.name.lower().endswith(ending)), None)


def refuse_impostors(path: Path) -> None:
    """Raise NotWeights for what downloads leave behind in place of weights: nothing, a web page, a git-lfs pointer."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not start:
        raise NotWeights(f"{path}: the file is empty. Download it again.")
    what = impostor(start)
    if what == "a git-lfs pointer":
        raise NotWeights(f"{path}: {what}, not the weights it stands for. Run `git lfs pull` in its folder.")
    if what or start.lstrip().startswith(b"<?xml"):
        raise NotWeights(f"{path}: a web page, not weights. Download the file itself, not the page about it.")


def read_safetensors(path: Path) -> Contents:
    """A .safetensors file: float32 tensors stay where they are until they are asked for.

    The file is 8 bytes of header length, the header (JSON: name -> dtype, shape, offsets), and the numbers.
    """
    source = Source(path)
    if source.size < 8:
        raise NotWeights(f"{path}: {source.size} bytes are not a safetensors file. Download it again.")
    first = source.read(0, 8)
    (length,) = struct.unpack("<Q", first)
    if length > MAX_HEADER:
        kind = "a zip archive, as .npz and .pth are" if first[:2] == b"PK" else f"a header of {length:,} bytes"
        raise NotWeights(f"{path}: not a safetensors file (it begins like {kind}).")
    start = 8 + length
    if start > source.size:
        raise NotWeights(f"{path}: cut short in its header. Download it again.")
    header = _header(source.read(8, length), path)
    tensors: dict[str, Stored] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, dtype, begin, end = _entry(name, entry, path)
        spans.append((begin, end, name))
        tensors[name] = Stored(shape, DTYPES[dtype][1], *_numbers(source, start + begin, shape, dtype))
    spans.sort()
    if (needed := start + max((end for _, end, _ in spans), default=0)) > source.size:
        raise NotWeights(f"{path}: cut short, {source.size:,} of {needed:,} bytes are there. Download it again.")
    for (_, end, one), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise NotWeights(f"{path}: {listed([one, other])} claim the same bytes. The file is damaged.")
    return Contents(tensors, sources=(source,))


def _header(text: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise NotWeights(f"{path}: the header names {short(twice)} twice. The file is damaged.")
        return found

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise NotWeights(f"{path}: not a safetensors file (its header cannot be read).") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise NotWeights(f"{path}: not a safetensors file (its header is not a table of tensors).")
    return header


def _entry(name: str, entry: Any, path: Path) -> tuple[tuple[int, ...], str, int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and len(shape) <= 8
        sound = sound and isinstance(dtype, str)
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise NotWeights(f"{path}: the header's entry for {short(name)} makes no sense. The file is damaged.")
    if dtype not in DTYPES:
        raise NotWeights(f"{path}: {short(name)} is stored as {short(dtype)}, and only plain floating-point weights "
                         "can be read. Use a checkpoint that is not quantised.")  # fmt: skip
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype][0]).itemsize:
        raise NotWeights(
            f"{path}: {short(name)} claims shape {list(shape)} but {end - begin:,} bytes. The file is damaged."
        )
    return shape, dtype, begin, end


def _numbers(
    source: Source, offset: int, shape: tuple[int, ...], dtype: str
) -> tuple[Callable[[], Array], Place | None]:
    def load() -> Array:
        return as_float32(source.numbers(offset, shape, DTYPES[dtype][0]), bits=dtype == "BF16")

    return load, Place(source, offset, shape) if dtype == "F32" else None


def as_float32(array: npt.NDArray[Any], *, bits: bool = False) -> Array:
    """Any numbers -> float32; with `bits`, 16-bit integers that are the bits of bfloat16."""
    if bits:
        return (array.astype("<u4") << 16).view("<f4")
    if array.dtype == np.float32 and array.flags.aligned:
        return array
    return array.astype(np.float32)


def read_npz(path: Path) -> Contents:
    """A .npz archive of numpy arrays, as Google publishes. Only headers are read before a tensor is asked for."""
    import zipfile

    source = Source(path)
    tensors: dict[str, Stored] = {}
    try:
        with zipfile.ZipFile(source.stream()) as archive:
            members = archive.infolist()
            _refuse_bombs(path, members)
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in tensors:
                    raise NotWeights(f"{path}: holds {short(name)} twice. The file is damaged.")
                with archive.open(member) as file:
                    shape, dtype = _npy_header(file)
                if dtype.hasobject:
                    raise NotWeights(f"{path}: {short(name)} holds Python objects, which can run code when read. "
                                     "Save plain arrays with numpy.savez.")  # fmt: skip
                # numpy has no bfloat16: JAX's are saved as two bytes of anything
                bits = dtype.kind == "V" and dtype.itemsize == 2
                if not bits and dtype.kind not in "fiub":
                    raise NotWeights(f"{path}: {short(name)} holds {dtype}, not numbers.")
                if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
                    raise NotWeights(f"{path}: {short(name)} claims shape {list(shape)}, more than the file holds.")
                tensors[name] = Stored(
                    shape, "bfloat16" if bits else dtype.name, _member(source, member.filename, bits)
                )
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # a damaged archive can raise anything, and so can each way of compressing one
        raise NotWeights(f"{path}: not a sound .npz archive ({first_line(error)}). Download it again.") from error
    return Contents(tensors, sources=(source,))


def _refuse_bombs(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_TENSORS:
        raise NotWeights(f"{path}: {len(members):,} members are not a checkpoint.")
    inflated, size = sum(member.file_size for member in members), path.stat().st_size
    if inflated > HARMLESS and inflated > MAX_INFLATION * size:
        raise NotWeights(f"{path}: {size:,} bytes that would unpack to {inflated:,}. Weights do not shrink like that, "
                         "so nothing was unpacked.")  # fmt: skip


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return tuple(shape), dtype


def _member(source: Source, name: str, bits: bool) -> Callable[[], Array]:
    import zipfile

    def load() -> Array:
        try:
            with zipfile.ZipFile(source.stream()) as archive, archive.open(name) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:
            raise NotWeights(
                f"{source.path}: {short(name)} is damaged ({first_line(error)}). Download the file again."
            ) from error
        return as_float32(array.view("<u2") if bits else array, bits=bits)

    return load


def read_torch(path: Path) -> Contents:
    """A file of torch.save, often .bin, .pth, .pt or .ckpt: a state dict, or a dictionary with one inside.

    Its pickle is read as data (`pickles`), so the file cannot run code; numbers stay where they are.
    """
    import zipfile

    source = Source(path)
    unsound = NotWeights(f"{path}: not a sound PyTorch checkpoint: cut short, damaged or another kind of file. "
                         "Download it again.")  # fmt: skip
    try:
        zipped = zipfile.is_zipfile(source.stream())
        loaded, locate, order = _zipped(source) if zipped else _legacy(source)
    except (CheckpointError, MemoryError):
        raise
    except pickles.Stranger as error:
        raise NotWeights(
            f"{path}: holds more than weights ({short(str(error), 80)}), and reading that could run code, so nothing "
            "was read. Where the file comes from, save the weights alone: torch.save(model.state_dict(), ...)."
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise unsound from error
    return _state_dict(loaded, source, locate, order)


Order = Literal["<", ">"]  # of the bytes of a number
Locate: TypeAlias = Callable[[str], tuple[int, int]]  # key of a storage -> its first byte, and how many there are


def _zipped(source: Source) -> tuple[Any, Locate, Order]:
    """torch.save since 1.6: a zip of a pickle and a record for each storage, none of them compressed."""
    import zipfile

    path = source.path
    with zipfile.ZipFile(source.stream()) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(name.endswith("/constants.pkl") for name in members):
            raise NotWeights(f"{path}: a TorchScript program (torch.jit.save), not a state dict. Save the weights "
                             "alone: torch.save(torch.jit.load(...).state_dict(), ...).")  # fmt: skip
        # torch.save never compresses, and what it did not compress cannot inflate
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise NotWeights(f"{path}: compressed, which PyTorch never does to a checkpoint, so nothing was unpacked.")
        name = next(name for name in members if name == "data.pkl" or name.endswith("/data.pkl"))
        home = name.removesuffix("data.pkl")
        if members[name].file_size > MAX_PICKLE:
            raise NotWeights(f"{path}: {members[name].file_size:,} bytes beside the weights are not a checkpoint. Save "
                             "the weights alone: torch.save(model.state_dict(), ...).")  # fmt: skip
        big = f"{home}byteorder" in members and archive.read(f"{home}byteorder") == b"big"
        loaded = pickles.read(io.BytesIO(archive.read(name)), {})

    def locate(key: str) -> tuple[int, int]:
        member = members[f"{home}data/{key}"]
        start = member.header_offset
        head = source.read(start, 30)
        if head[:4] != b"PK\3\4" or member.flag_bits & 1:
            raise ValueError("record")
        start += 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        return start, min(member.file_size, source.size - start)

    return loaded, locate, ">" if big else "<"


def _legacy(source: Source) -> tuple[Any, Locate, Order]:
    """torch.save before 1.6: pickles (a number, a version, the machine, the object, the keys), then the storages."""
    head = io.BytesIO(source.read(0, MAX_PICKLE))
    widths: dict[str, int] = {}
    number, version, machine, loaded, keys = (pickles.read(head, widths) for _ in range(5))
    if number != 0x1950A86A20F9469CFC6C or version != 1001:
        raise ValueError("number")
    order: Order = "<" if machine.named().get("little_endian", True) else ">"
    places: dict[str, tuple[int, int]] = {}
    start = head.tell()
    for key in keys:
        count = int.from_bytes(source.read(start, 8), "little" if order == "<" else "big")
        places[key] = (start + 8, count * widths[key])
        start += 8 + places[key][1]
    return loaded, places.__getitem__, order


# Where training scripts put the state dict; averaged weights first, which timm too prefers when both are there.
WRAPPERS = ("state_dict_ema", "model_ema", "model_state_dict", "state_dict", "model", "module")


def _state_dict(loaded: Any, source: Source, locate: Locate, order: Order) -> Contents:
    path = source.path
    remarks: list[str] = []
    names: dict[str, Any] = {}
    for _ in range(3):  # {"model": {"state_dict": ...}} has been seen; deeper is not a checkpoint
        if not isinstance(loaded, pickles.Table):
            break
        named = loaded.named()
        names |= _tables_of_names(named)
        inside = [key for key in WRAPPERS if isinstance(named.get(key), pickles.Table) and named[key]]
        if not inside and not any(isinstance(value, pickles.Tensor) for value in named.values()):
            # {"net": ..., "acc": 91.2}: the one dictionary of tensors is the state dict, whatever it is called
            inside = [key for key, value in named.items() if isinstance(value, pickles.Table)
                      and any(isinstance(tensor, pickles.Tensor) for _, tensor in value)]  # fmt: skip
            if len(inside) > 1:
                raise NotWeights(f"{path}: holds several dictionaries of tensors ({listed(inside)}). Save the one you "
                                 "mean alone.")  # fmt: skip
        if not inside:
            break
        if len(inside) > 1:
            remarks.append(f"the file holds {' and '.join(map(repr, inside))}: took {inside[0]!r}")
        loaded = named[inside[0]]
    if not isinstance(loaded, pickles.Table):
        kind = "a tensor" if isinstance(loaded, pickles.Tensor) else f"a {type(loaded).__name__.lower()}"
        raise NotWeights(f"{path}: holds {kind}, not a dictionary of named weights.")
    if len(loaded) > MAX_TENSORS:
        raise NotWeights(f"{path}: {len(loaded):,} entries are not a checkpoint.")
    tensors: dict[str, Stored] = {}
    claimed = 0
    beside = any(isinstance(value, pickles.Tensor) for _, value in loaded)
    for name, value in loaded:
        if isinstance(name, str) and name in names:
            continue
        if (
            isinstance(name, str | int)
            and isinstance(value, bool | int | float | str | pickles.Nothing | None)
            and beside
        ):
            remarks.append(f"{short(str(name))} is no tensor: left out")
            continue
        if isinstance(name, str) and "_packed_params" in name:
            raise NotWeights(f"{path}: quantised weights (torch.ao.quantization), which are not read here. Save the "
                             "state dict of the network before it was quantised.")  # fmt: skip
        if not isinstance(name, str) or not isinstance(value, pickles.Tensor):
            what = type(value).__name__.lower()
            raise NotWeights(f"{path}: {escaping.value(name)} is not a tensor ({what}). Save the state dict alone: "
                             "torch.save(model.state_dict(), ...).")  # fmt: skip
        if value.storage is None or value.dtype is None:
            raise NotWeights(f"{path}: {short(name)} is sparse, quantised, complex or empty, not plain weights.")
        tensors[name] = _from_torch(source, name, value, locate, order)
        claimed += math.prod(value.shape) * value.storage.width
        # one number can be seen as many: allowed (some do it to a vector of equal scales), up to a point
        if claimed > HARMLESS and claimed > MAX_SHARING * source.size:
            raise NotWeights(f"{path}: {short(name)} claims shape {list(value.shape)}, more than the file holds.")
    return Contents(tensors, tuple(remarks), (source,), names)


def _tables_of_names(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of classes in a dictionary, and in the small ones beside the weights, such as `hyper_parameters`."""
    small = (v.named() for v in loaded.values() if isinstance(v, pickles.Table) and len(v) < MAX_FIELDS)
    return {key: plain(place[key]) for place in reversed([loaded, *small]) for key in (*BY_INDEX, *BY_NAME)
            if key in place and names_under(key, plain(place[key]))}  # fmt: skip


def plain(table: Any) -> Any:
    """A table with the keys that names of classes can have, as a dictionary; anything else as it is."""
    if not isinstance(table, pickles.Table):
        return table
    return {key: value for key, value in table if type(key) in (str, int)}


def _from_torch(source: Source, name: str, tensor: pickles.Tensor, locate: Locate, order: Order) -> Stored:
    """A tensor of a PyTorch file, whose numbers must all lie in it."""
    stored, kind = tensor.storage, np.dtype(NUMPY[tensor.dtype or ""]).newbyteorder(order)
    lies = NotWeights(f"{source.path}: {short(name)} claims shape {list(tensor.shape)}, more than the file holds.")
    if math.prod(tensor.shape) == 0:
        return Stored(tensor.shape, str(tensor.dtype), lambda: np.zeros(tensor.shape, np.float32))
    try:
        assert stored is not None
        start, size = locate(stored.key)
    except Exception as error:  # no such record, or none of these
        raise lies from error
    first = stored.start * stored.width + tensor.offset * kind.itemsize
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if first + span * kind.itemsize > min(size, (stored.start + stored.count) * stored.width):
        raise lies
    if start + first + span * kind.itemsize > source.size:
        raise lies
    bits = tensor.dtype == "bfloat16"
    in_order = span == math.prod(tensor.shape) and tensor.strides == _steps(tensor.shape)

    def load() -> Array:
        numbers = source.numbers(start + first, (span,), kind.str)
        strides = [step * kind.itemsize for step in tensor.strides]
        return as_float32(np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides), bits=bits)

    place = Place(source, start + first, tensor.shape) if in_order and kind == np.dtype("<f4") else None
    return Stored(tensor.shape, str(tensor.dtype), load, place)


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an array whose numbers lie one after another, in numbers."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def read_index(path: Path) -> tuple[Contents, tuple[Path, ...]]:
    """Shards: `model.safetensors.index.json` -> all tensors, and the files they are in.

    Raises CheckpointError naming the shards or tensors that are not there.
    """
    refuse_impostors(path)
    try:
        shards = weight_map(path)
    except (OSError, ValueError) as error:
        raise NotWeights(f"{path}: not an index of shards ({error}). Download it again.") from None
    names = sorted(set(shards.values()))
    files = tuple(path.parent / name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{path.parent}: {len(missing)} of {len(files)} shards are not there: "
                              f"{listed(missing)}. Download them.")  # fmt: skip
    tensors: dict[str, Stored] = {}
    remarks: list[str] = []
    sources: list[Source] = []
    for file in files:
        contents = read(file)
        if twice := tensors.keys() & contents.tensors.keys():
            raise NotWeights(f"{file}: holds {min(twice)!r}, which another shard holds too.")
        tensors.update(contents.tensors)
        remarks.extend(contents.remarks)
        sources.extend(contents.sources)
    if lost := sorted(shards.keys() - tensors.keys()):
        raise NotWeights(f"{path}: no shard holds {listed(lost)}. Download the shards again.")
    return Contents(tensors, tuple(remarks), tuple(sources)), files


# How weights of other frameworks begin and at which byte, what their files end in, and what to say of them.
FOREIGN: tuple[tuple[bytes, int, tuple[str, ...], str], ...] = (
    (b"\x89HDF\r\n", 0, (".h5", ".keras"),
     "weights of TensorFlow or Keras. Load them with transformers 4 (from_pretrained(..., from_tf=True)), and name the "
     "folder that save_pretrained then writes"),
    (b"", 0, (".msgpack",),
     "weights of Flax. Load them with transformers 4 (from_pretrained(..., from_flax=True)), and name the folder that "
     "save_pretrained then writes"),
    (b"", 0, (".onnx",), "an ONNX program, not weights. Name the checkpoint that it was exported from"),
    (b"", 0, ("openvino_model.bin", "openvino_model.xml"),
     "an OpenVINO program, not weights. Name the checkpoint that it was exported from"),
    (b"", 0, ("saved_model.pb",), "a TensorFlow program, not weights. Name the checkpoint that it was exported from"),
    (b"ET12", 4, (".pte",), "an ExecuTorch program, not weights. Name the checkpoint that it was exported from"),
    (b"TFL3", 4, (".tflite",), "a TensorFlow Lite program, not weights. Name the checkpoint that it was exported from"),
    (b"GGUF", 0, (".gguf",), "a GGUF file, whose weights are quantised. Name the checkpoint that it was made from"),
)  # fmt: skip

# By the ending, for files whose first bytes do not tell.
READERS: dict[str, Callable[[Path], Contents]] = {
    ".safetensors": read_safetensors,
    ".npz": read_npz,
    ".bin": read_torch,
    ".pth": read_torch,
    ".pt": read_torch,
    ".ckpt": read_torch,
    ".pth.tar": read_torch,
}
