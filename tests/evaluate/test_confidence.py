"""What an export fits of confidence: the winner of the votes, and a class prior that knows how common classes are."""

import numpy as np
import pytest

from ddamfn.evaluate.calibration import fit_temperature
from ddamfn.evaluate.confidence import CALIBRATION_RULE, fit_class_prior, fit_confidence
from ddamfn.evaluate.metrics import ece, softmax
from ddamfn.evaluate.scores import score

CLASSES = ("neutral", "happiness", "fear")


def observed(shares: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the exact posterior under the shares, and classes drawn from them."""
    true = rng.choice(3, count, p=shares)
    seen = np.eye(3)[true] * 1.5 + rng.normal(0, 1, (count, 3))
    # Gaussian evidence: the log likelihood ratio is linear in what is seen.
    return 1.5 * seen + np.log(shares), true


def test_the_temperature_is_of_the_winner_and_not_of_the_shares(rng: np.random.Generator) -> None:
    logits, true = observed(np.array([0.5, 0.3, 0.2]), 4000, rng)
    torn = np.eye(3)[true] * 0.6 + 0.4 / 3
    fitted = fit_confidence(logits, torn, CLASSES, rule=CALIBRATION_RULE)
    assert fitted.temperature == pytest.approx(1.0, abs=0.06)
    assert fitted.temperature == fit_temperature(logits, true) < fit_temperature(logits, torn)
    assert fitted.calibration["ece_after"] < 0.03
    assert fitted.class_prior is None
    assert "4,000" in fitted.words()
    assert CALIBRATION_RULE in fitted.words()


def test_the_error_of_those_most_agree_on_stands_beside_it(rng: np.random.Generator) -> None:
    logits, true = observed(np.array([0.5, 0.3, 0.2]), 900, rng)
    few = rng.random(900) < 0.4
    curve = fit_confidence(logits, np.eye(3)[true], CLASSES, rule="argmax_all", majority=few).calibration
    temperature = fit_temperature(logits, true)
    assert curve["n"] == 900
    assert curve["majority"]["n"] == few.sum()
    assert curve["majority"]["ece_after"] == pytest.approx(ece(softmax(logits[few], temperature), true[few]), abs=1e-6)


def test_exact_probabilities_take_the_whole_prior(rng: np.random.Generator) -> None:
    shares = np.array([0.7, 0.25, 0.05])
    logits, true = observed(shares, 6000, rng)
    prior = fit_class_prior(logits, true, 1.0, CLASSES, dict(zip(CLASSES, shares, strict=True)), rule="argmax_all")
    assert prior["weight"] >= 0.9
    assert (prior["recall_of"], prior["n"], prior["rule"]) == ("neutral", 6000, "argmax_all")
    assert prior["shares"] == {"neutral": 0.7, "happiness": 0.25, "fear": 0.05}


def test_a_network_that_knows_no_mix_takes_none(rng: np.random.Generator) -> None:
    shares = np.array([0.7, 0.25, 0.05])
    logits, true = observed(shares, 6000, rng)
    balanced = logits - np.log(shares)
    prior = fit_class_prior(balanced, true, 1.0, CLASSES, dict(zip(CLASSES, shares, strict=True)), rule="majority")
    assert prior["weight"] <= 0.1


def test_the_trade_is_that_of_the_images_as_they_are(rng: np.random.Generator) -> None:
    shares = np.array([0.7, 0.25, 0.05])
    logits, true = observed(shares, 3000, rng)
    known = dict(zip(CLASSES, shares, strict=True))
    trade = fit_class_prior(logits, true, 0.8, CLASSES, known, rule="argmax_all")["trade"]
    assert [row["weight"] for row in trade] == [step / 10 for step in range(11)]
    for row in (trade[0], trade[5], trade[10]):
        # In logits that are divided by the temperature afterwards.
        expected = score(logits - 0.8 * row["weight"] * np.log(shares), np.eye(3)[true], CLASSES)
        assert row["correct"] == expected.correct
        assert row["mean_class_accuracy"] == pytest.approx(expected.mean_class_accuracy, abs=1e-6)
        assert row["recall"] == pytest.approx(expected.per_class_recall["neutral"], abs=1e-6)
    assert trade[10]["recall"] < trade[0]["recall"]
    assert trade[10]["mean_class_accuracy"] > trade[0]["mean_class_accuracy"]


def test_classes_without_an_image_do_not_count(rng: np.random.Generator) -> None:
    logits, true = observed(np.array([0.5, 0.5 - 1e-12, 1e-12]), 200, rng)
    known = {"neutral": 0.5, "happiness": 0.4, "fear": 0.1}
    prior = fit_class_prior(np.clip(logits, -9, 9), true, 1.0, CLASSES, known, rule="majority")
    assert all(np.isfinite(row["balanced_nll"]) for row in prior["trade"])
