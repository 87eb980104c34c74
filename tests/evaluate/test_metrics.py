"""The metrics against scikit-learn, SciPy and plain loops."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from ddamfn.errors import DataError
from ddamfn.evaluate import metrics

NUM_CLASSES = 8
pairs = st.lists(st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=60)


@given(pairs)
@settings(deadline=None, derandomize=True)
def test_agrees_with_scikit_learn(answers: list[tuple[int, int]]) -> None:
    targets, predictions = (np.array(column) for column in zip(*answers, strict=True))
    occurring = np.unique(targets)
    everything = range(NUM_CLASSES)
    matrix = metrics.confusion_matrix(targets, predictions, NUM_CLASSES)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(targets, predictions, labels=everything))
    assert metrics.accuracy(targets, predictions) == reference.accuracy_score(targets, predictions)
    recall = metrics.per_class_recall(targets, predictions, NUM_CLASSES)
    expected = reference.recall_score(targets, predictions, labels=occurring, average=None)
    np.testing.assert_allclose(recall[occurring], expected)
    assert np.isnan(np.delete(recall, occurring)).all()
    with warnings.catch_warnings():
        # scikit-learn warns of classes that were answered and do not occur; they are what is tested here.
        warnings.simplefilter("ignore", UserWarning)
        balanced = reference.balanced_accuracy_score(targets, predictions)
    assert metrics.mean_class_accuracy(targets, predictions, NUM_CLASSES) == pytest.approx(balanced)
    f1 = reference.f1_score(targets, predictions, labels=occurring, average="macro", zero_division=0)
    assert metrics.macro_f1(targets, predictions, NUM_CLASSES) == pytest.approx(f1)


def test_class_that_does_not_occur_changes_no_mean() -> None:
    targets, predictions = [0, 0, 1, 1], [0, 1, 1, 1]
    assert metrics.mean_class_accuracy(targets, predictions, 2) == metrics.mean_class_accuracy(targets, predictions, 5)
    assert metrics.macro_f1(targets, predictions, 2) == metrics.macro_f1(targets, predictions, 5)


@pytest.mark.parametrize(
    ("correct", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (1, 2), (16, 18), (2776, 3016), (2803, 3068), (1_000, 10_000)]
)
def test_wilson_interval_is_scipys(correct: int, n: int) -> None:
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert metrics.wilson_interval(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_published_score() -> None:
    # 2,776 of 3,016: [91.02, 92.96] %
    low, high = metrics.wilson_interval(2776, 3016)
    assert (round(low, 4), round(high, 4)) == (0.9102, 0.9296)


@given(st.integers(1, 5000), st.data())
@settings(deadline=None, derandomize=True)
def test_wilson_interval_holds_the_share_and_stays_inside(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    low, high = metrics.wilson_interval(correct, n)
    assert 0.0 <= low <= correct / n <= high <= 1.0
    assert low < high


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 5), (6, 5), (0, -3)])
def test_wilson_interval_refuses_what_is_no_share(correct: int, n: int) -> None:
    with pytest.raises(DataError, match="no share"):
        metrics.wilson_interval(correct, n)


def test_paired_drop_is_the_difference_of_the_shares() -> None:
    drop, (low, high) = metrics.paired_drop(30, 10, 400)
    assert drop == pytest.approx(0.05)
    # Agresti & Min 2005 by hand: 20/402 -+ 1.96 sqrt(41 - 20^2/402) / 402.
    center, half = 20 / 402, 1.959964 * math.sqrt(41 - 400 / 402) / 402
    assert (low, high) == (pytest.approx(center - half), pytest.approx(center + half))
    assert metrics.paired_drop(10, 30, 400) == (-drop, (pytest.approx(-high), pytest.approx(-low)))


def test_paired_drop_without_any_change_is_not_certain() -> None:
    drop, (low, high) = metrics.paired_drop(0, 0, 50)
    assert drop == 0.0
    assert -0.06 < low < 0 < high < 0.06
    assert metrics.paired_drop(5, 0, 5)[1][1] == 1.0


def test_paired_drop_interval_holds_the_truth_nineteen_times_of_twenty(rng: np.random.Generator) -> None:
    # Right before and wrong after with probability .08, the reverse with .03.
    counts = rng.multinomial(300, (0.08, 0.03, 0.89), size=2000)
    intervals = [metrics.paired_drop(int(lost), int(gained), 300)[1] for lost, gained, _ in counts]
    assert 0.94 < np.mean([low <= 0.05 <= high for low, high in intervals]) < 0.97


def test_mean_drop_of_one_draw_is_the_paired_drop() -> None:
    assert metrics.mean_drop([1.0] * 30 + [-1.0] * 10 + [0.0] * 360) == metrics.paired_drop(30, 10, 400)
    with pytest.raises(DataError, match="no image"):
        metrics.mean_drop([])


def test_mean_drop_holds_the_truth_nineteen_times_of_twenty_though_draws_are_alike(rng: np.random.Generator) -> None:
    # Each image has its own chance to be lost; the mean of the chances is .1. Five draws each.
    chances = rng.choice([0.0, 0.5], p=(0.8, 0.2), size=(2000, 300))
    drops = rng.binomial(5, chances) / 5
    intervals = [metrics.mean_drop(row)[1] for row in drops]
    assert 0.93 < np.mean([low <= 0.1 <= high for low, high in intervals]) < 0.98
    # As many independent answers would claim too narrow an interval.
    few, many = intervals[0], metrics.paired_drop(round(5 * drops[0].sum()), 0, 1500)[1]
    assert few[1] - few[0] > 1.3 * (many[1] - many[0])


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 0), (-1, 0, 5), (0, -1, 5), (3, 3, 5)])
def test_paired_drop_refuses_what_is_no_part(lost: int, gained: int, n: int) -> None:
    with pytest.raises(DataError, match="no parts"):
        metrics.paired_drop(lost, gained, n)


def ece_by_hand(probabilities: np.ndarray, targets: np.ndarray, bins: int) -> float:
    """The definition, image by image and slice by slice."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            (max(row), int(np.argmax(row)) == target)
            for row, target in zip(probabilities, targets, strict=True)
            if low < max(row) <= high or (number == 0 and max(row) == 0)
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            total += len(inside) / len(targets) * abs(confidence - accuracy)
    return total


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 20))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_calibration_error_is_its_definition(seed: int, n: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = metrics.softmax(generator.normal(0, 2, (n, 5)))
    targets = generator.integers(0, 5, n)
    assert metrics.ece(probabilities, targets, bins) == pytest.approx(ece_by_hand(probabilities, targets, bins))


def test_calibration_error_at_its_ends() -> None:
    sure = np.eye(4)[[0, 1, 2, 3]]
    assert metrics.ece(sure, [0, 1, 2, 3]) == 0.0
    assert metrics.ece(sure, [1, 2, 3, 0]) == 1.0
    # Half sure and half right is honest.
    assert metrics.ece(np.full((4, 2), 0.5), [0, 1, 0, 1]) == 0.0


def test_softmax_survives_large_and_infinite_logits() -> None:
    table = metrics.softmax([[1000.0, 0.0, -np.inf], [-1000.0, -1000.0, -np.inf]])
    np.testing.assert_allclose(table, [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])


def test_likelihood_is_scikit_learns(rng: np.random.Generator) -> None:
    probabilities = metrics.softmax(rng.normal(0, 1, (50, 4)))
    targets = rng.integers(0, 4, 50)
    expected = reference.log_loss(targets, probabilities, labels=range(4))
    assert metrics.negative_log_likelihood(probabilities, targets) == pytest.approx(expected)


def test_likelihood_of_impossible_class_is_finite() -> None:
    assert metrics.negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(-math.log(1e-12))


@pytest.mark.parametrize("function", [metrics.accuracy, lambda t, p: metrics.confusion_matrix(t, p, 3)])
def test_empty_or_unequal_lists_are_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(DataError, match="no image"):
        function([], [])
    with pytest.raises(DataError, match="one length"):
        function([0, 1], [0])


@pytest.mark.parametrize("wrong", [-1, 3])
def test_index_out_of_range_is_refused(wrong: int) -> None:
    with pytest.raises(DataError, match=r"0\.\.2"):
        metrics.confusion_matrix([0, wrong], [0, 1], 3)
