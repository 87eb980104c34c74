"""Do batches on the machines of a Ray cluster, one per core. Needs the extra "ray".

Kept to Ray's tasks: Ray Data would name and write the files by itself, and knows neither which images of an older run
are finished nor a file that is whole or absent. A task gets names and returns counts, so nothing large passes through
Ray; one that its worker or node was lost with is done again by Ray itself.
"""

import logging
import os
import pickle
import secrets
from typing import Any

from ddamfn.distributed.shards import Batch, Done, ShardTask
from ddamfn.environment import variables
from ddamfn.errors import DdamfnError, MissingExtra, UsageError

THIS_MACHINE = "local"
"""The address for which Ray starts a cluster of its own."""

_ALONE = {
    # It listens to this machine alone. The switch works on every system, whatever its name says.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Even where it reports nothing, Ray asks for the cloud that it may run in, by addresses outside of this machine: a
    # proxy that nobody listens on ends that.
    "http_proxy": "http://127.0.0.1:9",
    "no_proxy": "localhost,127.0.0.1",
}
"""Environment of the processes of such a cluster."""

# An image may end its worker each time, by a fault in a decoder: that batch must end at last.
_TRIES_AFTER_A_LOSS = 3
# A worker finds the next batch waiting.
_WAITING = 2

_TASKS: dict[bytes, ShardTask] = {}
"""The work of a worker; Ray reuses its processes, so later batches find the networks of earlier ones."""


class RayExecutor:
    """Do as many batches at once as a Ray cluster has cores; more when machines join it."""

    def __init__(self, address: str, task: ShardTask) -> None:
        """Connect to a cluster.

        Raises:
            MissingExtra: Ray is not installed.
            UsageError: no cluster answers, or it has no cores.
        """
        self._ray = connect(address)
        self._task = pickle.dumps(task)
        self._work = self._ray.remote(num_cpus=1, max_retries=_TRIES_AFTER_A_LOSS)(_work)
        self._running: dict[Any, Batch] = {}
        if self._cores < 1:
            raise UsageError(f"the Ray cluster {address} has no CPU to read images on")

    @property
    def slots(self) -> int:
        """How many batches may be submitted and not ended."""
        return self._cores + _WAITING

    @property
    def running(self) -> int:
        """Count the batches that were submitted and have not ended."""
        return len(self._running)

    def submit(self, batch: Batch) -> None:
        """Send a batch to the cluster."""
        self._running[self._work.remote(self._task, batch)] = batch

    def wait(self) -> Done:
        """Wait for the next batch to end."""
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        batch = self._running.pop(ready)
        try:
            done: Done = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            lost = not isinstance(error, self._ray.exceptions.RayTaskError)
            return Done(len(batch.sources), failure=f"its worker was lost each time ({reason})" if lost else reason)
        return done

    @property
    def _cores(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))


def connect(address: str, *, num_cpus: int | None = None) -> Any:
    """Return Ray, connected to a cluster; `THIS_MACHINE` starts one that nobody else reaches.

    Args:
        address: of a cluster.
        num_cpus: of a cluster that is started; one per core when None.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: no cluster answers.
    """
    own = address == THIS_MACHINE
    if own:
        # Ray would keep its password for such clusters in the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with variables(_ALONE if own else {}):
            import ray

            if not ray.is_initialized():
                options: dict[str, Any] = {"include_dashboard": False, "num_cpus": num_cpus} if own else {}
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "--ray") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray cluster answers at {address!r}: {str(error).splitlines()[0]}") from error
    return ray


def _work(pickled: bytes, batch: Batch) -> Done:
    """Do a batch in a worker; what goes wrong is told by its message, since Ray would add the worker's stack."""
    try:
        if pickled not in _TASKS:
            _TASKS[pickled] = pickle.loads(pickled)  # noqa: S301 - from the program that asked for it
        return _TASKS[pickled](batch)
    except DdamfnError as error:
        return Done(len(batch.sources), failure=" ".join(str(error).split()))
