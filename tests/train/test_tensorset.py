"""The tensors of a split: the same pixels, and the same numbers, as prediction gives the network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddamfn.classifier import Classifier, preprocessing_of
from ddamfn.errors import DataError
from ddamfn.faces import Preprocessing, Stretch, preprocess
from ddamfn.models import ModelOutput
from ddamfn.preparation import Prepared
from ddamfn.train import Data
from ddamfn.train.step import evaluate_split
from ddamfn.train.tensorset import TensorSplit, to_tensors
from ddamfn.weights import read_card

CPU = torch.device("cpu")


def read(prepared: Prepared, preprocessing: Preprocessing, classes: tuple[str, ...] | None = None) -> TensorSplit:
    return to_tensors(prepared.split("train"), preprocessing, classes or prepared.classes, CPU, "train of a set")


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing("rgb", None),
        Preprocessing("rgb", 24),
        Preprocessing("gray", 24),
        Preprocessing("gray", 24, Stretch(least_range=255, clip_percent=10)),
        Preprocessing("rgb", stretch=Stretch(least_range=255, clip_percent=10)),
    ],
)
def test_pixels_are_those_of_prediction(prepared: Prepared, preprocessing: Preprocessing) -> None:
    split = prepared.split("train")
    expected = preprocess(np.asarray(split.crops), preprocessing)
    as_lit = preprocess(np.asarray(split.crops), replace(preprocessing, stretch=None))
    assert np.array_equal(as_lit, expected) == (preprocessing.stretch is None)
    tensors = read(prepared, preprocessing)
    assert tensors.images.dtype == torch.uint8
    assert tensors.images.shape == (len(split), 1 if preprocessing.color == "gray" else 3, 64, 64)
    assert np.array_equal(tensors.images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy(), expected)
    assert np.array_equal(tensors.targets.numpy(), split.targets)
    assert tensors.keys == tuple(split.keys)
    assert len(tensors) == 32


class Eye(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> ModelOutput:
        self.seen.append(images)
        return ModelOutput(images.mean(dim=(2, 3)), images, images.new_zeros(len(images), 0, 1, 7, 7))


def test_the_network_is_shown_in_validation_what_it_is_shown_in_prediction(
    prepared: Prepared, stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(stand_in_weights.with_suffix(".json"))
    side_px = card.input_side_px
    crops = np.random.default_rng(2).integers(0, 256, (5, side_px, side_px, 3), dtype=np.uint8)
    shown: list[np.ndarray] = []
    classifier = Classifier(stand_in_weights)
    whole_run = classifier._session.run

    class Spy:
        def run(self, outputs: object, feed: dict[str, np.ndarray]) -> object:
            shown.append(feed["input"])
            return whole_run(outputs, feed)

    monkeypatch.setattr(classifier, "_session", Spy())
    classifier.classify(crops)

    preprocessing = preprocessing_of(card)
    split = replace(prepared.split("train"), crops=crops, targets=np.eye(8, dtype=np.float32)[:5], keys=list("abcde"))
    tensors = to_tensors(split, preprocessing, prepared.classes, CPU, "noise")
    eye = Eye()
    evaluate_split(eye, tensors, Data(preprocessing=preprocessing, mean=card.mean, std=card.std), 2)
    assert np.array_equal(torch.cat(eye.seen).numpy(), np.concatenate(shown))


def test_classes_are_taken_by_name(prepared: Prepared) -> None:
    chosen = ("fear", "anger")
    tensors = read(prepared, Preprocessing("rgb", None), chosen)
    split = prepared.split("train")
    names = [split.classes[k] for k in split.targets.argmax(axis=1)]
    expected = [(key, name) for key, name in zip(split.keys, names, strict=True) if name in chosen]
    assert list(zip(tensors.keys, [chosen[k] for k in tensors.targets.argmax(dim=1)], strict=True)) == expected
    assert len(expected) == 8
    assert tensors.targets.sum(dim=1).tolist() == [1.0] * 8


def test_votes_for_other_classes_are_left_out(prepared: Prepared) -> None:
    split = prepared.split("train")
    votes = np.zeros((32, 8), np.float32)
    fear, anger, other = (split.classes.index(name) for name in ("fear", "anger", "neutral"))
    votes[:, other] = 1
    votes[0] = 0
    votes[0, [fear, anger, other]] = [0.6, 0.2, 0.2]
    votes[1] = 0
    votes[1, [fear, other]] = [0.4, 0.6]
    tensors = to_tensors(replace(split, targets=votes), Preprocessing("rgb", None), ("anger", "fear"), CPU, "")
    assert tensors.keys == (split.keys[0],)
    assert torch.allclose(tensors.targets, torch.tensor([[0.25, 0.75]]))


def test_no_image_of_the_classes_makes_an_empty_split(prepared: Prepared) -> None:
    split = replace(prepared.split("train"), targets=np.eye(8, dtype=np.float32)[[0] * 32])
    tensors = to_tensors(split, Preprocessing("rgb", None), ("anger", "fear"), CPU, "")
    assert len(tensors) == 0
    assert tensors.targets.shape == (0, 2)


def test_smaller_images_are_antialiased(splits: tuple[TensorSplit, TensorSplit]) -> None:
    train = splits[0]
    assert train.resized(32) is train
    stripes = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255
    small = replace(train, images=stripes).resized(16)
    assert small.images.dtype == torch.uint8
    # Every second column alone would be black or white; the mean of two is gray.
    assert (small.images[..., 2:-2].int() - 128).abs().max() <= 1
    assert train.resized(16).images.shape == (16, 3, 16, 16)
    assert train.resized(16).keys == train.keys


def test_an_empty_class_is_named_with_what_to_do(splits: tuple[TensorSplit, TensorSplit]) -> None:
    train = splits[0]
    train.require_every_class()
    rows = torch.nonzero(train.targets.argmax(dim=1) != 7).flatten()
    with pytest.raises(DataError) as caught:
        train.subset(rows).require_every_class()
    message = str(caught.value)
    assert message.startswith("drawing 1: no image of contempt; ")
    assert message.endswith(
        """--set data.classes='["neutral","happiness","surprise","sadness","anger","disgust","fear"]'"""
    )


def test_a_fingerprint_tells_splits_apart(splits: tuple[TensorSplit, TensorSplit]) -> None:
    train = splits[0]
    prints = {
        part.fingerprint()
        for part in (
            train,
            splits[1],
            train.subset(torch.arange(15)),
            replace(train, targets=train.targets.roll(1, dims=1)),
            replace(train, keys=train.keys[::-1]),
            replace(train, classes=train.classes[::-1]),
        )
    }
    assert len(prints) == 6
    assert train.fingerprint() == train.subset(torch.arange(16)).fingerprint()
