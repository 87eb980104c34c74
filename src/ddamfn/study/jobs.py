"""Jobs of a study: what each one trains, its identity, and the ledger of results."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ddamfn.data import open_dataset
from ddamfn.errors import TrainingError
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
        of: how many folds.
        grouped: whether nobody's images stand on both sides; otherwise every class has its share in each fold.
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
        images: at most so many are trained on, of every class its share; None takes all.
        estimator: a method of `study.classic` in place of the run's network, which then gives images and seed alone.
        commit: of the source tree, on record beside the result; no part of the name, so that a study can be finished
            after a change elsewhere.
        after: names of jobs that must be done first, since the run begins with their networks or learns from them; no
            part of the name either, for the run has their folders among its settings.
    """

    row: str
    run: Run
    data: str
    fold: Fold | None = None
    scored: Scored = "test"
    images: int | None = None
    estimator: str | None = None
    commit: str | None = None
    after: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed

    @property
    def id(self) -> str:
        """Name of the job and of its folder: row, seed, fold, and a hash of settings, data set and fold."""
        plain = {"run": to_dict(self.run), "data": self.data, "fold": None if self.fold is None else to_dict(self.fold)}
        # Left out where they say nothing, so that results from before there was a choice keep their names.
        special = {"images": self.images, "estimator": self.estimator}
        plain |= {name: value for name, value in special.items() if value is not None}
        plain |= {"scored": self.scored} if self.scored != "test" else {}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]
        fold = "" if self.fold is None else f"-fold{self.fold.number + 1}of{self.fold.of}"
        return f"{self.row}-seed{self.seed}{fold}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a study's table.

    Attributes:
        name: short, for files and the command line.
        title: for readers.
        run: what is trained, seed 0.
        slides: accuracy on RAF-DB on the slides, in per cent; None where they have none.
        published: accuracy on RAF-DB in the method's own paper, in per cent.
        note: what differs from the source, or how the row was set up.
        estimator: a method of `study.classic` in place of the run's network.
    """

    name: str
    title: str
    run: Run
    slides: float | None = None
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
        beside: the same rows under other conditions; what is done of it is shown in a column of its own.
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
        seeds: how many runs a row.
        images: at most so many are trained on; None takes all.
        commit: of the source tree.
    """

    data: str
    seeds: int = 1
    images: int | None = None
    commit: str | None = None


def repeat(rows: Sequence[Row], plan: Plan, *, scored: Scored = "test") -> tuple[Job, ...]:
    """Jobs of every row with the seeds 0, 1, ...; all rows once before the first one twice.

    So a study that is stopped early has every row rather than every seed.
    """
    return tuple(
        Job(
            row=row.name,
            run=replace(row.run, seed=seed),
            data=plan.data,
            scored=scored,
            images=plan.images,
            estimator=row.estimator,
            commit=plan.commit,
        )
        for seed in range(plan.seeds)
        for row in rows
    )


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
    """Images that are trained on, before the vote rule and the part to select on; nothing is prepared for it."""
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
    return f"{name}: {', '.join(f'{split} {n:,}' for split, n in counts.items())} images before the vote rule"


def _dataset(root: Path, kind: str | None) -> tuple[str, dict[str, int]]:
    if (root / "prepared.json").exists():
        prepared = load_prepared(root)
        return prepared.dataset, {split: counts["images"] for split, counts in prepared.counts.items()}
    dataset = open_dataset(root, kind)
    splits = [sample.split for sample in dataset.samples]
    return dataset.card.name, {split: splits.count(split) for split in dataset.splits}


LEDGER = "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One job's score.

    Attributes:
        job: the job's id.
        row: the table's row.
        seed: the run's seed.
        fold: number of the fold, counted from 0; None for the set's own test split.
        n_train: images trained on, without those selected on.
        n_valid: images selected on.
        n: images scored.
        correct: of these, answered correctly.
        accuracy: correct / n, 0..1.
        ci95: its Wilson interval.
        mean_class_accuracy: mean recall over the classes, 0..1.
        macro_f1: 0..1.
        valid_accuracy: of the epoch that was chosen, on the images selected on.
        epoch: the chosen epoch, counted from 1.
        epochs: of the whole run.
        parameters: of the network.
        seconds: of training, all epochs together.
        images_per_second: trained, over the whole run.
        test: what was scored on, such as `test of FOLDER`.
        rule: the vote rule of the images scored on.
        device: where it was trained.
        commit: of the source tree, None where there was none.
        finished: UTC, ISO 8601.
        head_means: mean of each attention head's map on the images selected on, by the network that was chosen.
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

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Result":
        """Make a result of a line's values; what a later version may have added is left out."""
        known = {
            field.name: plain[field.name] for field in fields(cls) if field.name in plain or field.default is MISSING
        }
        low, high = plain["ci95"]
        return cls(**{**known, "ci95": (low, high), "head_means": tuple(plain.get("head_means", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Plain values of a line."""
        return asdict(self)


class Ledger:
    """`results.jsonl` of a study: a line a finished job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Result]:
        """Finished jobs by id; a line torn by a kill is left out, and its job is scored again."""
        results = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                result = Result.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue
            results[result.job] = result
        return results

    def append(self, result: Result) -> None:
        """Write a line, on the disk when this returns.

        Raises:
            TrainingError: if it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size > 0
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if torn else "") + json.dumps(result.to_dict()) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror or error}); make room") from error


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Take a job for this process, and tell whether no other one has it; a claim ends with its process.

    So the same command, started once a GPU, shares a study out.

    Raises:
        TrainingError: if the folder cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where one process does it all
        yield True
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".claim").open("a+")
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another --runs"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"{platform.node()} {os.getpid()}\n")
        file.flush()
        yield True
