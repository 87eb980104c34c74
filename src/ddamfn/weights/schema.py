"""Plain values checked against type hints, so that what somebody else wrote is refused in one line."""

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

_DEEPEST = 8
_SHOWN_LETTERS = 40


def mismatch(value: Any, hint: Any, place: str) -> str | None:
    """Describe the first part of a value that is not of its type; None if all is.

    Args:
        value: plain values, as JSON gives them; lists stand for tuples too.
        hint: a class, `Literal`, union, list, tuple, mapping or `TypedDict`, nested as need be. Numbers must be finite,
            and a whole number is a float too. A `TypedDict` may have further keys.
        place: what the value is called in the message.
    """
    origin = get_origin(hint)
    if hint is Any:
        return None if _depth(value) <= _DEEPEST else f"{place} is nested more than {_DEEPEST} deep"
    if origin in (Union, types.UnionType):
        found = [mismatch(value, one, place) for one in get_args(hint)]
        return None if None in found else _wrong(value, hint, place) if value is None else found[0]
    if origin in (Required, NotRequired):
        return mismatch(value, get_args(hint)[0], place)
    if is_typeddict(hint):
        return _keyed(value, hint, place)
    if origin is Literal:
        return None if value in get_args(hint) else _wrong(value, hint, place)
    if origin in (list, tuple):
        return _listed(value, hint, place)
    if origin in (dict, Mapping):
        return _named(value, get_args(hint)[1], place)
    return None if _is(value, hint) else _wrong(value, hint, place)


def _keyed(value: Any, hint: Any, place: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(value, dict, place)
    missing = sorted(hint.__required_keys__ - set(value))
    if missing:
        return f"{place} lacks {', '.join(missing)}"
    hints = get_type_hints(hint, include_extras=True)
    found = (mismatch(value[key], one, f"{place}.{key}") for key, one in hints.items() if key in value)
    return next(filter(None, found), None)


def _listed(value: Any, hint: Any, place: str) -> str | None:
    arguments = get_args(hint)
    if not isinstance(value, list | tuple):
        return _wrong(value, list, place)
    alike = get_origin(hint) is list or arguments[1:] == (...,)
    if not alike and len(value) != len(arguments):
        return f"{place} must have {len(arguments)} entries, not {len(value)}"
    hints = [arguments[0]] * len(value) if alike else arguments
    found = (mismatch(one, h, f"{place}[{row}]") for row, (one, h) in enumerate(zip(value, hints, strict=True)))
    return next(filter(None, found), None)


def _named(value: Any, hint: Any, place: str) -> str | None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return _wrong(value, dict, place)
    return next(filter(None, (mismatch(one, hint, f"{place}.{key}") for key, one in value.items())), None)


def _is(value: Any, hint: Any) -> bool:
    if hint in (int, float):
        kinds = (int, float) if hint is float else int
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, type(None) if hint is None else hint)


def _wrong(value: Any, hint: Any, place: str) -> str:
    kinds = {str: "a text", int: "a whole number", float: "a finite number", dict: "an object", list: "a list"}
    wanted = (
        " or ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else kinds.get(hint, "of another kind")
    )
    shown = repr(value)
    return f"{place} must be {wanted}, not {shown[:_SHOWN_LETTERS]}{'...' if len(shown) > _SHOWN_LETTERS else ''}"


def _depth(value: Any) -> int:
    """How deep plain values are nested, counted no further than is allowed."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        level = [
            inner
            for one in level
            if isinstance(one, Mapping | list | tuple)
            for inner in (one.values() if isinstance(one, Mapping) else one)
        ]
        depth += 1
    return depth
