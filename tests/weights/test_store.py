"""Finding weights: by bundled name, by the path of either file of the pair, and the messages where there are none."""

import shutil
from pathlib import Path

import pytest

from ddamfn.errors import WeightsError
from ddamfn.weights import find_weights, list_weights


def test_either_file_of_the_pair_finds_both(stand_in_weights: Path) -> None:
    by_network = find_weights(stand_in_weights)
    by_card = find_weights(str(stand_in_weights.with_suffix(".json")))
    assert by_network == by_card
    assert by_network[0] == stand_in_weights
    assert by_network[1].name == "stand-in"


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(WeightsError, match=r"'resnet' \(bundled: .+\)"):
        find_weights("resnet")


def test_a_network_without_its_card_is_refused(stand_in_weights: Path, tmp_path: Path) -> None:
    lonely = Path(shutil.copy(stand_in_weights, tmp_path))
    with pytest.raises(WeightsError, match=r"stand-in\.json must lie beside it"):
        find_weights(lonely)
    with pytest.raises(WeightsError, match="no weights file"):
        find_weights(tmp_path / "gone.onnx")


def test_weights_are_listed_by_name(stand_in_weights: Path, tmp_path: Path) -> None:
    card = stand_in_weights.with_suffix(".json")
    for name in ("b", "a"):
        (tmp_path / f"file-{name}.json").write_text(
            card.read_text().replace('"name": "stand-in"', f'"name": "z{name}"')
        )
    assert [entry.name for entry in list_weights(tmp_path)] == ["za", "zb"]
