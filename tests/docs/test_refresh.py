"""The script that writes the generated parts of the documents."""

import json
import re
from dataclasses import replace
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
    spec = spec_from_file_location("refresh", ROOT / "tools" / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # As when it is run: what lies beside it can be imported.
        patch.syspath_prepend(ROOT / "tools" / "docs")
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def card(stand_in_weights: Path, rng: np.random.Generator) -> Card:
    """Return a card with the scores that a random network has on 3,000 random images."""
    logits, targets = rng.normal(size=(3000, 8)), np.eye(8)[rng.integers(0, 7, 3000)]
    logits += 2 * targets
    parts = [score(logits[rows], targets[rows], EXPRESSIONS).to_dict() for rows in (slice(None), slice(0, 2000))]
    named: dict[str, Any] = {"dataset": "ferplus", "split": "test", "rule": "majority", "date": "2026-11-24"}
    measured = {**named, "official": True, **parts[0], "duplicate_free": {**named, **parts[1], "removed": 1000}}
    plain = read_card(stand_in_weights.with_suffix(".json")).to_dict()
    training = {"data": "FERPlus", "rule": "probability", "recipe": "ddamfn_quick", "seed": 3, "commit": "abc123"}
    return Card.from_dict(plain | {"scores": [measured], "training": training})


def test_the_documents_are_up_to_date(refresh: ModuleType) -> None:
    """If this fails, run: python tools/docs/refresh.py --write."""
    assert sorted(path.name for path in refresh.stale()) == []


def test_the_readme_s_table_says_n_of_n_rule_interval_date_and_commit(refresh: ModuleType, card: Card) -> None:
    text = refresh.readme_results([card])
    whole, cleaned = card.scores[0], card.scores[0]["duplicate_free"]
    assert f"{whole['correct']:,} of 3,000 = **{100 * whole['accuracy']:.2f} %**" in text
    assert f"{cleaned['correct']:,} of 2,000" in text
    assert "deduplicated against train (1,000 removed)" in text
    assert f"{100 * whole['ci95'][0]:.2f} % to {100 * whole['ci95'][1]:.2f} %" in text
    assert "2026-11-24" in text
    assert "`abc123`" in text


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        ("ddamfn train ddamfn_quick --data ROOT --set seed=3", False),
        ("ddamfn train ddamfn_quick --data ROOT --set seed=3 --set ema=0.9", True),
        ("ddamfn train ddamfn_quick --data ROOT --set 'data.mean=[0.5, 0.5]'", True),
    ],
)
def test_a_seed_is_no_other_setting_of_a_recipe(refresh: ModuleType, card: Card, command: str, changed: bool) -> None:
    text = refresh.readme_results([replace(card, training={**card.training, "command": command})])
    assert "`ddamfn_quick`" in text
    assert ("other settings" in text) is changed


def test_the_model_card_names_every_class_also_one_without_images(refresh: ModuleType, card: Card) -> None:
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
    assert re.search(r"ECE.*8\.00 %.*2\.00 %.*500.*majority", text)
    few = {"majority": {"n": 400, "ece_before": 0.07, "ece_after": 0.03}}
    both = refresh.model_card_results([Card.from_dict(card.to_dict() | {"calibration": known | curve | few})])
    assert re.search(r"ECE.*majority.*7\.00 %.*3\.00 %.*400", both)
    assert "| 0.9 | 0.700 | 60 % | - | - |" in text
    assert "| 0.95 | not reached on validation | - | - | - |" in text
    kept = {"min_precision": 0.9, "answered": 90, "correct": 81, "coverage": 0.45, "precision": 0.9}
    kept |= {"ci95": [0.82, 0.95]}
    scored = Card.from_dict(
        card.to_dict() | {"calibration": known | curve, "scores": [{**card.scores[0], "selective_prediction": [kept]}]}
    )
    assert "| 0.9 | 0.700 | 60 % | 45 % | 81 of 90 = 90.00 % (82.00 % to 95.00 %) |" in refresh.model_card_results(
        [scored]
    )


def test_people_stand_beside_the_weights(refresh: ModuleType, card: Card) -> None:
    agreement = [{"votes_of_ten": 10, "n": 40, "correct": 39}, {"votes_of_ten": 6, "n": 60, "correct": 41}]
    people = {"rule": "majority", "n": 100, "votes": 950, "annotator": 0.8, "network": 0.85, "draws": 100}
    people |= {"ceiling": 0.95, "network_redrawn": 0.87, "agreement": agreement}
    voted = Card.from_dict(card.to_dict() | {"scores": [{**card.scores[0], "people": people}]})
    for text in (refresh.readme_results([voted]), refresh.model_card_results([voted])):
        assert "| FERPlus test, rule majority | 80.00 % | 85.00 % | 95.00 % | 87.00 % |" in text
    assert "| 6 | 41 of 60 |" in refresh.model_card_results([voted])
    assert "annotator" not in refresh.readme_results([card])


def test_the_model_card_shows_what_a_class_prior_trades(refresh: ModuleType, card: Card) -> None:
    row = {
        "weight": 0.5,
        "correct": 400,
        "accuracy": 0.8,
        "mean_class_accuracy": 0.7,
        "recall": 0.6,
        "balanced_nll": 0.9,
    }
    shares = dict.fromkeys(card.labels, 0.125)
    prior = {"shares": shares, "weight": 0.5, "n": 500, "recall_of": "neutral", "rule": "argmax_all", "trade": [row]}
    text = refresh.model_card_results([Card.from_dict(card.to_dict() | {"class_prior": prior})])
    assert "| 0.5 | 400 of 500 | 80.00 % | 70.00 % | 60.00 % | 0.9000 |" in text
    assert "contempt 0.125" in text
    bare = Card.from_dict(card.to_dict() | {"class_prior": {"shares": shares, "weight": 0.5}})
    assert "contempt 0.125" in refresh.model_card_results([bare])
    assert "class prior" not in refresh.model_card_results([card])


def test_the_model_card_says_how_the_weights_were_made(refresh: ModuleType, card: Card) -> None:
    command = "ddamfn train ddamfn_quick --data ROOT --set seed=3"
    heads = {"head_means": [0.4, 0.5], "head_difference": 0.2, "max_attention_mean": 0.7}
    made = {
        **card.training,
        "command": command,
        "export_command": "ddamfn export RUN --name mine",
        "initial": "runs/first",
        "attention": heads,
        "objective": {"name": "x"},
    }
    text = refresh.model_card_results([Card.from_dict(card.to_dict() | {"training": made})])
    assert f"| command | `{command}` |" in text
    assert "| exported by | `ddamfn export RUN --name mine` |" in text
    assert "| initial | `runs/first` |" in text
    assert '| objective | `{"name": "x"}` |' in text
    assert re.search(r"Attention.* 0\.40 and 0\.50; .* 0\.200\. .* 0\.700, below 1", text)
    off = made | {"attention": heads | {"max_attention_mean": 0.97}}
    assert "switched off" in refresh.model_card_results([Card.from_dict(card.to_dict() | {"training": off})])
    assert "Attention" not in refresh.model_card_results([card])


def test_what_other_seeds_reached_stands_beside_the_figures(refresh: ModuleType, card: Card) -> None:
    runs = [{"seed": seed, "n": 3191, "correct": 2790 + seed, "accuracy": 0.875} for seed in (0, 1, 2)]
    seeds = {"runs": runs, "mean": 0.875, "deviation": 0.00123}
    several = Card.from_dict(card.to_dict() | {"training": {**card.training, "seeds": seeds}})
    counts = "2,790 (seed 0), 2,791 (seed 1), 2,792 (seed 2) of 3,191"
    for text in (refresh.model_card_results([several]), refresh.readme_results([several])):
        assert re.search(rf"{re.escape(counts)};.* 87\.50 %,.* 0\.12 points", text)
    assert "(seed 0)" not in refresh.readme_results([card])


def test_the_model_card_names_the_classes_that_fail_and_what_they_are_taken_for(
    refresh: ModuleType, card: Card
) -> None:
    classes = ["neutral", "sadness", "contempt"]
    matrix = [[90, 10, 0], [30, 20, 0], [4, 1, 0]]
    score = {**card.scores[0], "classes": classes, "confusion_matrix": matrix}
    text = refresh.model_card_results([Card.from_dict(card.to_dict() | {"scores": [score]})])
    assert re.search(r"^- sadness: 20 of 50 .* neutral \(30\)$", text, re.MULTILINE)
    assert re.search(r"^- contempt: 0 of 5 .* neutral \(4\) and sadness \(1\); never predicted$", text, re.MULTILINE)
    assert "- neutral" not in text


def test_the_stretch_and_the_conversion_are_told(refresh: ModuleType, card: Card) -> None:
    stretch = {"least_range": 120, "clip_percent": 2.5, "largest_gain": 12}
    plain = card.to_dict() | {"preprocessing": {"color": "gray", "detail_px": 48, "stretch": stretch}}
    valid = {"rule": "majority", "n": 1000, "correct": 801, "accuracy": 0.801}
    plain["export"] = {"command": "ddamfn export w --stretch on", "validation": valid}
    text = refresh.model_card_results([Card.from_dict(plain)])
    assert re.search(r"\| preprocessing \| gray, .*120 gray levels .*2\.5 % .*12-fold, detail of 48 px \|", text)
    assert "| converted by | `ddamfn export w --stretch on` |" in text
    assert "801 of 1,000, 80.10 %" in text
    assert "stretched" not in refresh.model_card_results([card])


def test_flip_averaging_stands_apart(refresh: ModuleType, card: Card) -> None:
    averaged = {"correct": 2900, "n": 3000, "accuracy": 0.9667, "ci95": [0.96, 0.97], "mean_class_accuracy": 0.9}
    flipped = Card.from_dict(card.to_dict() | {"scores": [{**card.scores[0], "flip_averaged": averaged}]})
    assert re.search(r"^Flip-averaged.* 2,900 of 3,000, 96\.67 %", refresh.model_card_results([flipped]), re.MULTILINE)
    assert "2,900" not in refresh.readme_results([flipped])


def test_the_newest_robustness_of_the_very_file_is_shown(refresh: ModuleType, card: Card, tmp_path: Path) -> None:
    def level(name: str, drop: float) -> dict[str, Any]:
        verdict = "fails" if name == "mild" else None
        return {"perturbation": "blur", "level": name, "strength": f"{name} blur", "drop": drop, "verdict": verdict}

    flips = {"strength": "2 px a point", "rate": 0.021, "ci95": [0.01, 0.03], "verdict": "holds"}
    measured = {
        "page": "new.md", "sha256": card.sha256, "preprocessing": dict(card.preprocessing),
        "title": "FERPlus", "split": "val",
        "skipped": {"gray": "gray already"}, "clean": {"n": 600, "accuracy": 0.8}, "flips": flips,
        "levels": [level("mild", 0.051), level("medium", 0.1), level("severe", -0.0)],
    }  # fmt: skip
    others = (
        {**measured, "page": "old.md"},
        measured,
        {**measured, "sha256": "0" * 64, "page": "other.md"},
        {**measured, "preprocessing": {**card.preprocessing, "stretch": {}}, "page": "not as the card says.md"},
    )
    for number, content in enumerate(others):
        (tmp_path / f"2026-01-0{number + 1}-a-robustness.json").write_text(json.dumps(content))
    text = refresh.model_card_results([card], refresh.read_robustness(tmp_path))
    assert "| blur | mild blur: 5.1 | medium blur: 10.0 | severe blur: 0.0 | fails |" in text
    assert "flipped by landmark jitter | 2 px a point: 2.1 % (1.0 to 3.0) | - | - | holds |" in text
    assert "600 faces of FERPlus val" in text
    assert "draws" not in text
    levels = [{**level("mild", 0.051), "draws": 5}, *measured["levels"][1:]]
    (tmp_path / "2026-01-09-a-robustness.json").write_text(json.dumps({**measured, "levels": levels}))
    drawn = refresh.model_card_results([card], refresh.read_robustness(tmp_path))
    assert re.search(r"\(80\.00 % .*5 draws\)", drawn)
    assert "[new.md](docs/benchmarks/new.md)" in text
    assert "Not measured: gray (gray already)." in text
    assert "not measured on these weights" in refresh.model_card_results([card])


def test_tables_are_tables(refresh: ModuleType, card: Card) -> None:
    for section in (refresh.readme_results([card]), refresh.model_card_results([card])):
        for table in [part for part in section.split("\n\n") if part.startswith("|")]:
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_score_on_a_part_is_not_called_official(refresh: ModuleType, card: Card) -> None:
    part = Card.from_dict(card.to_dict() | {"scores": [{**card.scores[0], "official": False}]})
    assert "not the official split" in refresh.readme_results([part])
    assert "not the official split" not in refresh.readme_results([card])


def test_only_the_marked_sections_change(refresh: ModuleType, card: Card, tmp_path: Path) -> None:
    marks = {
        **dict.fromkeys(("README.md", "README.zh-CN.md", "MODEL_CARD.md", "docs/index.md"), ("results",)),
        "ARCHITECTURE.md": ("tree", "layers"),
        "docs/method.md": ("attention", "cost"),
        "docs/responsible.md": ("rights", "failures"),
    }
    (tmp_path / "docs").mkdir()
    for name, sections in marks.items():
        marked = "".join(f"<!-- {section} -->\nold\n<!-- /{section} -->\nbetween\n" for section in sections)
        (tmp_path / name).write_text(f"before\n{marked}", encoding="utf-8")
    changed = refresh.stale(tmp_path, [card])
    assert set(changed) == {tmp_path / name for name in marks}
    for path, text in changed.items():
        assert text.startswith("before\n<!-- ")
        assert text.endswith(" -->\nbetween\n")
        assert "old\n" not in text
        path.write_text(text, encoding="utf-8")
    assert refresh.stale(tmp_path, [card]) == {}
    assert set(refresh.stale(tmp_path, [])) == {tmp_path / name for name in marks if name != "ARCHITECTURE.md"}


def test_the_tree_names_every_module_and_what_it_is_for(refresh: ModuleType) -> None:
    lines = refresh.tree().splitlines()
    assert max(map(len, lines)) <= 120
    for path in (ROOT / "src" / "ddamfn").rglob("*.py"):
        if path.stem != "__init__":
            assert any(path.name in line.split() for line in lines), path.name
    assert any(re.match(r"  recognizer\.py +\w+ \w+", line) for line in lines)


def test_without_weights_the_table_says_so(refresh: ModuleType) -> None:
    assert refresh.readme_results([]) == refresh.NOTHING == refresh.model_card_results([])


def test_a_document_without_marks_is_refused(refresh: ModuleType) -> None:
    with pytest.raises(ValueError, match="each once"):
        refresh.replace_section("nothing marked", "results", "figures")


def test_the_site_says_of_the_weights_what_the_cards_say(refresh: ModuleType, card: Card) -> None:
    heads = {"head_means": [0.4, 0.5], "head_difference": 0.2, "max_attention_mean": 0.7}
    made = Card.from_dict(card.to_dict() | {"training": card.training | {"attention": heads}})
    failing = refresh.where_they_fail([made], {})
    assert f"| neutral | {100 * card.scores[0]['per_class_recall']['neutral']:.2f} % of" in failing
    assert "not measured on these weights" in failing
    assert "0.700, below 1" in failing
    assert "0.700, below 1" in refresh.attention_of([made])
    assert "1,190 parameters" in refresh.cost([made])
    assert refresh.rights([made]) == f"- `stand-in` (MIT): {card.rights}"
    assert "](docs/" not in failing  # a page of the site lies in docs itself
