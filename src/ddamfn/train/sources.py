"""From a folder of pictures to the tensors of a run, prepared once and kept."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch

from ddamfn.data import open_dataset
from ddamfn.errors import ConfigError, DataError
from ddamfn.faces import Alignment
from ddamfn.preparation import Prepared, load_prepared, prepare
from ddamfn.train.config import Run
from ddamfn.train.sampling import hold_out
from ddamfn.train.tensorset import TensorSplit, to_tensors

Progress = Callable[[int, int], None]


def open_prepared(root: Path, alignment: Alignment, progress: Progress | None = None) -> Prepared:
    """Prepared set of a data set in any known layout, or the prepared set that `root` itself is.

    Raises:
        ConfigError: if `root` was prepared with another alignment.
        DataError: if it is no data set.
    """
    if (root / "prepared.json").exists():
        prepared = load_prepared(root)
        if prepared.alignment != alignment:
            raise ConfigError(
                f"{root} was aligned with {prepared.alignment}, the run asks for {alignment}; prepare the data set "
                "with the run's alignment, or change --set data.alignment.template, .margin and .side_px"
            )
        return prepared
    name = f"{root.resolve()}|{alignment}"
    folder = cache_folder() / f"{root.resolve().name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return prepare(open_dataset(root), folder, alignment, progress=progress)


def cache_folder() -> Path:
    """Where prepared sets are kept: `$XDG_CACHE_HOME/ddamfn/prepared`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ddamfn" / "prepared"


def load_splits(prepared: Prepared, run: Run, device: torch.device) -> tuple[TensorSplit, TensorSplit]:
    """Training and validation tensors of a run; the test split is never opened.

    Raises:
        DataError: if a split is missing, or a class is unknown to the set.
    """
    data = run.data
    classes = data.classes or prepared.classes
    unknown = [name for name in classes if name not in prepared.classes]
    if unknown:
        raise DataError(f"{prepared.folder} has no class {', '.join(unknown)}; it has {', '.join(prepared.classes)}")
    train = to_tensors(prepared.split("train", data.rule), data.appearance, classes, device)
    validation = data.validation or next((name for name in ("valid", "val") if name in prepared.splits), None)
    if validation is None:
        return hold_out(train, data.holdout, torch.Generator().manual_seed(run.seed))
    return train, to_tensors(prepared.split(validation, data.validation_rule), data.appearance, classes, device)
