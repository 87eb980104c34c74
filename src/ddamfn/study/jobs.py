"""Jobs of a study: what each one trains, its identity, and the ledger of results."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ddamfn.data import open_dataset
from ddamfn.errors import TrainingError
from ddamfn.files import append_json_line, exclusive, read_json_lines, sha256_bytes
from ddamfn.objectives import DDAMFNObjective
from ddamfn.preparation import fingerprint, load_prepared
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
    """One fold of a cross-validation."""

    number: int  # from 0
    of: int  # number of folds
    grouped: bool = False  # keep each subject's images on one side; otherwise stratify by class


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training and its score."""

    row: str  # of the study's table
    run: Run  # with its seed
    data: str  # where the data set is, on this machine
    dataset: str  # which one it is, the same on every machine; see `identify`
    fold: Fold | None = None  # held out to score on; None scores on the set's own split
    scored: Scored = "test"  # other than "test", the job never opens the test split
    images: int | None = None  # at most so many for training, stratified by class; None takes all
    estimator: str | None = None  # of `study.classic`; uses only the run's images and seed
    after: tuple[str, ...] = ()  # ids of jobs whose networks the run needs; the run names their folders

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed

    @cached_property
    def id(self) -> str:
        """Name of the job and of its folder: row, seed, fold, and a hash of all that determines its result."""
        decisive = {name: to_dict(getattr(self, name)) for name in _DECISIVE}
        digest = sha256_bytes(json.dumps(decisive, sort_keys=True).encode())[:8]
        fold = "" if self.fold is None else f"-fold{self.fold.number + 1}of{self.fold.of}"
        return f"{self.row}-seed{self.seed}{fold}-{digest}"


_DECISIVE = ("run", "dataset", "fold", "scored", "images", "estimator")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a study's table."""

    name: str  # for files and the command line
    title: str
    run: Run  # with seed 0
    reported: float | None = None  # RAF-DB accuracy in the DDAMFN authors' tables, percent
    published: float | None = None  # RAF-DB accuracy in the method's own paper, percent
    note: str = ""  # how the setup differs from the source
    estimator: str | None = None  # of `study.classic`, in place of the run's network


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table of rows, and the jobs that fill it."""

    name: str  # of its folder, such as `ablation-heads`
    title: str
    rows: tuple[Row, ...]
    reference: str | None  # row to compare with; None compares nothing
    jobs: tuple[Job, ...]  # in execution order
    notes: tuple[str, ...] = ()  # sentences below the table
    beside: "Study | None" = None  # same rows, other conditions: a second column

    def row(self, name: str) -> Row:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all jobs of a study share besides the run."""

    data: str  # where the data set is, on this machine
    dataset: str  # which one it is; see `identify`
    seeds: int = 1  # number of runs per row
    images: int | None = None  # at most so many for training; None takes all

    def job(self, row: Row, seed: int, **settings: Any) -> Job:
        """Build a row's job for one seed; `settings` are further fields of the job."""
        run = replace(row.run, seed=seed)
        return Job(
            row=row.name,
            run=run,
            data=self.data,
            dataset=self.dataset,
            images=self.images,
            estimator=row.estimator,
            **settings,
        )

    def repeat(self, rows: Sequence[Row], *, scored: Scored = "test") -> tuple[Job, ...]:
        """Return the rows' jobs seed by seed, so that a study stopped early covers every row."""
        return tuple(self.job(row, seed, scored=scored) for seed in range(self.seeds) for row in rows)


_RECIPES = MappingProxyType(
    {"rafdb": "ddamfn_rafdb", "affectnet": "ddamfn_affectnet", "affectnet8": "ddamfn_affectnet"}
)
_OTHERS = "ddamfn_ferplus"
"""For FERPlus and for sets without a recipe by the authors: it names no classes."""


def base_run(root: Path, kind: str | None, name: str | None, assignments: Mapping[str, Any]) -> Run:
    """Build the run that every row changes; without a recipe's name, take the authors' recipe for the data set."""
    dataset = _open(root, kind).name
    # The recipe is for eight classes; the authors train AffectNet-7 without contempt.
    own = {"data.classes": list(SEVEN)} if dataset == "affectnet7" else {}
    return override(recipe(name or _RECIPES.get(dataset, _OTHERS)), {**own, **assignments})


def count_images(root: Path, kind: str | None) -> int:
    """Count training images before the vote rule and the validation part; prepares nothing."""
    counts = _open(root, kind).counts
    return counts.get("all", 0) or counts.get("train", 0)


def describe(root: Path, kind: str | None) -> str:
    """Return name and size of a data set for a report's head, without its path."""
    name, counts, _ = _open(root, kind)
    return f"{name}: {', '.join(f'{split} {n:,}' for split, n in counts.items())} images before the vote rule"


def identify(root: Path, kind: str | None) -> str:
    """Return a data set's name and a digest of its images' names and labels: a prepared set has those of its source."""
    name, _, fingerprint = _open(root, kind)
    return f"{name}-{fingerprint[:12]}"


class _Opened(NamedTuple):
    name: str
    counts: dict[str, int]  # of each split's images
    fingerprint: str


def _open(root: Path, kind: str | None) -> _Opened:
    if (root / "prepared.json").exists():
        prepared = load_prepared(root)
        counts = {split: found["images"] for split, found in prepared.counts.items()}
        return _Opened(prepared.dataset, counts, prepared.samples)
    dataset = open_dataset(root, kind)
    splits = [sample.split for sample in dataset.samples]
    return _Opened(dataset.card.name, {split: splits.count(split) for split in dataset.splits}, fingerprint(dataset))


def attention_note(run: Run) -> tuple[str, ...]:
    """Return what readers must know of the attention loss of DDAMFN's rows; empty for other objectives."""
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
    """Format settings as command-line arguments for a report."""
    return ", ".join(f"`{name}={json.dumps(value)}`" for name, value in settings.items())


@dataclass(frozen=True, kw_only=True)
class Result:
    """A job's score: one line of the ledger."""

    job: str
    row: str
    seed: int
    fold: int | None  # from 0; None for the set's own test split
    n_train: int  # without the validation images
    n_valid: int
    n: int  # images scored
    correct: int
    accuracy: float  # 0..1
    ci95: tuple[float, float]  # Wilson interval of the accuracy
    mean_class_accuracy: float  # mean recall over the classes, 0..1
    macro_f1: float  # 0..1
    valid_accuracy: float  # of the chosen epoch
    epoch: int  # the chosen one, from 1; 0 for estimators
    epochs: int  # of the whole run; 0 for estimators
    parameters: int  # of the network; 0 for estimators
    seconds: float  # of training, all epochs
    images_per_second: float  # trained, over the whole run
    test: str  # name of the data set's folder
    rule: str  # vote rule of the scored images
    device: str
    commit: str | None  # of the source tree, if any
    finished: str  # UTC, ISO 8601
    head_means: tuple[float, ...] = ()  # mean of each attention map on validation
    head_difference: float = 0.0  # mean squared difference of the heads' maps; 0 below two heads
    max_attention_mean: float = 0.0  # mean of the heads' maximum; near 1, attention is off


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a TrainingError that names the file."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror or error}); make room") from error


class Ledger:
    """A study's `results.jsonl`: one line per finished job, read once and kept in `results` by job id."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.jsonl"
        self.results: dict[str, Result] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the lines that other processes have added."""
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
        """Add a line and flush it to disk."""
        with writing(self.path):
            append_json_line(self.path, asdict(result), checked=True)
        self.results[result.job] = result


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Lock a job's folder and yield whether this process got it; the lock ends with the process."""
    with ExitStack() as stack:
        try:
            claimed = stack.enter_context(exclusive(folder / ".claim"))
        except OSError as error:
            raise TrainingError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another --runs"
            ) from error
        yield claimed
