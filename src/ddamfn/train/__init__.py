"""Training: typed recipes, one loop, runs that survive a kill. Needs PyTorch (`pip install "ddamfn[train]"`)."""

from ddamfn.train.config import Augment, Data, Model, Optimizer, Phase, Run, Schedule
from ddamfn.train.loop import Outcome, Reporter, fit
from ddamfn.train.pretraining import is_pretext, load_faces, pretrain
from ddamfn.train.recipes import RECIPES, recipe
from ddamfn.train.settings import override, run_from_dict
from ddamfn.train.sources import load_splits, open_prepared

__all__ = [
    "RECIPES", "Augment", "Data", "Model", "Optimizer", "Outcome", "Phase", "Reporter", "Run", "Schedule", "fit",
    "is_pretext", "load_faces", "load_splits", "open_prepared", "override", "pretrain", "recipe", "run_from_dict",
]  # fmt: skip
