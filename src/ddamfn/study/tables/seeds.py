"""One recipe under several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddamfn.study.jobs import Job, Plan, Row, Study, settings_text
from ddamfn.train import Run, override


def seeds(base: Run, plan: Plan, *, runs: Path, again: Mapping[str, Any] | None = None) -> Study:
    """Build the study of seeds, scored on validation because it selects a run.

    In a second round, every seed starts from its own network and is distilled from all seeds, unless `again` says
    otherwise.

    Source: Furlanello et al., "Born-Again Neural Networks", ICML 2018, for teachers like the student.
    """
    name = f"seeds-{base.recipe}"
    row = Row(name=base.recipe, title=base.recipe, run=base)
    jobs = plan.repeat((row,), scored="own_valid")
    title = f"{base.recipe}, {plan.seeds} seed{'s' * (plan.seeds > 1)}"
    if not again:
        return Study(name=name, title=title, rows=(row,), reference=None, jobs=jobs)
    second = Row(
        name=f"{base.recipe}-again",
        title="second round",
        run=override(base, again),
        note="every seed starts from its own network and is distilled, beside the labels, from the mean prediction of "
        f"all seeds' networks; {settings_text(again)}.",
    )
    return Study(
        name=name,
        title=f"{title}, two rounds",
        rows=(row, second),
        reference=row.name,
        jobs=(*jobs, *(_once_more(job, jobs, second.name, runs.resolve() / name, again) for job in jobs)),
    )


def _once_more(job: Job, first: Sequence[Job], row: str, folder: Path, again: Mapping[str, Any]) -> Job:
    """Build a job's second round, which starts from and is distilled from the first round's networks."""
    teachers = [str(folder / one.id) for one in first]
    settings = {"initial": str(folder / job.id), "distillation": {"teachers": teachers}, **again}
    return replace(job, row=row, run=override(job.run, settings), after=tuple(one.id for one in first))
