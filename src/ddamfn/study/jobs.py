"""A study is a table of jobs: each trains one network once, and is known by a name that its settings alone decide."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ddamfn.train import Run
from ddamfn.train.config import to_dict

Scored = Literal["test", "valid", "own_valid"]
"""What a job is scored on: pictures that chose nothing, or the ones that its epoch was chosen by.

Where a set has no validation split, "valid" holds out the same pictures for every seed, so that rows can be compared;
"own_valid" those that `ddamfn train` holds out for the run's seed, so that the run can be exported like any other.
"""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold of a cross-validation.

    Attributes:
        number: counted from 0.
        of: how many folds.
        grouped: whether nobody's pictures stand on both sides; otherwise every class has its share in each fold.
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
        pictures: at most so many are trained on, of every class its share; None takes all.
        estimator: a method of `study.classic` in place of the run's network, which then gives pictures and seed alone.
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
    pictures: int | None = None
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
        special = {"pictures": self.pictures, "estimator": self.estimator}
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
        pictures: at most so many are trained on; None takes all.
        commit: of the source tree.
    """

    data: str
    seeds: int = 1
    pictures: int | None = None
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
            pictures=plan.pictures,
            estimator=row.estimator,
            commit=plan.commit,
        )
        for seed in range(plan.seeds)
        for row in rows
    )
