"""The server does what its own OpenAPI description says, for requests that fit it and for requests that do not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="needs schemathesis")

_RUN = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"


@pytest.mark.slow
def test_every_answer_conforms(serve: Any, calibrated_weights: Path, tmp_path: Path) -> None:
    # Few faces: asked for faces of any score, as many requests do here, an empty image has hundreds.
    running = serve(weights=calibrated_weights, max_faces=2)
    arguments = ["run", f"{running.url}/openapi.json", "--max-examples", "8", "--seed", "1", "--request-timeout", "60"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "conformance_hooks", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments, "--no-color"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "6 selected / 6 total" in done.stdout
    assert "passed" in done.stdout
