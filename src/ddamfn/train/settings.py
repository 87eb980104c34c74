"""From plain values to a `Run`: the command line's `--set`, and a run's config.json read back.

Every value is fitted to its field's type, so that a wrong one ends in one line that names the field.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

from ddamfn.errors import ConfigError
from ddamfn.models import create_network, gives_class_maps
from ddamfn.models.registry import as_network
from ddamfn.objectives import OBJECTIVES, DDAMFNObjective, Objective, PretextObjective
from ddamfn.objectives.pretext import pooled
from ddamfn.train.config import Run, to_dict


def override(run: Run, assignments: Mapping[str, Any]) -> Run:
    """Change fields by dotted name, such as `{"optimizer.lr": 0.1, "phases.0.epochs": 5}`; their order does not matter.

    Args:
        run: what to begin with.
        assignments: dotted name -> value as JSON has it; a list or an object replaces the whole field.

    Raises:
        ConfigError: if there is no such field, a value does not fit, no network is built that way, or the network
            lacks what the objective needs.
    """
    plain: Any = to_dict(run)
    for name in ("objective", "distillation"):
        before = (plain[name] or {}).get("name")
        if assignments.get(f"{name}.name", before) != before:
            plain[name] = {}  # another one begins with its own settings
    for name, value in assignments.items():
        _assign(plain, name, value)
    changed = run_from_dict(plain)
    require_network(changed)
    return changed


def run_from_dict(plain: Mapping[str, Any]) -> Run:
    """Make a run of what `to_dict` made of it; raise ConfigError if a field is unknown, missing or does not fit."""
    run: Run = _dataclass(Run, plain, "")
    return run


def require_network(run: Run) -> None:
    """Build the network without memory, so that a wrong option is known before any image is read."""
    try:
        network = _network_without_memory(run.model.name, json.dumps(dict(run.model.options), sort_keys=True))
    except TypeError as error:
        raise ConfigError(f"model.options has a value of the wrong type: {error}") from error
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    if isinstance(run.objective, PretextObjective):
        with torch.device("meta"), torch.no_grad():
            pooled(network.eval()(torch.zeros(1, 3, *as_network(network).input_size)), run.objective.channels)
    compares = isinstance(run.objective, DDAMFNObjective) and run.objective.flip_consistency > 0
    if compares and not gives_class_maps(network):
        raise ConfigError(
            f"objective.flip_consistency needs a network with class maps, and {run.model.name} gives none; choose "
            "model.name ddamfn, or set it to 0"
        )


@lru_cache(maxsize=16)
def _network_without_memory(name: str, options: str) -> nn.Module:
    """The network of these options (JSON); kept, since most rows of a study's table have the same one."""
    with torch.device("meta"):
        return create_network(name, num_classes=2, **json.loads(options))


def _assign(plain: Any, name: str, value: Any) -> None:
    """Put a value into nested dictionaries and lists."""
    *path, last = name.split(".")
    place = plain
    for step in path:
        place = _item(place, step, name)
    _item(place, last, name)
    place[int(last) if isinstance(place, list) else last] = value


def _item(place: Any, step: str, name: str) -> Any:
    if isinstance(place, dict):
        # An unknown name is refused later, where the known ones are at hand; None becomes an empty object.
        if place.get(step) is None:
            place[step] = {}
        return place[step]
    if isinstance(place, list):
        if step.isdecimal() and int(step) < len(place):
            return place[int(step)]
        raise ConfigError(f"{name}: {step!r} is no place in a list of {len(place)}, counted from 0")
    raise ConfigError(f"{name}: there is nothing below that has the name {step!r}; set the whole field")


def _fit(hint: Any, value: Any, name: str) -> Any:
    """A plain value as the type that a field has."""
    if get_origin(hint) in (Union, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        arms = [arm for arm in get_args(hint) if arm is not NoneType]
        return _fit(arms[0], value, name) if len(arms) == 1 else _choice({arm.name: arm for arm in arms}, value, name)
    if hint is Objective:
        return _choice({DDAMFNObjective.name: DDAMFNObjective, **OBJECTIVES}, value, name)
    if is_dataclass(hint):
        return _dataclass(hint, value, name)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), value, name)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{name} is one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        return value
    if get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise _wrong(name, "an object of names and values", value)
        return MappingProxyType(dict(value))
    return _scalar(hint, value, name)


def _scalar(hint: Any, value: Any, name: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number and math.isfinite(value):
        # A command line's 1 may stand for 1.0.
        return float(value)
    if hint is not float and isinstance(value, hint) and (hint is not int or number):
        return value
    raise _wrong(name, words[hint], value)


def _tuple(hints: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(name, "a list in square brackets", value)
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise _wrong(name, f"a list of {len(hints)}", value)
    return tuple(_fit(hint, item, f"{name}.{i}") for i, (hint, item) in enumerate(zip(hints, value, strict=True)))


def _choice(kinds: Mapping[str, Any], value: Any, name: str) -> Any:
    """The dataclass that a value's "name" chooses; without one, the first."""
    if not isinstance(value, Mapping):
        raise _wrong(name, "an object of names and values", value)
    settings = {"name": next(iter(kinds)), **value}
    chosen = settings.pop("name")
    if not isinstance(chosen, str) or chosen not in kinds:
        raise ConfigError(f"{name}.name is one of {', '.join(sorted(kinds))}, not {chosen!r}")
    return _dataclass(kinds[chosen], settings, name)


def _dataclass(cls: Any, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(name, "an object of names and values", value)
    known, prefix = [field.name for field in fields(cls)], f"{name}." if name else ""
    for key in value:
        if key not in known:
            raise ConfigError(f"no setting {prefix}{key}; {name or 'a run'} has {', '.join(known)}")
    for field in fields(cls):
        if field.name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{name or 'the run'} needs {field.name}")
    hints = get_type_hints(cls)
    fitted = {key: _fit(hints[key], item, f"{prefix}{key}") for key, item in value.items()}
    try:
        return cls(**fitted)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}" if name else str(error)) from error


def _wrong(name: str, wanted: str, value: Any) -> ConfigError:
    return ConfigError(f"{name} takes {wanted}, not {value!r}")
