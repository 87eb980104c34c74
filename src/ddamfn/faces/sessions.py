"""ONNX Runtime sessions: execution provider, threads and options, for both networks."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from ddamfn.errors import UsageError

Providers = str | Sequence[str | tuple[str, Mapping[str, Any]]]
"""One execution provider, or several by preference: names such as "cuda" or "CUDAExecutionProvider", each alone or in a
pair with its options."""

_SUFFIX = "ExecutionProvider"


def open_session(
    network: bytes,
    *,
    num_threads: int | None = None,
    providers: Providers | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    """Load an ONNX network's bytes; `num_threads` None takes as many as `OMP_NUM_THREADS` says, else one per core.

    What the first provider cannot run goes to the next; the CPU is the default. `session_options` replace this
    package's options and set the threads, so `num_threads` cannot be given with them.
    """
    if session_options is None:
        session_options = onnxruntime.SessionOptions()
        # ONNX Runtime's own choice, 0, is one per physical core.
        session_options.intra_op_num_threads = num_threads or requested_num_threads() or 0
        session_options.inter_op_num_threads = 1
        session_options.log_severity_level = 3
    elif num_threads is not None:
        raise UsageError("num_threads and session_options exclude each other: set intra_op_num_threads in the options")
    wanted = _resolve("cpu" if providers is None else providers)
    session = onnxruntime.InferenceSession(network, session_options, providers=wanted)
    # Where a provider's libraries are missing, ONNX Runtime takes the CPU without an error.
    for entry in wanted:
        name = entry if isinstance(entry, str) else entry[0]
        if name not in session.get_providers():
            raise UsageError(f"the provider {_short(name)} is installed, but cannot start on this machine")
    return session


def requested_num_threads() -> int | None:
    """Return what `OMP_NUM_THREADS` says, as PyTorch and NumPy read it; None if it says no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return (int(first) if first.isdecimal() else 0) or None


def _resolve(providers: Providers) -> list[str | tuple[str, Mapping[str, Any]]]:
    """Return the providers by their full names."""
    available = onnxruntime.get_available_providers()
    full_names = {key: name for name in available for key in (_short(name), name.lower())}
    wanted: list[str | tuple[str, Mapping[str, Any]]] = []
    for entry in [providers] if isinstance(providers, str) else providers:
        name = entry if isinstance(entry, str) else entry[0]
        if name.lower() not in full_names:
            at_hand = ", ".join(map(_short, available))
            raise UsageError(f"no provider {name!r} in the installed onnxruntime, which has: {at_hand}")
        full = full_names[name.lower()]
        wanted.append(full if isinstance(entry, str) else (full, entry[1]))
    if not wanted:
        raise UsageError("providers must name at least one: leave it out for the CPU")
    return wanted


def _short(name: str) -> str:
    return name.removesuffix(_SUFFIX).lower()
