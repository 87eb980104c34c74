"""One job: train, then score the network that was best on validation, once, on pictures nothing was chosen by."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddamfn.errors import TrainingError
from ddamfn.evaluate import score
from ddamfn.models import create_model
from ddamfn.models.complexity import count_parameters
from ddamfn.study.classic import fit_estimator
from ddamfn.study.jobs import Job
from ddamfn.study.pictures import Parts
from ddamfn.study.results import Result
from ddamfn.train import Outcome, Reporter, fit
from ddamfn.train.checkpoint import load_network, replace_file
from ddamfn.train.record import RunFolder
from ddamfn.train.step import answer
from ddamfn.train.tensorset import TensorSplit

ANSWERS = "answers.npz"


class _Trained(NamedTuple):
    """What a job's training came to; the numbers of epochs are 0 where there are none."""

    parameters: int
    valid_accuracy: float
    epoch: int
    epochs: int
    seconds: float
    pictures_per_second: float
    head_means: tuple[float, ...] = ()
    head_difference: float = 0.0
    joined_mean: float = 0.0


class Answers(NamedTuple):
    """A job's answers to the pictures that it was scored on.

    Attributes:
        keys: N names.
        true: (N,) int64, columns of the classes.
        logits: (N, K) float32.
    """

    keys: NDArray[np.str_]
    true: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which are correct, (N,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.true)


def run_job(job: Job, parts: Parts, folder: Path, reporter: Reporter) -> Result:
    """Train a job, or go on with it where a kill left it, and score it.

    The test part is read here, once a job and after the training has ended, by the network that was best on validation.
    No epoch, setting or seed is chosen by what comes of it.

    Args:
        job: what to do.
        parts: its pictures.
        folder: of the run.
        reporter: who is told of the epochs.

    Raises:
        TrainingError: if the run cannot go on or the disk refuses.
        ConfigError: if the folder holds another run.
        DataError: if a class has no training picture.
    """
    if job.estimator is not None:
        trained, answers = _fit_estimator(job, job.estimator, parts)
    else:
        trained, answers = _answer(job, parts, _train(job, parts, folder, reporter))
    folder.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    np.savez_compressed(content, keys=answers.keys, true=answers.true, logits=answers.logits)
    replace_file(folder / ANSWERS, content.getbuffer())
    return _result(job, parts, trained, answers)


def discard_state(folder: Path) -> None:
    """Delete what only an unfinished job needs, several times its network's size; networks, record and answers stay.

    To be called once the result is in the ledger: without either, a killed study would train the job again.
    """
    RunFolder(folder).state.unlink(missing_ok=True)


def load_answers(folder: Path) -> Answers:
    """Read a finished job's answers.

    Raises:
        TrainingError: if the file is missing or damaged.
    """
    try:
        with np.load(folder / ANSWERS) as file:
            return Answers(file["keys"], file["true"], file["logits"])
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder / ANSWERS}: cannot be read ({error}); delete {folder} to run the job anew"
        ) from error


def _train(job: Job, parts: Parts, folder: Path, reporter: Reporter) -> Outcome:
    place = RunFolder(folder)
    if place.result.exists() and not place.state.exists():  # finished, and its line of the ledger was lost
        reached = json.loads(place.result.read_text(encoding="utf-8"))
        return Outcome(folder, reached["last"], reached["best"])
    if job.run.compile:
        # Other jobs' code counts towards PyTorch's limit of versions of a function, past which it no longer compiles.
        torch.compiler.reset()
    return fit(job.run, parts.train, parts.valid, folder, reporter, resume=True)


def _answer(job: Job, parts: Parts, outcome: Outcome) -> tuple[_Trained, Answers]:
    run, test = job.run, parts.test
    network = create_model(run.model.name, num_classes=len(test.classes), **run.model.options)
    network.load_state_dict(load_network(RunFolder(outcome.folder).best))
    network.to(test.images.device)
    phase = run.phases[-1]
    answers = answer(network, test.resized(phase.side_px), run.data, phase.batch_size)
    rows, best = RunFolder(outcome.folder).rows(), outcome.best
    seconds = sum(row["seconds"] for row in rows)
    trained = _Trained(
        parameters=count_parameters(network),
        valid_accuracy=best["valid"]["accuracy"],
        epoch=best["epoch"],
        epochs=run.epochs,
        seconds=seconds,
        pictures_per_second=sum(row["train"]["n"] for row in rows) / seconds,
        head_means=tuple(best["head_means"]),
        head_difference=best["head_difference"],
        joined_mean=best["joined_mean"],
    )
    return trained, _answers(test, answers.logits.numpy())


def _fit_estimator(job: Job, name: str, parts: Parts) -> tuple[_Trained, Answers]:
    fitted = fit_estimator(name, job.seed, *parts, side_px=job.run.phases[-1].side_px)
    right = _answers(parts.valid, fitted.valid).right
    trained = _Trained(0, float(right.mean()), 0, 0, fitted.seconds, len(parts.train) / fitted.seconds)
    return trained, _answers(parts.test, fitted.test)


def _answers(split: TensorSplit, logits: NDArray[np.float32]) -> Answers:
    return Answers(np.array(split.keys), split.targets.argmax(dim=1).cpu().numpy(), logits)


def _result(job: Job, parts: Parts, trained: _Trained, answers: Answers) -> Result:
    scores = score(answers.logits, parts.test.targets.cpu().numpy(), parts.test.classes)
    device = parts.train.images.device
    return Result(
        job=job.id,
        row=job.row,
        seed=job.seed,
        fold=None if job.fold is None else job.fold.number,
        n_train=len(parts.train),
        n_valid=len(parts.valid),
        n=scores.n,
        correct=scores.correct,
        accuracy=scores.accuracy,
        ci95=scores.ci95,
        mean_class_accuracy=scores.mean_class_accuracy,
        macro_f1=scores.macro_f1,
        test=Path(parts.test.origin.partition(" of ")[2]).name,
        rule=job.run.data.rule if job.fold is not None else job.run.data.validation_rule,
        device=_device_name(job, device),
        commit=job.commit,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **trained._asdict(),
    )


def _device_name(job: Job, device: torch.device) -> str:
    on_gpu = device.type == "cuda" and job.estimator is None
    return torch.cuda.get_device_name(device) if on_gpu else "cpu"
