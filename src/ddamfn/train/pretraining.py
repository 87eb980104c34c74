"""Pre-training: the trunk of a network learns from faces without labels, for a later run to begin with.

Only images of the training split are used. To learn from test images, even without their labels, would fit the
trunk to the very faces that it is scored on, and to learn from validation images would make the selection of the
later run, its temperature and its precision curve look better than on new faces.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ddamfn.data import Progress
from ddamfn.models import ModelOutput
from ddamfn.models.registry import as_network
from ddamfn.objectives import PretextCriterion, PretextObjective, SoftTargets
from ddamfn.preparation import Prepared
from ddamfn.preparation.identity import DlibEmbedder, Embedder, identities
from ddamfn.preparation.splits import own_validation, require_classes, training_split
from ddamfn.train.augment import Augmenter, Batch
from ddamfn.train.config import Run
from ddamfn.train.run_folder import RunFolder, save_weights_file
from ddamfn.train.splits import load_splits
from ddamfn.train.task import Task
from ddamfn.train.tensorset import TensorSplit, to_tensors


class PretextTask(Task):
    """A pretext task: no labels, no validation, and only the trunk is kept."""

    criterion: PretextCriterion

    def __init__(self, objective: PretextObjective, train: TensorSplit, network: nn.Module) -> None:
        super().__init__()
        self.criterion = objective.create_criterion(train.describe()).to(train.images.device)
        self.trunk = trunk_names(network)

    def batch(
        self, split: TensorSplit, rows: Tensor, augment: Augmenter, *, full: bool
    ) -> tuple[Batch, SoftTargets | None]:
        """The task's views of the images."""
        there = rows.to(split.images.device)
        return Batch(self.criterion.views(split.images[there].float() / 255, augment), split.targets[there]), None

    def validate(self, network: nn.Module, valid: TensorSplit | None, batch_size: int) -> dict[str, Any]:
        """Nothing: there are no labels."""
        return {}

    def keep(
        self, network: nn.Module, row: dict[str, Any], best: dict[str, Any] | None, folder: RunFolder, *, last: bool
    ) -> dict[str, Any]:
        """Keep the trunk of the last epoch."""
        weights = network.state_dict()
        save_weights_file({name: weights[name] for name in self.trunk}, folder.trunk)
        return row


def trunk_names(network: nn.Module) -> list[str]:
    """Tensors that a network's map of features depends on: parameters with a gradient, and their modules' buffers."""
    parameters = dict(network.named_parameters())
    training = network.training
    network.eval()
    images = next(network.parameters()).new_zeros(2, 3, *as_network(network).input_size)
    output: ModelOutput = network(images)
    gradients = torch.autograd.grad(output.features.sum(), list(parameters.values()), allow_unused=True)
    network.train(training)
    reached = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
    owners = {name.rpartition(".")[0] for name in reached}
    return [name for name in network.state_dict() if name.rpartition(".")[0] in owners]


def load_faces(
    prepared: Prepared,
    run: Run,
    device: torch.device,
    progress: Progress | None = None,
    embedder: Embedder | None = None,
) -> TensorSplit:
    """Return all readable training images, also those that no vote rule keeps; targets are embeddings or (N, 0).

    Of a set without a validation split, the images that a supervised run of the same seed, rule and share would hold
    out are left out.
    """
    name = training_split(prepared)
    require_classes(prepared, run.data.classes)
    split = prepared.split(name, None)
    faces = to_tensors(split, run.data.preprocessing, None, device, f"{name} of {prepared.source}")
    targets = faces.targets
    if isinstance(run.objective, PretextObjective) and run.objective.takes_identities:
        targets = torch.from_numpy(identities(prepared, name, embedder or DlibEmbedder(), progress)).to(device)
    faces = TensorSplit(faces.images, targets, faces.keys, run.data.classes or prepared.classes, faces.origin)
    if run.data.validation is None and own_validation(prepared) is None:
        held = set(load_splits(prepared, run, device)[1].keys)
        faces = faces.subset(torch.tensor([row for row, key in enumerate(faces.keys) if key not in held]))
    return faces


def is_pretext(run: Run) -> bool:
    """Whether a run learns from images alone."""
    return isinstance(run.objective, PretextObjective)
