"""Pre-training: the trunk of a network learns from faces without labels, for a later run to begin with.

Only images of the training split are used. To learn from test images, even without their labels, would fit the
trunk to the very faces that it is scored on, and to learn from validation images would make the selection of the
later run, its temperature and its precision curve look better than on new faces.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.models.registry import as_network
from ddamfn.objectives import PretextCriterion, PretextObjective
from ddamfn.preparation import Prepared
from ddamfn.preparation.identity import DlibEmbedder, Embedder, identities
from ddamfn.train.augment import Augmenter, Batch
from ddamfn.train.config import Phase, Run
from ddamfn.train.loop import Outcome, Reporter, Trainer, fit
from ddamfn.train.run_folder import RunFolder, save_network
from ddamfn.train.sources import Progress, load_splits, own_validation, training_split
from ddamfn.train.tensorset import TensorSplit, to_tensors


class PretextTrainer(Trainer):
    """A run of a pretext task: the same loop, without validation; only the trunk is kept."""

    pretext = True
    criterion: PretextCriterion

    def __init__(self, run: Run, train: TensorSplit, valid: TensorSplit, folder: RunFolder) -> None:
        super().__init__(run, train, valid, folder)
        self.trunk = trunk_names(self.network)

    def _batch(self, train: TensorSplit, rows: Tensor, augment: Augmenter) -> Batch:
        return Batch(self.criterion.views(train.images[rows].float() / 255, augment), train.targets[rows])

    def _validated(self, kept: nn.Module, valid: TensorSplit, phase: Phase) -> dict[str, Any]:
        return {}

    def _keep(self, kept: nn.Module, row: dict[str, Any]) -> None:
        self.last = self.best = row
        weights = kept.state_dict()
        save_network({name: weights[name] for name in self.trunk}, self.folder.trunk)


def trunk_names(network: nn.Module) -> list[str]:
    """Names of the tensors that a network's map of features depends on.

    These are the parameters that its gradient reaches, and whatever else belongs to the same modules: the running means
    of batch normalization.
    """
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
    """All readable images of the training split, also those that no vote rule keeps.

    Of a set without a validation split, the images that a supervised run of the same seed, rule and share would hold
    out are left out.

    Args:
        prepared: the prepared set.
        run: whose objective is a pretext task.
        device: where the tensors shall live.
        progress: called with (images done, images in all) while embeddings are computed.
        embedder: what gives a task of identities its targets; None takes dlib's network.

    Returns:
        Images whose targets are embeddings (N, D), or (N, 0) for tasks without targets; the classes are the set's.

    Raises:
        MissingExtra: if identities are asked for and the extra "identity" is not installed.
        DataError: if the training split is missing or has no image.
    """
    name = training_split(prepared)
    split = prepared.split(name, None)
    faces = to_tensors(split, run.data.preprocessing, None, device, f"{name} of {prepared.folder}")
    targets = faces.targets
    if takes_identities(run):
        targets = torch.from_numpy(identities(prepared, name, embedder or DlibEmbedder(), progress)).to(device)
    faces = TensorSplit(faces.images, targets, faces.keys, run.data.classes or prepared.classes, faces.origin)
    if run.data.validation is None and own_validation(prepared) is None:
        held = set(load_splits(prepared, run, device)[1].keys)
        faces = faces.subset(torch.tensor([row for row, key in enumerate(faces.keys) if key not in held]))
    return faces


def is_pretext(run: Run) -> bool:
    """Whether a run learns from images alone, and is thus for `pretrain`."""
    return isinstance(run.objective, PretextObjective)


def takes_identities(run: Run) -> bool:
    """Whether a run learns embeddings of the faces."""
    return isinstance(run.objective, PretextObjective) and run.objective.takes_identities


def pretrain(run: Run, faces: TensorSplit, folder: Path, reporter: Reporter, *, resume: bool = False) -> Outcome:
    """Train a trunk into a folder; it is kept as `checkpoints/trunk.safetensors`.

    Args:
        run: what to do; its objective is a pretext task.
        faces: from `load_faces`.
        folder: where everything is written.
        reporter: who is told; its rows have no validation scores.
        resume: go on in a folder that holds the same run.

    Returns:
        The last epoch's row, as last and best: nothing is selected.

    Raises:
        ConfigError: if the run is none for a pretext task, the folder holds another one, or another process trains in
            it.
        TrainingError: see `fit`.
    """
    if not is_pretext(run):
        raise ConfigError(f"the objective {run.objective.name} needs labels; train with it, or choose a pretext task")
    nothing = faces.subset(torch.zeros(0, dtype=torch.int64))
    return fit(run, faces, nothing, folder, reporter, resume=resume, trainer=PretextTrainer)
