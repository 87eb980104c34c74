"""The attention loss: it keeps the heads of DDAN on different parts of the face.

Source: Zhang et al. 2023, Eq. 9, and the authors' implementation; the two differ, see `attention_loss`.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from ddamfn.errors import ConfigError

AttentionLossForm = Literal["mean_pair", "slide_sum"]

FLOOR = 1e-6
"""Smallest mean pairwise difference that counts: equal maps give a loss of 1e6 instead of infinity, and no gradient.

Two untrained heads stand at about 8e-3, so the floor is out of the way of any real training.
"""


def attention_loss(attention: Tensor, form: AttentionLossForm = "mean_pair") -> Tensor:
    """One over how much the heads' maps differ; smaller is further apart.

    With MSE(i, k) the mean squared difference of two heads' maps over batch, channels and positions:

    - ``mean_pair``, the authors' code: 1 / (mean of MSE(i, k) over the A(A-1)/2 unordered pairs). It does not change
      its scale with the number of heads.
    - ``slide_sum``, the printed formula: 1 / (sum of MSE(i, k) over the A(A-1) ordered pairs), which is
      ``mean_pair`` divided by A(A-1); the same weight thus means less with more heads.

    The optimum is degenerate: one head all ones, another all zeros gives the least loss, and their maximum switches the
    attention off. It is reached channel by channel, with either head the one of ones, so that both heads' means stay
    near a half. So training logs the mean of the heads' maximum beside `head_means`.

    Args:
        attention: (B, A, C, H, W) float, values in (0, 1). Computed in float32 whatever comes: the gradient holds
            1/MSE^2, which half precision cannot.
        form: which of the two.

    Returns:
        A float32 scalar; 0 with fewer than two heads, where the loss is not defined.

    Raises:
        ConfigError: if the form is unknown.
    """
    if form not in get_args(AttentionLossForm):
        raise ConfigError(f"the attention loss has the forms {', '.join(get_args(AttentionLossForm))}, not {form!r}")
    heads = attention.shape[1]
    if heads < 2:
        return attention.new_zeros((), dtype=torch.float32)
    with torch.autocast(attention.device.type, enabled=False):
        maps = attention.float().unbind(dim=1)
        pairs = [(maps[i] - maps[k]).square().mean() for i in range(heads) for k in range(i)]
        loss = torch.stack(pairs).mean().clamp_min(FLOOR).reciprocal()
    return loss if form == "mean_pair" else loss / (heads * (heads - 1))


def head_means(attention: Tensor) -> Tensor:
    """Return the mean of each head's map, (A,) float32 in (0, 1), without gradient.

    A head near 1 beside a head near 0 is the degenerate optimum of the attention loss: attention switched off.
    """
    return attention.detach().float().mean(dim=(0, 2, 3, 4))
