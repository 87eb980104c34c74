"""CPU time and memory of a process with all its descendants, from Linux's /proc."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_SAMPLES_PER_S = 10


def tree(root: int) -> list[int]:
    """Return the process and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def cpu_s(root: int) -> float:
    """Return the CPU time of the tree in seconds, with that of descendants that have ended."""
    # After the name: state, parent, ...; 11 to 14 are user and system time, and the same of children waited for.
    return _TICK_S * sum(sum(map(int, fields[11:15])) for process in tree(root) if (fields := _stat(process)))


def kill(root: int) -> None:
    """End the process and its descendants."""
    for process in reversed(tree(root)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


class PeakMemory:
    """Samples the memory of a tree while entered; `peak_mb` is the largest seen.

    Pages that processes share count once (PSS). A single process's own record finds peaks between samples.
    """

    def __init__(self, root: int) -> None:
        self.peak_mb = 0.0
        self._root = root
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(1 / _SAMPLES_PER_S):
            processes = tree(self._root)
            shared = sum(_kilobytes(process, "smaps_rollup", "Pss:") for process in processes)
            record = max(_kilobytes(process, "status", "VmHWM:") for process in processes)
            self.peak_mb = max(self.peak_mb, shared / 1e3, record / 1e3)


def _stat(process: int) -> list[str]:
    """Return the fields after a process's name, which may itself hold spaces; none if it has ended."""
    try:
        return (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _kilobytes(process: int, file: str, label: str) -> int:
    try:
        lines = (_PROC / str(process) / file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(label)), 0)
