"""What is printed and written: the rule and N always, and never "official" for less than the whole."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddamfn.evaluate.logit_table import LogitTable
from ddamfn.evaluate.metrics import ece, softmax
from ddamfn.evaluate.report import EvaluationReport, confidence_and_correct, predictions_csv
from ddamfn.weights import read_card

CLASSES = ("neutral", "happiness", "contempt")


@pytest.fixture
def table() -> LogitTable:
    """Six images, four of them answered correctly."""
    logits = np.array([[3, 1, 0], [3, 1, 0], [0, 2, 1], [0, 2, 1], [0, 0, 5], [9, 0, 0]], dtype=np.float32)
    return LogitTable(
        dataset="ferplus",
        title="FERPlus",
        note="votes from somewhere; a longer remark",
        split="test",
        rule="majority",
        classes=CLASSES,
        keys=tuple(f"t/{i}.png" for i in range(6)),
        logits=logits,
        targets=np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 2, 1]],
        found=np.array([True, True, True, False, True, True]),
        temperature=2.0,
        unreadable={},
        unanswerable=(),
        unasked=(),
        official=True,
        official_message="test has the official 6 images",
    )


def test_text_shows_rule_and_counts(table: LogitTable) -> None:
    text = EvaluationReport("w", table, table.without(["t/5.png"])).text()
    assert "split test, rule majority, N = 6" in text
    assert "official: test has the official 6 images" in text
    assert "faces found in 5 images; 1 resized as a whole" in text
    accuracy = next(line for line in text.splitlines() if line.startswith("accuracy"))
    assert accuracy.split() == ["accuracy", "66.67", "%", "4/6", "80.00", "%", "4/5"]
    happiness = next(line for line in text.splitlines() if line.startswith("  happiness"))
    assert happiness.split() == ["happiness", "50.00", "%", "2/4", "66.67", "%", "2/3"]
    assert all(len(line) <= 100 for line in text.splitlines())


def test_subset_is_never_called_official(table: LogitTable) -> None:
    subset = replace(table, official=False, official_message="test has 6 images instead of 3,573")
    lines = EvaluationReport("w", subset).text().splitlines()
    assert "NOT official: test has 6 images instead of 3,573" in lines
    assert not any("official" in line and not line.startswith("NOT") for line in lines)
    assert EvaluationReport("w", subset).to_dict()["official"] is False


def test_what_is_missing_is_said(table: LogitTable) -> None:
    poorer = replace(table, unreadable={"t/9.png": "truncated"}, unanswerable=("contempt",), unasked=("fear",))
    text = EvaluationReport("w", poorer).text()
    assert "NOT SCORED: 1 unreadable, first t/9.png" in text
    assert "cannot answer contempt" in text
    assert "also knows fear" in text


def test_dictionary_has_the_same_keys_with_and_without_duplicates(table: LogitTable) -> None:
    plain = json.loads(json.dumps(EvaluationReport("w", table, table.without(["t/5.png"])).to_dict(), allow_nan=False))
    cleaned = plain["duplicate_free"]
    shared = set(cleaned) - {"removed"}
    assert shared < set(plain)
    assert shared == {*table.scores().to_dict(), "split", "rule", "faces_found", "fallbacks"}
    assert (plain["n"], plain["correct"], plain["faces_found"], plain["fallbacks"]) == (6, 4, 5, 1)
    assert (cleaned["n"], cleaned["correct"], cleaned["removed"]) == (5, 4, 1)
    assert plain["ece"] != cleaned["ece"]
    assert EvaluationReport("w", table).to_dict()["duplicate_free"] is None


def test_sets_with_one_label_a_image_name_no_vote_rule(table: LogitTable) -> None:
    report = EvaluationReport("w", replace(table, rule=None))
    assert report.to_dict()["rule"] == "single label"
    assert "rule single label" in report.text()


def test_csv_has_a_line_a_image(table: LogitTable) -> None:
    rows = list(csv.DictReader(io.StringIO(predictions_csv(table, table.without(["t/5.png"])))))
    assert [row["key"] for row in rows] == list(table.keys)
    assert [row["correct"] for row in rows] == ["1", "0", "1", "1", "1", "0"]
    assert [row["train_duplicate"] for row in rows] == ["0"] * 5 + ["1"]
    assert (rows[1]["true"], rows[1]["predicted"], rows[3]["found"]) == ("happiness", "neutral", "0")
    for row in rows:
        shares = [float(row[name]) for name in CLASSES]
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
        assert float(row["confidence"]) == max(shares)
    assert "train_duplicate" not in predictions_csv(table).splitlines()[0]


def test_confidence_is_calibrated_and_gives_the_same_error(table: LogitTable) -> None:
    confidence, correct = confidence_and_correct(table)
    assert correct.tolist() == [True, False, True, True, True, False]
    softened = np.exp(table.logits[0] / 2.0)
    assert confidence[0] == pytest.approx(softened.max() / softened.sum())
    two_classes = np.column_stack([confidence, 1 - confidence])
    assert table.scores().ece == pytest.approx(ece(two_classes, np.where(correct, 0, 1)))


def test_what_the_thresholds_of_the_card_keep_is_reported(table: LogitTable, calibrated_weights: Path) -> None:
    report = EvaluationReport("w", table, card=read_card(calibrated_weights.with_suffix(".json")))
    # The card's curve reaches .9 at the confidence .999, which none of these images has, .85 and .8 as well.
    kept = report.to_dict()["selective_prediction"]
    assert [(entry["min_precision"], entry["threshold"], entry["answered"]) for entry in kept] == [
        (0.8, 0.999, 0), (0.85, 0.999, 0), (0.9, 0.999, 0),
    ]  # fmt: skip
    text = report.text()
    assert "thresholds from 1,000 validation images" in text
    assert next(line for line in text.splitlines() if line.startswith("0.9 ")).split()[1:5] == [
        "0.999",
        "0.00",
        "%",
        "0/6",
    ]
    assert all(len(line) <= 100 for line in text.splitlines())
    assert EvaluationReport("w", table).to_dict()["selective_prediction"] == []
    assert "thresholds" not in EvaluationReport("w", table).text()


def test_calibration_error_is_reported_with_and_without_temperature(table: LogitTable) -> None:
    lines = EvaluationReport("w", table).text().splitlines()
    scores = table.scores()
    shown = [line.split()[-2] for line in lines if line.startswith("  without temperature")]
    assert shown == [f"{100 * scores.ece_before:.2f}"]
    confidence, _ = confidence_and_correct(table, temperature=1.0)
    assert confidence.mean() > confidence_and_correct(table)[0].mean()


def test_another_prior_shifts_the_table_by_its_factors(table: LogitTable) -> None:
    factors = {"neutral": 0.5, "happiness": 2.0, "contempt": 0.0}
    moved = replace(table, mirrored=table.logits).with_factors(factors)
    expected = softmax(table.logits, 2.0) * list(factors.values())
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(moved.logits, 2.0), expected, atol=1e-6)
    assert moved.mirrored is not None
    np.testing.assert_array_equal(moved.mirrored, moved.logits)


def test_votes_go_with_their_images(table: LogitTable) -> None:
    votes = np.zeros((6, 10))
    votes[:, [0, 1, 7]] = np.eye(3)[[0, 1, 1, 1, 2, 1]] * 9 + 0.5
    voted = replace(table, votes=votes)
    assert table.people() is None
    assert replace(voted, rule="probability").people() is None
    people, fewer = voted.people(), voted.without(["t/5.png"]).people()
    assert people is not None
    assert fewer is not None
    # Columns of the table are looked up by name: contempt is the third here and the eighth of the votes.
    assert (people.n, sum(row.correct for row in people.agreement)) == (6, 4)
    assert (fewer.n, sum(row.correct for row in fewer.agreement)) == (5, 4)
    assert replace(table, votes=np.eye(10)[:6]).people() is None
