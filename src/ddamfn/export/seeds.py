"""What one recipe reaches with several seeds, for the card of the run that was chosen among them."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddamfn.errors import ConfigError
from ddamfn.train import Run
from ddamfn.train.finished import FinishedRun, read_settings

_FIGURES = ("n", "correct", "accuracy", "mean_class_accuracy")


def seeds_record(chosen: FinishedRun, others: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return the validation figures of runs that differ by their seed alone, with mean and deviation of the accuracy.

    Args:
        chosen: the run that is exported.
        others: at least one more.

    Runs of a second round each begin with a run of their own; these may differ by their seed alone as well. The name of
    a recipe is no difference: one recipe with other settings can be what another one is.

    Returns:
        `runs`, one entry a seed in their order; `mean` and `deviation` (of the sample) of the accuracy, 0..1.

    Raises:
        ConfigError: if a run differs in more than its seed, or a seed stands there twice.
    """
    for other in others:
        if not _differ_by_seed(other.run, chosen.run):
            raise ConfigError(
                f"{other.folder} differs from {chosen.folder} by more than its seed, see their config.json; name runs "
                "of the same recipe"
            )
    runs = sorted((chosen, *others), key=lambda run: run.run.seed)
    seeds = [run.run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"a seed stands twice among the runs, whose seeds are {', '.join(map(str, seeds))}")
    accuracies = [run.row["valid"]["accuracy"] for run in runs]
    return {
        "runs": [{"seed": run.run.seed, **{key: run.row["valid"][key] for key in _FIGURES}} for run in runs],
        "mean": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies),
    }


def _differ_by_seed(one: Run, other: Run) -> bool:
    """Whether two runs differ by nothing but their seed, the runs that they begin with included."""
    if replace(one, seed=other.seed, initial=other.initial, recipe=other.recipe) != other:
        return False
    if one.initial == other.initial:
        return True
    begun = [Path(run.initial) for run in (one, other) if run.initial is not None]
    return len(begun) == 2 and all(map(Path.is_dir, begun)) and _differ_by_seed(*map(read_settings, begun))
