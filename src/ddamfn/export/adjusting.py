"""Logit adjustment of a trained network, folded into the bias of its last layer: nothing is added at prediction."""

import copy
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ddamfn.errors import ConfigError
from ddamfn.evaluate import score
from ddamfn.evaluate.calibration import class_shift, fit_adjustment
from ddamfn.train.run_folder import FinishedRun
from ddamfn.train.step import evaluate_split
from ddamfn.train.tensorset import TensorSplit

Tau = float | Literal["fit"]

_BATCH = 32
_TOLERANCE = 1e-4


def adjust_logits(
    finished: FinishedRun, train: TensorSplit, valid: TensorSplit, logits: NDArray[np.float32], tau: Tau
) -> tuple[FinishedRun, NDArray[np.float32], dict[str, Any]]:
    """Shift a finished run's logits against the classes' shares of its training images.

    Args:
        finished: the run; its network stays as it is.
        train: the images it was trained on, for the shares.
        valid: its validation images, by which "fit" chooses.
        logits: (n, C) float32, what the network answers to them.
        tau: how much; see `ddamfn.evaluate.calibration`.

    Returns:
        The run with the shifted network and with validation figures of it, its logits (n, C) float32, and a record for
        the card.

    Raises:
        ConfigError: if the network does not end in a linear layer with a bias.
    """
    data, row = finished.run.data, finished.row["valid"]
    shares = train.describe().class_shares
    assert shares is not None  # a finished run knows its classes
    targets = valid.targets.numpy()
    chosen = fit_adjustment(logits, targets, shares, rule=data.validation_rule) if tau == "fit" else tau
    shift = class_shift(shares, chosen).astype(np.float32)
    network, shifted = _shifted(finished.network, torch.from_numpy(shift), valid, finished), logits + shift
    scores = score(shifted, targets, finished.classes, rule=data.validation_rule)
    how = "highest mean class accuracy on validation at no less accuracy" if tau == "fit" else "given"
    record = {
        "tau": chosen,
        "chosen": how,
        "validation_before": {key: row[key] for key in ("n", "correct", "accuracy", "mean_class_accuracy")},
    }
    changed = {**finished.row, "valid": {**row, **scores.to_dict()}}
    return replace(finished, network=network, row=changed), shifted, record


def _shifted(network: nn.Module, shift: torch.Tensor, valid: TensorSplit, finished: FinishedRun) -> nn.Module:
    """A copy whose logits are higher by this much, which is measured on some images."""
    changed = copy.deepcopy(network)
    last = [module for module in changed.modules() if isinstance(module, nn.Linear)][-1:]
    if last and last[0].bias is not None and last[0].out_features == len(shift):
        with torch.no_grad():
            last[0].bias.add_(shift)
        few = valid.subset(torch.arange(min(len(valid), _BATCH)))
        before, after = (evaluate_split(one, few, finished.run.data, _BATCH).logits for one in (network, changed))
        if torch.allclose(after, before + shift, atol=_TOLERANCE, rtol=_TOLERANCE):
            return changed
    raise ConfigError(
        f"the network {finished.run.model.name} does not end in a linear layer with a bias, so its logits cannot be "
        "adjusted; export it without --logit-adjustment"
    )
