"""What a card says of its weights' confidence: how honest it is, and from where on answers keep a wanted precision."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from ddamfn.errors import UsageError

_CURVE = ("thresholds", "coverage", "precision", "precision_low")


class CalibrationCard(TypedDict):
    """Confidence measured on the `n` pictures of the split that the temperature was fitted on, under a vote `rule`.

    `ece_before` and `ece_after` are the expected calibration error over `bins` slices without and with the temperature.
    The four lists are a curve and belong together entry by entry, lowest threshold first: answering only at a
    confidence of at least `thresholds` (0 to 1) answers the share `coverage`, of which the share `precision` is right;
    `precision_low` is the lower end of its 95 % Wilson interval, rounded down.
    """

    split: str
    rule: str
    n: int
    bins: int
    ece_before: float
    ece_after: float
    thresholds: list[float]
    coverage: list[float]
    precision: list[float]
    precision_low: list[float]


def threshold_for(calibration: CalibrationCard, precision: float) -> float:
    """Return the lowest confidence from which on answers keep a precision.

    A precision counts as kept where the lower end of its 95 % Wilson interval reaches it: few sure answers that happen
    to be right are no proof, and a threshold chosen on the bare share would more often than not disappoint elsewhere.

    Args:
        calibration: from a card.
        precision: the share of answers that shall be right, above 0 to 1.

    Returns:
        0 to 1; answers below it are to be withheld. 0 where all may be given.

    Raises:
        UsageError: the precision is out of range, or higher than what the curve reaches.
    """
    if not 0 < precision <= 1:
        raise UsageError(f"the precision to keep must be above 0 and at most 1, not {precision}")
    low = calibration["precision_low"]
    reached = next((row for row, value in enumerate(low) if value >= precision), None)
    if reached is not None:
        return calibration["thresholds"][reached]
    best = max(low)
    share = calibration["coverage"][low.index(best)]
    raise UsageError(
        f"a precision of {precision:g} is not reached on the {calibration['n']:,} validation pictures: ask for at most "
        f"{best:g}, which answers {share:.1%} of the faces"
    )


def calibration_problem(calibration: Mapping[str, Any]) -> str | None:
    """Name what cannot be right about a card's `calibration`; None if nothing.

    Raises:
        KeyError: a field is missing.
        TypeError: a field has the wrong kind.
    """
    missing = sorted(CalibrationCard.__required_keys__ - set(calibration))
    if missing:
        return f"calibration lacks {', '.join(missing)}"
    columns = [cast(list[float], calibration[name]) for name in _CURVE]
    if len({len(column) for column in columns}) > 1 or not columns[0]:
        return "the lists of calibration must be equally long and not empty"
    if not all(0 <= value <= 1 for column in columns for value in column):
        return "the numbers in the lists of calibration must lie in 0 to 1"
    if columns[0] != sorted(columns[0]):
        return "calibration.thresholds must rise"
    return None
