"""Collections on a Ray cluster of two nodes, one of which is lost."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddamfn.distributed import BatchRecognizer

DETECTION = 160

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("pyarrow", reason="needs the extra parquet")

SCALE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
WaitUntil = Callable[[Callable[[], object], str], None]


def plain(row: Iterable[Any]) -> list[Any]:
    """Return a row with None where there is nothing: NumPy's columns of numbers have NaN there."""
    return [None if isinstance(value, float) and np.isnan(value) else value for value in row]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a cluster of two nodes with a core each, of this machine alone."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Ray lets its workers stand back behind everything else, which on a busy machine is for minutes.
        patch.setenv("RAY_worker_niceness", "0")
        size = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        started = Cluster(initialize_head=True, head_node_args=size)
        started.second = started.add_node(**size)
        ray.init(started.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield started
        finally:
            ray.shutdown()
            started.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_the_page_s_example_of_ray_data_runs(cluster: Any, photos: Path, stand_in_weights: Path, rows_of: Any) -> None:
    (code,) = (c for c in re.findall(r"^```python\n(.*?)^```$", SCALE.read_text(), re.M | re.S) if "ray.data" in c)
    options = {"weights": str(stand_in_weights), "detection": DETECTION}
    ray.data.DataContext.get_current().enable_progress_bars = False
    exec(compile(code.replace('{"max_faces": 5}', repr(options)), "scale.md", "exec"), {})
    rows = rows_of("found")
    assert len(rows) == 26
    recognizer = BatchRecognizer(**options)
    results = recognizer.results((row[0], None) for row in rows)
    assert [plain(row) for row in rows] == [plain(row.values()) for result in results for row in result.to_rows()]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_node_lost_on_the_way_costs_its_batches_alone(
    cluster: Any, photos: Path, predict: Any, rows_of: Any, wait_until: WaitUntil
) -> None:
    here, shards = Path.cwd(), Path("faces")
    source = f"file://{here}/photos"
    assert predict(source, "--output", "alone/")[0] == 1
    at_loss: list[int] = []

    def lose() -> None:
        wait_until(lambda: len(list(shards.glob("part-*"))) >= 2, "no shard was written")
        cluster.remove_node(cluster.second, allow_graceful=False)
        at_loss.append(len(list(shards.glob("part-*"))))

    losing = threading.Thread(target=lose)
    losing.start()
    status, lines = predict(source, "--output", f"file://{here}/faces", "--ray", cluster.address, "--shard-images", "1")
    losing.join()
    assert 2 <= at_loss[0] < 26, "the node was lost too late to tell anything"
    assert ray.cluster_resources()["CPU"] == 1
    assert status == 1, "of the file that is no image"
    assert any("26 images, 24 faces, 1 without a face, 1 unreadable" in line for line in lines), lines
    assert rows_of("faces") == rows_of("alone")
    assert len(list(shards.glob("part-*"))) == 26
    # Where nothing is left to do, nothing is done.
    status, lines = predict(source, "--output", "faces/", "--ray", cluster.address)
    assert status == 0
    assert any("going on after 26 images" in line for line in lines)
