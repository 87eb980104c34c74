"""The comparison with published methods, under equal conditions or as published."""

from collections.abc import Sequence
from dataclasses import replace

from ddamfn.errors import UsageError
from ddamfn.study.catalog import ESTIMATORS, GAIN_NOTE
from ddamfn.study.jobs import Plan, Row, Study, attention_note
from ddamfn.study.tables.methods import METHODS, Method
from ddamfn.train import Run

REFERENCE = "ddamfn"

_SLIPS = (
    "The slides' figure of DDAMFN in their comparison is the mean of ten folds, 90.635; the others are of RAF-DB's "
    "test split, on which the slides give DDAMFN 91.35 elsewhere.",
    GAIN_NOTE,
    "The slides do not compare POSTER; they explain its cross-attention.",
)
_EQUAL = (
    "Equal conditions: the same images, alignment and side, no outside weights, the same epochs, optimizer and "
    "augmentation, selection on validation; only network and objective are the method's, DDAMFN's objective with the "
    "settings of the recipe. The budget of tuning is the same for all, none: the recipe's settings were found for "
    "DDAMFN and may favor it."
)
_PUBLISHED = (
    "As published: each method's own side, optimizer, schedule and augmentation, from random weights; what could not "
    "be had or done as there stands with each."
)


def comparison(base: Run, plan: Plan, *, methods: Sequence[str] | None = None, as_published: bool = False) -> Study:
    """Build the study of the methods (`METHODS` by default), under equal conditions or each paper's own recipe.

    DDAMFN is always among them.
    """
    names = tuple(METHODS) if methods is None else methods
    if unknown := [name for name in names if name not in METHODS and name not in ESTIMATORS]:
        raise UsageError(f"no method named {', '.join(unknown)}; there are: {', '.join((*METHODS, *ESTIMATORS))}")
    study = _conditions(base, plan, names, as_published=as_published)
    try:
        return replace(study, beside=_conditions(base, plan, names, as_published=not as_published))
    except UsageError:  # crops that are too small for equal conditions
        return study


def _conditions(base: Run, plan: Plan, names: Sequence[str], *, as_published: bool) -> Study:
    rows = (
        *(_estimator(name, base) for name in ESTIMATORS if name in names),
        *(_row(method, base, as_published) for name, method in METHODS.items() if name in (*names, REFERENCE)),
    )
    return Study(
        name="comparison-as-published" if as_published else "comparison",
        title=f"Comparison, {'each as published' if as_published else 'equal conditions'}",
        rows=rows,
        reference=REFERENCE,
        jobs=plan.repeat(rows),
        notes=(_PUBLISHED if as_published else _EQUAL, *_SLIPS, *(() if as_published else attention_note(base))),
    )


def _row(method: Method, base: Run, as_published: bool) -> Row:
    run = method.as_published(base) if as_published else method.equal(base)
    note = f"{method.source.paper}{'; ' + method.differs if as_published else ''}."
    sides, wanted = ([phase.side_px for phase in one.phases] for one in (run, base))
    if not as_published and sides != wanted:
        note += f" It cannot take images of {_sides(wanted)} px and is given {_sides(sides)} px."
    return Row(
        name=method.network,
        title=method.source.title,
        run=run,
        reported=method.source.reported,
        published=method.source.published,
        note=note,
    )


def _sides(sides: Sequence[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(sides)))


def _estimator(name: str, base: Run) -> Row:
    import ddamfn.classic  # noqa: F401 - its extra is missed before any job, not after hours

    source = ESTIMATORS[name]
    note = f"{source.paper}; fitted once to labels without augmentation, the same in both columns."
    return Row(name=name, title=source.title, run=base, note=note, estimator=name)
