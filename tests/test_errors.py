"""The exception family: one base, and messages that say what to do."""

import pickle

import pytest

from ddamfn import errors


@pytest.mark.parametrize(
    "name",
    [
        "UsageError",
        "UnreadableImage",
        "DegenerateFace",
        "UnknownLabel",
        "WeightsError",
        "DataError",
        "ConfigError",
        "TrainingError",
    ],
)
def test_every_error_is_a_ddamfn_error(name: str) -> None:
    error = getattr(errors, name)("what to do")
    assert isinstance(error, errors.DdamfnError)
    assert str(error) == "what to do"


@pytest.mark.parametrize(
    ("error", "builtin"), [(errors.UsageError("size"), ValueError), (errors.MissingExtra("plot", "x"), ImportError)]
)
def test_errors_are_also_what_python_calls_them(error: errors.DdamfnError, builtin: type[Exception]) -> None:
    assert isinstance(error, builtin)


def test_missing_extra_names_the_command() -> None:
    error = errors.MissingExtra("parquet", "pyarrow")
    assert isinstance(error, errors.DdamfnError)
    assert str(error) == 'Parquet needs pyarrow: pip install "ddamfn[parquet]"'
    assert str(errors.MissingExtra("train", "torch", "Training")) == 'Training needs torch: pip install "ddamfn[train]"'


def test_missing_extra_survives_a_process_border() -> None:
    error = errors.MissingExtra("plot", "matplotlib", "The confusion plot")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.extra, again.name) == (str(error), "plot", "matplotlib")


def test_a_place_s_error_survives_a_process_border() -> None:
    error = errors.PlaceError("s3://bucket/photos", "no such file or folder", is_missing=True)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.place, again.is_missing) == (str(error), "s3://bucket/photos", True)
