"""One recipe several times: how far its results lie apart, and which run to ship."""

from ddamfn.study.jobs import Plan, Row, Study, repeat
from ddamfn.train import Run


def seeds(base: Run, plan: Plan) -> Study:
    """Build the study; it is scored on validation, since a run is chosen by it.

    Args:
        base: the recipe.
        plan: data set, seeds.
    """
    row = Row(name=base.recipe, title=base.recipe, run=base)
    return Study(
        name=f"seeds-{base.recipe}",
        title=f"{base.recipe}, {plan.seeds} seed{'s' * (plan.seeds > 1)}",
        rows=(row,),
        reference=None,
        jobs=repeat((row,), plan, scored="own_valid"),
    )
