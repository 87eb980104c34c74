"""What a run learns: a task owns batches, loss and validation, and keeps the weights."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ddamfn.evaluate import score
from ddamfn.objectives import Criterion, DistillationLoss, LiveDistillation, SelfDistillation, SoftTargets
from ddamfn.train.augment import Augmenter, Batch, mix
from ddamfn.train.config import Run
from ddamfn.train.run_folder import RunFolder, save_weights_file
from ddamfn.train.step import evaluate_split
from ddamfn.train.teachers import TeacherTargets, create_teacher_targets, teachers_record
from ddamfn.train.tensorset import TensorSplit


class Task(ABC):
    """A task in one run; `record` is its part of environment.json."""

    criterion: Criterion
    teacher: TeacherTargets | None = None  # where the soft targets come from

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}

    @abstractmethod
    def batch(
        self, split: TensorSplit, rows: Tensor, augment: Augmenter, *, full: bool
    ) -> tuple[Batch, SoftTargets | None]:
        """Augmented images of `rows`, (B,) int64 on the CPU, and the teacher's outputs; code compiled if `full`."""

    @abstractmethod
    def validate(self, network: nn.Module, valid: TensorSplit | None, batch_size: int) -> dict[str, Any]:
        """The validation part of an epoch's row of metrics.jsonl."""

    @abstractmethod
    def keep(
        self, network: nn.Module, row: dict[str, Any], best: dict[str, Any] | None, folder: RunFolder, *, last: bool
    ) -> dict[str, Any] | None:
        """Write an epoch's weights, and return the best epoch's row, which is of the `last` phase."""


class SupervisedTask(Task):
    """Classification by labels, and by a teacher if the run has one."""

    def __init__(self, run: Run, train: TensorSplit) -> None:
        super().__init__()
        self.run = run
        device, config = train.images.device, run.distillation
        self.criterion = run.objective.create_criterion(train.describe()).to(device)
        self.teacher = create_teacher_targets(run, train)
        if config is not None:
            self.criterion = DistillationLoss(self.criterion, config)
            if not isinstance(config, SelfDistillation):
                self.record["teachers"] = teachers_record(config)
        self._unerased = isinstance(config, LiveDistillation) and config.teacher_sees_unerased

    def batch(
        self, split: TensorSplit, rows: Tensor, augment: Augmenter, *, full: bool
    ) -> tuple[Batch, SoftTargets | None]:
        """Augment and mix the images, then ask the teacher."""
        there = rows.to(split.images.device)
        weights = None if split.weights is None else split.weights[there]
        unerased, images = augment.stages(split.images[there].float() / 255)
        batch = Batch(images, split.targets[there], weights, unerased if self._unerased else None)
        batch = mix(batch, self.run.augment)
        return batch, None if self.teacher is None else self.teacher(rows, batch, full=full)

    def validate(self, network: nn.Module, valid: TensorSplit | None, batch_size: int) -> dict[str, Any]:
        """Score the validation images, and measure the attention heads."""
        assert valid is not None  # `fit` requires it of this task
        outputs = evaluate_split(network, valid, self.run.data, batch_size)
        return {
            "valid": score(outputs.logits.numpy(), valid.targets.cpu().numpy(), valid.classes).to_dict(),
            "head_means": outputs.head_means,
            "head_difference": outputs.head_difference,
            "max_attention_mean": outputs.max_attention_mean,
        }

    def keep(
        self, network: nn.Module, row: dict[str, Any], best: dict[str, Any] | None, folder: RunFolder, *, last: bool
    ) -> dict[str, Any] | None:
        """Keep the last epoch, and the first with the highest validation accuracy."""
        if not last:
            return best
        save_weights_file(network.state_dict(), folder.last)
        if best is not None and row["valid"]["accuracy"] <= best["valid"]["accuracy"]:
            return best
        save_weights_file(network.state_dict(), folder.best)
        return row
