"""One image to explained faces: the maps of each, compared with random maps and a center map."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddamfn.classifier import Classifier, preprocessing_of
from ddamfn.errors import DdamfnError, MissingExtra, UsageError
from ddamfn.explain.faithfulness import STEPS, Score, measure
from ddamfn.explain.maps import FaceMap, attention_maps, center_map, random_maps
from ddamfn.faces import ImageInput, normalize, preprocess
from ddamfn.recognizer import Recognizer
from ddamfn.results import Face, ImageResult

_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class ScoredMap:
    """A map and its faithfulness.

    Attributes:
        map: the map.
        score: its deletion and insertion for its expression.
        beats_random: how many of the random maps have a smaller insertion minus deletion.
        beats_center: whether the center map has.
    """

    map: FaceMap
    score: Score
    beats_random: int
    beats_center: bool


@dataclass(frozen=True, slots=True)
class Baselines:
    """Scores of network-independent maps for one expression: one per random map, and the center map's."""

    random: tuple[Score, ...]
    center: Score


@dataclass(frozen=True, slots=True, eq=False)
class FaceExplanation:
    """One face, explained.

    Attributes:
        face: with its prediction, crop and matrix.
        maps: the heads' and their maximum; Grad-CAM of the predicted and the second expression where it is installed.
        baselines: by expression.
    """

    face: Face
    maps: tuple[ScoredMap, ...]
    baselines: Mapping[str, Baselines]

    @property
    def second(self) -> str:
        """The second likeliest expression."""
        return _ranked(self.face)[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = self.face.to_dict()
        plain["matrix"] = np.round(self.face.matrix, 6).tolist()
        plain["maps"] = [
            {
                "name": scored.map.name,
                "title": scored.map.title,
                "expression": scored.map.expression,
                "flat": scored.map.flat,
                **_plain(scored.score),
                "beats_random": scored.beats_random,
                "beats_center": scored.beats_center,
                "values": np.round(scored.map.values.astype(np.float64), 5).tolist(),
            }
            for scored in self.maps
        ]
        plain["baselines"] = {
            name: {
                "random": {**_plain(mean_score(entry.random)), "maps": [_plain(score) for score in entry.random]},
                "center": _plain(entry.center),
            }
            for name, entry in self.baselines.items()
        }
        return plain


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """All faces of one image, explained.

    Attributes:
        result: the prediction for the image, with the image itself.
        faces: in the order of the result.
        missing: why there is no Grad-CAM, one line; None if there is one, or none was requested.
    """

    result: ImageResult
    faces: tuple[FaceExplanation, ...]
    missing: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = {key: getattr(self.result, key) for key in ("source", "width", "height")}
        return plain | {"faces": [face.to_dict() for face in self.faces], "missing": self.missing}


class Explainer:
    """Explains images with one set of weights.

    Args:
        weights: name of bundled weights, or path of an `.onnx` network or its card; the default weights when None.
        max_faces: at most this many faces of an image, those with the highest score; None for all.
        grad_cam: whether to add Grad-CAM where PyTorch and captum are installed and the weights can be read into it.
        random: random maps to compare with, at least 1.
        steps: see `faithfulness.measure`, at least 2.
        seed: of the random maps; every face is compared with the same ones.

    Attributes:
        classifier: the weights.
        missing: why there is no Grad-CAM; see `Explanation`.

    Raises:
        UsageError: if an argument is out of range.
        WeightsError: if the weights are not there or damaged.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        max_faces: int | None = None,
        grad_cam: bool = True,
        random: int = 8,
        steps: int = STEPS,
        seed: int = 0,
    ) -> None:
        for name, number, least in (("random", random, 1), ("steps", steps, 2), ("seed", seed, 0)):
            if number < least:
                raise UsageError(f"{name} must be at least {least}, not {number}")
        self._recognizer = Recognizer(weights, max_faces=max_faces)
        self.classifier = Classifier(weights)
        self._steps, self._random = steps, random_maps(random, np.random.default_rng(seed))
        self._grad_cam, self.missing = _grad_cam_of(weights, self.classifier) if grad_cam else (None, None)

    def __call__(self, image: ImageInput) -> Explanation:
        """Explain every face of one image.

        Args:
            image: as for `Recognizer.predict`.

        Raises:
            UnreadableImage: the image is missing, damaged, too large, or not an image.
        """
        result = self._recognizer.predict(image)
        return Explanation(result, tuple(self._explain(face) for face in result.faces), self.missing)

    def _explain(self, face: Face) -> FaceExplanation:
        assert face.aligned is not None  # predict keeps the crops
        maps = attention_maps(face)
        if self._grad_cam is not None:
            maps += self._grad_cam(face)
        values = [entry.values for entry in maps] + [center_map(), *self._random]
        measured = [measure(self.classifier, face.aligned, entry, self._steps) for entry in values]
        center, chance = measured[len(maps)], measured[len(maps) + 1 :]
        baselines = {
            name: Baselines(tuple(scores[name] for scores in chance), center[name]) for name in _ranked(face)[:2]
        }
        scored = [
            _judge(entry, scores[entry.expression], baselines[entry.expression])
            for entry, scores in zip(maps, measured, strict=False)
        ]
        return FaceExplanation(face, tuple(scored), baselines)


def explain(image: ImageInput, weights: str | os.PathLike[str] | None = None, **options: Any) -> Explanation:
    """Explain the faces of one image; for several images keep an `Explainer`.

    Examples:
        >>> from ddamfn.explain import explain
        >>> for face in explain("photo.jpg").faces:  # doctest: +SKIP
        ...     print(face.face.expression, [(m.map.name, m.score.difference) for m in face.maps])

    Args:
        image: as for `Recognizer.predict`.
        weights: as for `Explainer`.
        options: as for `Explainer`.

    Raises:
        UnreadableImage: the image is missing, damaged, too large, or not an image.
        UsageError: if an option is out of range.
        WeightsError: if the weights are not there or damaged.
    """
    return Explainer(weights, **options)(image)


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of several scores."""
    return Score(
        float(np.mean([score.deletion for score in scores])), float(np.mean([score.insertion for score in scores]))
    )


def _judge(entry: FaceMap, score: Score, baselines: Baselines) -> ScoredMap:
    # A flat map has no order of its own, so its score means nothing.
    beaten = 0 if entry.flat else sum(score.difference > other.difference for other in baselines.random)
    return ScoredMap(entry, score, beaten, not entry.flat and score.difference > baselines.center.difference)


def _ranked(face: Face) -> list[str]:
    return sorted(face.probabilities, key=lambda name: -face.probabilities[name])


def _plain(score: Score) -> dict[str, float]:
    numbers = {"deletion": score.deletion, "insertion": score.insertion, "difference": score.difference}
    return {name: round(value, _DIGITS) for name, value in numbers.items()}


def _grad_cam_of(
    weights: str | os.PathLike[str] | None, classifier: Classifier
) -> tuple[Callable[[Face], list[FaceMap]] | None, str | None]:
    """Return a function that makes a face's Grad-CAM maps, or the reason why there is none."""
    try:
        from ddamfn.explain.gradcam import grad_cam
        from ddamfn.export.loading import load_network
    except ModuleNotFoundError as error:
        return None, str(MissingExtra("explain", str(error.name), "Grad-CAM"))
    card = classifier.card
    try:
        network = load_network(card.name if weights is None else weights).network
    except DdamfnError as error:
        return None, f"no Grad-CAM: {error}"

    def make(face: Face) -> list[FaceMap]:
        assert face.aligned is not None  # predict keeps the crops
        names = _ranked(face)[:2]
        pixels: NDArray[np.uint8] = preprocess(face.aligned[None], preprocessing_of(card))
        maps = grad_cam(network, normalize(pixels, card.mean, card.std), [card.labels.index(name) for name in names])
        return [
            FaceMap(f"grad-cam-{name}", f"Grad-CAM, {name}", name, values)
            for name, values in zip(names, maps, strict=True)
        ]

    return make, None
