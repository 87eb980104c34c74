"""Temperature scaling: planted temperatures come back, and SciPy finds the same minimum."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ddamfn.errors import DataError
from ddamfn.evaluate.calibration import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, fit_temperature, golden_section
from ddamfn.evaluate.metrics import ece, softmax


def drawn_labels(logits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Labels drawn from the softmax of the logits, so that these logits are calibrated."""
    cumulative = softmax(logits).cumsum(axis=1)
    return (generator.random((len(logits), 1)) > cumulative[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_planted_temperature_is_found(planted: float, rng: np.random.Generator) -> None:
    honest = rng.normal(0, 2, (20_000, 8))
    labels = drawn_labels(honest, rng)
    fitted = fit_temperature(honest * planted, labels)
    assert fitted == pytest.approx(planted, rel=0.03)
    assert ece(softmax(honest * planted, fitted), labels) < 0.015


def test_finds_scipys_minimum(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 4, (300, 5))
    labels = drawn_labels(logits / 3, rng)

    def loss(log_temperature: float) -> float:
        return float(-np.log(softmax(logits, math.exp(log_temperature))[np.arange(300), labels]).mean())

    expected = math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-4)


def test_one_hot_weights_are_class_indices(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, (200, 4))
    labels = rng.integers(0, 4, 200)
    assert fit_temperature(logits, 3.0 * np.eye(4)[labels]) == fit_temperature(logits, labels)


def test_class_that_cannot_be_answered_is_passed_over(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, (300, 4))
    logits[:, 3] = -np.inf
    labels = rng.integers(0, 4, 300)
    known = labels < 3
    assert fit_temperature(logits, labels) == pytest.approx(fit_temperature(logits[known, :3], labels[known]))


def test_faultless_and_hopeless_networks_stay_within_bounds() -> None:
    table = 5.0 * np.eye(3)
    assert fit_temperature(table, [0, 1, 2]) == pytest.approx(LOWEST_TEMPERATURE, rel=1e-3)
    assert fit_temperature(table, [1, 2, 0]) == pytest.approx(HIGHEST_TEMPERATURE, rel=1e-3)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(DataError, match="no image"):
        fit_temperature([[1.0, -np.inf]], [1])


def test_golden_section_closes_in_on_a_valley() -> None:
    assert golden_section(lambda x: (x - 0.3) ** 2, -5.0, 4.0) == pytest.approx(0.3, abs=1e-6)
    assert golden_section(abs, -1.0, 7.0, tolerance=1e-9) == pytest.approx(0.0, abs=1e-8)
