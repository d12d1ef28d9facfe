"""Every figure against a second, plain way of getting it, and against what is published or known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcli.evaluation import comparing, fitting, metrics
from vitcli.evaluation.metrics import Bools, Floats, Rate

# scores with many ties, and whether each answer was right
ANSWERS = st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.booleans()), min_size=1, max_size=60)


def arrays(answers: list[tuple[float, bool]]) -> tuple[Floats, Bools]:
    return np.array([s for s, _ in answers], np.float64), np.array([r for _, r in answers], bool)


def a_model(n: int, k: int = 10, seed: int = 0, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [n k] float32 of a model whose softmax(z / sharp) is the truth, and the classes [n] drawn from that."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, k)) * 4
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    truth = (p.cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return (z * sharp).astype(np.float32), np.minimum(truth, k - 1).astype(np.int32)


def answers_of(n: int, seed: int) -> tuple[Floats, Bools]:
    logits, truth = a_model(n, seed=seed)
    return metrics.confidence(logits), logits.argmax(axis=1) == truth


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (235, 300, 0.733, 0.826),
        (40_891, 50_000, 0.8144, 0.8212),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (0, 0, 0.0, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe, "Two-sided confidence intervals for the single proportion", 1998
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_wilsons(hits: int, n: int, low: float, high: float) -> None:
    places = 3 if n in (300,) else 4
    assert [round(end, places) for end in Rate(hits, n).interval] == [low, high]


@given(st.integers(1, 500), st.data())
def test_an_interval_holds_its_value(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = metrics.wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1


def plain_ece(score: Floats, right: Bools) -> float:
    total = 0.0
    for i in range(15):
        inside = [j for j in range(len(score)) if min(int(score[j] * 15 + 1e-12), 14) == i]
        if inside:
            gap = sum(float(right[j]) for j in inside) / len(inside) - sum(score[j] for j in inside) / len(inside)
            total += abs(gap) * len(inside) / len(score)
    return total


@given(ANSWERS)
def test_the_calibration_error_is_that_of_a_plain_loop(answers: list[tuple[float, bool]]) -> None:
    score, right = arrays(answers)
    assert metrics.ece(score, right) == pytest.approx(plain_ece(score, right), abs=1e-12)
    assert sum(b.n for b in metrics.reliability(score, right)) == len(score)


def test_a_score_of_one_is_in_the_last_bin_and_an_edge_in_the_upper_one() -> None:
    bins = metrics.reliability(np.array([1.0, 0.0, 1 / 15]), np.array([True, False, False]))
    assert [b.n for b in bins] == [1, 1, *[0] * 12, 1]


@given(ANSWERS)
def test_auroc_counts_pairs_and_ties_by_half(answers: list[tuple[float, bool]]) -> None:
    score, right = arrays(answers)
    pairs = [(a > b) + (a == b) / 2 for a in score[right] for b in score[~right]]
    if pairs:
        assert metrics.auroc(score, right) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    else:
        assert math.isnan(metrics.auroc(score, right))


@given(ANSWERS, st.randoms())
def test_aurc_is_the_mean_running_error_whatever_the_order(answers: list[tuple[float, bool]], random: object) -> None:
    score, right = arrays(answers)
    order = np.random.default_rng(random.randint(0, 99)).permutation(len(score))  # type: ignore[attr-defined]
    assert metrics.aurc(score, right) == pytest.approx(metrics.aurc(score[order], right[order]), abs=1e-12)


def test_aurc_without_ties_is_the_mean_of_the_running_error() -> None:
    right = np.array([True, False, True, True])
    assert metrics.aurc(np.array([0.9, 0.8, 0.7, 0.6]), right) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_aurc_of_ties_is_the_mean_over_all_their_orders() -> None:
    score = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    right = np.array([True, True, False, True, False])
    random = np.random.default_rng(0)
    broken = [metrics.aurc(score + random.random(5) / 1e6, right) for _ in range(4000)]
    assert metrics.aurc(score, right) == pytest.approx(np.mean(broken), abs=2e-3)


@given(ANSWERS, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_coverage_is_the_most_that_any_threshold_answers(answers: list[tuple[float, bool]], accuracy: float) -> None:
    score, right = arrays(answers)
    most = max((int((score >= t).sum()) for t in score if right[score >= t].mean() >= accuracy - 1e-12), default=0)
    point = metrics.coverage_at(score, right, accuracy)
    assert point.answered == most == int((score >= point.threshold).sum())
    assert point.hits == right[score >= point.threshold].sum()


def test_each_class_is_counted_with_what_it_is_taken_for() -> None:
    truth, answer = np.array([0, 0, 0, 0, 2, 2, 3]), np.array([0, 1, 1, 2, 2, 2, 0])
    classes = metrics.by_class(truth, answer)
    assert [(c.index, c.rate.hits, c.rate.n, c.taken_for) for c in classes] == [
        (0, 1, 4, ((1, 2), (2, 1))), (2, 2, 2, ()), (3, 0, 1, ((0, 1),)),
    ]  # fmt: skip
    assert metrics.confusions(truth, answer) == [(0, 1, 2), (0, 2, 1), (3, 0, 1)]
    assert metrics.class_accuracy(classes) == pytest.approx((1 / 4 + 1 + 0) / 3)


def test_figures_of_no_pictures_are_undefined_not_an_error() -> None:
    score, right, none = np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int32)
    assert all(math.isnan(f(score, right)) for f in (metrics.ece, metrics.auroc, metrics.aurc))
    assert metrics.coverage_at(score, right, 0.95).coverage == 0
    assert metrics.by_class(none, none) == metrics.confusions(none, none) == []
    assert math.isnan(metrics.temperature(np.zeros((0, 3), np.float32), none))
    assert fitting.threshold(score, right, 0.95) is fitting.theta([], 0.95) is None


def golden_section(f: Callable[[float], float], low: float, high: float) -> float:
    """A plain optimiser of a function with one minimum."""
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-7:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if f(a) < f(b) else (a, high)
    return (low + high) / 2


@pytest.mark.parametrize("sharp", [0.3, 1.0, 2.5, 12.0])
def test_the_temperature_is_that_of_a_plain_optimiser(sharp: float) -> None:
    logits, truth = a_model(2500, sharp=sharp)

    def loss(t: float) -> float:
        z = logits.astype(np.float64) / t
        z -= z.max(axis=1, keepdims=True)
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), truth]).mean())

    found = metrics.temperature(logits, truth)
    assert found == pytest.approx(golden_section(loss, 0.01, 100), abs=1e-3)
    assert found == pytest.approx(sharp, rel=0.15)
    assert metrics.nll(logits, truth, found) == pytest.approx(loss(found), abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6), st.floats(0.01, 1000))
def test_any_logits_have_a_temperature(seed: int, n: int, k: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    logits, truth = (random.normal(size=(n, k)) * scale).astype(np.float32), random.integers(0, k, n).astype(np.int32)
    t = metrics.temperature(logits, truth)
    assert metrics.COLDEST <= t <= metrics.HOTTEST
    for other in (t * 0.9, t * 1.1):
        if metrics.COLDEST < other < metrics.HOTTEST:
            assert metrics.nll(logits, truth, t) <= metrics.nll(logits, truth, other) + 1e-6


def test_only_pictures_with_one_right_class_decide_the_temperature() -> None:
    logits, truth = a_model(400)
    mixed, told = np.repeat(logits, 2, axis=0), np.repeat(truth, 2)
    told[::2] = -1
    assert metrics.temperature(mixed, told) == pytest.approx(metrics.temperature(logits, truth), abs=1e-9)


def test_logits_are_read_a_block_at_a_time() -> None:
    logits, truth = a_model(3000)

    class File:
        shape = logits.shape
        most = 0

        def __getitem__(self, rows: slice) -> np.ndarray:
            found = logits[rows]
            self.most = max(self.most, len(found))
            return found

    file = File()
    assert metrics.temperature(file, truth) == metrics.temperature(logits, truth)
    assert np.array_equal(metrics.confidence(file, 2.0), metrics.confidence(logits, 2.0))
    assert 0 < file.most <= metrics.BLOCK


def test_confidence_is_the_largest_of_the_softmax() -> None:
    logits, _ = a_model(50)
    z = np.exp(logits.astype(np.float64) / 1.7)
    assert metrics.confidence(logits, 1.7) == pytest.approx((z / z.sum(axis=1, keepdims=True)).max(axis=1))


@pytest.mark.parametrize(
    ("first", "second", "exact", "mid"),
    [
        (0, 0, 1.0, 1.0),
        (1, 7, 0.0703125, 0.0390625),  # 2 * (1 + 8) / 2^8; less 8 / 2^8
        (0, 5, 0.0625, 0.03125),
        (5, 5, 1.0, 1 - 0.24609375 + 0.24609375),
    ],
)
def test_mcnemars_test_is_the_binomial_one(first: int, second: int, exact: float, mid: float) -> None:
    assert comparing.mcnemar(first, second, mid=False) == pytest.approx(exact)
    assert comparing.mcnemar(first, second) == pytest.approx(mid)
    assert comparing.mcnemar(first, second) == comparing.mcnemar(second, first)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_p_is_the_sum_of_what_is_no_likelier(first: int, second: int) -> None:
    n = first + second
    chances = [math.comb(n, i) / 2**n for i in range(n + 1)]
    tail = sum(c for i, c in enumerate(chances) if abs(2 * i - n) >= abs(first - second))
    assert comparing.mcnemar(first, second, mid=False) == pytest.approx(min(1.0, tail))


def test_mcnemars_test_does_not_overflow() -> None:
    assert comparing.mcnemar(20_000, 20_000) == pytest.approx(1.0)
    assert comparing.mcnemar(10_000, 12_000) < 1e-40


def test_the_bootstrap_is_that_of_drawing_pictures() -> None:
    random = np.random.default_rng(1)
    ours, theirs = random.random(300) < 0.8, random.random(300) < 0.7
    found = comparing.difference(ours, theirs)
    apart = ours.astype(int) - theirs.astype(int)
    means = [apart[random.integers(0, 300, 300)].mean() for _ in range(6000)]
    assert found.value == pytest.approx(ours.mean() - theirs.mean())
    assert found.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)
    assert found.only_ours == (ours & ~theirs).sum()


@pytest.mark.parametrize("accuracy", [0.8, 0.9])
def test_a_chosen_threshold_holds_its_accuracy_on_other_pictures(accuracy: float) -> None:
    score, right = answers_of(1200, seed=5)
    random, splits = np.random.default_rng(0), 400
    held, accuracies = 0, []
    for _ in range(splits):
        order = random.permutation(len(score))
        chosen, other = order[: len(order) // 2], order[len(order) // 2 :]
        point = fitting.threshold(score[chosen], right[chosen], accuracy)
        assert point is not None
        answered = score[other] >= point.threshold
        there = Rate.of(right[other][answered])
        accuracies.append(there.value)
        (low, high), (own_low, own_high) = point.rate.interval, there.interval
        held += own_high >= accuracy and low <= own_high and own_low <= high
    assert np.mean(accuracies) >= accuracy
    assert held >= 0.95 * splits


def test_the_interval_of_a_threshold_is_that_of_its_accuracy_on_any_pictures() -> None:
    everything, every = answers_of(200_000, seed=1)
    random, inside, draws = np.random.default_rng(3), 0, 300
    for _ in range(draws):
        i = random.integers(0, len(every), 800)
        point = fitting.threshold(everything[i], every[i], 0.85)
        assert point is not None
        low, high = point.rate.interval
        inside += low <= every[everything >= point.threshold].mean() <= high
    assert inside >= 0.93 * draws  # 95 % and no more than chance away


@given(ANSWERS, st.sampled_from([0.5, 0.8, 0.9]))
def test_a_threshold_answers_what_it_says(answers: list[tuple[float, bool]], accuracy: float) -> None:
    score, right = arrays(answers)
    point = fitting.threshold(score, right, accuracy)
    best = max(
        (int((score >= t).sum()) for t in score
         if metrics.wilson(int(right[score >= t].sum()), int((score >= t).sum()), z=1)[0] >= accuracy - 1e-9),
        default=0,
    )  # fmt: skip
    assert (point.answered if point else 0) == best
    if point is not None:
        assert ((score >= point.threshold).sum(), right[score >= point.threshold].sum()) == (best, point.hits)


def test_too_few_pictures_promise_nothing() -> None:
    assert fitting.threshold(np.linspace(0.5, 1, 98), np.ones(98, bool), 0.99) is None
    assert fitting.threshold(np.linspace(0.5, 1, 99), np.ones(99, bool), 0.99) is not None


WAYS = st.lists(
    st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.booleans()), min_size=1, max_size=5),
    min_size=1, max_size=40,
)  # fmt: skip


def climbed(way: list[tuple[float, bool]], theta: float) -> bool | None:
    return next((true for probability, true in way if probability >= theta), None)


@given(WAYS, st.sampled_from([0.5, 0.8, 0.9]))
def test_theta_is_the_least_after_which_the_answers_of_a_climb_are_right(
    ways: list[list[tuple[float, bool]]], accuracy: float
) -> None:
    climbs = [fitting.Climb.of([p for p, _ in way], [true for _, true in way]) for way in ways]
    point = fitting.theta(climbs, accuracy)
    for theta in [0.0, *(np.arange(21) / 20 + 1e-9)]:
        answers = [answer for way in ways if (answer := climbed(way, theta)) is not None]
        # an answer that happens to be right before one that is wrong is no reason to ask for less
        surely = sum(c.right_from <= theta <= c.reach for c in climbs)
        assert surely <= sum(answers)
        enough = len(answers) > 0 and metrics.wilson(surely, len(answers), z=1)[0] >= accuracy - 1e-9
        if point is None or theta < point.threshold:
            assert not enough
    if point is not None:
        answers = [answer for way in ways if (answer := climbed(way, point.threshold)) is not None]
        assert point.answered == len(answers)
        assert point.hits <= sum(answers)


def test_theta_is_a_quantile_where_everything_is_answered() -> None:
    needed = np.random.default_rng(0).random(999)
    point = fitting.theta([fitting.Climb(one, 1.0) for one in needed], 0.9)
    enough = next(hits for hits in range(1000) if metrics.wilson(hits, 999, z=1)[0] >= 0.9)
    assert point is not None
    assert point.threshold == np.sort(needed)[enough - 1]
    assert 0.9 * 999 < enough < 0.915 * 999
