"""Pickles of torch.save, read as data: nothing in them is called, hashed, compared or printed.

So none can run code, and none costs more than its size: a dictionary whose key is 50 pairs within each other, which
Python would hash 2^50 times, is a list of pairs here. Only names that torch itself writes are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

STORAGES: dict[str, tuple[str | None, int]] = {  # class -> dtype, None where that is no plain number, and its bytes
    "Double": ("float64", 8), "Float": ("float32", 4), "Half": ("float16", 2), "BFloat16": ("bfloat16", 2),
    "Long": ("int64", 8), "Int": ("int32", 4), "Short": ("int16", 2), "Char": ("int8", 1), "Byte": ("uint8", 1),
    "Bool": ("bool", 1), "Untyped": ("uint8", 1), "ComplexDouble": (None, 16), "ComplexFloat": (None, 8),
    "QInt8": (None, 1), "QUInt8": (None, 1), "QInt32": (None, 4),
}  # fmt: skip


class Stranger(Exception):
    """A name that is not torch's own way of writing weights."""


class Table(list[tuple[Any, Any]]):
    """A dictionary, as the pairs it was made of."""

    def named(self) -> dict[str, Any]:
        """What has a string for a key."""
        return {key: value for key, value in self if type(key) is str}


class Nothing:
    """Stands for an object of a class that is known to be harmless; none of it is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A function or class, by its name only."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """`count` numbers from the `start`-th on in the record `key`; `dtype` is None where they are no plain ones."""

    key: str
    dtype: str | None
    width: int
    start: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor over a storage; None where it is not plain: sparse, quantised, without numbers."""

    storage: Storage | None
    offset: int = 0
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dtype: str | None = None


def read(stream: IO[bytes], widths: dict[str, int]) -> Any:
    """The object of one pickle; `widths` gets the bytes of a number of each storage.

    Raises Stranger, and anything else for a pickle that is damaged.
    """
    import pickletools  # here, because most checkpoints are no pickles

    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def above() -> list[Any]:
        """What lies above the last mark, taken off."""
        mark = marks.pop()
        taken = stack[mark:]
        del stack[mark:]
        return taken

    for operation, argument, _ in pickletools.genops(stream):
        match operation.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[operation.name])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append(Table())
            case "TUPLE":
                stack.append(tuple(above()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                count = int(name[-1])
                stack[-count:] = [(*stack[-count:],)]
            case "LIST" | "FROZENSET":
                stack.append(above())
            case "DICT":
                stack.append(pairs(above()))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS" | "ADDITEMS":
                items = above()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].append((key, value))
            case "SETITEMS":
                items = above()
                stack[-1].extend(pairs(items))
            case "POP":
                stack.pop()
            case "POP_MARK":
                above()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(known(str(argument).replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(known(f"{module[:200]}.{name[:200]}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(made(function, arguments))
            case "BUILD":  # attributes: of a state dict the versions of its modules
                stack.pop()
            case "BINPERSID":
                stack.append(stored := storage(stack.pop()))
                widths[stored.key] = stored.width
            case _ if not operation.stack_before and operation.arg is not None and argument is not None:
                stack.append(argument)
            case _:
                raise ValueError(operation.name)
    raise EOFError


def pairs(items: list[Any]) -> Table:
    """Keys and values in turn -> a table."""
    return Table(zip(items[::2], items[1::2], strict=True))


def known(name: str) -> Global:
    """A global of that name. Raises Stranger for what torch does not write."""
    ours = name in MAKERS or name in NOT_PLAIN or re.fullmatch(r"torch(\.(cuda|storage))?\.[A-Za-z]\w*", name)
    if not ours:
        raise Stranger(name)
    return Global(name)


def storage(identity: tuple[Any, ...]) -> Storage:
    """What stands in a pickle for numbers that lie elsewhere: their class, key and number, perhaps a part of them."""
    what, kind, key, _, count, *part = identity
    if what != "storage" or type(key) is not str or type(count) is not int or count < 0:
        raise ValueError("storage")
    start = 0
    if part and part[0] is not None:
        _, start, count = part[0]
        if type(start) is not int or type(count) is not int or min(start, count) < 0:
            raise ValueError("storage")
    word = kind.name.rpartition(".")[2].removesuffix("Storage")
    dtype, width = STORAGES[word]
    return Storage(key, dtype, width, start, count)


def made(function: Global, arguments: tuple[Any, ...]) -> Any:
    """What a call of the pickle stands for."""
    if function.name in NOT_PLAIN:
        return Tensor(None)
    if function.name not in MAKERS:
        raise Stranger(function.name)
    return MAKERS[function.name](*arguments)


def tensor(stored: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any) -> Tensor:
    """A tensor as `torch._utils._rebuild_tensor_v2` takes it. `rest`: gradients, hooks, and in v3 its dtype."""
    numbers = (offset, *shape, *strides)
    if not isinstance(stored, Storage) or len(shape) != len(strides) or len(shape) > 64:
        raise ValueError("tensor")
    if any(type(n) is not int or not 0 <= n < 2**63 for n in numbers):
        raise ValueError("tensor")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    dtype = stored.dtype
    if len(rest) > 2 and isinstance(rest[2], Global):
        dtype = rest[2].name.removeprefix("torch.")
        dtype = dtype if dtype in {plain for plain, _ in STORAGES.values()} else None
    elif 0 not in shape and last >= stored.count:
        raise ValueError("tensor")
    return Tensor(stored, offset, tuple(shape), tuple(strides), dtype)


def parameter(data: Any, *_: Any) -> Any:
    """A parameter is its data."""
    return data


def table(items: Any = (), *_: Any) -> Table:
    """An OrderedDict, empty as a rule."""
    return Table((key, value) for key, value in items)


def subclass(function: Global, _kind: Any, arguments: tuple[Any, ...], _state: Any) -> Any:
    """A tensor with attributes of its own."""
    return made(function, arguments)


MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": tensor,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
    "torch._tensor._rebuild_from_type_v2": subclass,
    "torch.nn.parameter.Parameter": parameter,
    "collections.OrderedDict": table,
    "collections.defaultdict": lambda *_: Table(),
    "collections.Counter": lambda counts=(), *_: counts,
    "torch.Size": lambda shape=(), *_: shape,
    "torch.device": lambda *_: None,
    "torch.serialization._get_layout": lambda *_: None,
    "_codecs.encode": lambda text, *_: text,
    # what training scripts leave beside the weights
    **{name: lambda *_: Nothing() for name in (
        "argparse.Namespace", "types.SimpleNamespace", "numpy.dtype", "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar", "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath",
        "datetime.datetime", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        "numpy.ndarray", "mmengine.logging.history_buffer.HistoryBuffer", "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig", "omegaconf.nodes.AnyNode", "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata", "typing.Any",
    )},
    "builtins.set": lambda items=(), *_: items,
    "__builtin__.set": lambda items=(), *_: items,
}  # fmt: skip

# Tensors that hold no plain numbers, or none at all.
NOT_PLAIN = frozenset(
    f"torch._utils._rebuild_{kind}"
    for kind in ("sparse_tensor", "sparse_csr_tensor", "nested_tensor", "qtensor", "meta_tensor_no_storage",
                 "device_tensor_from_numpy", "device_tensor_from_cpu_tensor", "wrapper_subclass")
)  # fmt: skip
