import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import ddamfn


def test_the_version_is_the_installed_ones() -> None:
    assert ddamfn.__version__ == version("ddamfn")
    assert re.fullmatch(r"\d+\.\d+\.\d+", ddamfn.__version__)


def test_every_public_name_is_there() -> None:
    for name in ddamfn.__all__:
        assert getattr(ddamfn, name) is not None
    assert set(ddamfn.__all__) <= set(dir(ddamfn))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ddamfn.no_such_name


def test_importing_the_package_imports_no_library() -> None:
    code = "import sys, ddamfn; print(*sorted({'numpy', 'onnxruntime', 'PIL', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_without_pytorch_the_networks_name_the_extra() -> None:
    code = "import sys; sys.modules['torch'] = None\nimport ddamfn\nddamfn.create_model"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "ddamfn[train]"' in done.stderr.splitlines()[-1]


def test_without_pytorch_images_are_read() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom ddamfn import Recognizer\nprint(Recognizer.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Recognizer"
