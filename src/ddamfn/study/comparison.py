"""DDAMFN against other methods: under equal conditions, or each with its paper's own recipe."""

from collections.abc import Sequence

from ddamfn.errors import UsageError
from ddamfn.study.jobs import Row, Study, repeat
from ddamfn.study.methods import METHODS, Method
from ddamfn.train import Run

REFERENCE = "ddamfn"

_SLIP = (
    "The slides' figure of DDAMFN in their comparison is the mean of ten folds, 90.635; the others are of RAF-DB's "
    "test split, on which the slides give DDAMFN 91.35 elsewhere."
)
_EQUAL = (
    "Equal conditions: the same pictures, alignment and side, no outside weights, the same epochs, optimiser and "
    "augmentation, selection on validation; only network and objective are the method's. No method was tuned here, and "
    "the settings are those of DDAMFN's recipe, which may favour it."
)
_PUBLISHED = "As published: each method's own side, optimiser, schedule and augmentation, from random weights."


def comparison(
    base: Run,
    *,
    methods: Sequence[str] | None,
    as_published: bool,
    seeds: int,
    data: str,
    commit: str | None,
) -> Study:
    """Build the study.

    Args:
        base: pictures, epochs and recipe that all share; with `as_published` only the pictures and classes.
        methods: names of `METHODS`; None takes the slides' seven. DDAMFN is always among them.
        as_published: each paper's own recipe in place of equal conditions.
        seeds: how many runs a method.
        data: the data set's folder.
        commit: of the source tree.

    Raises:
        UsageError: if there is no such method, or a network cannot take pictures as small as the run's.
    """
    names = [name for name in METHODS if name != "poster"] if methods is None else list(methods)
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError(f"no method named {', '.join(unknown)}; there are: {', '.join(METHODS)}")
    rows = tuple(_row(METHODS[name], base, as_published) for name in METHODS if name in (*names, REFERENCE))
    return Study(
        name="comparison-as-published" if as_published else "comparison",
        title=f"Comparison, {'each as published' if as_published else 'equal conditions'}",
        rows=rows,
        reference=REFERENCE,
        jobs=repeat(rows, seeds, data, commit),
        notes=(_PUBLISHED if as_published else _EQUAL, _SLIP),
    )


def _row(method: Method, base: Run, as_published: bool) -> Row:
    run = method.as_published(base) if as_published else method.equal(base)
    smallest = min(phase.side_px for phase in run.phases)
    if smallest < method.needs_px:
        raise UsageError(
            f"{method.network} needs pictures of at least {method.needs_px} px, and a phase has {smallest}; raise its "
            "side_px, or leave the method out with --methods"
        )
    return Row(
        name=method.network,
        title=method.title,
        run=run,
        slides=method.slides,
        published=method.published,
        note=f"{method.paper}{'; ' + method.differs if as_published else ''}.",
    )
