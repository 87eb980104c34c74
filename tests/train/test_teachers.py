"""Students and their teachers: what is learned, whose classes fit, and that a stop changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.objectives import CachedDistillation, LiveDistillation, SoftTargets
from ddamfn.train import Run, fit, loop
from ddamfn.train.augment import to_input
from ddamfn.train.initial import read_exported
from ddamfn.train.run_folder import load_state, load_weights_file, read_run, save_weights_file
from ddamfn.train.step import evaluate_split
from ddamfn.train.teachers import CachedTargets, Teachers, teachers_record
from ddamfn.train.tensorset import TensorSplit
from ddamfn.weights import find_weights

CPU = torch.device("cpu")
CLASSES = ("neutral", "happiness", "surprise", "anger")
Splits = tuple[TensorSplit, TensorSplit]


class Stop(Exception):
    """Stands for a kill between two steps."""


class Nobody:
    """A reporter that does not listen."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture(scope="module")
def small(draw: Callable[..., TensorSplit]) -> Splits:
    """Sixteen synthetic faces of four classes to train on, and eight to validate on."""
    return draw(4, seed=3, classes=CLASSES), draw(2, seed=4, classes=CLASSES)


@pytest.fixture(scope="module")
def teacher(small: Splits, make_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows its sixteen faces by heart."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    run = make_run(phases__0__epochs=10, augment={"flip": 0}, checkpoint_steps=1000, schedule={"name": "constant"})
    fit(run, small[0], small[0], folder, Nobody())
    network = settled(read_run(folder, "last").network, small[0], run)
    save_weights_file(network.state_dict(), folder / "checkpoints" / "best.safetensors")
    return folder


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The batches that teachers are asked about, as they come."""
    batches: list[Tensor] = []
    ask = Teachers.__call__

    def asked(self: Teachers, images: Tensor, *, full: bool = False) -> SoftTargets:
        batches.append(images)
        return ask(self, images, full=full)

    monkeypatch.setattr(Teachers, "__call__", asked)
    return batches


def settled(network: torch.nn.Module, split: TensorSplit, run: Run) -> torch.nn.Module:
    """Give batch normalization the means of these very images: twenty steps are too few for its running ones."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        network.train()(to_input(split.images.float() / 255, run.data.mean, run.data.std))
    return network.eval()


def distilled_run(make_run: Callable[..., Run], *teachers: Path, **more: Any) -> Run:
    teaching = {"teachers": [str(path) for path in teachers], **more.pop("distillation", {})}
    return make_run(distillation=teaching, augment={"flip": 0}, **more)


def test_a_student_without_labels_learns_the_teachers_outputs(
    small: Splits, teacher: Path, make_run: Callable[..., Run], tmp_path: Path, reporter: Any
) -> None:
    train = small[0]
    predicted = evaluate_split(read_run(teacher).network, train, make_run().data, 8).logits.argmax(dim=1)
    assert predicted.bincount().max() < len(predicted)
    # The labels tell nothing: every class is as likely.
    blind = replace(train, targets=torch.full_like(train.targets, 1 / len(CLASSES)))
    blind.targets[:4] += torch.eye(4) * 1e-6  # each class must have an image
    run = distilled_run(
        make_run, teacher, distillation={"weight": 1.0}, phases__0__epochs=10, checkpoint_steps=1000,
        schedule={"name": "constant"}, seed=9,
    )  # fmt: skip
    fit(run, blind, train, tmp_path / "run", reporter)
    network = settled(read_run(tmp_path / "run", "last").network, train, run)
    learned = evaluate_split(network, train, run.data, 8).logits.argmax(dim=1)
    assert int((learned == predicted).sum()) >= 13
    assert reporter.rows[-1]["train"]["distillation"] < reporter.rows[0]["train"]["distillation"] / 2


@pytest.mark.parametrize("how", [{"features": 0.5}, {"name": "cached"}])
def test_a_stopped_student_ends_with_the_same_bits_and_keeps_its_teachers(
    small: Splits, teacher: Path, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, how: dict[str, Any]
) -> None:
    run = distilled_run(make_run, teacher, distillation=how, phases__0__epochs=1, phases__0__batch_size=4)
    fit(run, *small, tmp_path / "whole", reporter)

    class Stopping(type(reporter)):  # type: ignore[misc]
        def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
            super().step_done(images, loss, accuracy)
            if len(self.steps) == 3:
                raise Stop

    with pytest.raises(Stop):
        fit(run, *small, tmp_path / "stopped", Stopping())
    best = teacher / "checkpoints" / "best.safetensors"
    before = best.read_bytes()
    try:
        save_weights_file({name: tensor * 2 for name, tensor in load_weights_file(best).items()}, best)
        with pytest.raises(ConfigError, match="teachers has other weights now than when the run began"):
            fit(run, *small, tmp_path / "stopped", reporter, resume=True)
    finally:
        best.write_bytes(before)
    fit(run, *small, tmp_path / "stopped", reporter, resume=True)
    whole, resumed = (load_state(tmp_path / name / "checkpoints" / "state.pt") for name in ("whole", "stopped"))
    assert all(torch.equal(tensor, resumed["network"][name]) for name, tensor in whole["network"].items())
    # No teacher is in a checkpoint.
    own = read_run(teacher).network.state_dict()
    assert set(whole["network"]) == set(own)
    assert not whole["criterion"]


def test_an_ensemble_is_the_mean_and_classes_are_mapped_by_name(
    teacher: Path, small: Splits, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for part in ("config.json", "environment.json", "metrics.jsonl", "checkpoints/best.safetensors"):
        (other / part).parent.mkdir(parents=True, exist_ok=True)
        (other / part).write_bytes((teacher / part).read_bytes())
    weights = load_weights_file(other / "checkpoints" / "best.safetensors")
    save_weights_file(
        {name: tensor * 0.9 for name, tensor in weights.items()}, other / "checkpoints" / "best.safetensors"
    )
    run, images = make_run(), small[0].images[:4].float() / 255
    config = LiveDistillation(teachers=(str(teacher), str(other)), temperature=3.0)
    soft_targets = Teachers(config, run, CLASSES, CPU)(images)
    with torch.no_grad():
        single = [
            (read_run(path).network(to_input(images, run.data.mean, run.data.std)).logits / 3).softmax(dim=1)
            for path in (teacher, other)
        ]
    torch.testing.assert_close(soft_targets.probabilities, (single[0] + single[1]) / 2)
    assert not soft_targets.probabilities.requires_grad
    turned = Teachers(config, run, CLASSES[::-1], CPU)(images)
    torch.testing.assert_close(turned.probabilities, soft_targets.probabilities.flip(1))


def test_flip_averaging_is_over_each_image_and_its_mirror_image(
    teacher: Path, small: Splits, make_run: Callable[..., Run]
) -> None:
    images = small[0].images[:4].float() / 255
    plain, both = (
        Teachers(LiveDistillation(teachers=(str(teacher),), flip_average=flip_average), make_run(), CLASSES, CPU)
        for flip_average in (False, True)
    )
    left, right = plain(images), plain(images.flip(-1))
    assert not torch.allclose(left.probabilities, right.probabilities)
    torch.testing.assert_close(both(images).probabilities, (left.probabilities + right.probabilities) / 2)
    # Features have a place, so they are those of the image as it is.
    torch.testing.assert_close(both(images).features, left.features)


@pytest.mark.parametrize("unerased", [True, False])
def test_a_teacher_sees_unerased_images_if_that_is_asked_for(
    teacher: Path,
    small: Splits,
    make_run: Callable[..., Run],
    tmp_path: Path,
    reporter: Any,
    monkeypatch: pytest.MonkeyPatch,
    shown: list[Tensor],
    unerased: bool,
) -> None:
    learned, step = [], loop.train_step

    def stepped(network: Any, criterion: Any, optimizer: Any, inputs: Tensor, *rest: Any) -> Any:
        learned.append(inputs)
        return step(network, criterion, optimizer, inputs, *rest)

    monkeypatch.setattr(loop, "train_step", stepped)
    run = make_run(
        distillation={"teachers": [str(teacher)], "teacher_sees_unerased": unerased},
        augment__flip=0.0,
        augment__erase=1.0,
        augment__erase_area=[0.1, 0.2],
    )
    fit(run, *small, tmp_path / "taught", reporter)
    assert len(shown) == len(learned) > 0
    for teachers_own, student_s in zip(shown, learned, strict=True):
        differs = (to_input(teachers_own, run.data.mean, run.data.std) != student_s).float().mean(dim=(1, 2, 3))
        assert (differs > 0.05).all() if unerased else (differs == 0).all()


def test_a_teacher_sees_images_at_its_own_size(teacher: Path, small: Splits, make_run: Callable[..., Run]) -> None:
    run = make_run(data__alignment__side_px=64)
    teachers = Teachers(LiveDistillation(teachers=(str(teacher),)), run, CLASSES, CPU)
    images = small[0].images[:4].float() / 255
    doubled = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    small_again = F.interpolate(doubled, (32, 32), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(teachers(doubled).probabilities, teachers(small_again).probabilities)


@pytest.mark.parametrize("compiles", [True, False])
def test_teachers_are_compiled_as_the_student_is_and_for_full_batches_alone(
    teacher: Path,
    small: Splits,
    make_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    compiles: bool,
) -> None:
    seen = []

    def compiled(network: nn.Module, **_: Any) -> Callable[[Tensor], Any]:
        def forward(images: Tensor) -> Any:
            seen.append(len(images))
            return network(images)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    teachers = Teachers(LiveDistillation(teachers=(str(teacher),)), make_run(compile=compiles), CLASSES, CPU)
    images = small[0].images[:4].float() / 255
    whole, rest = teachers(images, full=True), teachers(images[:3])
    assert seen == ([4] if compiles else [])
    torch.testing.assert_close(whole.probabilities[:3], rest.probabilities)


def test_teachers_that_do_not_fit_are_told_in_one_line(
    teacher: Path, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    config = LiveDistillation(teachers=(str(teacher),))
    with pytest.raises(ConfigError, match="has the classes neutral, happiness, surprise, anger, the run neutral"):
        Teachers(config, make_run(), ("neutral", "fear"), CPU)
    with pytest.raises(ConfigError, match=r'another preprocessing, {"color": "rgb", .*}, not {"color": "gray"'):
        Teachers(config, make_run(data__preprocessing__color="gray"), CLASSES, CPU)
    with pytest.raises(ConfigError, match="trained on images of another template, ddamfn_frontal, not arcface"):
        Teachers(config, make_run(data__alignment__template="arcface"), CLASSES, CPU)
    with pytest.raises(TrainingError, match="name a folder below runs"):
        Teachers(LiveDistillation(teachers=(str(tmp_path),)), make_run(), CLASSES, CPU)
    with pytest.raises(ConfigError, match=r"none': no run with kept weights, no .* name one of these"):
        Teachers(LiveDistillation(teachers=(str(tmp_path / "none"),)), make_run(), CLASSES, CPU)
    bare = teacher / "checkpoints" / "best.safetensors"
    with pytest.raises(ConfigError, match=r"best.safetensors does not record its preprocessing"):
        Teachers(LiveDistillation(teachers=(str(bare),)), make_run(), CLASSES, CPU)


@pytest.mark.usefixtures("whole_trunk")
@pytest.mark.parametrize("by_name", [True, False])
def test_exported_weights_teach_their_network_s_outputs(make_run: Callable[..., Run], by_name: bool) -> None:
    path, card = find_weights("ddamfn-ferplus")
    place = "ddamfn-ferplus" if by_name else str(path)
    run = make_run(data__preprocessing=card.preprocessing, data__alignment__side_px=card.input_side_px)
    config = LiveDistillation(teachers=(place,), temperature=3.0)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    soft_targets = Teachers(config, run, card.labels[::-1], CPU)(images)
    network, _ = read_exported(place)
    with torch.no_grad():
        logits = network(to_input(images, card.mean, card.std)).logits
    torch.testing.assert_close(soft_targets.probabilities.flip(1), (logits / 3).softmax(dim=1))
    assert teachers_record(config) == {place: card.sha256}
    with pytest.raises(ConfigError, match=f"teacher .*{card.name}.* trained on images of another preprocessing"):
        Teachers(config, make_run(), card.labels, CPU)


def test_cached_targets_stay_the_same(
    teacher: Path, small: Splits, make_run: Callable[..., Run], shown: list[Tensor]
) -> None:
    teachers = Teachers(CachedDistillation(teachers=(str(teacher),)), make_run(), CLASSES, CPU)
    whole = teachers(small[0].images[:6].float() / 255).probabilities
    shown.clear()
    kept = CachedTargets(teachers, small[0].images, len(CLASSES))
    first, again = kept(torch.tensor([3, 0, 5])), kept(torch.tensor([5, 1, 3, 3]))
    torch.testing.assert_close(first.probabilities, whole[[3, 0, 5]])
    assert first.features is None
    torch.testing.assert_close(again.probabilities, whole[[5, 1, 3, 3]])
    # The second time only the image that was new was looked at, as it is.
    assert [len(images) for images in shown] == [3, 1]
    torch.testing.assert_close(shown[1], small[0].images[[1]].float() / 255)
    resumed = CachedTargets(teachers, small[0].images, len(CLASSES))
    resumed.load_state(kept.state())
    assert torch.equal(resumed(torch.tensor([1, 5])).probabilities, again.probabilities[[1, 0]])
    assert len(shown) == 2


def test_cached_targets_are_of_images_without_augmentation(
    teacher: Path,
    small: Splits,
    make_run: Callable[..., Run],
    tmp_path: Path,
    reporter: Any,
    shown: list[Tensor],
) -> None:
    run = make_run(distillation={"teachers": [str(teacher)], "name": "cached"}, augment__flip=1.0, phases__0__epochs=2)
    fit(run, *small, tmp_path / "taught", reporter)
    # Two epochs, and every image passed once: the set as it lies in memory, not mirrored.
    images = torch.cat(shown)
    assert sorted(images.flatten(1).sum(dim=1).tolist()) == sorted(
        (small[0].images.float() / 255).flatten(1).sum(dim=1).tolist()
    )
    assert all((small[0].images.float() / 255 == image).flatten(1).all(dim=1).any() for image in images)


def self_distilled_run(make_run: Callable[..., Run], **more: Any) -> Run:
    """Two epochs by the labels, and two that learn what came of them, in two batches of eight each."""
    phase = {"epochs": 2, "side_px": 32, "batch_size": 8}
    settings = {"phases": [phase, {**phase, "lr_factor": 0.5}], "schedule__restarts": True, "ema": 0.5}
    return make_run(**{"distillation": {"name": "self", "flip_average": True, "temperature": 3.0}, **settings, **more})


def test_self_distillation_learns_the_outputs_of_what_the_phase_before_kept(
    small: Splits, make_run: Callable[..., Run], tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_targets: list[tuple[Tensor, Tensor] | None] = []
    step = loop.train_step

    def stepped(*given: Any) -> Any:
        soft_targets, rows = given[5].soft_targets, given[5].rows
        given_targets.append(None if soft_targets is None else (rows, soft_targets.probabilities))
        return step(*given)

    monkeypatch.setattr(loop, "train_step", stepped)
    run = self_distilled_run(make_run, precise_bn=8)
    fit(run, *small, tmp_path / "again", reporter)
    first = replace(run, phases=run.phases[:1], distillation=None)
    alone = type(reporter)()
    fit(first, *small, tmp_path / "first", alone)
    # The first phase is a run without teachers.
    assert [row["train"] for row in reporter.rows[:2]] == [row["train"] for row in alone.rows]
    assert ["distillation" in row["train"] for row in reporter.rows] == [False, False, True, True]
    assert given_targets[:4] == [None] * 4
    kept = read_run(tmp_path / "first", "last").network
    images = to_input(small[0].images.double() / 255, run.data.mean, run.data.std)
    with torch.no_grad():
        outputs = [(kept(one).logits / 3).softmax(dim=1) for one in (images, images.flip(-1))]
    targets = [one for one in given_targets[4:8] if one is not None]
    assert len(targets) == 4
    for rows, probabilities in targets:
        torch.testing.assert_close(probabilities, (outputs[0] + outputs[1])[rows] / 2)


@pytest.fixture(scope="module")
def distilled(small: Splits, make_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of self-distillation that nothing stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    fit(self_distilled_run(make_run), *small, folder, Nobody())
    return folder


# In the first phase, where it ends and before the teacher is asked, and in the middle of the second.
@pytest.mark.parametrize("steps", [3, 4, 5])
def test_self_distillation_can_be_stopped_at_any_step(
    small: Splits, make_run: Callable[..., Run], distilled: Path, tmp_path: Path, reporter: Any, steps: int
) -> None:
    run = self_distilled_run(make_run)

    class Stopping(type(reporter)):  # type: ignore[misc]
        def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
            super().step_done(images, loss, accuracy)
            if len(self.steps) == steps:
                raise Stop

    with pytest.raises(Stop):
        fit(run, *small, tmp_path / "stopped", Stopping())
    fit(run, *small, tmp_path / "stopped", reporter, resume=True)
    whole, resumed = (load_state(folder / "checkpoints" / "state.pt") for folder in (distilled, tmp_path / "stopped"))
    assert all(torch.equal(tensor, resumed["network"][name]) for name, tensor in whole["network"].items())
    assert torch.equal(whole["teacher"], resumed["teacher"])
