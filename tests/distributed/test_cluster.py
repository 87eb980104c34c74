"""Collections on a Ray cluster of two nodes, one of which is lost."""

import importlib
import logging
import os
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

HERE = Path(__file__).parent
SCALE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
WaitUntil = Callable[[Callable[[], object], str], None]


def plain(row: Iterable[Any]) -> list[Any]:
    """Return a row with None where there is nothing: NumPy's columns of numbers have NaN there."""
    return [None if isinstance(value, float) and np.isnan(value) else value for value in row]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a cluster of two nodes with a core each, of this machine alone."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELD", str(tmp_path_factory.mktemp("held")))
        patch.syspath_prepend(HERE)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))))
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
def test_a_lost_node_costs_its_running_batch_alone(
    cluster: Any, photos: Path, predict: Any, rows_of: Any, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Addresses, to be read and written by fsspec, of files that are here.
    words = (f"file://{photos}", "--output", f"file://{Path.cwd()}/faces", "--shard-images", "2")
    held = Path(os.environ["HELD"])

    def lose() -> None:
        # A node has one core: two processes that have begun a batch are on two nodes.
        wait_until(lambda: len(list(held.glob("begun-*"))) == 2, "a node did not begin")
        cluster.remove_node(cluster.second, allow_graceful=False)
        (held / "go").touch()

    losing = threading.Thread(target=lose)
    losing.start()
    with monkeypatch.context() as patch:
        patch.setattr("ddamfn.distributed.batch.BatchRecognizer", importlib.import_module("held").HeldRecognizer)
        status, lines = predict(*words, "--ray", cluster.address)
    losing.join()
    assert status == 1, "of the file that is no image"
    assert any("26 images, 24 faces, 1 without a face, 1 unreadable" in line for line in lines), lines
    assert not any("failed" in line for line in lines)
    assert len(list(Path("faces").glob("part-*"))) == 13
    # What one machine reads, as a set of rows; and what is there is not read again.
    assert predict(words[0], "--output", "alone/")[0] == 1
    assert rows_of("faces") == rows_of("alone")
    status, lines = predict(*words, "--ray", cluster.address)
    assert status == 0
    assert any("going on after 26 images" in line for line in lines), lines
