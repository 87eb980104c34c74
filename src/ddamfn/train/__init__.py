"""Training: typed recipes, one loop, runs that survive a kill. Needs PyTorch (`pip install "ddamfn[train]"`)."""

from ddamfn.preparation import open_prepared
from ddamfn.train.config import Augment, Data, Model, Optimizer, Phase, Run, Schedule
from ddamfn.train.loop import FitResult, TrainingCallback, fit
from ddamfn.train.pretraining import is_pretext, load_faces
from ddamfn.train.recipes import RECIPES, recipe
from ddamfn.train.settings import override, run_from_dict
from ddamfn.train.splits import load_splits

__all__ = [
    "RECIPES", "Augment", "Data", "FitResult", "Model", "Optimizer", "Phase", "Run", "Schedule", "TrainingCallback",
    "fit", "is_pretext", "load_faces", "load_splits", "open_prepared", "override", "recipe", "run_from_dict",
]  # fmt: skip
