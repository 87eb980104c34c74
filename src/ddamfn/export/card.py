"""The card that an export writes: the run's record, its seeds' scores, and the commands."""

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from ddamfn.data.catalog import CARDS
from ddamfn.errors import ConfigError
from ddamfn.faces import NETWORK_SHA256, Preprocessing
from ddamfn.files import sha256_file
from ddamfn.models.complexity import count_macs, count_parameters
from ddamfn.preparation import Prepared
from ddamfn.train import Run
from ddamfn.train.config import to_dict
from ddamfn.train.run_folder import FinishedRun, read_settings
from ddamfn.weights import Card, WeightPrecision
from ddamfn.weights.card import PreprocessingCard

DETECTOR = f"retinaface-mobilenet0.25 (sha256 {NETWORK_SHA256[:12]})"

_CODE_LICENSE = "MIT"
_ORIGINS = ("initial", "distillation", "objective")
"""What a run starts and learns from besides its data; without "initial" it starts from random weights."""
FIGURES = ("n", "correct", "accuracy", "mean_class_accuracy")
_VALIDATION = (*FIGURES, "ci95", "macro_f1", "per_class_recall")
_ATTENTION = ("head_means", "head_difference", "max_attention_mean")
"""Whether the heads differ, and whether their maximum suppresses anything: best epoch, validation."""


def build_card(
    finished: FinishedRun,
    path: Path,
    precision: WeightPrecision,
    notes: Mapping[str, Any],
    *,
    trained_on: Prepared | None,
) -> Card:
    """Build the card of the checkpoint exported to `path`, its confidence not fitted yet.

    `ddamfn eval --record` adds `scores` later.
    """
    data, model = finished.run.data, finished.run.model
    side = data.alignment.side_px
    known = None if trained_on is None else CARDS.get(trained_on.dataset)
    title = trained_on.dataset if known is None and trained_on is not None else known.title if known else "not recorded"
    return Card(
        name=path.stem,
        architecture={
            "name": model.name,
            "num_classes": len(finished.classes),
            "num_heads": len(finished.row["head_means"]),
            "parameters": count_parameters(finished.network),
            "gmac": round(count_macs(finished.network, (side, side)) / 1e9, 4),
            "options": dict(model.options),
        },
        labels=finished.classes,
        input_side_px=side,
        preprocessing=preprocessing_card(data.preprocessing),
        mean=data.mean,
        std=data.std,
        alignment={
            "template": data.alignment.template,
            "margin": data.alignment.margin,
            "side_px": side,
            "detector": DETECTOR,
        },
        temperature=1.0,
        training={"data": title, **_training(finished), **notes},
        scores=(),
        license=_CODE_LICENSE,
        rights=_rights(title, known.license if known else ""),
        file=path.name,
        sha256=sha256_file(path),
        precision=precision,
    )


def preprocessing_card(preprocessing: Preprocessing) -> PreprocessingCard:
    """Return a card's field for a preprocessing."""
    return cast(PreprocessingCard, asdict(preprocessing))


def _training(finished: FinishedRun) -> dict[str, Any]:
    run, environment, valid = finished.run, finished.environment, finished.row["valid"]
    config, argv = config_of(run), environment.get("argv")
    how = "highest validation accuracy" if finished.checkpoint == "best" else "last epoch"
    return {
        "rule": run.data.rule,
        "recipe": run.recipe,
        "seed": run.seed,
        "commit": environment.get("commit"),
        **({"command": command_line(argv)} if argv else {}),
        **{key: config[key] for key in _ORIGINS if config.get(key) is not None},
        "epochs": run.epochs,
        "selection": f"{how}, epoch {finished.row['epoch']}; the test split was not looked at",
        "validation": {"rule": run.data.validation_rule, **{key: valid[key] for key in _VALIDATION}},
        "attention": {key: finished.row[key] for key in _ATTENTION if key in finished.row},
        **{key: portable(environment[key]) for key in ("initial", "teachers") if key in environment},
        "environment": {key: environment.get(key) for key in ("ddamfn", "torch", "python", "device")},
        "config": config,
    }


def _rights(title: str, license: str) -> str:
    terms = f" ({license})" if license else ""
    return (
        f"The weights' own license is that of this package. They were trained on {title}{terms}; they hold no image "
        "of it. Whether that data's terms bind a use of these weights is for the user to decide."
    )


def config_of(run: Run) -> dict[str, Any]:
    """Return a run's settings as in its config.json, made `portable`."""
    plain: dict[str, Any] = portable(json.loads(json.dumps(to_dict(run))))
    return plain


def command_line(argv: Sequence[str], run: str | None = None) -> str:
    """Join a recorded command line without local paths: ROOT is the data set, RUN the run's folder."""
    words = []
    for before, word in zip(["", *argv], argv, strict=False):
        shown = "RUN" if run and Path(word) == Path(run) else _portable_word(word)
        words.append("ROOT" if before == "--data" else shown)
    return shlex.join(words)


def _portable_word(word: str) -> str:
    """Make one word of a command line portable, such as `--set NAME=VALUE`, whose value may be JSON."""
    name, equals, text = word.partition("=")
    if name == "--data" and equals:
        return "--data=ROOT"
    if not equals or Path(word).is_absolute():
        return str(portable(word))
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    shown = portable(value)
    if shown == value:
        return word
    return f"{name}={shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)}"


def portable(value: Any) -> Any:
    """Return plain values without machine-specific paths; an absolute path keeps the part from the run's name on."""
    if isinstance(value, dict):
        return {portable(key): portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [portable(entry) for entry in value]
    if isinstance(value, str) and Path(value).is_absolute():
        parts = Path(value).parts
        first = parts.index("checkpoints") - 1 if "checkpoints" in parts[2:] else len(parts) - 1
        return str(Path(*parts[first:]))
    return value


def seeds_record(chosen: FinishedRun, others: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return the validation figures of runs that differ only by seed, with their accuracy's mean and deviation.

    The runs that they start from may differ by seed too. The recipe's name is ignored: with other settings, one
    recipe can equal another.
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
        raise ConfigError(f"two of the runs have the same seed; their seeds are {', '.join(map(str, seeds))}")
    accuracies = [run.row["valid"]["accuracy"] for run in runs]
    return {
        "runs": [{"seed": run.run.seed, **{key: run.row["valid"][key] for key in FIGURES}} for run in runs],
        "mean": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies),
    }


def _differ_by_seed(one: Run, other: Run) -> bool:
    """Whether two runs, and the runs that they start from, differ only by seed."""
    if replace(one, seed=other.seed, initial=other.initial, recipe=other.recipe) != other:
        return False
    if one.initial == other.initial:
        return True
    begun = [Path(run.initial) for run in (one, other) if run.initial is not None]
    return len(begun) == 2 and all(map(Path.is_dir, begun)) and _differ_by_seed(*map(read_settings, begun))
