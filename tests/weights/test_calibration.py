"""The curve on a card: which threshold keeps a precision, what is out of reach, what cannot be right."""

import json
from pathlib import Path
from typing import Any

import pytest

from ddamfn.errors import UsageError, WeightsError
from ddamfn.weights import CalibrationCard, Card, read_card, threshold_for, write_card

CURVE: CalibrationCard = {
    "split": "validation",
    "rule": "majority",
    "n": 1000,
    "bins": 15,
    "ece_before": 0.12,
    "ece_after": 0.02,
    "thresholds": [0.0, 0.4, 0.6, 0.9],
    "coverage": [1.0, 0.8, 0.5, 0.1],
    "precision": [0.8, 0.88, 0.95, 0.93],
    "precision_low": [0.77, 0.85, 0.92, 0.86],
}


@pytest.fixture
def card(stand_in_weights: Path) -> Card:
    return read_card(stand_in_weights.with_suffix(".json"))


@pytest.mark.parametrize(
    ("precision", "threshold"), [(0.5, 0.0), (0.77, 0.0), (0.8, 0.4), (0.85, 0.4), (0.86, 0.6), (0.92, 0.6)]
)
def test_the_lowest_threshold_whose_interval_reaches_the_precision_is_taken(precision: float, threshold: float) -> None:
    assert threshold_for(CURVE, precision) == threshold


def test_out_of_reach_says_what_can_be_had_and_that_works() -> None:
    # The share of right answers alone reaches .95; what is promised is the lower end of its interval.
    with pytest.raises(UsageError, match=r"0\.95 is not reached on the 1,000 .* at most 0\.92, .* 50\.0%") as caught:
        threshold_for(CURVE, 0.95)
    assert "\n" not in str(caught.value)
    assert threshold_for(CURVE, 0.92) == 0.6


@pytest.mark.parametrize("precision", [0.0, -0.1, 1.01, 90.0, float("nan")])
def test_a_precision_is_a_share(precision: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        threshold_for(CURVE, precision)


def test_a_card_keeps_its_curve_and_cards_without_one_are_read(card: Card, tmp_path: Path) -> None:
    plain = card.to_dict()
    assert plain.pop("calibration") is None
    assert Card.from_dict(plain) == card
    measured = Card.from_dict(plain | {"calibration": CURVE})
    write_card(measured, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == measured
    assert measured.calibration == CURVE


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"thresholds": [0.0, 0.6, 0.4, 0.9]}, "must rise"),
        ({"coverage": [1.0]}, "equally long"),
        ({"thresholds": [], "coverage": [], "precision": [], "precision_low": []}, "not empty"),
        ({"precision": [0.8, 0.88, 0.95, 93]}, "0 to 1"),
        ({"precision": None}, r"calibration\.precision must be a list"),
    ],
)
def test_a_curve_that_cannot_be_right_is_refused(card: Card, change: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        Card.from_dict(card.to_dict() | {"calibration": {**CURVE, **change}})


def test_a_curve_with_a_missing_column_is_refused(card: Card) -> None:
    curve = {name: value for name, value in CURVE.items() if name not in ("n", "coverage")}
    with pytest.raises(WeightsError, match="calibration lacks coverage, n"):
        Card.from_dict(card.to_dict() | {"calibration": curve})


def test_lists_take_one_line_of_the_file_and_texts_stay_as_they_are(card: Card, tmp_path: Path) -> None:
    odd = "brackets [1,\n   2] and  two  blanks"
    plain = card.to_dict() | {
        "calibration": CURVE,
        "rights": odd,
        "training": {"a": [], "b": [odd, odd], "c": [[1, 2]]},
    }
    write_card(Card.from_dict(plain), tmp_path / "card.json")
    text = (tmp_path / "card.json").read_text()
    assert '\n    "thresholds": [0.0, 0.4, 0.6, 0.9],\n' in text
    assert '\n  "mean": [0.5, 0.5, 0.5],\n' in text
    assert json.loads(text) == json.loads(json.dumps(plain))
