"""The ten figures of the slides' table of parameters and FLOPs."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from ddamfn.cli import main
from ddamfn.study.tables import complexity
from ddamfn.study.tables.complexity import MEBI, Cost, format_flops, format_parameters, measure


@pytest.fixture(scope="module")
def costs(thin_trunk: SimpleNamespace) -> tuple[Cost, ...]:
    """The costs of the five networks, counted once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddamfn.models.ddamfn.STAGES", thin_trunk.published)
        return measure()


def test_the_ten_figures_are_the_slides_own(costs: tuple[Cost, ...]) -> None:
    printed = {
        cost.reported.title: (format_parameters(cost.parameters, cost.reported.unit), format_flops(cost.flops))
        for cost in costs
    }
    assert printed == {
        "MobileFaceNet": ("1.148 M", "230.34 M"),
        "ResNet-18": ("16.78 M", "2.6 G"),
        "ResNet-50": ("41.56 M", "6.31 G"),
        "MFN": ("3.973 M", "550.74 M"),
        "DDAMFN": ("4.106 M", "551.22 M"),
    }
    assert all(cost.agrees == (True, True) for cost in costs)
    # The units are mixed: printed in one, the last row would be another.
    assert format_parameters(costs[-1].parameters, MEBI) == "3.916 M"


def test_the_command_prints_the_table_and_what_is_wrong_with_it(
    costs: tuple[Cost, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(complexity, "measure", lambda: costs)
    assert main(["study", "complexity"]) == 0
    text = capsys.readouterr().out
    assert "10 of the slides' 10 figures agree as printed" in text
    for figure in ("1.148 M", "16.78 M", "41.56 M", "3.973 M", "4.106 M", "230.34 M", "2.6 G", "6.31 G", "550.74 M"):
        assert figure in text
    assert "4,105,999 against 4,166,063, a difference of 60,064" in " ".join(text.split())
    assert "NO" not in text
    assert max(map(len, text.splitlines())) <= 160
