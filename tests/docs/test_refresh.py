"""The script that writes the generated parts of the documents."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ddamfn.evaluate import score
from ddamfn.labels import EXPRESSIONS
from ddamfn.weights import Card, read_card

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    spec = spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def card(stand_in_weights: Path, rng: np.random.Generator) -> Card:
    """Return a card with the scores that a random network has on 3,000 random pictures."""
    logits, targets = rng.normal(size=(3000, 8)), np.eye(8)[rng.integers(0, 7, 3000)]
    logits += 2 * targets
    parts = [score(logits[rows], targets[rows], EXPRESSIONS).to_dict() for rows in (slice(None), slice(0, 2000))]
    named: dict[str, Any] = {"dataset": "ferplus", "split": "test", "rule": "majority", "date": "2026-11-24"}
    measured = {**named, "official": True, **parts[0], "duplicate_free": {**named, **parts[1], "removed": 1000}}
    plain = read_card(stand_in_weights.with_suffix(".json")).to_dict()
    training = {"data": "FERPlus", "rule": "probability", "recipe": "ddamfn_quick", "seed": 3, "commit": "abc123"}
    return Card.from_dict(plain | {"scores": [measured], "training": training})


def test_the_documents_are_in_step_with_the_cards(refresh: ModuleType) -> None:
    """If this fails, run: python docs/refresh.py --write."""
    assert sorted(path.name for path in refresh.stale()) == []


def test_the_readme_s_table_says_n_of_n_rule_interval_date_and_commit(refresh: ModuleType, card: Card) -> None:
    text = refresh.readme_results([card])
    whole, cleaned = card.scores[0], card.scores[0]["duplicate_free"]
    assert f"{whole['correct']:,} of 3,000 = **{100 * whole['accuracy']:.2f} %**" in text
    assert f"{cleaned['correct']:,} of 2,000" in text
    assert "FERPlus test, rule majority, without 1,000 twins" in text
    assert f"{100 * whole['ci95'][0]:.2f} % to {100 * whole['ci95'][1]:.2f} %" in text
    assert "2026-11-24" in text
    assert "`abc123`" in text


def test_the_model_card_names_every_class_also_one_without_pictures(refresh: ModuleType, card: Card) -> None:
    text = refresh.model_card_results([card])
    for name in EXPRESSIONS[:7]:
        assert f"| {name} | {100 * card.scores[0]['per_class_recall'][name]:.2f} % of" in text
    assert "| contempt | - |" in text
    assert card.sha256 in text
    assert card.rights in text


def test_the_model_card_says_what_abstaining_costs(refresh: ModuleType, card: Card) -> None:
    curve = {"thresholds": [0.2, 0.7], "coverage": [1.0, 0.6], "precision": [0.8, 0.94], "precision_low": [0.78, 0.92]}
    known = {"split": "validation", "rule": "majority", "n": 500, "bins": 15, "ece_before": 0.08, "ece_after": 0.02}
    text = refresh.model_card_results([Card.from_dict(card.to_dict() | {"calibration": known | curve})])
    assert "8.00 % without the temperature, 2.00 % with it" in text
    assert "| `--abstain 0.9` | answers 60 % of validation pictures, from a confidence of 0.70 on |" in text
    assert "| `--abstain 0.95` | not reached on validation |" in text


def test_tables_are_tables(refresh: ModuleType, card: Card) -> None:
    for section in (refresh.readme_results([card]), refresh.model_card_results([card])):
        for table in [part for part in section.split("\n\n") if part.startswith("|")]:
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_score_on_a_part_is_not_called_official(refresh: ModuleType, card: Card) -> None:
    part = Card.from_dict(card.to_dict() | {"scores": [{**card.scores[0], "official": False}]})
    assert "not the official split" in refresh.readme_results([part])
    assert "not the official split" not in refresh.readme_results([card])


def test_only_the_marked_sections_change(refresh: ModuleType, card: Card, tmp_path: Path) -> None:
    marks = {"README.md": ("results",), "MODEL_CARD.md": ("results",), "ARCHITECTURE.md": ("tree", "layers")}
    for name, sections in marks.items():
        marked = "".join(f"<!-- {section} -->\nold\n<!-- /{section} -->\nbetween\n" for section in sections)
        (tmp_path / name).write_text(f"before\n{marked}", encoding="utf-8")
    changed = refresh.stale(tmp_path, [card])
    assert {path.name for path in changed} == set(marks)
    for path, text in changed.items():
        assert text.startswith("before\n<!-- ")
        assert text.endswith(" -->\nbetween\n")
        assert "old\n" not in text
        path.write_text(text, encoding="utf-8")
    assert refresh.stale(tmp_path, [card]) == {}
    assert {path.name for path in refresh.stale(tmp_path, [])} == {"README.md", "MODEL_CARD.md"}


def test_the_tree_names_every_module_and_what_it_is_for(refresh: ModuleType) -> None:
    lines = refresh.tree().splitlines()
    assert max(map(len, lines)) <= 120
    for path in (ROOT / "src" / "ddamfn").rglob("*.py"):
        if path.stem != "__init__":
            assert any(path.name in line.split() for line in lines), path.name
    assert any(line.startswith("  recognizer/     Picture to faces") for line in lines)


def test_without_weights_the_table_says_so(refresh: ModuleType) -> None:
    assert refresh.readme_results([]) == refresh.NOTHING == refresh.model_card_results([])


def test_a_document_without_marks_is_refused(refresh: ModuleType) -> None:
    with pytest.raises(ValueError, match="each once"):
        refresh.replace_section("nothing marked", "results", "figures")
