"""The networks answer what the authors' networks answer, given the same weights and the same images.

The numbers were made by running the authors' code; weights and images follow a rule (see conftest.py), so no
checkpoint is needed. What differs by more than 1e-4 is another network.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddamfn.models.ddamfn import DDAMFN, MFN
from ddamfn.models.legacy import load_authors_checkpoint

TOLERANCE = 1e-4


def _assert_close(found: Tensor, golden: Any) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(golden), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("number", range(4), ids=["2-heads", "2-heads-8-classes", "4-heads", "1-head"])
def test_ddamfn(
    number: int,
    tmp_path: Path,
    authors_state: Callable[..., dict[str, Tensor]],
    golden_outputs: dict[str, Any],
    golden_images: Callable[[int], Tensor],
) -> None:
    case = golden_outputs["cases"][number]
    heads, classes, seed = case["heads"], case["num_classes"], case["seed"]
    checkpoint = tmp_path / "rafdb_epoch20_acc0.9204_bacc0.8617.pth"
    state = authors_state(heads=heads, num_classes=classes, seed=seed)
    torch.save({"iter": 20, "model_state_dict": state, "optimizer_state_dict": {}}, checkpoint)

    network = load_authors_checkpoint(checkpoint)
    assert isinstance(network, DDAMFN)
    with torch.no_grad():
        logits, features, attention = network(golden_images(seed))[:3]

    assert attention.shape == (2, heads, 512, 7, 7)
    _assert_close(logits, case["logits"])
    _assert_close(features.mean(), case["features_mean"])
    _assert_close(features.std(), case["features_std"])
    _assert_close(features[0, 0], case["features_0_0"])
    _assert_close(attention[0, :, 0], case["attention_0"])
    _assert_close(attention.mean(dim=(0, 2, 3, 4)), case["attention_mean"])
    _assert_close(attention.transpose(0, 1).flatten(1).std(dim=1), case["attention_std"])


def test_mfn(
    tmp_path: Path,
    authors_state: Callable[..., dict[str, Tensor]],
    golden_outputs: dict[str, Any],
    golden_images: Callable[[int], Tensor],
) -> None:
    seed = golden_outputs["mfn"]["seed"]
    torch.save(authors_state("mfn", seed=seed), tmp_path / "mfn.pth")

    network = load_authors_checkpoint(tmp_path / "mfn.pth")
    assert isinstance(network, MFN)
    with torch.no_grad():
        embedding = network.embed(network(golden_images(seed)).features)

    _assert_close(embedding, golden_outputs["mfn"]["embedding"])


def test_the_numbers_tell_rows_from_columns(
    tmp_path: Path,
    authors_state: Callable[..., dict[str, Tensor]],
    golden_outputs: dict[str, Any],
    golden_images: Callable[[int], Tensor],
) -> None:
    """Swapping the two gates, a mistake that leaves every shape and count as it is, must show."""
    case = golden_outputs["cases"][0]
    state = authors_state(seed=case["seed"])
    swapped = {
        name.replace("conv2", "conv?").replace("conv3", "conv2").replace("conv?", "conv3"): value
        for name, value in state.items()
    }
    torch.save(swapped, tmp_path / "swapped.pth")
    with torch.no_grad():
        logits = load_authors_checkpoint(tmp_path / "swapped.pth")(golden_images(case["seed"])).logits
    assert (logits - torch.tensor(case["logits"])).abs().max() > 100 * TOLERANCE
