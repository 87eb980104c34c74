"""What one recipe reaches with several seeds, for the card of the run that was chosen among them."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ddamfn.errors import ConfigError
from ddamfn.train.finished import FinishedRun

_FIGURES = ("n", "correct", "accuracy", "mean_class_accuracy")


def seeds_record(chosen: FinishedRun, others: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return the validation figures of runs that differ by their seed alone, with mean and deviation of the accuracy.

    Args:
        chosen: the run that is exported.
        others: at least one more.

    Returns:
        `runs`, one entry a seed in their order; `mean` and `deviation` (of the sample) of the accuracy, 0..1.

    Raises:
        ConfigError: if a run differs in more than its seed, or a seed stands there twice.
    """
    for other in others:
        if replace(other.run, seed=chosen.run.seed) != chosen.run:
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
