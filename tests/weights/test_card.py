"""Cards: what is written comes back, and what cannot be right is refused with the field's name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddamfn.errors import WeightsError
from ddamfn.files import sha256_bytes
from ddamfn.weights import Card, read_card, verify, write_card


@pytest.fixture
def card(stand_in_weights: Path) -> Card:
    return read_card(stand_in_weights.with_suffix(".json"))


def test_a_card_comes_back_as_it_was_written(card: Card, tmp_path: Path) -> None:
    write_card(card, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == card
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


def test_unknown_keys_are_ignored_and_precision_has_a_default(card: Card) -> None:
    plain = card.to_dict() | {"later": 1}
    del plain["precision"]
    assert Card.from_dict(plain) == card


_ALIGNMENT = {"template": "ddamfn_frontal", "margin": 0.0, "side_px": 96, "detector": "any"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"labels": ["happy"] * 8}, "canonical"),
        ({"labels": ["neutral"] * 8}, "twice"),
        ({"labels": ["neutral", "fear"]}, "2 labels for 8 outputs"),
        ({"labels": ["blue"] * 8}, "'blue'"),
        ({"mean": [0.5]}, "mean must have 3 entries"),
        ({"std": [0.2, 0.0, 0.2]}, "std"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "warm"}, "finite number"),
        ({"input_side_px": 96}, "side_px"),
        ({"preprocessing": {"color": "sepia", "detail_px": None}}, "color"),
        ({"preprocessing": {}}, "lacks color"),
        ({"architecture": None}, "an object"),
        ({"file": "../network.onnx"}, "file name"),
        ({"scores": [{"split": "test"}]}, "accuracy"),
        ({"format": 2}, "layout 2"),
        ({"input_side_px": 2**40, "alignment": {**_ALIGNMENT, "side_px": 2**40}}, "1 to 1024"),
        ({"alignment": {**_ALIGNMENT, "margin": float("inf")}}, "finite"),
        ({"preprocessing": {"color": "gray", "detail_px": None, "stretch": 3}}, "stretch must be an object"),
    ],
)
def test_a_field_that_cannot_be_right_is_named(card: Card, change: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        Card.from_dict(card.to_dict() | change)


def test_a_missing_field_is_named(card: Card) -> None:
    plain = card.to_dict()
    del plain["temperature"]
    with pytest.raises(WeightsError, match="lacks temperature"):
        Card.from_dict(plain)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x80"])
def test_a_file_that_is_no_card_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(WeightsError, match=r"odd\.json"):
        read_card(path)
    with pytest.raises(WeightsError, match=r"gone\.json"):
        read_card(tmp_path / "gone.json")


def test_verify_returns_the_bytes_and_refuses_others(card: Card, stand_in_weights: Path, tmp_path: Path) -> None:
    content = verify(card, stand_in_weights)
    assert sha256_bytes(content) == card.sha256
    other = tmp_path / "other.onnx"
    other.write_bytes(content[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"other\.onnx is damaged"):
        verify(card, other)
    with pytest.raises(WeightsError, match=r"gone\.onnx"):
        verify(card, tmp_path / "gone.onnx")


def test_the_score_of_a_split_is_found_by_name(card: Card) -> None:
    scores = ({"split": "validation", "accuracy": 0.5}, {"split": "test", "accuracy": 0.25})
    with_scores = Card.from_dict(card.to_dict() | {"scores": scores})
    score = with_scores.score("test")
    assert score is not None
    assert score["accuracy"] == 0.25
    assert card.score("test") is None
    assert json.dumps(with_scores.to_dict())


_JUNK = (None, True, -1, 2**70, float("nan"), "", "x" * 300, [], [[1]], {}, {"a": {}}, [None] * 3)


def test_no_field_of_any_kind_ends_in_anything_but_one_line(card: Card, tmp_path: Path) -> None:
    plain, path = json.loads(json.dumps(card.to_dict())), tmp_path / "card.json"
    places: list[tuple[str, ...]] = [(key,) for key in plain]
    places += [(key, inner) for key, value in plain.items() if isinstance(value, dict) for inner in value]
    lines: list[str] = []
    for place in places:
        for junk in _JUNK:
            changed = json.loads(json.dumps(plain))
            inside = changed if len(place) == 1 else changed[place[0]]
            inside[place[-1]] = junk
            path.write_text(json.dumps(changed))
            try:
                read_card(path)
            except WeightsError as error:
                lines.append(str(error))
    assert all("\n" not in line and len(line) < 500 for line in lines)
    assert len(lines) > 4 * len(places)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"{}", b"7", b"null"])
def test_what_is_no_card_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        read_card(path)


def test_a_network_with_parts_in_other_files_is_refused(tmp_path: Path, card: Card) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.ones(400, np.float32), "secret")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], [tensor]))
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="b", size_threshold=0)
    content = (tmp_path / "a.onnx").read_bytes()
    outside = replace(card, file="a.onnx", sha256=sha256_bytes(content))
    with pytest.raises(WeightsError, match="other files"):
        verify(outside, tmp_path / "a.onnx")
