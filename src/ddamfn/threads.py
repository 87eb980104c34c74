"""Threads: how many cores this process may use, and work that is done ahead of its reader, in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int, ahead: int | None = None
) -> Iterator[_Result]:
    """Yield the results of a function in the order of the items, while threads work on the next ones.

    An error is raised in its item's place. What is not begun when the reader stops is dropped, what is begun is ended.

    Args:
        function: called in so many threads at once.
        items: iterated in the caller's thread, at most `ahead` beyond the item whose result is yielded.
        workers: the number of threads; with 1 nothing is done ahead, and no thread is started.
        ahead: at least `workers`, which is the default.
    """
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers, "ddamfn-ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > (ahead or workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
