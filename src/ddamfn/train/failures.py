"""What stops a run after its folder was begun, in one line that says the way out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.train.config import Run
from ddamfn.train.record import RunFolder


@contextmanager
def explained(run: Run, folder: RunFolder) -> Iterator[None]:
    """Train inside of this; a run that does not fit, and has no checkpoint yet, leaves no files behind.

    Raises:
        ConfigError: as raised inside, and where the network cannot be compiled.
        TrainingError: as raised inside, and for a device without memory.
    """
    try:
        yield
    except ConfigError:
        folder.withdraw()
        raise
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{folder.path}: the device has too little memory; begin a run of another --name with smaller batches, "
            f"such as --set phases.0.batch_size={run.phases[0].batch_size // 2}"
        ) from error
    except RuntimeError as error:
        if not _is_from_compiling(error):
            raise
        folder.withdraw()
        raise ConfigError(
            f"the network cannot be compiled here ({_first_line(error)}); install a C++ compiler, such as g++, and "
            "Python's headers, or train with --set compile=false"
        ) from error


def _is_from_compiling(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # only here: importing it takes seconds

    return isinstance(error, TorchDynamoException)


def _first_line(error: RuntimeError) -> str:
    cause = getattr(error, "inner_exception", error)
    return str(cause).strip().partition("\n")[0]
