"""A record of changed labels.

Source: Wang et al., "Suppressing Uncertainties for Large-Scale Facial Expression Recognition", CVPR 2020, section
3.2.3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LabelBook(nn.Module):
    """The changed labels of a training split of N images; the split itself, which runs may share, stays as it is.

    The buffer `labels` (N,) int64 holds each image's new class, or -1 where the data set's own target holds.
    """

    labels: Tensor

    def __init__(self, num_images: int) -> None:
        super().__init__()
        self.register_buffer("labels", torch.full((num_images,), -1))

    def forward(self, targets: Tensor, rows: Tensor) -> Tensor:
        """Targets (B, K) of the images `rows` (B,) as they stand now: one-hot where changed, else as given."""
        changed = self.labels[rows]
        new = F.one_hot(changed.clamp_min(0), targets.shape[1]).to(targets.dtype)
        return torch.where((changed >= 0).unsqueeze(1), new, targets)

    @torch.no_grad()
    def relabel(
        self, logits: Tensor, targets: Tensor, rows: Tensor, *, margin: float, candidates: Tensor | None = None
    ) -> None:
        """Relabel an image with the predicted class where that is likelier than its label by more than `margin`.

        The change is for good, or until the network is as sure of a third class.

        Args:
            logits: (B, K) float.
            targets: (B, K) as the data set gives them; the label is the class with the largest part.
            rows: (B,) int64.
            margin: difference of two probabilities, 0 to 1.
            candidates: (B,) bool, the images that may change; None stands for all.
        """
        likely = torch.softmax(logits.float(), dim=1)
        label = self(targets, rows).argmax(dim=1, keepdim=True)
        best, predicted = likely.max(dim=1)
        changes = best - likely.gather(1, label).squeeze(1) > margin
        if candidates is not None:
            changes &= candidates
        # A batch drawn with replacement may hold an image twice; the largest number wins, so that runs repeat.
        values = torch.where(changes, predicted, self.labels[rows])
        self.labels.scatter_reduce_(0, rows, values, "amax", include_self=False)

    def share(self) -> Tensor:
        """Part of the images whose label was changed, float32 scalar from 0 to 1."""
        return (self.labels >= 0).float().mean()
