"""The command lines that make weights again: the training, of its recipe and what differs, and the export."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ddamfn.errors import UsageError
from ddamfn.export.adjusting import Tau
from ddamfn.export.gates import Format
from ddamfn.export.lean import Precision
from ddamfn.train import Run, recipe
from ddamfn.train.config import to_dict
from ddamfn.train.run_folder import Checkpoint


def training_command(run: Run) -> str:
    """Return the `ddamfn train` that makes this run of the recipes as they are now, with ROOT for the data set.

    A recipe that has changed since the run was made is no loss: what differs stands there as `--set`. A run whose
    recipe is gone begins with none that is known, so its command is its name alone, and config.json says the rest.

    Args:
        run: as its config.json tells.
    """
    words = ["ddamfn", "train", run.recipe, "--data", "ROOT"]
    try:
        base = recipe(run.recipe)
    except UsageError:
        return shlex.join(words)
    for name, value in _changes(settings_of(base), settings_of(run)):
        chosen = _less_defaults(getattr(run, name, None), value)
        words += ["--set", f"{name}={json.dumps(chosen, ensure_ascii=False)}"]
    return shlex.join(words)


def export_command(name: str, checkpoint: Checkpoint, precision: Precision, adjustment: Tau, *, has_data: bool) -> str:
    """Return the `ddamfn export` that makes these weights of the run's folder, RUN, and the data set, ROOT.

    Args:
        name: of the weights.
        checkpoint: "best" or "last", of the run.
        precision: how they are stored.
        adjustment: tau of logit adjustment, or "fit".
        has_data: whether the data set was at hand.
    """
    words = ["ddamfn", "export", "RUN", "--name", name]
    words += ["--data", "ROOT"] if has_data else []
    words += ["--checkpoint", checkpoint] if checkpoint != "best" else []
    words += ["--precision", precision] if precision != "float32" else []
    words += ["--logit-adjustment", str(adjustment)] if adjustment != 0 else []
    return shlex.join(words)


def conversion_command(
    source: str, kind: Format, name: str, precision: Precision, *, has_data: bool, forced: bool
) -> str:
    """Return the `ddamfn export` that makes these weights of a file that is there, and the data set, ROOT.

    Args:
        source: name of that file.
        kind: the format.
        name: of the new weights.
        precision: how they are stored.
        has_data: whether the data set was at hand.
        forced: whether the file was kept although it falls under its gate.
    """
    words = ["ddamfn", "export", source, "--format", kind, "--name", name]
    words += ["--data", "ROOT"] if has_data else []
    words += ["--precision", precision] if precision != "float32" else []
    words += ["--force"] if forced else []
    return shlex.join(words)


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings as config.json has them, lists in place of tuples, and `portable`."""
    plain: dict[str, Any] = portable(json.loads(json.dumps(to_dict(run))))
    return plain


def portable(value: Any) -> Any:
    """Return plain values less the places of this machine.

    Of an absolute path, such as another run's folder or checkpoint, the part from the run's name on is kept: it says
    which run, and nothing of whose machine.
    """
    if isinstance(value, dict):
        return {portable(key): portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [portable(entry) for entry in value]
    if isinstance(value, str) and Path(value).is_absolute():
        parts = Path(value).parts
        first = parts.index("checkpoints") - 1 if "checkpoints" in parts[2:] else len(parts) - 1
        return str(Path(*parts[first:]))
    return value


def _changes(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and new values; another objective, or a list of another length, is given as a whole."""
    for key, value in after.items():
        name, old = f"{prefix}{key}", before.get(key)
        if old == value:
            continue
        if isinstance(old, dict) and isinstance(value, dict) and _are_alike(old, value):
            yield from _changes(old, value, f"{name}.")
        elif isinstance(old, list) and isinstance(value, list) and _are_objects(old, value):
            for place, (one, other) in enumerate(zip(old, value, strict=True)):
                yield from _changes(one, other, f"{name}.{place}.")
        else:
            yield name, value


def _less_defaults(setting: Any, plain: Any) -> Any:
    """Leave out of a setting that is given as a whole what its kind has by itself, but for its name."""
    if isinstance(setting, tuple) and isinstance(plain, list):
        return [_less_defaults(one, entry) for one, entry in zip(setting, plain, strict=True)]
    if not is_dataclass(setting):
        return plain
    defaults = {field.name for field in fields(setting) if getattr(setting, field.name) == field.default} - {"name"}
    return {key: entry for key, entry in plain.items() if key not in defaults}


def _are_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.get("name") == other.get("name") and set(one) == set(other)


def _are_objects(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(isinstance(entry, dict) for entry in (*one, *other))
