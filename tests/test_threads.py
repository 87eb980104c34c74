"""Work in threads: in order, never far ahead, and ended with its reader."""

import threading
from collections.abc import Iterator

import pytest

from ddamfn.threads import map_ahead, num_cores


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    held = threading.Event()

    def work(item: int) -> int:
        # The first item is the last to end, where there is another thread to end the second.
        if item == 0 and workers > 1:
            assert held.wait(60)
        held.set()
        return item * item

    assert list(map_ahead(work, range(20), workers=workers)) == [item * item for item in range(20)]


@pytest.mark.parametrize(("workers", "ahead", "most"), [(1, None, 1), (2, None, 3), (2, 5, 6)])
def test_no_more_than_so_many_items_are_taken_ahead(workers: int, ahead: int | None, most: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    results = map_ahead(str, items(), workers=workers, ahead=ahead)
    for number, result in enumerate(results):
        assert result == str(number)
        assert len(taken) <= number + most


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_is_raised_in_its_item_s_place(workers: int) -> None:
    results = map_ahead(lambda item: 6 // item, [3, 2, 0, 1], workers=workers)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_the_threads_end_with_their_reader() -> None:
    results = map_ahead(str, range(100), workers=2, ahead=90)
    next(results)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("ddamfn-ahead")]
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ddamfn-ahead")]


def test_there_is_a_core() -> None:
    assert num_cores() >= 1
