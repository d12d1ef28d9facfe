"""`Weights`: the tensors of a network by our names, most of them in their file until they are asked for."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vitcli.checkpoints.arrange import Part
from vitcli.checkpoints.source import Array, Place
from vitcli.memory import available

SMALL = 2**16  # elements: tensors below this are kept, and checked for NaN on every load, at no cost one would notice


class Weights(Mapping[str, Array]):
    """Canonical name -> float32 array; `positions` pass through `change` if given.

    A tensor that lies in its file as it is needed is read anew whenever it is asked for, into memory of its own. The
    rest, once `keep` was called, is read once.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        change: Callable[[Array], Array] | None = None,
        kept: Mapping[str, Array] | None = None,
    ) -> None:
        self._parts, self._change = parts, change
        self._kept = dict(kept or {})

    @classmethod
    def in_memory(cls, tensors: Mapping[str, Array]) -> Weights:
        """Tensors that come from no file."""
        return cls({}, None, tensors)

    def _read(self, name: str, moved: dict[str, Array]) -> Array:
        array = self._parts[name].read(moved)
        return self._change(array) if self._change and name == "positions" else array

    def __getitem__(self, name: str) -> Array:
        return self._kept[name] if name in self._kept else self._read(name, {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts or self._kept)

    def __len__(self) -> int:
        return len(self._parts or self._kept)

    def _ready(self, name: str) -> Place | None:
        """Where a tensor lies just as it is needed, if it does."""
        return None if self._change and name == "positions" else self._parts[name].place

    def _streams(self, name: str) -> bool:
        shape = self._parts[name].shape
        return len(shape) > 1 and math.prod(shape) >= SMALL and self._ready(name) is not None

    def keep(self) -> None:
        """Read what is small or has to be converted, each stored tensor once, and keep it. Raises MemoryError."""
        names = [name for name in self._parts if name not in self._kept and not self._streams(name)]
        if 4 * sum(math.prod(self._parts[name].shape) for name in names) > available():
            raise MemoryError
        moved: dict[str, Array] = {}
        # one piece of memory for all that lies ready: the system gives it in large pages, in a few steps
        ready = {name: place for name in names if (place := self._ready(name))}
        room = np.empty(sum(math.prod(place.shape) for place in ready.values()), np.float32)
        for name in names:
            if name in ready:
                self._kept[name] = ready[name].read(room)
                room = room[self._kept[name].size :]
            else:
                self._kept[name] = self._read(name, moved)

    def release(self) -> None:
        """Keep nothing: weights would otherwise count twice once a network has packed them or has them on a card."""
        self._kept = {name: array for name, array in self._kept.items() if name not in self._parts}

    def only(self, names: Iterable[str]) -> Weights:
        """Those of these names, sharing what is kept."""
        names = list(names)
        parts = {name: self._parts[name] for name in names if name in self._parts}
        return Weights(parts, self._change, {name: self._kept[name] for name in names if name in self._kept})

    def small(self) -> dict[str, Array]:
        """Those that are kept and small."""
        return {name: array for name, array in self._kept.items() if array.size < SMALL}

    def streamed(self) -> Mapping[str, Array]:
        """The same for a network that goes through them time and again: see `Streamed`. Raises MemoryError."""
        self.keep()  # what another network released is not to be read into the room of large ones
        return Streamed(self)


class Streamed(Mapping[str, Any]):
    """Weights whose large matrices are `Rows`, still in their file. The rest are arrays."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        places = {name: weights._ready(name) for name in weights if name not in weights._kept}
        self._places = {name: place for name, place in places.items() if place and name.endswith(".weight")}
        if 4 * max((math.prod(place.shape) for place in self._places.values()), default=0) > available():
            raise MemoryError
        self._room = Room()

    def __getitem__(self, name: str) -> Array | Rows:
        place = self._places.get(name)
        return self._weights[name] if place is None else Rows(place, self._room)

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


class Room(threading.local):
    """Memory that a thread reads rows into, as large as the most it asked for."""

    def __init__(self) -> None:
        self.array: Array = np.empty(0, np.float32)

    def of(self, size: int) -> Array:
        """Room for so many numbers, in the same place as those before."""
        if self.array.size < size:
            self.array = np.empty(0, np.float32)  # the old one is free before there is a new one
            self.array = np.empty(size, np.float32)
        return self.array


class Rows:
    """A matrix [o i] in its file. Slices of its rows are read as they are asked for, each thread's into the same room.

    So they last until the thread asks for others. Memory that is new costs more than the copying does, several threads
    copy at once, what was copied is still in the cache of the core that computes with it, and a network of any size
    takes the memory of its largest matrix.
    """

    def __init__(self, place: Place, room: Room) -> None:
        self._place, self._room = place, room

    def __len__(self) -> int:
        return self._place.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        start, stop, _ = rows.indices(len(self))
        some = self._place.rows(start, stop)
        return some.read(self._room.of(math.prod(some.shape)))
