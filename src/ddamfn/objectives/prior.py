"""How people confuse expressions: the published table, and labels smoothed by it.

Source: Vo et al., "Pyramid With Super Resolution for In-the-Wild Facial Expression Recognition", IEEE Access 2020,
section III-D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.labels import EXPRESSIONS

PRIOR = (
    (0.777334, 0.032610, 0.017447, 0.114091, 0.026224, 0.007145, 0.004379, 0.020772),
    (0.042842, 0.917618, 0.023221, 0.004816, 0.004217, 0.001969, 0.001755, 0.003563),
    (0.058354, 0.035775, 0.787254, 0.010370, 0.014319, 0.003015, 0.088513, 0.002400),
    (0.170124, 0.013292, 0.008632, 0.747902, 0.022808, 0.011237, 0.015923, 0.010082),
    (0.074781, 0.025350, 0.060215, 0.031924, 0.740551, 0.034938, 0.023251, 0.008989),
    (0.089590, 0.017445, 0.016911, 0.088629, 0.125152, 0.620813, 0.007788, 0.033671),
    (0.042815, 0.012239, 0.169483, 0.072557, 0.027228, 0.013045, 0.658964, 0.003671),
    (0.147933, 0.022174, 0.009890, 0.042923, 0.033551, 0.059924, 0.005507, 0.678099),
)
"""How FERPlus's annotators voted on average, one row a majority class, both in the order of `EXPRESSIONS`."""


def prior_of(classes: Sequence[str]) -> Tensor:
    """Rows and columns of `PRIOR` for these classes, (K, K) float32; with fewer than eight, rows sum to less than 1.

    Raises:
        ConfigError: if the table does not know a class.
    """
    if unknown := [name for name in classes if name not in EXPRESSIONS]:
        raise ConfigError(
            f"labels are smoothed by how people confuse {', '.join(EXPRESSIONS)}; the table does not know "
            f"{', '.join(unknown)}"
        )
    order = torch.tensor([EXPRESSIONS.index(name) for name in classes])
    return torch.tensor(PRIOR)[order][:, order]


def smooth_by_prior(targets: Tensor, prior: Tensor, share: float) -> Tensor:
    """Targets (B, K) of which `share` (0 to 1) follows the prior (K, K): (1 - s) t + s t P."""
    return (1 - share) * targets + share * targets.float() @ prior
