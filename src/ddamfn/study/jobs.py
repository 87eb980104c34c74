"""Jobs of a study: what each one trains, its identity, and the ledger of results."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ddamfn.data import open_dataset
from ddamfn.errors import TrainingError
from ddamfn.files import append_json_line, exclusive, read_json_lines, sha256_bytes
from ddamfn.objectives import DDAMFNObjective
from ddamfn.preparation import load_prepared
from ddamfn.train import Run, override, recipe
from ddamfn.train.config import to_dict
from ddamfn.train.recipes import SEVEN

Scored = Literal["test", "valid", "own_valid"]
"""What a job is scored on: images that chose nothing, or the ones that its epoch was chosen by.

Where a set has no validation split, "valid" holds out the same images for every seed, so that rows can be compared;
"own_valid" those that `ddamfn train` holds out for the run's seed, so that the run can be exported like any other.
"""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold of a cross-validation.

    Attributes:
        number: counted from 0.
        of: number of folds.
        grouped: whether each subject's images stay on one side; otherwise every class has its share in each fold.
    """

    number: int
    of: int
    grouped: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training and its one score.

    Attributes:
        row: which row of the study's table it belongs to.
        run: everything that is trained, with the seed.
        data: the data set's folder.
        fold: what is held out to score on; None is the set's own test split.
        scored: other than "test", it never opens the test split: for tables that settings or runs are chosen by.
        images: largest number of training images, drawn in proportion to the classes; None takes all.
        estimator: a method of `study.classic` in place of the run's network, which then gives images and seed alone.
        after: ids of jobs that must be done first, since the run begins with their networks or learns from them; not
            part of the id, since the run has their folders among its settings.
    """

    row: str
    run: Run
    data: str
    fold: Fold | None = None
    scored: Scored = "test"
    images: int | None = None
    estimator: str | None = None
    after: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed

    @cached_property
    def id(self) -> str:
        """Name of the job and of its folder: row, seed, fold, and a hash of all that decides its result."""
        decisive = {name: to_dict(getattr(self, name)) for name in _DECISIVE}
        digest = sha256_bytes(json.dumps(decisive, sort_keys=True).encode())[:8]
        fold = "" if self.fold is None else f"-fold{self.fold.number + 1}of{self.fold.of}"
        return f"{self.row}-seed{self.seed}{fold}-{digest}"


_DECISIVE = ("run", "data", "fold", "scored", "images", "estimator")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a study's table.

    Attributes:
        name: short, for files and the command line.
        title: for readers.
        run: what is trained, seed 0.
        reported: accuracy on RAF-DB on the slides, in per cent; None where they have none.
        published: accuracy on RAF-DB in the method's own paper, in per cent.
        note: what differs from the source, or how the row was set up.
        estimator: a method of `study.classic` in place of the run's network.
    """

    name: str
    title: str
    run: Run
    reported: float | None = None
    published: float | None = None
    note: str = ""
    estimator: str | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table of rows, and the jobs that fill it.

    Attributes:
        name: for folders, such as `ablation-heads`.
        title: for readers.
        rows: in the order of the table.
        reference: the row that every other is compared with; None compares nothing.
        jobs: in the order in which they are to run.
        notes: sentences that belong below the table.
        beside: the same rows under other conditions; its finished jobs are shown in a column of their own.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    reference: str | None
    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()
    beside: "Study | None" = None

    def row(self, name: str) -> Row:
        """Row of a name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all jobs of a study share beside the run.

    Attributes:
        data: the data set's folder.
        seeds: number of runs per row.
        images: largest number of training images; None takes all.
    """

    data: str
    seeds: int = 1
    images: int | None = None

    def job(self, row: Row, seed: int, **settings: Any) -> Job:
        """A row's job of one seed; `settings` are further fields of the job."""
        run = replace(row.run, seed=seed)
        return Job(row=row.name, run=run, data=self.data, images=self.images, estimator=row.estimator, **settings)

    def repeat(self, rows: Sequence[Row], *, scored: Scored = "test") -> tuple[Job, ...]:
        """Jobs of every row with the seeds 0, 1, ...; all rows once before the first one twice.

        So a study that is stopped early has every row rather than every seed.
        """
        return tuple(self.job(row, seed, scored=scored) for seed in range(self.seeds) for row in rows)


_RECIPES = MappingProxyType(
    {"rafdb": "ddamfn_rafdb", "affectnet": "ddamfn_affectnet", "affectnet8": "ddamfn_affectnet"}
)
_OTHERS = "ddamfn_ferplus"
"""For FERPlus and for sets that the authors have no recipe for: it names no classes."""


def base_run(root: Path, kind: str | None, name: str | None, assignments: Mapping[str, Any]) -> Run:
    """The run that every row is a change of.

    Args:
        root: the data set, or a prepared set.
        kind: its layout, where it is not recognized.
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


def count_images(root: Path, kind: str | None) -> int:
    """Count training images before the vote rule and the validation part; prepares nothing."""
    _, counts = _dataset(root, kind)
    return counts.get("all", 0) or counts.get("train", 0)


def describe(root: Path, kind: str | None) -> str:
    """Name and size of a data set for the head of a report, without its place on this machine."""
    name, counts = _dataset(root, kind)
    return f"{name}: {', '.join(f'{split} {n:,}' for split, n in counts.items())} images before the vote rule"


def _dataset(root: Path, kind: str | None) -> tuple[str, dict[str, int]]:
    if (root / "prepared.json").exists():
        prepared = load_prepared(root)
        return prepared.dataset, {split: counts["images"] for split, counts in prepared.counts.items()}
    dataset = open_dataset(root, kind)
    splits = [sample.split for sample in dataset.samples]
    return dataset.card.name, {split: splits.count(split) for split in dataset.splits}


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


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings for a report, as the command line takes them."""
    return ", ".join(f"`{name}={json.dumps(value)}`" for name, value in settings.items())


@dataclass(frozen=True, kw_only=True)
class Result:
    """One job's score, which is one line of the ledger.

    Attributes:
        job: the job's id.
        row: the table's row.
        seed: the run's seed.
        fold: number of the fold, counted from 0; None for the set's own test split.
        n_train: images trained on, without the validation images.
        n_valid: validation images.
        n: images scored.
        correct: of these, classified correctly.
        accuracy: correct / n, 0..1.
        ci95: its Wilson interval.
        mean_class_accuracy: mean recall over the classes, 0..1.
        macro_f1: 0..1.
        valid_accuracy: of the chosen epoch, on the validation images.
        epoch: the chosen epoch, counted from 1; 0 for estimators, which have no epochs.
        epochs: of the whole run; 0 for estimators.
        parameters: of the network; 0 for estimators.
        seconds: of training, all epochs together.
        images_per_second: trained, over the whole run.
        test: name of the data set's folder.
        rule: the vote rule of the images scored on.
        device: where it was trained.
        commit: of the source tree, None where there was none.
        finished: UTC, ISO 8601.
        head_means: mean of each attention head's map on the validation images, by the chosen epoch's network.
        head_difference: mean squared difference of the heads' maps; 0 with fewer than two heads.
        max_attention_mean: mean of the heads' maximum, which weighs the features; near 1 the attention is switched off.
    """

    job: str
    row: str
    seed: int
    fold: int | None
    n_train: int
    n_valid: int
    n: int
    correct: int
    accuracy: float
    ci95: tuple[float, float]
    mean_class_accuracy: float
    macro_f1: float
    valid_accuracy: float
    epoch: int
    epochs: int
    parameters: int
    seconds: float
    images_per_second: float
    test: str
    rule: str
    device: str
    commit: str | None
    finished: str
    head_means: tuple[float, ...] = ()
    head_difference: float = 0.0
    max_attention_mean: float = 0.0


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a TrainingError that names the file."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror or error}); make room") from error


class Ledger:
    """`results.jsonl` of a study, one line per finished job: read once, then kept in memory.

    Args:
        folder: of the study.

    Attributes:
        results: finished jobs by id.

    Raises:
        TrainingError: if it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.jsonl"
        self.results: dict[str, Result] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have added.

        Raises:
            TrainingError: if it cannot be read.
        """
        try:
            lines = read_json_lines(self.path)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        for line in lines:
            # A line of another version, whose job is scored again.
            with suppress(KeyError, TypeError, ValueError):
                low, high = line["ci95"]
                result = Result(**{**line, "ci95": (low, high), "head_means": tuple(line["head_means"])})
                self.results[result.job] = result

    def append(self, result: Result) -> None:
        """Add a line, which is on the disk when this returns.

        Raises:
            TrainingError: if it cannot be written.
        """
        with writing(self.path):
            append_json_line(self.path, asdict(result))
        self.results[result.job] = result


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Take a job for this process, and tell whether no other one has it; a claim ends with its process.

    So the same command, started once per GPU, shares out the jobs of a study.

    Raises:
        TrainingError: if the folder cannot be made.
    """
    with ExitStack() as stack:
        try:
            claimed = stack.enter_context(exclusive(folder / ".claim"))
        except OSError as error:
            raise TrainingError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another --runs"
            ) from error
        yield claimed
