"""Optimizers and the learning rate's course."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ddamfn.train.config import Optimizer, Run


def build_optimizer(config: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Optimizer of these parameters; sharpness-aware where `sam_rho` is given.

    Source: Foret et al., ICLR 2021, for SAM (pytorch-optimizer's, which equals the authors').
    """
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.name == "sgd":
        cls: type[torch.optim.Optimizer] = torch.optim.SGD
        options["momentum"] = config.momentum
    else:
        cls = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    if config.sam_rho is None:
        return cls(parameters, **options)
    from pytorch_optimizer import SAM

    sam: torch.optim.Optimizer = SAM(parameters, cls, rho=config.sam_rho, **options)
    return sam


def learning_rate(run: Run, epoch: int, part: float) -> float:
    """Return the learning rate at `epoch` + `part` (0..1) epochs into the run.

    "step" and "exponential" change between epochs, as published; "cosine" and the warm-up at every step. With restarts
    each phase has the course that a run of its length would have.
    """
    schedule, epochs = run.schedule, run.epochs
    phase, epoch_of_phase = run.place_of(epoch)
    if schedule.restarts:
        epoch, epochs = epoch_of_phase, phase.epochs
    time, factor = epoch + part, phase.lr_factor
    if schedule.name == "step":
        factor *= schedule.gamma ** (epoch // schedule.step_epochs)
    elif schedule.name == "exponential":
        factor *= schedule.gamma**epoch
    elif schedule.name == "cosine":
        done = max(0.0, time - schedule.warmup_epochs) / max(1e-9, epochs - schedule.warmup_epochs)
        factor *= schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if time < schedule.warmup_epochs:
        factor *= time / schedule.warmup_epochs
    return run.optimizer.lr * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """What a checkpoint needs of an optimizer; of SAM the inner one's, since its own state ends with the step."""
    state: dict[str, object] = getattr(optimizer, "base_optimizer", optimizer).state_dict()
    return state


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Put back what `optimizer_state` gave."""
    inner = getattr(optimizer, "base_optimizer", optimizer)
    inner.load_state_dict(state)
    # Loading makes new parameter groups; SAM must hold the same ones, or a new learning rate would not reach both.
    optimizer.param_groups = inner.param_groups
