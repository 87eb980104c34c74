"""`ddamfn models`: what is listed, and that what is written down of the networks is true."""

import json
from pathlib import Path

import pytest

from ddamfn.cli import main
from ddamfn.cli.models import NETWORKS, accuracy
from ddamfn.weights import Card, read_card


def test_networks_are_listed_with_size_and_license(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("  ddamfn "))
    assert "4,105,999" in line
    assert "MIT" in line


def test_json_holds_cards_and_networks(
    stand_in_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddamfn.weights.store._BUNDLED", stand_in_weights.parent)
    assert main(["models", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed["weights"]] == ["stand-in"]
    assert listed["weights"][0]["bytes"] == stand_in_weights.stat().st_size
    assert {entry["name"] for entry in listed["networks"]} == set(NETWORKS)
    assert main(["models"]) == 0
    assert "not measured" in capsys.readouterr().out


def test_an_accuracy_comes_with_what_it_was_measured_on(stand_in_weights: Path) -> None:
    card = read_card(stand_in_weights.with_suffix(".json"))
    score = {"split": "test", "rule": "majority", "n": 3153, "accuracy": 0.86123}
    assert accuracy(card) == "not measured"
    assert accuracy(Card.from_dict(card.to_dict() | {"scores": [score]})) == "86.12% of 3,153 (test majority)"


def test_the_list_of_networks_is_the_registry_s() -> None:
    """A new network needs its line in `NETWORKS`; tests/models/test_counts.py has the figures."""
    pytest.importorskip("torch")
    from ddamfn.models import list_models

    assert list(NETWORKS) == list_models()
