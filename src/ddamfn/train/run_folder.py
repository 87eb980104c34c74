"""The folder of a run: configuration, metrics, checkpoints, lock; written atomically, read back."""

import io
import json
import logging
import os
import platform
import subprocess
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor, nn

import ddamfn
from ddamfn.errors import ConfigError, TrainingError, UsageError
from ddamfn.files import append_json_line, exclusive, read_json_lines, write_bytes
from ddamfn.models import create_network
from ddamfn.objectives import PretextObjective
from ddamfn.train.config import Run, to_dict
from ddamfn.train.settings import run_from_dict

log = logging.getLogger(__name__)

_CHECKSUM = "crc32"
_LIBRARIES = ("torch", "kornia", "numpy", "pytorch_optimizer")


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write everything that a run needs to resume; as `replace_file`."""
    # Made in memory, since torch turns a full disk into an error about its archive that names neither disk nor file.
    content = io.BytesIO()
    torch.save(dict(state), content)
    replace_file(path, content.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; never runs pickled code."""
    try:
        # torch writes a zip archive with checksums, and reads it without looking at them.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} differs from its checksum")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"{path}: cannot be read ({error}); delete it to begin the run anew") from error
    return state


def save_weights_file(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a network's weights as safetensors; as `replace_file`."""
    # Cloned: safetensors refuses tensors that share memory and takes row-major order alone.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    replace_file(path, safetensors.torch.save(plain, {_CHECKSUM: _checksum(plain)}))


def load_weights_file(path: Path) -> dict[str, Tensor]:
    """Read weights; raise TrainingError if the file is missing, damaged, or differs from its checksum if it has one."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            recorded = (file.metadata() or {}).get(_CHECKSUM)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        if recorded not in (None, _checksum(weights)):
            raise ValueError("its tensors differ from their checksum: it is damaged")
    except Exception as error:  # safetensors raises its own kinds
        raise TrainingError(f"{path}: no readable weights ({error})") from error
    return weights


def _checksum(weights: Mapping[str, Tensor]) -> str:
    """CRC-32 of names, types, shapes and values, which safetensors does not check."""
    checksum = 0
    for name in sorted(weights):
        tensor = weights[name]
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().tobytes(), checksum)
    return f"{checksum:08x}"


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step; raise TrainingError if the disk refuses, which leaves the file before whole."""
    try:
        write_bytes(path, content)
    except OSError as error:
        kept = "the one before is whole" if path.exists() else "there was none before"
        raise _refused(path, error, f"{kept}; make room, then resume the run") from error


def _refused(path: Path, error: OSError, advice: str) -> TrainingError:
    return TrainingError(f"{path}: cannot be written ({error.strerror or error}); {advice}")


def write_json(value: Any, path: Path) -> None:
    """Write JSON in one step; see `replace_file`."""
    replace_file(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files; raise TrainingError if it is missing or holds no JSON object."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); name a folder below runs/") from error
    if not isinstance(plain, dict):
        raise TrainingError(f"{path}: holds no JSON object; name a folder below runs/")
    return plain


class RunFolder:
    """`runs/<name>/`: config.json, environment.json, metrics.jsonl, result.json, curves.png and checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.state = path / "checkpoints" / "state.pt"
        self.last = path / "checkpoints" / "last.safetensors"
        self.best = path / "checkpoints" / "best.safetensors"
        self.trunk = path / "checkpoints" / "trunk.safetensors"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out of the folder; a folder that was made for the lock alone is removed."""
        made = not self.path.exists()
        with ExitStack() as stack:
            try:
                owned = stack.enter_context(exclusive(self.path / ".lock"))
            except OSError as error:
                raise _refused(self.path, error, "make room, or choose another --runs") from error
            if not owned:
                raise ConfigError(f"{self.path}: another process is training there; choose another --name")
            try:
                yield
            finally:
                if made and not self.config.exists():
                    with suppress(OSError):  # somebody put a file there
                        (self.path / ".lock").unlink()
                        self.path.rmdir()

    def begin(self, run: Run, environment: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder's files, or check that those there belong to the same run; raise ConfigError otherwise."""
        if not self.config.exists():
            # The configuration comes last: a folder that has one has all.
            write_json(environment, self.environment)
            write_json(to_dict(run), self.config)
            return
        if not resume:
            raise ConfigError(f"{self.path} holds a run already; add --resume to go on, or choose another --name")
        # Read as a run, so that a folder from before a setting existed has that setting's default.
        before, wanted = (json.loads(json.dumps(to_dict(one))) for one in (read_settings(self.path), run))
        different = sorted(_differences(before, wanted))
        if different:
            raise ConfigError(
                f"{self.path} holds another run than the one asked, different in {', '.join(different)}; resume with "
                "the settings of its config.json, or choose another --name"
            )
        self._compare(read_json(self.environment), environment)

    def withdraw(self) -> None:
        """Take back what `begin` wrote, unless there is a checkpoint, so that the folder's name is free again."""
        if not self.state.exists():
            self.config.unlink(missing_ok=True)
            self.environment.unlink(missing_ok=True)

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if before.get("data", now.get("data")) != now.get("data"):
            raise ConfigError(f"{self.path} was trained on other images; resume with the same --data")
        for name in ("initial", "teachers"):
            if name in now and before.get(name) != now[name]:
                raise ConfigError(
                    f"{self.path}: {name} has other weights now than when the run began; put the old ones back, or "
                    "choose another --name"
                )
        changed = [name for name, value in now.items() if name != "argv" and before.get(name, value) != value]
        if changed:
            log.warning("%s: another %s than before; the result may differ", self.path, ", ".join(changed))

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; raise TrainingError if the disk refuses."""
        try:
            append_json_line(self.metrics, row)
        except OSError as error:
            raise _refused(self.metrics, error, "make room, then resume the run") from error

    def forget_after(self, epochs: int) -> None:
        """Drop the rows of epochs that the checkpoint lacks: a kill can fall between the two files."""
        kept = [row for row in self.rows() if row["epoch"] <= epochs]
        if self.metrics.exists():
            replace_file(self.metrics, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows of metrics.jsonl."""
        try:
            return read_json_lines(self.metrics)
        except OSError as error:
            raise TrainingError(f"{self.metrics}: cannot be read ({error.strerror or error})") from error


def environment(device: torch.device, data: Mapping[str, Any], argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Content of environment.json: command line (None from Python), machine, versions, and the images' fingerprints."""
    return {
        "argv": None if argv is None else list(argv),
        "ddamfn": ddamfn.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "data": dict(data),
    }


def commit() -> str | None:
    """Commit of the source tree that this package runs from, with "+changes" if it differs; None outside of one."""
    try:
        # An installed package may lie inside somebody's repository without being part of it.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        head, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "-uno", "--", "..")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changes else "")


def _differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """Dotted names of the fields in which two configurations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from _differences(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    elif one != other:
        yield name


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _git(*arguments: str) -> str:
    # A git hook may have set variables that name a repository which is not this package's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"  # to look at the repository must not write into it
    folder = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


Checkpoint = Literal["best", "last"]


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRun:
    """One checkpoint of a run."""

    folder: Path
    checkpoint: Checkpoint
    network: nn.Module  # with the checkpoint's weights, in evaluation mode, on the CPU
    classes: tuple[str, ...]  # canonical, in the order of the outputs
    run: Run
    environment: Mapping[str, Any]  # content of environment.json
    row: Mapping[str, Any]  # the checkpoint's line of metrics.jsonl


def read_run(folder: str | Path, checkpoint: Checkpoint = "best") -> FinishedRun:
    """Open the `best` or `last` checkpoint of a run's last phase, whether the run has ended or not."""
    if checkpoint not in get_args(Checkpoint):
        raise UsageError(f"a run has the checkpoints {' and '.join(get_args(Checkpoint))}, not {checkpoint!r}")
    place = Path(folder)
    run, environment = read_settings(place), read_json(place / "environment.json")
    if isinstance(run.objective, PretextObjective):
        raise TrainingError(
            f"{place} trained a trunk by {run.objective.name}, without a class; begin a run with it: ddamfn train "
            f"RECIPE --set initial={place}"
        )
    row = _row_of(place, run, checkpoint)
    side_px = run.data.alignment.side_px
    if row["side_px"] != side_px:
        raise ConfigError(
            f"{place} was last trained at {row['side_px']} px, and its crops have {side_px} px: such a "
            "network would be used at a size it has not seen; end the run with a phase at the crops' size"
        )
    classes = tuple(row["valid"]["classes"])
    network = create_network(run.model.name, num_classes=len(classes), **run.model.options)
    weights = load_weights_file(place / "checkpoints" / f"{checkpoint}.safetensors")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(f"{place}: the checkpoint does not fit the network of config.json: {error}") from error
    return FinishedRun(place, checkpoint, network.eval(), classes, run, environment, row)


def read_settings(folder: str | Path) -> Run:
    """Read what a run was asked to do from its folder, whether it is finished or not."""
    return run_from_dict(read_json(Path(folder) / "config.json"))


def _row_of(place: Path, run: Run, checkpoint: Checkpoint) -> dict[str, Any]:
    """Find the row of a checkpoint, by the rule that the training keeps it by."""
    before = sum(phase.epochs for phase in run.phases[:-1])
    rows = [row for row in RunFolder(place).rows() if row["epoch"] > before]
    if not rows:
        raise TrainingError(f"{place}: the run's last phase has no epoch yet; go on with ddamfn train --resume")
    # `max` keeps the first of equal epochs, as the training does.
    return rows[-1] if checkpoint == "last" else max(rows, key=lambda row: row["valid"]["accuracy"])
