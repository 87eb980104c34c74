"""Outputs of networks, without networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddamfn.models import ModelOutput

MakeOutput = Callable[..., ModelOutput]


@pytest.fixture
def make_output() -> MakeOutput:
    """Return a function that wraps logits (B, K) and what an objective needs beside them."""

    def make(logits: Tensor, **extra: Tensor) -> ModelOutput:
        batch = len(logits)
        return ModelOutput(logits, torch.zeros(batch, 4, 2, 2), torch.zeros(batch, 0, 4, 2, 2), extra)

    return make
