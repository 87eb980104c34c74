"""What came of each job: one line of results.jsonl, written when the job is done and never again."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ddamfn.errors import TrainingError

LEDGER = "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One job's score.

    Attributes:
        job: the job's id.
        row: the table's row.
        seed: the run's seed.
        fold: number of the fold, counted from 0; None for the set's own test split.
        n_train: pictures trained on, without those selected on.
        n_valid: pictures selected on.
        n: pictures scored.
        correct: of these, answered correctly.
        accuracy: correct / n, 0..1.
        ci95: its Wilson interval.
        mean_class_accuracy: mean recall over the classes, 0..1.
        macro_f1: 0..1.
        valid_accuracy: of the epoch that was chosen, on the pictures selected on.
        epoch: the chosen epoch, counted from 1.
        epochs: of the whole run.
        parameters: of the network.
        seconds: of training, all epochs together.
        pictures_per_second: trained, over the whole run.
        test: what was scored on, such as `test of FOLDER`.
        rule: the vote rule of the pictures scored on.
        device: where it was trained.
        commit: of the source tree, None where there was none.
        finished: UTC, ISO 8601.
        head_means: mean of each attention head's map on the pictures selected on, by the network that was chosen.
        head_difference: mean squared difference of the heads' maps; 0 with fewer than two heads.
        joined_mean: mean of the heads' maximum, which weighs the features; near 1 the attention is switched off.
    """

    job: str
    row: str
    seed: int
    fold: int | None
    n_train: int
    n_valid: int
    n: int
    correct: int
    accuracy: float
    ci95: tuple[float, float]
    mean_class_accuracy: float
    macro_f1: float
    valid_accuracy: float
    epoch: int
    epochs: int
    parameters: int
    seconds: float
    pictures_per_second: float
    test: str
    rule: str
    device: str
    commit: str | None
    finished: str
    head_means: tuple[float, ...] = ()
    head_difference: float = 0.0
    joined_mean: float = 0.0

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Result":
        """Make a result of a line's values; what a later version may have added is left out."""
        known = {
            field.name: plain[field.name] for field in fields(cls) if field.name in plain or field.default is MISSING
        }
        low, high = plain["ci95"]
        return cls(**{**known, "ci95": (low, high), "head_means": tuple(plain.get("head_means", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Plain values of a line."""
        return asdict(self)


class Ledger:
    """`results.jsonl` of a study: a line a finished job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Result]:
        """Finished jobs by id; a line torn by a kill is left out, and its job is scored again."""
        results = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                result = Result.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue
            results[result.job] = result
        return results

    def append(self, result: Result) -> None:
        """Write a line, on the disk when this returns.

        Raises:
            TrainingError: if it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size > 0
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if torn else "") + json.dumps(result.to_dict()) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror or error}); make room") from error


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Take a job for this process, and tell whether no other one has it; a claim ends with its process.

    So the same command, started once a GPU, shares a study out.

    Raises:
        TrainingError: if the folder cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where one process does it all
        yield True
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".claim").open("a+")
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another --runs"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"{platform.node()} {os.getpid()}\n")
        file.flush()
        yield True
