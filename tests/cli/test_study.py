"""The verb's help, which must not need what makes networks."""

import subprocess
import sys

import pytest

from ddamfn.study.catalog import ESTIMATORS, NETWORKS, QUEUE, TABLES


@pytest.mark.parametrize(
    ("command", "names"), [("ablation", TABLES), ("comparison", (*NETWORKS, *ESTIMATORS)), ("queue", QUEUE)]
)
def test_the_help_names_what_there_is_and_needs_no_pytorch(command: str, names: tuple[str, ...]) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from ddamfn.cli import main\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "study", command, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stderr == "False\n"
    assert all(name in done.stdout for name in names)
