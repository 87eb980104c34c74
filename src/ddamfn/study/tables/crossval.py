"""K-fold cross-validation."""

from ddamfn.study.jobs import Fold, Plan, Row, Study, attention_note
from ddamfn.train import Run

REPORTED_FOLDS = (90.69, 90.23, 89.89, 90.82, 89.83, 91.02, 91.82, 90.55, 90.55, 90.95)
"""The published ten folds on RAF-DB, in percent; their mean is 90.635."""

_COMPARISON = (
    "The slides' comparison with other methods uses the mean of these ten folds, 90.635, beside figures of others on "
    "RAF-DB's test split; on that split the slides give 91.35."
)


def crossval(base: Run, plan: Plan, *, folds: int, grouped: bool) -> Study:
    """Build the study; the folds are the same for each seed and grouped by subject or stratified by class."""
    row = Row(name="ddamfn", title="DDAMFN, 2 heads", run=base, reported=90.635)
    jobs = tuple(
        plan.job(row, seed, fold=Fold(number=number, of=folds, grouped=grouped))
        for seed in range(plan.seeds)
        for number in range(folds)
    )
    return Study(
        name=f"crossval-{folds}{'-subjects' if grouped else ''}",
        title=f"Cross-validation, {folds} folds, {'grouped by subject' if grouped else 'stratified by class'}",
        rows=(row,),
        reference=None,
        jobs=jobs,
        notes=(_COMPARISON, *attention_note(base)),
    )
