"""What all rows of a study share: the published recipe of the data set at hand, and how many pictures it has."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ddamfn.data import open_dataset
from ddamfn.objectives import DDAMFNObjective
from ddamfn.preparation import load_prepared
from ddamfn.train import Run, override, recipe
from ddamfn.train.recipes import SEVEN

_RECIPES = MappingProxyType(
    {"rafdb": "ddamfn_rafdb", "affectnet": "ddamfn_affectnet", "affectnet8": "ddamfn_affectnet"}
)
_OTHERS = "ddamfn_ferplus"
"""For FERPlus and for sets that the authors have no recipe for: it names no classes."""


def base_run(root: Path, kind: str | None, name: str | None, assignments: Mapping[str, Any]) -> Run:
    """The run that every row is a change of.

    Args:
        root: the data set, or a prepared set.
        kind: its layout, where it is not recognised.
        name: a recipe; None takes the one that the authors have for this data set.
        assignments: as in `ddamfn.train.override`.

    Raises:
        UsageError: if there is no such recipe.
        ConfigError: if a setting does not fit.
        DataError: if there is no data set.
    """
    dataset = _dataset(root, kind)[0]
    # The recipe is for eight classes; the authors train AffectNet-7 without contempt.
    own = {"data.classes": list(SEVEN)} if dataset == "affectnet7" else {}
    return override(recipe(name or _RECIPES.get(dataset, _OTHERS)), {**own, **assignments})


def count_pictures(root: Path, kind: str | None) -> int:
    """Pictures that are trained on, before the vote rule and the part to select on; nothing is prepared for it."""
    _, counts = _dataset(root, kind)
    return counts.get("all", 0) or counts.get("train", 0)


def attention_note(run: Run) -> tuple[str, ...]:
    """What readers must know of the attention loss of DDAMFN's rows; nothing of other objectives."""
    if not isinstance(run.objective, DDAMFNObjective):
        return ()
    weight = run.objective.attention_weight
    text = f"DDAMFN's attention loss is weighed by {weight:g}."
    if weight >= 0.1:
        text += (
            " That is the published weight; from random weights it may hold rows with heads back, and "
            "`--set objective.attention_weight=0.001` shows what they reach with less."
        )
    return (text,)


def shown(settings: Mapping[str, Any]) -> str:
    """Settings for a report, as the command line takes them."""
    return ", ".join(f"`{name}={json.dumps(value)}`" for name, value in settings.items())


def describe(root: Path, kind: str | None) -> str:
    """Name and size of a data set for the head of a report, without its place on this machine."""
    name, counts = _dataset(root, kind)
    return f"{name}: {', '.join(f'{split} {n:,}' for split, n in counts.items())} pictures before the vote rule"


def _dataset(root: Path, kind: str | None) -> tuple[str, dict[str, int]]:
    if (root / "prepared.json").exists():
        prepared = load_prepared(root)
        return prepared.dataset, {split: counts["pictures"] for split, counts in prepared.counts.items()}
    dataset = open_dataset(root, kind)
    splits = [sample.split for sample in dataset.samples]
    return dataset.card.name, {split: splits.count(split) for split in dataset.splits}
