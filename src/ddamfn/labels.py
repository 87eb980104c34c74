"""The one vocabulary of expressions, and the way from any data set's own class names to it.

Data sets number the same expressions differently (RAF-DB's 1 is surprise, AffectNet's 1 is happiness), so classes are
matched by name and never by index. A network's output order is on its weights' card; this order is only the
canonical one.
"""

from ddamfn.errors import UnknownLabel

EXPRESSIONS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The eight canonical expressions, in FERPlus's order. Source: Barsoum et al. 2016, the FER+ label file."""

_ALIASES: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality", "normal", "natural", "calm", "ne"),
    "happiness": ("happy", "joy", "joyful", "smile", "ha"),
    "surprise": ("surprised", "suprise", "surprize", "astonished", "su"),
    "sadness": ("sad", "sa"),
    "anger": ("angry", "an"),
    "disgust": ("disgusted", "digust", "di"),
    "fear": ("fearful", "afraid", "scared", "fe"),
    "contempt": ("contemptuous", "scorn", "co"),
}
# Misspellings and two-letter codes are here because published folders use them: "suprise" in copies of FER2013,
# AN, DI, FE in JAFFE.

_CANONICAL: dict[str, str] = {alias: name for name in EXPRESSIONS for alias in (name, *_ALIASES[name])}


def canonical(name: str) -> str:
    """Return the canonical expression that a data set calls `name`.

    Case, surrounding space, and a leading number as in `3_sad` or `3-sad` do not matter.

    Args:
        name: a class name such as `Happy`, `sadness` or `4_Fear`.

    Returns:
        One of `EXPRESSIONS`.

    Raises:
        UnknownLabel: if the name belongs to no expression.
    """
    key = name.strip().casefold()
    found = _CANONICAL.get(key) or _CANONICAL.get(key.lstrip("0123456789").lstrip("_-. "))
    if found is None:
        raise UnknownLabel(f"{name!r} is no known expression; use one of {', '.join(EXPRESSIONS)}")
    return found
