from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import noise
from hypothesis import given, settings
from hypothesis import strategies as st

import vitcli
from vitcli import streaming
from vitcli.classifier import Classifier
from vitcli.errors import OutOfMemory
from vitcli.network.blas import openblas
from vitcli.pictures.preprocess import Preprocess
from vitcli.results import Failure, Prediction
from vitcli.sources import Input, inputs
from vitcli.streaming import Meter, Network, Prepared, ReadAhead, look_ahead, stream


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Classifier:
    return vitcli.load(tiny, device="cpu", engine="torch")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Input]:
    """25 inputs, of which every seventh is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(25):
        noise(i).save(folder / f"{i}.png")
        if i % 7 == 3:
            (folder / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes()[:200])
    return list(inputs([str(folder)]))


@settings(max_examples=50, deadline=None)
@given(items=st.integers(0, 40), workers=st.integers(1, 5), depth=st.integers(1, 12), read=st.integers(0, 40))
def test_the_look_ahead_is_map_in_order_and_bounded(items: int, workers: int, depth: int, read: int) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for i in range(items):
            taken += 1
            yield i

    ahead = look_ahead(lambda i: i * i, source(), workers, depth)
    for expected in range(min(read, items)):
        assert next(ahead) == expected**2
        assert taken <= expected + depth
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_what_the_work_raises_reaches_the_reader_in_its_place() -> None:
    ahead = look_ahead(lambda i: 1 // i, [2, 1, 0], 2, 2)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_every_input_has_one_result_in_its_place(classifier: Classifier, pictures: list[Input]) -> None:
    results = list(stream(classifier, pictures, batch=4))
    assert [result.path for result in results] == [item.name for item in pictures]
    assert [i for i, result in enumerate(results) if isinstance(result, Failure)] == [3, 10, 17, 24]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_workers_does_not_show(classifier: Classifier, pictures: list[Input], workers: int) -> None:
    assert list(stream(classifier, pictures, batch=4, workers=workers)) == list(stream(classifier, pictures, batch=4))


def test_padded_a_pictures_scores_do_not_depend_on_the_rest_of_the_run(
    classifier: Classifier, pictures: list[Input]
) -> None:
    whole = {result.path: result for result in stream(classifier, pictures, batch=4, pad=True)}
    for part in (pictures[:1], pictures[5:8], pictures[1::2]):
        for result in stream(classifier, part, batch=4, pad=True):
            assert result == whole[result.path]


def test_failures_neither_wait_for_a_picture_nor_pile_up(classifier: Classifier) -> None:
    taken = 0

    def broken() -> Iterator[Input]:
        nonlocal taken
        while True:
            taken += 1
            yield Input(f"{taken}", failure=Failure(f"{taken}", "missing", "There is no such file."))

    results = stream(classifier, broken(), batch=2, workers=1)
    assert [next(results).path for _ in range(3)] == ["1", "2", "3"]
    assert taken < 30
    results.close()  # type: ignore[attr-defined]


def test_whatever_decoding_raises_is_that_inputs_failure(
    classifier: Classifier, pictures: list[Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitcli.pictures import images

    load = images.load
    raised = iter([RuntimeError("a bug"), SystemExit(3), MemoryError(), MemoryError()])  # tried again, alone

    def bad(source: Path | bytes, **options: object) -> object:
        if source in [item.file for item in pictures[:3:2]] or source == pictures[5].file:
            raise next(raised)
        return load(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "load", bad)
    results = list(stream(classifier, pictures, batch=4, workers=1))
    assert [results[i].error for i in (0, 2, 5) if isinstance(results[i], Failure)] == [  # type: ignore[union-attr]
        "crashed", "crashed", "out_of_memory",
    ]  # fmt: skip
    assert sum(isinstance(result, Failure) for result in results) == 7


class Small:
    """A network that fits `room` pictures at once, and refuses more when a batch begins or when it is waited for."""

    device, dtype, engine = "cuda", "float32", "torch"

    def __init__(self, room: int, late: bool) -> None:
        self.room, self.late, self.sizes = room, late, list[int]()

    def submit(self, pixels: np.ndarray, pad_to: int | None = None) -> Callable[[], np.ndarray]:
        size = pad_to or len(pixels)

        def wait() -> np.ndarray:
            if size > self.room:
                raise OutOfMemory("too many")
            self.sizes.append(size)
            return pixels.reshape(len(pixels), -1)[:, :4].astype(np.float32)

        if not self.late:
            logits = wait()
            return lambda: logits
        return wait


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("pad", [False, True])
def test_out_of_memory_halves_the_batch_for_the_rest_of_the_run_and_loses_nothing(
    classifier: Classifier, pictures: list[Input], late: bool, pad: bool
) -> None:
    backend, told, meter = Small(3, late), list[int](), Meter()
    small = SimpleNamespace(
        device="cuda", submit=backend.submit, preprocess=classifier.preprocess, answer=classifier.answer
    )
    results = list(stream(small, pictures, batch=8, pad=pad, meter=meter, on_shrink=told.append))  # type: ignore[arg-type]
    assert [result.path for result in results] == [item.name for item in pictures]
    assert sum(isinstance(result, Prediction) for result in results) == 21
    assert told == [4, 2]
    assert meter.batch == 2
    assert set(backend.sizes) == {2} if pad else set(backend.sizes) <= {1, 2}


@pytest.mark.parametrize(
    ("batch", "side", "expected"),
    [(32, 224, 32), (4096, 224, 4096), (10**9, 224, 4096), (128, 1024, 128), (4096, 1024, 227), (32, 4096, 14),
     (32, 40_000, 1)],
)  # fmt: skip
def test_pictures_that_wait_for_the_network_take_bounded_memory(batch: int, side: int, expected: int) -> None:
    assert streaming.at_once(batch, side) == expected
    assert expected == 1 or 3 * expected * (3 * side**2) <= 2 << 30


def test_a_batch_is_limited_by_the_memory_of_its_pictures(
    classifier: Classifier, pictures: list[Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "IN_HAND", 3 * 5 * (3 * 32 * 32))
    backend, meter = Small(5, False), Meter()
    small = SimpleNamespace(
        device="cuda", submit=backend.submit, preprocess=classifier.preprocess, answer=classifier.answer
    )
    assert len(list(stream(small, pictures, batch=8, meter=meter))) == 25  # type: ignore[arg-type]
    assert meter.batch == 5
    assert max(backend.sizes) == 5


def test_a_picture_that_does_not_fit_alone_ends_the_run() -> None:
    network = Network(Small(0, False), False, Meter(batch=4), lambda size: None)  # type: ignore[arg-type]
    with pytest.raises(OutOfMemory):
        network.begin([Prepared("a", np.zeros((2, 2, 3), np.uint8), (2, 2), ())] * 4)()


def test_once_it_is_asked_to_stop_no_batch_is_begun(classifier: Classifier, pictures: list[Input]) -> None:
    done: list[str] = []

    def enough() -> bool:
        return len(done) >= 6

    for result in stream(classifier, pictures, batch=4, stop=enough):
        done += [result.path]
    assert 6 <= len(done) < 16
    assert done == [item.name for item in pictures[: len(done)]]


def test_the_meter_tells_listing_decoding_and_the_network_apart(
    classifier: Classifier, pictures: list[Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly() -> Iterator[Input]:
        for item in pictures[:4]:
            time.sleep(0.05)
            yield item

    meter = Meter()
    list(stream(classifier, slowly(), meter=meter))
    assert meter.listing >= 0.15  # the first is on its way before the clock runs
    assert meter.decode > 0
    assert meter.forward > 0
    resized = Preprocess.resized
    monkeypatch.setattr(Preprocess, "resized", lambda self, *given: time.sleep(0.05) or resized(self, *given))
    meter = Meter()
    results = list(stream(classifier, pictures[:3], workers=1, meter=meter))
    assert all(isinstance(result, Prediction) for result in results), results
    assert meter.decode >= 0.15
    assert meter.waited >= 0.1


def test_workers_multiply_matrices_in_their_own_thread(
    classifier: Classifier, pictures: list[Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = openblas()
    if library is None:
        pytest.skip("numpy stands on another BLAS")
    before, seen = library.scipy_openblas_get_num_threads64_(), set()
    prepare = streaming.prepare

    def watched(*given: Any) -> streaming.Item:
        seen.add(library.scipy_openblas_get_num_threads64_())
        return prepare(*given)

    monkeypatch.setattr(streaming, "prepare", watched)
    library.scipy_openblas_set_num_threads64_(2)
    try:
        list(stream(classifier, pictures))
        assert seen == {1}
        assert library.scipy_openblas_get_num_threads64_() == 2
    finally:
        library.scipy_openblas_set_num_threads64_(before)


def test_what_has_come_is_answered_while_the_next_input_is_slow(classifier: Classifier, pictures: list[Input]) -> None:
    answered = threading.Event()

    def slow() -> Iterator[Input]:
        yield from pictures[:3]
        assert answered.wait(60), "three pictures were not answered before the fourth came"
        yield pictures[4]

    results = stream(classifier, slow())
    assert [next(results).path for _ in range(3)] == [item.name for item in pictures[:3]]
    answered.set()
    assert [result.path for result in results] == [pictures[4].name]


def test_inputs_need_not_end(classifier: Classifier, pictures: list[Input]) -> None:
    taken = 0

    def endless() -> Iterator[Input]:
        nonlocal taken
        while True:
            taken += 1
            yield pictures[taken % 3]

    results = stream(classifier, endless(), batch=2, workers=1)
    names = [next(results).path for _ in range(30)]
    assert names == [pictures[i % 3].name for i in range(1, 31)]
    assert taken < 60, "the look-ahead is bounded"
    results.close()  # type: ignore[attr-defined]


def test_when_a_batch_closes_moves_no_digit(classifier: Classifier, pictures: list[Input]) -> None:
    good = [item for i, item in enumerate(pictures) if i % 7 != 3]
    whole = list(stream(classifier, good, batch=8, pad=True))
    for first in (1, 5, 11):
        answered = threading.Event()

        def halting(first: int = first, answered: threading.Event = answered) -> Iterator[Input]:
            yield from good[:first]
            assert answered.wait(60)
            yield from good[first:]

        results = stream(classifier, halting(), batch=8)
        some = [next(results) for _ in range(first)]
        answered.set()
        assert [*some, *results] == whole


def test_what_the_inputs_raise_reaches_the_reader_after_the_answers(
    classifier: Classifier, pictures: list[Input]
) -> None:
    def broken() -> Iterator[Input]:
        yield from pictures[:2]
        raise OSError("the list is gone")

    results = stream(classifier, broken())
    assert [next(results).path for _ in range(2)] == [item.name for item in pictures[:2]]
    with pytest.raises(OSError, match="the list is gone"):
        next(results)


def test_a_stream_that_stops_or_is_closed_waits_for_no_input(classifier: Classifier, pictures: list[Input]) -> None:
    never, stopped = threading.Event(), threading.Event()

    def hanging() -> Iterator[Input]:
        yield pictures[0]
        never.wait()

    results = stream(classifier, hanging(), stop=stopped.is_set)
    next(results)
    stopped.set()
    assert list(results) == []
    results = stream(classifier, hanging())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    never.set()


def test_inputs_are_counted_as_far_as_they_come_soon() -> None:
    more = threading.Event()

    def items() -> Iterator[int]:
        yield from range(3)
        more.wait()

    assert ReadAhead(range(3)).count(3, None) == 3
    assert ReadAhead(range(4)).count(3, None) is None
    slow = ReadAhead(items())
    assert slow.count(5, 0.01) is None
    more.set()
    assert slow.count(5, None) == 3
    assert [item for item in slow.arriving() if item is not None] == [0, 1, 2]


def test_inputs_that_bring_their_bytes_are_not_read_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HELD", 1000)
    given, most = 0, 0

    def coming() -> Iterator[Input]:
        nonlocal given
        for number in range(100):
            given += 1
            yield Input(str(number), data=bytes(400))

    reader = ReadAhead(coming())
    for number, made in enumerate(look_ahead(lambda item: item.name, reader.arriving(), 2, 50)):
        if made is not None:
            most = max(most, given - number)
            time.sleep(0.001)
    assert given == 100
    assert most <= 3 + 3 + 3  # waiting, read ahead, in hand
